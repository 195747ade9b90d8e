/* SPDX-License-Identifier: MIT */

/*
 * The walk holds one descriptor, of the directory that it is in, and opens every name relative to
 * that without following links, so it can't be led out of the tree while it runs. Back up it goes
 * through "..", if that is still where it came from.
 */

#include "artifactfs/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

/* Linux's XATTR_LIST_MAX. */
enum { LIST_BYTES = 64 * 1024 };

struct level {
    dev_t dev;
    ino_t ino;
    char **names;
    size_t count;
    size_t next;
    size_t path_length; /* of the path that leads here */
};

/* A file with several names. */
struct known_file {
    dev_t dev;
    ino_t ino;
    uint32_t inode; /* in the index */
};

struct walk {
    struct wfe_index *index;
    struct wfe_cancel *cancel;
    int fd; /* the directory that the walk is in */
    struct level *levels;
    size_t depth, levels_allocated;
    char *path; /* of the entry at hand: WFE_MAX_NAME_BYTES and a component more */
    size_t path_length;
    void *known_files; /* tsearch()'s */
    char *hardlink;    /* room for a path */
    char *target;
    /* The xattrs of the entry at hand: names and values one after the other. */
    char *names;
    char *values;
    struct wfe_xattr *xattrs;
    uint32_t xattr_count, xattrs_allocated;
    struct wfe_extent *extents;
    uint32_t extent_count, extents_allocated;
};

static void level_done(struct level *level)
{
    wfe_names_free(level->names, level->count);
}

/* Go into the directory fd, which is taken on success. Returns 0 or -errno. */
static int push(struct walk *walk, int fd, const struct stat *st)
{
    if (walk->depth == walk->levels_allocated) {
        size_t allocated = walk->levels_allocated ? 2 * walk->levels_allocated : 16;
        struct level *levels = reallocarray(walk->levels, allocated, sizeof *levels);
        if (!levels)
            return -ENOMEM;
        walk->levels = levels;
        walk->levels_allocated = allocated;
    }
    struct level level = {.dev = st->st_dev, .ino = st->st_ino, .path_length = walk->path_length};
    int r = wfe_list_directory(fd, &level.names, &level.count);
    if (r < 0)
        return r;
    walk->levels[walk->depth++] = level;
    wfe_cleanup_close(&walk->fd);
    walk->fd = fd;
    return 0;
}

/* Go back up. */
static void pop(struct walk *walk)
{
    level_done(&walk->levels[--walk->depth]);
    while (walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        int fd = openat(walk->fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct stat st;
        bool is_same =
            fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == level->dev && st.st_ino == level->ino;
        if (!is_same) {
            /* Moved meanwhile: nothing above can be found any more. */
            wfe_cleanup_close(&fd);
            walk->path[level->path_length] = '\0';
            wfe_index_report(
                walk->index, walk->path, "it was moved while it was read, and is not complete");
            level_done(&walk->levels[--walk->depth]);
            continue;
        }
        close(walk->fd);
        walk->fd = fd;
        return;
    }
}

static int compare_files(const void *a, const void *b)
{
    const struct known_file *one = a;
    const struct known_file *other = b;
    if (one->dev != other->dev)
        return one->dev < other->dev ? -1 : 1;
    return (one->ino > other->ino) - (one->ino < other->ino);
}

static int remember(struct walk *walk, const struct stat *st)
{
    const struct wfe_index *index = walk->index;
    struct known_file *file = malloc(sizeof *file);
    if (!file)
        return -ENOMEM;
    *file = (struct known_file){
        .dev = st->st_dev, .ino = st->st_ino, .inode = index->items[index->item_count - 1].inode};
    if (!tsearch(file, &walk->known_files, compare_files)) {
        free(file);
        return -ENOMEM;
    }
    return 0;
}

/* Whether the file was met under another name, which goes to walk->hardlink. */
static bool is_known(struct walk *walk, const struct stat *st)
{
    if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
        return false;
    struct known_file key = {.dev = st->st_dev, .ino = st->st_ino};
    struct known_file **known = tfind(&key, &walk->known_files, compare_files);
    return known &&
           wfe_index_path(walk->index, (*known)->inode, walk->hardlink, WFE_MAX_NAME_BYTES + 1) > 0;
}

static int add_xattr(struct walk *walk, int fd, const char *name, size_t *used)
{
    ssize_t length = fgetxattr(fd, name, walk->values + *used, WFE_MAX_XATTRS_BYTES - *used);
    if (length < 0) {
        wfe_index_report(walk->index, walk->path, "an xattr can't be read: %s", strerror(errno));
        return 0;
    }
    if (wfe_tree_grow((void **)&walk->xattrs, &walk->xattrs_allocated, walk->xattr_count,
            sizeof *walk->xattrs) < 0)
        return -ENOMEM;
    walk->xattrs[walk->xattr_count++] = (struct wfe_xattr){
        .name = name, .value = walk->values + *used, .value_length = (uint32_t)length};
    *used += (size_t)length;
    return 0;
}

static int read_xattrs(struct walk *walk, int fd)
{
    walk->xattr_count = 0;
    ssize_t length = flistxattr(fd, walk->names, LIST_BYTES);
    size_t used = 0;
    for (const char *name = walk->names; length > 0 && name < walk->names + length;
         name += strlen(name) + 1) {
        /* ACLs: as of an archive. */
        int r = strncmp(name, "system.", 7) == 0 ? 0 : add_xattr(walk, fd, name, &used);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Where a file that takes less room than its size has data. It may change at any time, so what
 * makes no sense counts as no holes. */
static int read_extents(struct walk *walk, int fd, off_t size)
{
    walk->extent_count = 0;
    for (off_t end = 0; end < size && walk->extent_count < WFE_MAX_EXTENTS;) {
        off_t start = lseek(fd, end, SEEK_DATA);
        if (start < end || start >= size)
            return errno == ENXIO || start >= size ? 1 : 0;
        end = lseek(fd, start, SEEK_HOLE);
        if (end <= start)
            return 0;
        if (end > size)
            end = size;
        if (wfe_tree_grow((void **)&walk->extents, &walk->extents_allocated, walk->extent_count,
                sizeof *walk->extents) < 0)
            return -ENOMEM;
        walk->extents[walk->extent_count++] = (struct wfe_extent){.offset_bytes = (uint64_t)start,
            .length_bytes = (uint64_t)(end - start),
            .data = (uint64_t)start};
    }
    return walk->extent_count < WFE_MAX_EXTENTS;
}

/* What only the open file tells. */
static int look_inside(
    struct walk *walk, int fd, const struct stat *st, struct wfe_index_entry *entry)
{
    static const struct wfe_extent none;
    int r = read_xattrs(walk, fd);
    if (r < 0)
        return r;
    entry->xattrs = walk->xattrs;
    entry->xattr_count = walk->xattr_count;
    if (!S_ISREG(st->st_mode) || st->st_blocks >= (st->st_size + 511) / 512)
        return 0;
    r = read_extents(walk, fd, st->st_size);
    if (r > 0) {
        entry->extents = walk->extent_count > 0 ? walk->extents : &none;
        entry->extent_count = walk->extent_count;
    }
    return r < 0 ? r : 0;
}

static void describe(const struct walk *walk, const struct stat *st, struct wfe_index_entry *ret)
{
    *ret = (struct wfe_index_entry){
        .name = walk->path,
        .size_bytes = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
        .mtime_s = st->st_mtim.tv_sec,
        .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .rdev = (uint32_t)st->st_rdev,
    };
}

static void report_errno(struct walk *walk, const char *what)
{
    wfe_index_report(walk->index, walk->path, "%s: %s", what, strerror(errno));
}

/* The file or directory at name, open; -1 when it can't be, or is another one by now. */
static int open_entry(struct walk *walk, const char *name, struct stat *st)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    WFE_CLOSE int fd = openat(walk->fd, name, flags);
    struct stat now;
    if (fd < 0 || fstat(fd, &now) < 0) {
        report_errno(walk, "it can't be read");
        return -1;
    }
    if ((now.st_mode & S_IFMT) != (st->st_mode & S_IFMT)) {
        errno = EBUSY;
        report_errno(walk, "it was changed while it was read");
        return -1;
    }
    *st = now;
    return wfe_steal_fd(&fd);
}

/* Add the entry at hand and, of a directory, go into it. */
static int visit(struct walk *walk, const char *name, struct wfe_error *err)
{
    struct stat st;
    if (fstatat(walk->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        report_errno(walk, "left out");
        return 0;
    }
    bool is_link = is_known(walk, &st);
    WFE_CLOSE int fd = -1;
    if (!is_link && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        fd = open_entry(walk, name, &st);
    struct wfe_index_entry entry;
    describe(walk, &st, &entry);
    if (is_link)
        entry.hardlink = walk->hardlink;
    if (fd >= 0 && look_inside(walk, fd, &st, &entry) < 0)
        return wfe_error_nomem(err);
    if (S_ISLNK(st.st_mode)) {
        ssize_t length = readlinkat(walk->fd, name, walk->target, WFE_MAX_TARGET_BYTES + 1);
        walk->target[length > 0 ? length : 0] = '\0';
        entry.symlink = walk->target;
    }
    uint32_t before = walk->index->item_count;
    int r = wfe_index_add(walk->index, &entry, err);
    if (r < 0 || walk->index->item_count == before)
        return r;
    if (!entry.hardlink && st.st_nlink > 1 && !S_ISDIR(st.st_mode))
        return remember(walk, &st) < 0 ? wfe_error_nomem(err) : 0;
    if (S_ISDIR(st.st_mode) && fd >= 0) {
        r = push(walk, fd, &st);
        if (r == 0) {
            wfe_steal_fd(&fd);
        } else if (r == -ENOMEM) {
            return wfe_error_nomem(err);
        } else {
            errno = -r;
            report_errno(walk, "it can't be listed");
        }
    }
    return 0;
}

static int visit_all(struct walk *walk, struct wfe_error *err)
{
    while (walk->depth > 0) {
        struct level *level = &walk->levels[walk->depth - 1];
        if (wfe_cancel_requested(walk->cancel))
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "the scan was cancelled");
        if (level->next == level->count) {
            pop(walk);
            continue;
        }
        const char *name = level->names[level->next++];
        size_t length = level->path_length;
        if (length > 0)
            walk->path[length++] = '/';
        size_t name_length = strlen(name);
        memcpy(walk->path + length, name, name_length + 1);
        walk->path_length = length + name_length;
        int r = visit(walk, name, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int start(struct walk *walk, int fd, struct wfe_error *err)
{
    walk->path = malloc(WFE_MAX_NAME_BYTES + 1 + WFE_MAX_COMPONENT_BYTES + 1);
    walk->hardlink = malloc(WFE_MAX_NAME_BYTES + 1);
    walk->target = malloc(WFE_MAX_TARGET_BYTES + 2);
    walk->names = malloc(LIST_BYTES);
    walk->values = malloc(WFE_MAX_XATTRS_BYTES);
    if (!walk->path || !walk->hardlink || !walk->target || !walk->names || !walk->values)
        return wfe_error_nomem(err);
    walk->path[0] = '\0';
    WFE_CLOSE int root = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;
    if (root < 0 || fstat(root, &st) < 0)
        return wfe_error_system(err, errno, "open the directory");
    struct wfe_index_entry entry;
    describe(walk, &st, &entry);
    if (look_inside(walk, root, &st, &entry) < 0)
        return wfe_error_nomem(err);
    int r = wfe_index_add(walk->index, &entry, err);
    if (r < 0)
        return r;
    r = push(walk, root, &st);
    if (r < 0)
        return r == -ENOMEM ? wfe_error_nomem(err)
                            : wfe_error_system(err, -r, "list the directory");
    wfe_steal_fd(&root);
    return 0;
}

static void walk_done(struct walk *walk)
{
    while (walk->depth > 0)
        level_done(&walk->levels[--walk->depth]);
    wfe_cleanup_close(&walk->fd);
    free(walk->levels);
    free(walk->path);
    tdestroy(walk->known_files, free);
    free(walk->hardlink);
    free(walk->target);
    free(walk->names);
    free(walk->values);
    free(walk->xattrs);
    free(walk->extents);
}

int wfe_scan_directory(
    int fd, struct wfe_index *index, struct wfe_cancel *cancel, struct wfe_error *err)
{
    struct walk walk = {.index = index, .cancel = cancel, .fd = -1};
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = start(&walk, fd, &failure);
    if (r == 0)
        r = visit_all(&walk, &failure);
    walk_done(&walk);
    if (r < 0)
        wfe_index_break(index, failure.message);
    int finished = wfe_index_finish(index, r < 0 ? NULL : err);
    if (r == 0)
        return finished;
    if (err)
        *err = failure;
    return r;
}
