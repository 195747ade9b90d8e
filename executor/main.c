/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "executor/commands.h"
#include "executor/image/pull.h"
#include "executor/run/run.h"
#include "executor/service/service_log.h"
#include "libcommon/file.h"
#include "libcommon/log.h"
#include "libcommon/units.h"

static const struct wfe_command *const COMMANDS[] = {
    &wfe_command_run,
    &wfe_command_pull,
    &wfe_command_service,
    &wfe_command_gc,
    &wfe_command_check,
};
#define COMMAND_COUNT (sizeof COMMANDS / sizeof *COMMANDS)

enum {
    ADDRESS = 1,
    NAMESPACE,
    SNAPSHOTTER,
    TLS_CA,
    TLS_CERT,
    TLS_KEY,
    CONNECT_TIMEOUT,
    LOG_LEVEL,
    LOG_FORMAT,
    VERSION
};

static const struct wfe_option OPTIONS[] = {
    {"address", 'a', "A", "containerd's address (default: the step's, the environment's)", ADDRESS},
    {"namespace", 'n', "N", "containerd's namespace (default: default)", NAMESPACE},
    {"snapshotter", 0, "S", "snapshotter (default: overlayfs)", SNAPSHOTTER},
    {"tls-ca", 0, "FILE", "PEM certificates that a https address is trusted by", TLS_CA},
    {"tls-cert", 0, "FILE", "our own PEM certificate", TLS_CERT},
    {"tls-key", 0, "FILE", "its key", TLS_KEY},
    {"connect-timeout", 0, "T", "until the daemon has answered (default: 10s)", CONNECT_TIMEOUT},
    {"log-level", 0, "L", "error, warn, info or debug (default: warn)", LOG_LEVEL},
    {"log-format", 0, "F", "text or json (default: text)", LOG_FORMAT},
    {"version", 0, NULL, "show the version", VERSION},
    WFE_OPTIONS_END,
};

struct parsed {
    struct wfe_globals globals;
    enum wfe_log_level level;
    bool json;
    bool help, version;
};

/* As of docker's command line. */
#define SIGNALS_MAX 3

static _Atomic int stop_signal;
static sigset_t stop_signals;

int wfe_stop_signal(void)
{
    return stop_signal;
}

static int take_timeout(const char *value, int64_t *ret_ms, struct wfe_error *err)
{
    uint64_t ms;
    if (wfe_duration_parse(value, &ms) < 0 || ms == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--connect-timeout '%s': expected a duration like 500ms, 10s or 2m", value);
    *ret_ms = (int64_t)ms;
    return 0;
}

static int take_option(void *context, int id, const char *value, struct wfe_error *err)
{
    struct parsed *parsed = context;
    switch (id) {
    case ADDRESS:
        parsed->globals.daemon.address = value;
        break;
    case NAMESPACE:
        parsed->globals.daemon.namespace_ = value;
        break;
    case SNAPSHOTTER:
        parsed->globals.daemon.snapshotter = value;
        break;
    case TLS_CA:
        parsed->globals.daemon.tls.ca = value;
        break;
    case TLS_CERT:
        parsed->globals.daemon.tls.cert = value;
        break;
    case TLS_KEY:
        parsed->globals.daemon.tls.key = value;
        break;
    case CONNECT_TIMEOUT:
        return take_timeout(value, &parsed->globals.daemon.timeout_ms, err);
    case LOG_LEVEL:
        if (wfe_log_level_parse(value, &parsed->level) < 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "--log-level '%s': expected error, warn, info or debug", value);
        break;
    case LOG_FORMAT:
        parsed->json = strcmp(value, "json") == 0;
        if (!parsed->json && strcmp(value, "text") != 0)
            return wfe_error_set(
                err, WFE_ERROR_INPUT, EINVAL, "--log-format '%s': expected text or json", value);
        break;
    case WFE_OPTION_HELP_ID:
        parsed->help = true;
        break;
    case VERSION:
        parsed->version = true;
        break;
    }
    return 0;
}

static void print_help(void)
{
    printf("Usage: wfe-containerd [OPTION...] COMMAND [ARGUMENT...]\n\n"
           "Runs workflow steps with artifact inputs in containers, on containerd.\n\n"
           "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", COMMANDS[i]->name, COMMANDS[i]->summary);
    printf("\nOptions:\n");
    wfe_options_print(OPTIONS, stdout);
    printf("\nwfe-containerd COMMAND --help tells of one command.\n");
}

static void print_command_help(const struct wfe_command *command)
{
    printf("Usage: wfe-containerd [OPTION...] %s [OPTION...]%s%s\n\n%s.\n\nOptions:\n",
        command->name, command->operand ? " " : "", command->operand ? command->operand : "",
        command->summary);
    wfe_options_print(command->options, stdout);
}

int wfe_command_fail(const struct wfe_command *command, const struct wfe_error *err)
{
    fprintf(stderr, "wfe-containerd %s: %s\n", command->name, err->message);
    return WFE_EXIT_FAILURE;
}

int wfe_command_connect(
    const struct wfe_globals *globals, struct wfe_session *ret, struct wfe_error *err)
{
    struct wfe_connect_options options = wfe_run_daemon(&globals->daemon, NULL);
    return wfe_connect(&options, ret, err);
}

int wfe_command_take_downloads(const char *value, unsigned *ret, struct wfe_error *err)
{
    char *end;
    unsigned long count = strspn(value, "0123456789") > 0 ? strtoul(value, &end, 10) : 0;
    if (count == 0 || *end || count > WFE_PULL_MAX_DOWNLOADS)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--max-concurrent-downloads '%s': expected a number from 1 to %d", value,
            WFE_PULL_MAX_DOWNLOADS);
    *ret = (unsigned)count;
    return 0;
}

bool wfe_hangup_is_ignored(void)
{
    struct sigaction action;
    return sigaction(SIGHUP, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

/* What must not be broken off is awaited, and a daemon that hangs may never answer. */
static void leave_at_once(int signal_number)
{
    static const char words[] =
        "wfe-containerd: ended by a third signal; what it leaves in the daemon goes with the next "
        "run, or `wfe-containerd gc`\n";
    struct pollfd output = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&output, 1, 0) == 1)
        wfe_write_all(STDERR_FILENO, words, sizeof words - 1);
    _exit(128 + signal_number);
}

/* Signals are taken by a thread of their own, so that they may lock and allocate. */
static void *take_signals(void *context)
{
    struct wfe_cancel *cancel = context;
    for (int count = 1;; count++) {
        int signal_number;
        if (sigwait(&stop_signals, &signal_number) != 0)
            continue;
        int none = 0;
        atomic_compare_exchange_strong(&stop_signal, &none, signal_number);
        if (count == SIGNALS_MAX)
            leave_at_once(signal_number);
        wfe_cancel_trigger(cancel);
    }
    return NULL;
}

static int start_signal_thread(struct wfe_cancel *cancel)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGINT);
    sigaddset(&stop_signals, SIGTERM);
    if (!wfe_hangup_is_ignored())
        sigaddset(&stop_signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &stop_signals, NULL);
    pthread_t thread;
    int r = pthread_create(&thread, NULL, take_signals, cancel);
    if (r == 0)
        pthread_detach(thread);
    return -r;
}

static const struct wfe_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i]->name, name) == 0)
            return COMMANDS[i];
    return NULL;
}

static int refuse(const char *message)
{
    fprintf(stderr, "wfe-containerd: %s\nTry 'wfe-containerd --help'.\n", message);
    return WFE_EXIT_FAILURE;
}

/* A command's options and --help. */
struct command_line {
    const struct wfe_command *command;
    bool help;
};

static int take_command_option(void *context, int id, const char *value, struct wfe_error *err)
{
    struct command_line *line = context;
    if (id == WFE_OPTION_HELP_ID) {
        line->help = true;
        return 0;
    }
    return line->command->take(line->command->state, id, value, err);
}

static int run_command(
    const struct wfe_command *command, const struct wfe_globals *globals, int argc, char **argv)
{
    struct command_line line = {.command = command};
    struct wfe_error err = WFE_ERROR_INIT;
    int first;
    int r = wfe_options_parse(
        command->options, argc, argv, false, take_command_option, &line, &first, &err);
    if (r == 0 && line.help) {
        print_command_help(command);
        return 0;
    }
    int operands = command->main_all ? command->operand_count : command->operand ? 1 : 0;
    if (r == 0 && argc - first != operands)
        r = command->operand ? wfe_error_set(&err, WFE_ERROR_INPUT, EINVAL, "expected %s%s",
                                   command->main_all ? "" : "one ", command->operand)
                             : wfe_error_set(&err, WFE_ERROR_INPUT, EINVAL, "takes no operand");
    if (r < 0) {
        wfe_command_fail(command, &err);
        fprintf(stderr, "Try 'wfe-containerd %s --help'.\n", command->name);
        return WFE_EXIT_FAILURE;
    }
    if (command->main_all)
        return command->main_all(globals, argv + first);
    return command->main(globals, command->operand ? argv[first] : NULL);
}

int main(int argc, char **argv)
{
    /* For shims, not for people: see executor/service/service_log.h. */
    if (argc == 3 && strcmp(argv[1], "service-log") == 0)
        return wfe_service_log_main(argv[2]);
    /* libarchive names entries in the locale's encoding; everything else stays as in C. */
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        setlocale(LC_CTYPE, "");
    /* It also takes a zip's times in the local time zone, and a layer must not depend on that. */
    setenv("TZ", "UTC0", 1);
    struct parsed parsed = {.level = WFE_LOG_WARN, .globals.daemon.namespace_ = "default"};
    struct wfe_error err = WFE_ERROR_INIT;
    int first;
    if (wfe_options_parse(OPTIONS, argc, argv, true, take_option, &parsed, &first, &err) < 0)
        return refuse(err.message);
    if (parsed.help) {
        print_help();
        return 0;
    }
    if (parsed.version) {
        printf("wfe-containerd %s\n", WFE_VERSION);
        return 0;
    }
    if (first == argc)
        return refuse("no command given");
    const struct wfe_command *command = find_command(argv[first]);
    if (!command) {
        char message[128];
        snprintf(message, sizeof message, "'%.60s' is not a command", argv[first]);
        return refuse(message);
    }
    wfe_log_setup(parsed.level, parsed.json);
    /* Never freed: the signal thread holds it until the process ends. */
    int r = wfe_cancel_new(&parsed.globals.daemon.cancel);
    if (r == 0)
        r = start_signal_thread(parsed.globals.daemon.cancel);
    if (r < 0)
        return refuse(strerror(-r));
    return run_command(command, &parsed.globals, argc - first, argv + first);
}
