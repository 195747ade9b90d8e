/* SPDX-License-Identifier: MIT */
#include "executor/daemon/cgroup.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/log.h"

/* A cgroup is busy until the kernel is done with its last process. */
#define REMOVE_TRIES 100
#define PAUSE_NS (10 * 1000 * 1000)

static void kill_all(const char *cgroup)
{
    WFE_FREE char *path = NULL;
    if (asprintf(&path, "%s/cgroup.procs", cgroup) < 0) {
        path = NULL;
        return;
    }
    WFE_FCLOSE FILE *file = fopen(path, "re");
    int pid;
    while (file && fscanf(file, "%d", &pid) == 1) {
        if (pid > 1 && kill(pid, SIGKILL) == 0)
            wfe_log(WFE_LOG_INFO, "gc", "ended process %d, which the daemon has lost", pid);
    }
}

static void end(const char *cgroup)
{
    for (int i = 0; i < REMOVE_TRIES && rmdir(cgroup) < 0 && errno == EBUSY; i++) {
        kill_all(cgroup);
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
}

/* One hierarchy (v2), or one a controller (v1), or both. */
void wfe_cgroup_end(const char *namespace_, const char *id)
{
    static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/*"};
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        WFE_FREE char *pattern = NULL;
        if (asprintf(&pattern, "%s/%s/%s", roots[i], namespace_, id) < 0) {
            pattern = NULL;
            return;
        }
        glob_t found;
        if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
            continue;
        for (size_t k = 0; k < found.gl_pathc; k++)
            end(found.gl_pathv[k]);
        globfree(&found);
    }
}
