/* SPDX-License-Identifier: MIT */
#include "executor/spec/root_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define LINKS_MAX 40 /* the kernel's own */

/* What stands at a path, and in which layer. */
struct found {
    int layer; /* a descriptor, the holder's */
    struct stat st;
};

static int open_in(int layer, const char *path, uint64_t flags)
{
    const struct open_how how = {
        .flags = flags | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, layer, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

/* Attributes can't be read through a descriptor that is a mere place, but by its name in /proc. */
static bool is_opaque(int fd)
{
    static const char *const names[] = {"trusted.overlay.opaque", "user.overlay.opaque"};
    char path[64], value;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (getxattr(path, names[i], &value, 1) == 1 && value == 'y')
            return true;
    return false;
}

/*
 * What one layer has at path, which is clean ("a/b") and whose directories are no links in the
 * whole of the layers: 0 with *ret_st, -ENOENT when it says nothing of it, or -errno. *ret_is_last:
 * what is below this layer does not show.
 */
static int find_in_layer(int layer, const char *path, struct stat *ret_st, bool *ret_is_last)
{
    char prefix[PATH_MAX];
    size_t length = 0;
    for (;;) {
        length += strcspn(path + length, "/");
        memcpy(prefix, path, length);
        prefix[length] = '\0';
        WFE_CLOSE int fd = open_in(layer, prefix, O_PATH);
        if (fd < 0)
            return fd;
        if (fstat(fd, ret_st) < 0)
            return -errno;
        bool whole = path[length] == '\0';
        bool whiteout = S_ISCHR(ret_st->st_mode) && ret_st->st_rdev == 0;
        /* Something else than a directory hides what lower layers have there, and below it. */
        if (whiteout || !S_ISDIR(ret_st->st_mode) || is_opaque(fd))
            *ret_is_last = true;
        if (whiteout || (!whole && !S_ISDIR(ret_st->st_mode)))
            return -ENOENT;
        if (whole)
            return 0;
        length++;
    }
}

/* The same in all of the layers; *ret->layer is the caller's to close. */
static int find(const char *layers, const char *path, struct found *ret)
{
    WFE_FREE char *list = strdup(layers);
    if (!list)
        return -ENOMEM;
    char *rest = list, *directory;
    bool is_last = false;
    while (!is_last && (directory = strsep(&rest, ":"))) {
        WFE_CLOSE int layer = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (layer < 0)
            return errno == ENOENT ? -ESTALE : -errno;
        struct stat st;
        int r = find_in_layer(layer, path, &st, &is_last);
        if (r == 0) {
            *ret = (struct found){.layer = wfe_steal_fd(&layer), .st = st};
            return 0;
        }
        if (r != -ENOENT)
            return r;
    }
    return -ENOENT;
}

/* A path on its way: `done` is resolved and clean, `rest` is not. */
struct walk {
    char done[PATH_MAX];
    char rest[PATH_MAX];
    int links;
};

/* Put the target of the link at path in front of the rest. */
static int follow(struct walk *walk, const struct found *found, const char *path)
{
    char target[PATH_MAX], joined[PATH_MAX];
    if (++walk->links > LINKS_MAX)
        return -ELOOP;
    WFE_CLOSE int fd = open_in(found->layer, path, O_PATH);
    if (fd < 0)
        return fd;
    ssize_t length = readlinkat(fd, "", target, sizeof target - 1);
    if (length < 0)
        return -errno;
    target[length] = '\0';
    int size = snprintf(joined, sizeof joined, "%s/%s", target, walk->rest);
    if (size >= (int)sizeof joined)
        return -ENAMETOOLONG;
    memcpy(walk->rest, joined, (size_t)size + 1);
    if (target[0] == '/')
        walk->done[0] = '\0';
    return 0;
}

/* Take the next name off the rest into name; false at its end. */
static bool next_name(struct walk *walk, char name[static NAME_MAX + 2])
{
    char *start = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(start, "/");
    size_t kept = length <= NAME_MAX ? length : NAME_MAX + 1; /* too long: not found as it is */
    memcpy(name, start, kept);
    name[kept] = '\0';
    memmove(walk->rest, start + length, strlen(start + length) + 1);
    return length > 0;
}

/* Move on by one name; *ret holds a file when there is one at the end of the way. */
static int step(const char *layers, struct walk *walk, const char *name, struct found *ret)
{
    char path[PATH_MAX];
    if (strcmp(name, ".") == 0)
        return 0;
    if (strcmp(name, "..") == 0) {
        char *slash = strrchr(walk->done, '/');
        *(slash ? slash : walk->done) = '\0';
        return 0;
    }
    int size = snprintf(path, sizeof path, "%s%s%s", walk->done, walk->done[0] ? "/" : "", name);
    if (size >= (int)sizeof path)
        return -ENAMETOOLONG;
    struct found found = {.layer = -1};
    int r = find(layers, path, &found);
    if (r < 0)
        return r;
    WFE_CLOSE int layer = found.layer;
    if (S_ISLNK(found.st.st_mode))
        return follow(walk, &found, path);
    memcpy(walk->done, path, (size_t)size + 1);
    bool at_end = walk->rest[strspn(walk->rest, "/")] == '\0';
    if (S_ISDIR(found.st.st_mode))
        return at_end ? -EISDIR : 0;
    if (!S_ISREG(found.st.st_mode) || !at_end)
        return at_end ? -EINVAL : -ENOTDIR;
    *ret = found;
    ret->layer = wfe_steal_fd(&layer);
    return 0;
}

static int open_file(const char *layers, const char *path)
{
    struct walk walk = {.done = ""};
    char name[NAME_MAX + 2];
    if (strlen(path) >= sizeof walk.rest)
        return -ENAMETOOLONG;
    memcpy(walk.rest, path, strlen(path) + 1);
    struct found found = {.layer = -1};
    while (found.layer < 0 && next_name(&walk, name)) {
        int r = step(layers, &walk, name, &found);
        if (r < 0)
            return r;
    }
    if (found.layer < 0)
        return -EISDIR;
    WFE_CLOSE int layer = found.layer;
    return open_in(layer, walk.done, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

int wfe_root_file_read(const char *layers, const char *path, size_t max_bytes, char **ret,
    size_t *ret_length, struct wfe_error *err)
{
    WFE_CLOSE int fd = open_file(layers, path);
    if (fd == -ENOMEM)
        return wfe_error_nomem(err);
    if (fd == -EACCES || fd == -EPERM || fd == -ENOSYS || fd == -ESTALE)
        return wfe_error_system(err, -fd, "the image's %s", path);
    if (fd < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, -fd, "the image's %s: %s", path, strerror(-fd));
    WFE_FREE char *data = malloc(max_bytes + 1);
    if (!data)
        return wfe_error_nomem(err);
    ssize_t length = wfe_read_full(fd, data, max_bytes + 1);
    if (length < 0)
        return wfe_error_system(err, (int)-length, "the image's %s", path);
    if ((size_t)length > max_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "the image's %s is longer than %zu bytes",
            path, max_bytes);
    data[length] = '\0';
    *ret = wfe_steal(&data);
    *ret_length = (size_t)length;
    return 0;
}
