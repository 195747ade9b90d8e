/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_SOURCE_H
#define WFE_LIBCOMMON_LAYER_SOURCE_H

/*
 * What a layer is made of: the entries of an archive or of a directory, one after the
 * other, in two passes that give the same.
 *
 * A source reports names and numbers as it finds them; what becomes of them is decided by
 * libcommon/layer_plan.h and libcommon/layer_xattrs.h.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/error.h"
#include "libcommon/layer.h"
#include "libcommon/layer_xattrs.h"
#include "libcommon/sink.h"

enum wfe_layer_kind {
    WFE_LAYER_FILE,
    WFE_LAYER_DIRECTORY,
    WFE_LAYER_SYMLINK,
    WFE_LAYER_HARDLINK,
    WFE_LAYER_FIFO,
    WFE_LAYER_DEVICE,
    WFE_LAYER_OTHER, /* a socket */
};

/* The kind of a file that is not a hard link, by S_IFMT. */
enum wfe_layer_kind wfe_layer_kind_of(uint32_t mode);

/* Strings are views that hold until the source's next call. */
struct wfe_layer_entry {
    enum wfe_layer_kind kind;
    const char *name;   /* NULL: the source can't tell it */
    const char *target; /* of links, else NULL */
    uint32_t mode;      /* 07777 */
    int64_t uid;
    int64_t gid;
    int64_t mtime_s;
    /* Bytes that read() gives, of a hard link too; unless size_known, they must be counted. */
    uint64_t size_bytes;
    bool size_known;
    bool encrypted;
    uint64_t version; /* another number when the entry was changed between the passes */
};

struct wfe_layer_source;

struct wfe_layer_source_ops {
    /* Returns 1, 0 at the end, or -errno with err set. */
    int (*next)(
        struct wfe_layer_source *source, struct wfe_layer_entry *ret, struct wfe_error *err);
    /* Adds the xattrs of the entry that next() gave, which is a file or directory. */
    int (*read_xattrs)(
        struct wfe_layer_source *source, struct wfe_layer_xattrs *xattrs, struct wfe_error *err);
    /* The next bytes of that entry, holes as zeros, into a view that holds until the next
     * call; *ret_length 0 at the end. */
    int (*read)(struct wfe_layer_source *source, const void **ret_data, size_t *ret_length,
        struct wfe_error *err);
    /* Passes over data of that entry, as many as it has at most; NULL: they must be read. */
    int (*skip)(struct wfe_layer_source *source, uint64_t bytes, struct wfe_error *err);
    /* Back to the first entry. */
    int (*rewind)(struct wfe_layer_source *source, struct wfe_error *err);
    /* To the entry that is number `index`, counted from 0; NULL: it can only rewind. */
    int (*seek)(struct wfe_layer_source *source, uint32_t index, struct wfe_error *err);
    void (*free)(struct wfe_layer_source *source);
};

/* The head of each kind of source. */
struct wfe_layer_source {
    const struct wfe_layer_source_ops *ops;
    /* Set by who reads: more than so many bytes at once are not wanted. Heeded where reading is
     * costly; 0: no matter. */
    size_t wanted_bytes;
};

/* wfe_layer_write() of a source, which is at its first entry and stays the caller's. */
int wfe_layer_write_source(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *ret, struct wfe_error *err);

/* The archive behind fd, which the source takes, on failure too. Errors of each here:
 * WFE_ERROR_ARCHIVE (not an archive), WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_archive_source_new(int fd, struct wfe_layer_source **ret, struct wfe_error *err);

/* What is below the directory fd, which the source takes, on failure too. */
int wfe_directory_source_new(int fd, struct wfe_layer_source **ret, struct wfe_error *err);

/* The regular file fd alone, as `name` (borrowed); the source takes fd, on failure too. */
int wfe_file_source_new(
    int fd, const char *name, struct wfe_layer_source **ret, struct wfe_error *err);

static inline void wfe_cleanup_layer_source(struct wfe_layer_source **source)
{
    if (*source)
        (*source)->ops->free(*source);
}
#define WFE_LAYER_SOURCE __attribute__((cleanup(wfe_cleanup_layer_source)))

#endif
