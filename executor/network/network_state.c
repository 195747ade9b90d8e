/* SPDX-License-Identifier: MIT */
#include "executor/network/network_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define STATE_NAME "state.json"

static int lock_file(int fd, int how)
{
    int r;
    do {
        r = flock(fd, how);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

int wfe_network_lock(int *ret_fd, struct wfe_error *err)
{
    int r = wfe_make_directories(WFE_NETWORK_STEPS, 0700);
    if (r == 0)
        r = wfe_make_directories(WFE_NETWORK_ADDRESSES, 0700);
    if (r < 0)
        return wfe_error_system(err, -r, "make %s", WFE_NETWORK_DIRECTORY);
    WFE_CLOSE int fd = open(WFE_NETWORK_DIRECTORY "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    r = fd < 0 ? -errno : lock_file(fd, LOCK_EX);
    if (r < 0)
        return wfe_error_system(err, -r, "lock %s", WFE_NETWORK_DIRECTORY);
    *ret_fd = wfe_steal_fd(&fd);
    return 0;
}

char *wfe_network_step_path(const char *id, const char *name)
{
    char *path;
    return asprintf(&path, WFE_NETWORK_STEPS "/%s/%s", id, name) < 0 ? NULL : path;
}

static int open_step(const char *id)
{
    WFE_FREE char *path = wfe_path_join(WFE_NETWORK_STEPS, id);
    if (!path)
        return -ENOMEM;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int wfe_network_step_make(const char *id, int *ret_fd, struct wfe_error *err)
{
    WFE_FREE char *path = wfe_path_join(WFE_NETWORK_STEPS, id);
    if (!path)
        return wfe_error_nomem(err);
    if (mkdir(path, 0700) < 0)
        return wfe_error_system(err, errno, "make %s", path);
    int fd = open_step(id);
    int r = fd < 0 ? fd : lock_file(fd, LOCK_EX | LOCK_NB);
    if (r < 0) {
        wfe_cleanup_close(&fd);
        rmdir(path);
        return wfe_error_system(err, -r, "lock %s", path);
    }
    *ret_fd = fd;
    return 0;
}

int wfe_network_step_open(const char *id, int *ret_fd, bool *ret_locked)
{
    int fd = open_step(id);
    if (fd < 0)
        return fd;
    *ret_locked = lock_file(fd, LOCK_EX | LOCK_NB) == 0;
    *ret_fd = fd;
    return 0;
}

int wfe_network_step_remove(const char *id)
{
    WFE_FREE char *path = wfe_path_join(WFE_NETWORK_STEPS, id);
    return path ? wfe_remove_tree(path) : -ENOMEM;
}

int wfe_network_step_list(char ***ret_ids, size_t *ret_count, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(WFE_NETWORK_STEPS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == EACCES)) {
        *ret_ids = NULL;
        *ret_count = 0;
        return 0;
    }
    int r = fd < 0 ? -errno : wfe_list_directory(fd, ret_ids, ret_count);
    return r < 0 ? wfe_error_system(err, -r, "read %s", WFE_NETWORK_STEPS) : 0;
}

int wfe_network_state_write(int step_fd, const cJSON *state, struct wfe_error *err)
{
    WFE_FREE char *text = cJSON_PrintUnformatted(state);
    if (!text)
        return wfe_error_nomem(err);
    int r = wfe_replace_file(step_fd, STATE_NAME, text, strlen(text), 0600);
    return r < 0 ? wfe_error_system(err, -r, "write the network's state") : 0;
}

cJSON *wfe_network_state_read(int step_fd)
{
    WFE_CLOSE int fd = openat(step_fd, STATE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > WFE_NETWORK_STATE_MAX_BYTES)
        return NULL;
    size_t size = (size_t)st.st_size;
    WFE_FREE char *text = malloc(size + 1);
    ssize_t n = text ? wfe_read_full(fd, text, size) : -1;
    if (n < 0)
        return NULL;
    text[n] = '\0';
    return cJSON_Parse(text);
}
