/* SPDX-License-Identifier: MIT */
#include "executor/network/cni_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define STDERR_MAX_BYTES 2048
#define MESSAGE_MAX 360
#define LOCK_FD 3 /* where the plugin has it */

/* A plugin that runs. */
struct running {
    pid_t pid;
    int pidfd;
    int out, err; /* our ends of its stdout and stderr; -1 at their end */
    struct wfe_buffer answer, complaint;
};

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The configuration as a file, so that writing it never waits for the plugin. */
static int config_fd(const char *config, int *ret)
{
    WFE_CLOSE int fd = memfd_create("cni", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = wfe_write_all(fd, config, strlen(config));
    if (r < 0)
        return r;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    *ret = wfe_steal_fd(&fd);
    return 0;
}

/* Our own signal mask and what we ignore are not the plugin's. */
static int spawn(const struct wfe_cni_plugin *plugin, const int fds[3], pid_t *ret)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    sigemptyset(&none);
    sigfillset(&defaults);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    int r = 0;
    for (int i = 0; r == 0 && i < 3; i++)
        r = posix_spawn_file_actions_adddup2(&actions, fds[i], i);
    if (r == 0 && plugin->lock_fd >= 0)
        r = posix_spawn_file_actions_adddup2(&actions, plugin->lock_fd, LOCK_FD);
    if (r == 0)
        r = posix_spawnattr_setsigmask(&attributes, &none);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(&attributes, &defaults);
    if (r == 0)
        r = posix_spawnattr_setflags(
            &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (r == 0) {
        char *const argv[] = {(char *)plugin->program, NULL};
        r = posix_spawn(ret, plugin->program, &actions, &attributes, argv, plugin->env);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

static int start(const struct wfe_cni_plugin *plugin, struct running *running)
{
    WFE_CLOSE int in = -1;
    int out[2] = {-1, -1}, complaint[2] = {-1, -1};
    int r = config_fd(plugin->config, &in);
    if (r == 0 && (pipe2(out, O_CLOEXEC) < 0 || pipe2(complaint, O_CLOEXEC) < 0))
        r = -errno;
    running->out = out[0];
    running->err = complaint[0];
    if (r == 0) {
        const int fds[3] = {in, out[1], complaint[1]};
        r = spawn(plugin, fds, &running->pid);
    }
    wfe_cleanup_close(&out[1]);
    wfe_cleanup_close(&complaint[1]);
    if (r < 0)
        return r;
    running->pidfd = pidfd_open(running->pid, 0);
    return running->pidfd < 0 ? -errno : 0;
}

/* Take what is there; false at the end of the stream. Nothing beyond the buffer's limit is kept. */
static bool take(int fd, struct wfe_buffer *buffer, int *ret_r)
{
    char bytes[4096];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    if (n > 0 && *ret_r == 0)
        *ret_r = wfe_buffer_append(buffer, bytes, (size_t)n);
    return n > 0;
}

static void close_stream(int *fd)
{
    wfe_cleanup_close(fd);
    *fd = -1;
}

/* Until the plugin ended and its streams have. Returns 0, -ETIMEDOUT, -ECANCELED, -EMSGSIZE (the
 * answer is too long) or -ENOMEM. */
static int attend(struct running *running, struct wfe_cancel *cancel)
{
    int64_t until = now_ms() + WFE_CNI_PLUGIN_TIMEOUT_MS;
    bool ended = false;
    int r = 0, ignored = 0;
    while (!ended || running->out >= 0 || running->err >= 0) {
        struct pollfd fds[] = {
            {.fd = running->out, .events = POLLIN},
            {.fd = running->err, .events = POLLIN},
            {.fd = ended ? -1 : running->pidfd, .events = POLLIN},
            {.fd = cancel ? wfe_cancel_fd(cancel) : -1, .events = POLLIN},
        };
        int64_t left = until - now_ms();
        /* What an ended plugin left running may hold its streams open; they are not waited for. */
        int n = poll(fds, 4, ended ? 0 : left > 0 ? (int)left : 0);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            return ended ? r : -ETIMEDOUT;
        if (!ended && n > 0 && fds[3].revents)
            return -ECANCELED;
        if (n > 0 && fds[0].revents && !take(running->out, &running->answer, &r))
            close_stream(&running->out);
        if (n > 0 && fds[1].revents && !take(running->err, &running->complaint, &ignored))
            close_stream(&running->err);
        ended = ended || (n > 0 && fds[2].revents);
        if (r < 0)
            return r;
    }
    return r;
}

/* "it ended with exit status 1: WORDS". */
static int fail(const struct running *running, int status, struct wfe_error *err)
{
    WFE_JSON cJSON *answer = running->answer.length > 0 ? cJSON_Parse(running->answer.data) : NULL;
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(answer, "msg");
    const cJSON *details = cJSON_GetObjectItemCaseSensitive(answer, "details");
    if (cJSON_IsString(message)) {
        bool more = cJSON_IsString(details) && *details->valuestring;
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EIO, "%.*s%s%.*s", MESSAGE_MAX,
            message->valuestring, more ? ": " : "", MESSAGE_MAX, more ? details->valuestring : "");
    }
    const char *words = running->complaint.length > 0 ? running->complaint.data
                        : running->answer.length > 0  ? running->answer.data
                                                      : "it said nothing";
    int length = (int)strcspn(words, "\n");
    return wfe_error_set(err, WFE_ERROR_SYSTEM, EIO, "it ended with %s %d: %.*s",
        WIFSIGNALED(status) ? "signal" : "exit status",
        WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
        length < MESSAGE_MAX ? length : MESSAGE_MAX, words);
}

static int judge(const struct running *running, int status, cJSON **ret, struct wfe_error *err)
{
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return fail(running, status, err);
    const char *text = running->answer.length > 0 ? running->answer.data : "";
    if (text[strspn(text, " \t\r\n")] == '\0')
        return 0;
    cJSON *answer = cJSON_ParseWithOpts(text, NULL, true);
    if (!cJSON_IsObject(answer)) {
        cJSON_Delete(answer);
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EBADMSG, "its answer is no JSON object: %.100s", text);
    }
    *ret = answer;
    return 0;
}

static int refuse(int r, struct wfe_error *err)
{
    switch (-r) {
    case ETIMEDOUT:
        return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "it did not end within %d s",
            WFE_CNI_PLUGIN_TIMEOUT_MS / 1000);
    case ECANCELED:
        return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped on request");
    case EMSGSIZE:
        return wfe_error_set(err, WFE_ERROR_LIMIT, EMSGSIZE, "its answer is longer than %d bytes",
            WFE_CNI_ANSWER_MAX_BYTES);
    case ENOMEM:
        return wfe_error_nomem(err);
    default:
        return wfe_error_system(err, -r, "run it");
    }
}

int wfe_cni_plugin_run(
    const struct wfe_cni_plugin *plugin, cJSON **ret_answer, struct wfe_error *err)
{
    struct running running = {
        .pidfd = -1,
        .out = -1,
        .err = -1,
        .answer = WFE_BUFFER_INIT(WFE_CNI_ANSWER_MAX_BYTES),
        .complaint = WFE_BUFFER_INIT(STDERR_MAX_BYTES),
    };
    cJSON *answer = NULL;
    int status = 0;
    int r = start(plugin, &running);
    if (r == 0)
        r = attend(&running, plugin->cancel);
    if (r < 0 && running.pid > 0)
        kill(-running.pid, SIGKILL);
    while (running.pid > 0 && waitpid(running.pid, &status, 0) < 0 && errno == EINTR)
        ;
    r = r < 0 ? refuse(r, err) : judge(&running, status, &answer, err);
    wfe_cleanup_close(&running.pidfd);
    wfe_cleanup_close(&running.out);
    wfe_cleanup_close(&running.err);
    wfe_buffer_done(&running.answer);
    wfe_buffer_done(&running.complaint);
    if (r == 0)
        *ret_answer = answer;
    return r;
}
