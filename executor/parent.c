/* SPDX-License-Identifier: MIT */
#include "executor/parent.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/pidfd.h>
#include <unistd.h>

static void *wait_for_end(void *context)
{
    struct pollfd parent = {.fd = (int)(intptr_t)context, .events = POLLIN};
    while (poll(&parent, 1, -1) < 0 && errno == EINTR)
        ;
    kill(getpid(), SIGTERM);
    close(parent.fd);
    return NULL;
}

int wfe_parent_watch(struct wfe_error *err)
{
    pid_t parent = getppid();
    if (parent <= 1)
        return 0;
    int fd = pidfd_open(parent, 0);
    if (fd < 0 && errno != ESRCH)
        return wfe_error_system(err, errno, "watch the parent process");
    /* It ended meanwhile. */
    if (fd < 0 || getppid() != parent) {
        if (fd >= 0)
            close(fd);
        kill(getpid(), SIGTERM);
        return 0;
    }
    pthread_t thread;
    int r = pthread_create(&thread, NULL, wait_for_end, (void *)(intptr_t)fd);
    if (r != 0) {
        close(fd);
        return wfe_error_system(err, r, "watch the parent process");
    }
    pthread_detach(thread);
    return 0;
}
