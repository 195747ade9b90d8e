/* SPDX-License-Identifier: MIT */
#include "executor/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

struct owner {
    char host[130];
    char boot[65];
    unsigned long long pid_namespace;
    long pid;
    unsigned long long start_ticks;
};

/* The first word of a file. */
static int read_word(const char *path, char *word, size_t size)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = wfe_read_full(fd, word, size - 1);
    if (n < 0)
        return (int)n;
    word[n] = '\0';
    word[strcspn(word, " \t\n")] = '\0';
    return *word ? 0 : -ENODATA;
}

/* Cloned machines share their machine id, containers may have none: the name goes with it. */
static int read_host(char *host, size_t size)
{
    char name[65];
    if (gethostname(name, sizeof name) < 0)
        return -errno;
    name[sizeof name - 1] = '\0';
    name[strcspn(name, " \t\n")] = '\0';
    char id[64];
    if (read_word("/etc/machine-id", id, sizeof id) < 0)
        id[0] = '\0';
    snprintf(host, size, "%s/%s", name, id);
    return 0;
}

/* Field 22 of /proc/PID/stat; the command name before it may hold spaces and brackets. */
static int read_start_ticks(long pid, unsigned long long *ret)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    char stat[1024];
    ssize_t n = wfe_read_full(fd, stat, sizeof stat - 1);
    if (n < 0)
        return (int)n;
    stat[n] = '\0';
    char *at = strrchr(stat, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at, ' ');
        if (at)
            at++;
    }
    if (!at || sscanf(at, "%llu", ret) != 1)
        return -ENODATA;
    return 0;
}

static int read_self(struct owner *ret)
{
    struct owner self = {.pid = getpid()};
    int r = read_host(self.host, sizeof self.host);
    if (r < 0)
        return r;
    r = read_word("/proc/sys/kernel/random/boot_id", self.boot, sizeof self.boot);
    if (r < 0)
        return r;
    struct stat st;
    if (stat("/proc/self/ns/pid", &st) < 0)
        return -errno;
    self.pid_namespace = st.st_ino;
    r = read_start_ticks(self.pid, &self.start_ticks);
    if (r < 0)
        return r;
    *ret = self;
    return 0;
}

int wfe_owner_self(char text[WFE_OWNER_TEXT_MAX])
{
    struct owner self = {.pid = 0};
    int r = read_self(&self);
    if (r < 0)
        return r;
    snprintf(text, WFE_OWNER_TEXT_MAX, "%s %s %llu %ld %llu", self.host, self.boot,
        self.pid_namespace, self.pid, self.start_ticks);
    return 0;
}

enum wfe_owner_state wfe_owner_judge(const char *text)
{
    struct owner owner, self = {.pid = 0};
    if (sscanf(text, "%129s %64s %llu %ld %llu", owner.host, owner.boot, &owner.pid_namespace,
            &owner.pid, &owner.start_ticks) != 5)
        return WFE_OWNER_UNKNOWN;
    if (read_self(&self) < 0 || strcmp(owner.host, self.host) != 0)
        return WFE_OWNER_UNKNOWN;
    if (strcmp(owner.boot, self.boot) != 0)
        return WFE_OWNER_OTHER_BOOT;
    if (owner.pid_namespace != self.pid_namespace)
        return WFE_OWNER_UNKNOWN;
    unsigned long long start_ticks = 0;
    if (read_start_ticks(owner.pid, &start_ticks) < 0 || start_ticks != owner.start_ticks)
        return WFE_OWNER_DEAD;
    return WFE_OWNER_ALIVE;
}
