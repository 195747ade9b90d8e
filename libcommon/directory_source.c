/* SPDX-License-Identifier: MIT */

/*
 * What is below a directory, each folder's names in the order of their bytes; or one
 * regular file.
 *
 * The walk holds a descriptor for each level, and opens every name relative to the one
 * above without following links, so it can't be led out of the tree while it runs.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer_source.h"

enum { READ_BYTES = 256 * 1024 };

struct level {
    int fd;
    char **names;
    size_t count;
    size_t next;
    size_t path_length; /* of the path that leads here */
};

/* A file with several names, under the first of them. */
struct inode {
    dev_t dev;
    ino_t ino;
    char *name;
};

struct directory_source {
    struct wfe_layer_source head;
    int fd;
    char *single_name; /* fd is a file, which has this name; else NULL */
    struct level *levels;
    size_t depth, levels_allocated;
    struct wfe_buffer path;   /* of the entry, below the root */
    struct wfe_buffer target; /* of a symbolic link */
    bool is_done;             /* the single file was given */
    bool descend;             /* into the entry, before what comes next */
    struct stat st;           /* of the entry */
    int entry_fd;             /* open when its data or xattrs were asked for */
    uint64_t read_bytes;
    void *inodes; /* tsearch()'s */
    char *data;
};

static struct directory_source *downcast(struct wfe_layer_source *source)
{
    return (struct directory_source *)source;
}

static int changed(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_SYSTEM, EBUSY, "it was changed while it was read");
}

static bool same_version(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
           a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec &&
           a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void level_done(struct level *level)
{
    wfe_names_free(level->names, level->count);
    if (level->fd >= 0)
        close(level->fd);
}

/* Go into the directory fd, which is taken. Returns 0 or -errno. */
static int push(struct directory_source *source, int fd)
{
    struct level level = {.fd = fd, .path_length = source->path.length};
    int r = 0;
    if (source->depth == source->levels_allocated) {
        size_t allocated = source->levels_allocated ? 2 * source->levels_allocated : 16;
        struct level *levels = reallocarray(source->levels, allocated, sizeof *levels);
        if (levels) {
            source->levels = levels;
            source->levels_allocated = allocated;
        } else {
            r = -ENOMEM;
        }
    }
    if (r == 0)
        r = wfe_list_directory(fd, &level.names, &level.count);
    if (r < 0) {
        level_done(&level);
        return r;
    }
    source->levels[source->depth++] = level;
    return 0;
}

static void pop(struct directory_source *source)
{
    level_done(&source->levels[--source->depth]);
}

static void close_entry(struct directory_source *source)
{
    if (source->entry_fd >= 0)
        close(source->entry_fd);
    source->entry_fd = -1;
    source->read_bytes = 0;
}

static const char *entry_name(const struct directory_source *source)
{
    const char *slash = strrchr(source->path.data, '/');
    return slash ? slash + 1 : source->path.data;
}

/* A descriptor of the entry, in *ret; it must still be what next() saw. */
static int open_entry(struct directory_source *source, int *ret, struct wfe_error *err)
{
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
    WFE_CLOSE int fd = source->single_name ? fcntl(source->fd, F_DUPFD_CLOEXEC, 0)
                                           : openat(source->levels[source->depth - 1].fd,
                                                 entry_name(source), flags);
    if (fd < 0)
        return wfe_error_system(err, errno, "open");
    if (source->single_name && lseek(fd, 0, SEEK_SET) < 0)
        return wfe_error_system(err, errno, "seek");
    struct stat st;
    if (fstat(fd, &st) < 0)
        return wfe_error_system(err, errno, "stat");
    if (!same_version(&st, &source->st))
        return changed(err);
    *ret = wfe_steal_fd(&fd);
    return 0;
}

static int require_open(struct directory_source *source, struct wfe_error *err)
{
    return source->entry_fd < 0 ? open_entry(source, &source->entry_fd, err) : 0;
}

static int compare_inodes(const void *a, const void *b)
{
    const struct inode *one = a;
    const struct inode *other = b;
    if (one->dev != other->dev)
        return one->dev < other->dev ? -1 : 1;
    return (one->ino > other->ino) - (one->ino < other->ino);
}

static void free_inode(void *item)
{
    struct inode *inode = item;
    free(inode->name);
    free(inode);
}

/* The first name of the entry's file in *ret, NULL when it is the entry's own. */
static int first_name(struct directory_source *source, const char **ret)
{
    struct inode key = {.dev = source->st.st_dev, .ino = source->st.st_ino};
    struct inode **known = tfind(&key, &source->inodes, compare_inodes);
    if (known) {
        bool own = strcmp((*known)->name, source->path.data) == 0;
        *ret = own ? NULL : (*known)->name;
        return 0;
    }
    struct inode *inode = malloc(sizeof *inode);
    if (!inode)
        return -ENOMEM;
    *inode = key;
    inode->name = strdup(source->path.data);
    if (!inode->name || !tsearch(inode, &source->inodes, compare_inodes)) {
        free_inode(inode);
        return -ENOMEM;
    }
    *ret = NULL;
    return 0;
}

static int read_link(struct directory_source *source, struct wfe_error *err)
{
    char target[4097];
    ssize_t length = readlinkat(
        source->levels[source->depth - 1].fd, entry_name(source), target, sizeof target - 1);
    if (length < 0)
        return wfe_error_system(err, errno, "read the link");
    target[length] = '\0';
    source->target.length = 0;
    return wfe_buffer_puts(&source->target, target) < 0 ? wfe_error_nomem(err) : 0;
}

enum wfe_layer_kind wfe_layer_kind_of(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return WFE_LAYER_FILE;
    case S_IFDIR:
        return WFE_LAYER_DIRECTORY;
    case S_IFLNK:
        return WFE_LAYER_SYMLINK;
    case S_IFIFO:
        return WFE_LAYER_FIFO;
    case S_IFCHR:
    case S_IFBLK:
        return WFE_LAYER_DEVICE;
    default:
        return WFE_LAYER_OTHER;
    }
}

static int describe(
    struct directory_source *source, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    const struct stat *st = &source->st;
    struct wfe_layer_entry entry = {
        .kind = wfe_layer_kind_of(st->st_mode),
        .name = source->path.data,
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .mtime_s = st->st_mtim.tv_sec,
        .size_known = true,
        .version = (uint64_t)st->st_ino ^ ((uint64_t)st->st_ctim.tv_sec << 30) ^
                   (uint64_t)st->st_ctim.tv_nsec,
    };
    if (entry.kind == WFE_LAYER_SYMLINK) {
        int r = read_link(source, err);
        if (r < 0)
            return r;
        entry.target = source->target.data;
    } else if (entry.kind != WFE_LAYER_DIRECTORY && st->st_nlink > 1 && !source->single_name) {
        if (first_name(source, &entry.target) < 0)
            return wfe_error_nomem(err);
        if (entry.target)
            entry.kind = WFE_LAYER_HARDLINK;
    }
    if (entry.kind == WFE_LAYER_FILE)
        entry.size_bytes = (uint64_t)st->st_size;
    *ret = entry;
    return 1;
}

static int descend(struct directory_source *source, struct wfe_error *err)
{
    source->descend = false;
    int r = require_open(source, err);
    if (r < 0)
        return r;
    r = push(source, wfe_steal_fd(&source->entry_fd));
    return r < 0 ? wfe_error_system(err, -r, "list the directory") : 0;
}

static int step(struct directory_source *source, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    while (source->depth > 0) {
        struct level *level = &source->levels[source->depth - 1];
        if (level->next == level->count) {
            pop(source);
            continue;
        }
        const char *name = level->names[level->next++];
        source->path.length = level->path_length;
        int r = level->path_length > 0 ? wfe_buffer_append(&source->path, "/", 1) : 0;
        if (r == 0)
            r = wfe_buffer_puts(&source->path, name);
        if (r == -EMSGSIZE)
            return wfe_error_set(err, WFE_ERROR_LIMIT, ENAMETOOLONG, "its path is too long");
        if (r < 0)
            return wfe_error_nomem(err);
        if (fstatat(level->fd, name, &source->st, AT_SYMLINK_NOFOLLOW) < 0)
            return wfe_error_system(err, errno, "stat '%s'", source->path.data);
        source->descend = S_ISDIR(source->st.st_mode);
        return describe(source, ret, err);
    }
    return 0;
}

static int next(struct wfe_layer_source *base, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    struct directory_source *source = downcast(base);
    if (source->single_name) {
        if (source->is_done)
            return 0;
        source->is_done = true;
        return describe(source, ret, err);
    }
    int r = source->descend ? descend(source, err) : 0;
    close_entry(source);
    return r < 0 ? r : step(source, ret, err);
}

static int add_xattr(
    int fd, const char *name, struct wfe_layer_xattrs *xattrs, struct wfe_error *err)
{
    /* XATTR_SIZE_MAX: longer ones the kernel has not. */
    enum { VALUE_BYTES = 65536 };
    WFE_FREE char *value = malloc(VALUE_BYTES);
    if (!value)
        return wfe_error_nomem(err);
    ssize_t length = fgetxattr(fd, name, value, VALUE_BYTES);
    if (length < 0)
        return errno == ENODATA ? changed(err) : wfe_error_system(err, errno, "read an xattr");
    return wfe_layer_xattrs_add(xattrs, name, value, (size_t)length, err);
}

static int read_xattrs(
    struct wfe_layer_source *base, struct wfe_layer_xattrs *xattrs, struct wfe_error *err)
{
    struct directory_source *source = downcast(base);
    int r = require_open(source, err);
    if (r < 0)
        return r;
    /* XATTR_LIST_MAX */
    enum { LIST_BYTES = 65536 };
    ssize_t length = flistxattr(source->entry_fd, source->data, LIST_BYTES);
    if (length < 0)
        return errno == ENOTSUP ? 0 : wfe_error_system(err, errno, "list the xattrs");
    for (const char *name = source->data; name < source->data + length; name += strlen(name) + 1) {
        r = wfe_layer_xattr_matters(name) ? add_xattr(source->entry_fd, name, xattrs, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* Data beyond the size that next() gave are left to the check at their end. */
static int read_data(
    struct wfe_layer_source *base, const void **ret_data, size_t *ret_length, struct wfe_error *err)
{
    struct directory_source *source = downcast(base);
    int r = require_open(source, err);
    if (r < 0)
        return r;
    size_t wanted =
        base->wanted_bytes > 0 && base->wanted_bytes < READ_BYTES ? base->wanted_bytes : READ_BYTES;
    ssize_t length;
    do {
        length = read(source->entry_fd, source->data, wanted);
    } while (length < 0 && errno == EINTR);
    if (length < 0)
        return wfe_error_system(err, errno, "read");
    source->read_bytes += (uint64_t)length;
    if (length == 0) {
        struct stat now;
        if (fstat(source->entry_fd, &now) < 0)
            return wfe_error_system(err, errno, "stat");
        if (!same_version(&now, &source->st))
            return changed(err);
    } else if (source->read_bytes > (uint64_t)source->st.st_size) {
        return changed(err);
    }
    *ret_data = source->data;
    *ret_length = (size_t)length;
    return 0;
}

static int skip(struct wfe_layer_source *base, uint64_t bytes, struct wfe_error *err)
{
    struct directory_source *source = downcast(base);
    int r = require_open(source, err);
    if (r < 0)
        return r;
    if (lseek(source->entry_fd, (off_t)bytes, SEEK_CUR) < 0)
        return wfe_error_system(err, errno, "seek");
    source->read_bytes += bytes;
    return 0;
}

static int rewind_source(struct wfe_layer_source *base, struct wfe_error *err)
{
    struct directory_source *source = downcast(base);
    close_entry(source);
    while (source->depth > 0)
        pop(source);
    source->path.length = 0;
    source->is_done = false;
    source->descend = false;
    if (source->single_name)
        return wfe_buffer_puts(&source->path, source->single_name) < 0 ? wfe_error_nomem(err) : 0;
    int fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return wfe_error_system(err, errno, "open");
    int r = push(source, fd);
    return r < 0 ? wfe_error_system(err, -r, "list the directory") : 0;
}

static void free_source(struct wfe_layer_source *base)
{
    struct directory_source *source = downcast(base);
    close_entry(source);
    while (source->depth > 0)
        pop(source);
    free(source->levels);
    tdestroy(source->inodes, free_inode);
    wfe_buffer_done(&source->path);
    wfe_buffer_done(&source->target);
    free(source->single_name);
    free(source->data);
    close(source->fd);
    free(source);
}

static const struct wfe_layer_source_ops ops = {
    .next = next,
    .read_xattrs = read_xattrs,
    .read = read_data,
    .skip = skip,
    .rewind = rewind_source,
    .free = free_source,
};

static int new_source(
    int fd, const char *single_name, struct wfe_layer_source **ret, struct wfe_error *err)
{
    enum { PATH_BYTES = 16384 };
    assert(fd >= 0);
    struct directory_source *source = calloc(1, sizeof *source);
    if (!source) {
        close(fd);
        return wfe_error_nomem(err);
    }
    *source = (struct directory_source){
        .head = {.ops = &ops},
        .fd = fd,
        .entry_fd = -1,
        .path = WFE_BUFFER_INIT(PATH_BYTES),
        .target = WFE_BUFFER_INIT(PATH_BYTES),
        .single_name = single_name ? strdup(single_name) : NULL,
        .data = malloc(READ_BYTES),
    };
    WFE_LAYER_SOURCE struct wfe_layer_source *owner = &source->head;
    if (!source->data || (single_name && !source->single_name))
        return wfe_error_nomem(err);
    if (fstat(fd, &source->st) < 0)
        return wfe_error_system(err, errno, "stat");
    int r = rewind_source(owner, err);
    if (r < 0)
        return r;
    *ret = wfe_steal(&owner);
    return 0;
}

int wfe_directory_source_new(int fd, struct wfe_layer_source **ret, struct wfe_error *err)
{
    return new_source(fd, NULL, ret, err);
}

int wfe_file_source_new(
    int fd, const char *name, struct wfe_layer_source **ret, struct wfe_error *err)
{
    return new_source(fd, name, ret, err);
}
