/* SPDX-License-Identifier: MIT */
#include "artifactfs/cli.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/log.h"

struct command_line {
    const struct cli_command *command;
    const char *store;
    enum wfe_log_level level;
    bool help;
    bool version;
};

static int take_option(void *context, int id, const char *value, struct wfe_error *err)
{
    struct command_line *line = context;
    switch (id) {
    case CLI_STORE:
        line->store = value;
        return 0;
    case CLI_LOG_LEVEL:
        if (wfe_log_level_parse(value, &line->level) < 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "--log-level '%s': expected error, warn, info or debug", value);
        return 0;
    case CLI_HELP:
        line->help = true;
        return 0;
    case CLI_VERSION:
        line->version = true;
        return 0;
    default:
        return line->command->take(line->command->state, id, value, err);
    }
}

static void print_help(const struct cli_command *command)
{
    printf("Usage: " CLI_PROGRAM " %s [OPTION...]%s%s\n\n%s.\n\nOptions:\n", command->name,
        command->operands[0] ? " " : "", command->operands, command->summary);
    wfe_options_print(command->options, stdout);
}

enum cli_status cli_run(const struct cli_command *command, int argc, char **argv)
{
    struct command_line line = {.command = command, .level = WFE_LOG_WARN};
    struct wfe_error err = WFE_ERROR_INIT;
    int first;
    if (wfe_options_parse(command->options, argc, argv, false, take_option, &line, &first, &err) <
        0)
        return cli_usage(command, "%s", err.message);
    if (line.help) {
        print_help(command);
        return cli_finish(command);
    }
    if (line.version) {
        printf(CLI_PROGRAM " %s\n", WFE_VERSION);
        return cli_finish(command);
    }
    int count = argc - first;
    if (count < command->min_operands)
        return cli_usage(command, "expected %s", command->operands);
    if (command->max_operands >= 0 && count > command->max_operands)
        return cli_usage(command, "unexpected '%s'", argv[first + command->max_operands]);
    wfe_log_setup(line.level, false);
    return command->main(command, line.store, argv + first);
}

enum cli_status cli_usage(const struct cli_command *command, const char *format, ...)
{
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, CLI_PROGRAM " %s: %s (see '" CLI_PROGRAM " %s --help')\n", command->name,
        message, command->name);
    return CLI_USAGE;
}

enum cli_status cli_fail(const struct cli_command *command, const struct wfe_error *err)
{
    fprintf(stderr, CLI_PROGRAM " %s: %s\n", command->name, err->message);
    return CLI_FAILED;
}

enum cli_status cli_finish(const struct cli_command *command)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_OK;
    struct wfe_error err = WFE_ERROR_INIT;
    wfe_error_system(&err, errno ? errno : EIO, "stdout");
    return cli_fail(command, &err);
}

int cli_open_store(const char *path, bool create, struct wfe_store **ret, struct wfe_error *err)
{
    if (path)
        return wfe_store_open(path, create, ret, err);
    WFE_FREE char *standard = wfe_store_default_path();
    if (!standard)
        return wfe_error_nomem(err);
    return wfe_store_open(standard, create, ret, err);
}

int cli_parse_duration(const char *text, int64_t *ret_seconds)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    size_t digits = strspn(text, "0123456789");
    /* 9 digits of days are 2.7 million years. */
    if (digits == 0 || digits > 9 || strlen(text) != digits + 1)
        return -EINVAL;
    int64_t count = strtoll(text, NULL, 10);
    for (size_t i = 0; count > 0 && i < sizeof units / sizeof *units; i++) {
        if (text[digits] == units[i].unit) {
            *ret_seconds = count * units[i].seconds;
            return 0;
        }
    }
    return -EINVAL;
}

struct cli_size cli_format_size(uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    struct cli_size size;
    if (bytes < 1024) {
        snprintf(size.text, sizeof size.text, "%" PRIu64 " B", bytes);
        return size;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(size.text, sizeof size.text, "%.1f %s", value, units[unit]);
    return size;
}
