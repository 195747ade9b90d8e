/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_H
#define WFE_ARTIFACTFS_INDEX_H

/*
 * What an archive or directory holds: its paths, and for each inode the attributes and where the
 * data lie.
 *
 * One thread fills an index, entry by entry, in the archive's order; any number of threads ask it
 * meanwhile. An extraction would come to the same tree:
 *
 *     case                                here
 *     ----------------------------------  ------------------------------------------------
 *     "./" in front, "//", "." in the     cleaned
 *     middle, leading slashes
 *     ".."                                clamped: leads up, never out of the tree; reported
 *     nothing left of a name              a directory: the root's attributes; else left
 *                                         out, reported
 *     component or name too long          left out, reported (artifactfs/limits.h)
 *     parent without entry                a directory 0755 of root's, mtime 0
 *     duplicate                           the last one counts
 *     directory twice                     its last attributes
 *     another kind in the place of        takes its place, with all that was below it gone
 *     something
 *     entry below a file or a symlink     left out, reported
 *     hard link                           the same inode, nlink counts
 *     hard link to a version that is      that version lives on under the link's name
 *     replaced later
 *     hard link to nothing so far, to a   left out, reported
 *     directory, or in the place of one
 *     above its target
 *     hard link to itself                 nothing
 *     hard link with data (cpio, pax)     the inode has these data and attributes
 *     symlink without a target, or too    left out, reported
 *     long a one
 *     device, FIFO, socket                shown, can't be opened for what it stands for
 *     mode, owner, times, xattrs          as archived
 *     xattr of a symlink, device, … that  left out: Linux has none there
 *     begins with "user."
 *     xattr twice                         the last one counts
 *     xattr too long, or too many         left out, reported
 *
 * Names are bytes and need not be UTF-8.
 *
 * Memory: about 150 bytes an entry and its name.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "artifactfs/limits.h"
#include "libcommon/error.h"
#include "libcommon/layer_tree.h"

#define WFE_INDEX_NONE UINT32_MAX
#define WFE_INDEX_ROOT 0 /* the root's inode, and its node */

/* Changed with the form of what artifactfs/index_cache.h or wfe_stream_save() writes. */
#define WFE_INDEX_FORMAT_VERSION 2

/* Where the data of an index's files lie. */
enum wfe_index_place {
    WFE_INDEX_STREAM, /* in the archive's decoded stream */
    WFE_INDEX_SPOOL,  /* there, or (WFE_INDEX_IN_SPOOL says for each) in a file of the scan's own,
                       * where it put what can't be read out of order; it turns into
                       * WFE_INDEX_STREAM at the end when nothing had to be put there */
    WFE_INDEX_FILES,  /* in the directory itself: wfe_index_path() names the file */
};

/* In the place of an inode's or extent's data: it is an offset in the spool file, when this bit is
 * taken away. */
#define WFE_INDEX_IN_SPOOL (UINT64_C(1) << 63)
/* In the place of an inode's or extent's data: they are lost (encrypted, corrupt). */
#define WFE_INDEX_NO_DATA UINT64_MAX

struct wfe_extent {
    uint64_t offset_bytes; /* in the file */
    uint64_t length_bytes;
    uint64_t data; /* place of its first byte */
};

struct wfe_inode {
    uint64_t size_bytes;
    uint64_t data; /* a file's: place of its first byte; a sparse file's: bytes in its extents */
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint32_t mode; /* S_IFMT and 07777 */
    uint32_t uid;
    uint32_t gid;
    uint32_t nlink;  /* 0: it was replaced, and no other path leads to it */
    uint32_t rdev;   /* as makedev() has it, cut to 32 bits */
    uint32_t node;   /* a path of it; a directory's own; with nlink 0 a former one */
    uint32_t first;  /* a sparse file's first extent; a directory's first child (once complete) */
    uint32_t count;  /* of extents or children; a file without extents has all its data at `data` */
    uint32_t target; /* a symbolic link's: place in texts; else WFE_INDEX_NONE */
    uint32_t xattrs; /* place in texts of a struct wfe_xattrs_head; WFE_INDEX_NONE: none */
};

/*
 * An inode's xattrs in texts, unaligned: a head, then for each its two lengths, its name with a NUL
 * (which the length does not count) and its value. What reads them trusts none of the numbers.
 */
struct wfe_xattrs_head {
    uint32_t bytes; /* of all that follows */
    uint32_t count;
};
struct wfe_xattr_lengths {
    uint32_t name;
    uint32_t value;
};

/* An entry of the archive, in its order, but for those left out: what a layer of it is made from.
 */
struct wfe_index_item {
    uint32_t node;
    uint32_t inode;
    /* A hard link's: the node that it named; else WFE_INDEX_NONE. A hard link that carries the data
     * has another item behind it: one that links its own node to itself. */
    uint32_t link_node;
};

struct wfe_index_waiter;

/* The tables may be read by whoever holds the lock (once: it prefers writers), or without it once
 * the index is complete. */
struct wfe_index {
    pthread_rwlock_t lock;
    enum wfe_index_place place; /* atomic until the index is complete */
    /* A node's `content` is its inode, `entry` the item that put it there (WFE_INDEX_NONE: none
     * did). */
    struct wfe_tree tree;
    struct wfe_inode *inodes;
    uint32_t inode_count, inodes_allocated;
    struct wfe_extent *extents;
    uint32_t extent_count, extents_allocated;
    struct wfe_index_item *items;
    uint32_t item_count, items_allocated;
    char *texts;
    uint32_t texts_length, texts_allocated;
    uint32_t *children; /* nodes, a directory's in the order of their entries; once complete */
    uint32_t child_count;

    char *problems[WFE_MAX_PROBLEMS];
    uint64_t problem_count;
    bool has_clamped_names; /* ".." was among them: no layer can be made */
    char *broken;           /* why the archive ended before its end; NULL: it did not */

    /* The adding thread's. */
    uint64_t made_directories; /* that no entry told of */
    bool has_dead_nodes;
    uint32_t last_xattrs; /* what was added last: the next entry's are often the same */

    /* Waiters for a name, or for the end. Taken after the lock, where both are. */
    pthread_mutex_t wait_mutex;
    pthread_cond_t grown;
    struct wfe_index_waiter *waiters;
    uint32_t waiter_count; /* atomic */
    uint32_t wanted;       /* who needs the scan to go on */
    bool complete;         /* atomic */
};

/* What the scan found of an entry. Everything is borrowed for the call. */
struct wfe_index_entry {
    const char *name; /* bytes up to the NUL; NULL is left out, and reported */
    const char *hardlink;
    const char *symlink;
    uint64_t size_bytes;
    uint64_t data; /* not of sparse files */
    int64_t mtime_s;
    uint32_t mtime_ns; /* below 10^9 */
    uint32_t mode;     /* with S_IFMT, but for hard links */
    uint32_t uid;
    uint32_t gid;
    uint32_t rdev;
    bool has_data; /* of a hard link: it carries the data */
    /* Sorted, without overlaps, within the size; NULL: not sparse. With a count of 0 the file is
     * one hole, which an inode has as one extent of no bytes at its end. */
    const struct wfe_extent *extents;
    uint32_t extent_count;
    const struct wfe_xattr *xattrs;
    uint32_t xattr_count;
};

struct wfe_xattr {
    const char *name;
    const void *value;
    uint32_t value_length;
};

/* Errors of the functions below: WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_index_new(enum wfe_index_place place, struct wfe_index **ret, struct wfe_error *err);
void wfe_index_free(struct wfe_index *index);

/* Filling: one thread. What can't be shown becomes a problem, which is no error. After an error
 * the index holds what it held, and perhaps directories on the way to the entry. */
int wfe_index_add(
    struct wfe_index *index, const struct wfe_index_entry *entry, struct wfe_error *err);
/* Report something about an entry (NULL: about the whole). */
void wfe_index_report(struct wfe_index *index, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The archive can't be read any further. Before wfe_index_finish(); of several reasons the first
 * stays. */
void wfe_index_break(struct wfe_index *index, const char *reason);
/* After the last entry: settles nlink and the order of children, and wakes who waits. On failure
 * (WFE_ERROR_INTERNAL) the index is complete too, but broken, and its directories look empty. */
int wfe_index_finish(struct wfe_index *index, struct wfe_error *err);

/* Asking: any thread, any time. */

bool wfe_index_is_complete(const struct wfe_index *index);

/* WFE_INDEX_FILES is settled from the start, the others at the end. */
static inline enum wfe_index_place wfe_index_place(const struct wfe_index *index)
{
    return __atomic_load_n(&index->place, __ATOMIC_RELAXED);
}

/* Says whether a wait should end early. */
struct wfe_index_patience {
    bool (*is_over)(void *context); /* asked every 100 ms; NULL: never */
    void *context;
};

/* Somebody needs the scan to go on, from one call to the other. */
void wfe_index_want(struct wfe_index *index);
void wfe_index_unwant(struct wfe_index *index);
/* The scan's thread: wait until somebody needs it to go on, but not beyond a time
 * (CLOCK_MONOTONIC). */
void wfe_index_await_want(struct wfe_index *index, const struct timespec *until);

/* Wait for the end of the scan. Returns 0 or -EINTR (patience is over). */
int wfe_index_wait(struct wfe_index *index, const struct wfe_index_patience *patience);

/*
 * The inode called name in a directory. A name that the scan has not come to yet is waited for.
 * Returns 0, -ENOENT, -ENOTDIR, -ENAMETOOLONG or -EINTR.
 */
int wfe_index_lookup(struct wfe_index *index, uint32_t directory, const char *name,
    const struct wfe_index_patience *patience, uint32_t *ret_inode);

/* A copy of the inode's record. Returns 0 or -ENOENT. */
int wfe_index_get(struct wfe_index *index, uint32_t inode, struct wfe_inode *ret);

/* st_ino and st_dev are the caller's; times are all mtime; blocks count data, not holes. 0 or
 * -ENOENT. */
int wfe_index_stat(struct wfe_index *index, uint32_t inode, struct stat *ret);

/* Child number `position` of a directory; the index is complete. name is a view of
 * name_length bytes without NUL. Returns 0 or -ENOENT past the last. */
int wfe_index_child(const struct wfe_index *index, uint32_t directory, uint32_t position,
    const char **ret_name, size_t *ret_name_length, uint32_t *ret_inode);
/*
 * What a directory has so far: the first of its children whose node is *node or a later one. *node
 * becomes the node behind that, name its name with a NUL. Returns 0 or -ENOENT (no more so far).
 */
int wfe_index_child_so_far(struct wfe_index *index, uint32_t directory, uint32_t *node,
    char name[static WFE_MAX_COMPONENT_BYTES + 1], uint32_t *ret_inode);
/* The directory that holds a directory (the root: itself). */
uint32_t wfe_index_parent(struct wfe_index *index, uint32_t directory);

/*
 * The path of a node or (of its node) an inode without slash at either end, NUL-terminated; of a
 * path that was replaced, what it was. Returns its length, -ENOENT, or -ENAMETOOLONG when size is
 * too small; WFE_MAX_NAME_BYTES + 1 is enough for all.
 */
ssize_t wfe_index_path(struct wfe_index *index, uint32_t inode, char *out, size_t size);
ssize_t wfe_index_node_path(struct wfe_index *index, uint32_t node, char *out, size_t size);

/* The target of a symbolic link, NUL-terminated. Returns 0, -EINVAL (none) or -ENOENT. */
int wfe_index_readlink(
    struct wfe_index *index, uint32_t inode, char out[static WFE_MAX_TARGET_BYTES + 1]);

/* As getxattr(2) and listxattr(2): the length, or -ENODATA, -ERANGE; size 0 asks for the length. */
ssize_t wfe_index_getxattr(
    struct wfe_index *index, uint32_t inode, const char *name, void *value, size_t size);
ssize_t wfe_index_listxattr(struct wfe_index *index, uint32_t inode, char *list, size_t size);

/* SEEK_DATA or SEEK_HOLE as in lseek(2). Returns the offset, -ENXIO, -EINVAL or -ENOENT. */
int64_t wfe_index_seek(struct wfe_index *index, uint32_t inode, int64_t offset, int whence);

/*
 * Where byte `offset` of a file lies, and how far it goes on from there: *ret_length > 0 bytes of
 * data at *ret_data (with WFE_INDEX_IN_SPOOL where they are there), or (*ret_is_hole) of zeros.
 * Returns 0, -ENXIO at and past the end, -EIO where the data are lost, -EINVAL (no file), -ENOENT.
 */
int wfe_index_locate(struct wfe_index *index, uint32_t inode, uint64_t offset, bool *ret_is_hole,
    uint64_t *ret_data, uint64_t *ret_length);

#endif
