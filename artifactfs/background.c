/* SPDX-License-Identifier: MIT */
#include "artifactfs/background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "libcommon/file.h"

#define PROGRAM "wfe-artifactfs"

static int parent_pipe = -1;
static atomic_bool uses_syslog;

static _Noreturn void end_as(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            _exit(1);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
    if (WIFSIGNALED(status))
        fprintf(stderr, PROGRAM " mount: ended by signal %d\n", WTERMSIG(status));
    _exit(1);
}

/* The child closes its end without a word when it fails before it has mounted. before: what the
 * mount point was before there was a child; NULL: not known. */
static _Noreturn void wait_for_mount(
    pid_t child, int pipe, const char *mountpoint, const struct stat *before)
{
    struct stat after;
    char word;
    if (wfe_read_full(pipe, &word, 1) != 1)
        end_as(child);
    /* Answered once the child serves; refused when it dies before. */
    if (stat(mountpoint, &after) < 0) {
        fprintf(stderr, PROGRAM " mount: %s: %s\n", mountpoint, strerror(errno));
        umount2(mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    } else if (before && before->st_dev == after.st_dev) {
        fprintf(stderr, PROGRAM " mount: %s: it was unmounted at once\n", mountpoint);
    } else {
        _exit(0);
    }
    _exit(1);
}

int wfe_background_start(const char *mountpoint, struct wfe_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return wfe_error_system(err, errno, "pipe");
    struct stat before;
    bool knows_before = stat(mountpoint, &before) == 0;
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        int errnum = errno;
        close(ends[0]);
        close(ends[1]);
        return wfe_error_system(err, errnum, "fork");
    }
    if (child > 0) {
        close(ends[1]);
        wait_for_mount(child, ends[0], mountpoint, knows_before ? &before : NULL);
    }
    close(ends[0]);
    parent_pipe = ends[1];
    return 0;
}

int wfe_background_mounted(struct wfe_error *err)
{
    if (parent_pipe < 0)
        return 0;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || chdir("/") < 0) {
        int errnum = errno;
        if (null >= 0)
            close(null);
        return wfe_error_system(err, errnum, "/dev/null");
    }
    int r = wfe_write_all(parent_pipe, "m", 1);
    if (r < 0) {
        close(null);
        return wfe_error_system(err, -r, "the process that waits for the mount is gone");
    }
    setsid();
    openlog(PROGRAM, LOG_PID, LOG_DAEMON);
    atomic_store(&uses_syslog, true);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    close(parent_pipe);
    parent_pipe = -1;
    return 0;
}

static int priority_of(enum wfe_log_level level)
{
    switch (level) {
    case WFE_LOG_ERROR:
        return LOG_ERR;
    case WFE_LOG_WARN:
        return LOG_WARNING;
    case WFE_LOG_INFO:
        return LOG_INFO;
    default:
        return LOG_DEBUG;
    }
}

void wfe_background_log(enum wfe_log_level level, const char *stage, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (!atomic_load(&uses_syslog))
        wfe_log(level, stage, "%s", message);
    else if (wfe_log_enabled(level))
        syslog(priority_of(level), "%s: %s", stage, message);
}
