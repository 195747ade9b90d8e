/* SPDX-License-Identifier: MIT */
#include "executor/daemon/shim.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define END_TIMEOUT_MS 2000

/* The value that follows an option in a command line whose arguments end in NULs; "" when it has
 * none. */
static const char *option_value(const char *arguments, size_t length, const char *option)
{
    const char *end = arguments + length;
    for (const char *at = arguments; at < end; at += strlen(at) + 1) {
        const char *next = at + strlen(at) + 1;
        if (strcmp(at, option) == 0 && next < end)
            return next;
    }
    return "";
}

static bool is_shim_of(int proc, const char *pid, const char *namespace_, const char *id)
{
    char path[64], arguments[4096];
    snprintf(path, sizeof path, "%s/cmdline", pid);
    WFE_CLOSE int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = wfe_read_full(fd, arguments, sizeof arguments - 1);
    if (length <= 0)
        return false;
    arguments[length] = '\0';
    const char *slash = strrchr(arguments, '/');
    const char *name = slash ? slash + 1 : arguments;
    return strncmp(name, "containerd-shim-", strlen("containerd-shim-")) == 0 &&
           strcmp(option_value(arguments, (size_t)length, "-namespace"), namespace_) == 0 &&
           strcmp(option_value(arguments, (size_t)length, "-id"), id) == 0;
}

static bool has_ended(int pidfd)
{
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    return poll(&end, 1, END_TIMEOUT_MS) > 0;
}

void wfe_shim_end(const char *namespace_, const char *id)
{
    DIR *directory = opendir("/proc");
    if (!directory)
        return;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid <= 0 || !is_shim_of(dirfd(directory), entry->d_name, namespace_, id))
            continue;
        /* Looked at again: the number may be another process's by now, the descriptor can't. */
        WFE_CLOSE int pidfd = pidfd_open(pid, 0);
        if (pidfd < 0 || !is_shim_of(dirfd(directory), entry->d_name, namespace_, id))
            continue;
        wfe_log(WFE_LOG_INFO, "gc", "ending shim %d, which the daemon has lost", (int)pid);
        if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) == 0 && !has_ended(pidfd))
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
    }
    closedir(directory);
}
