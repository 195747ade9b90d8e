/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_VIRTUAL_H
#define WFE_ARTIFACTFS_VIRTUAL_H

/*
 * The files below /.wfe, which this program makes up.
 *
 * The kernel opens and reads files of this mount without asking (see artifactfs/fuse_ops.h), and so
 * keeps what it has read of an inode for ever. A file whose contents change is therefore another
 * inode each time they have changed: it is opened at each lookup, and what it holds at that moment
 * is a content, which has an inode number of its own and lives until the kernel forgets it. Of one
 * that is final the kernel keeps the name, too.
 *
 * Numbers: of directories, those of enum wfe_virtual_directory; of contents,
 * WFE_VIRTUAL_FIRST_CONTENT and above.
 *
 * Threads: files are added before the mount serves; all else may be called from any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "artifactfs/index.h"
#include "libcommon/error.h"

enum wfe_virtual_directory {
    WFE_VIRTUAL_TOP = 2,    /* /.wfe */
    WFE_VIRTUAL_LAYERS = 3, /* /.wfe/layers */
};

#define WFE_VIRTUAL_FIRST_CONTENT (UINT64_C(1) << 63)

/* What a file holds at one moment. It never changes. Made by a file's `open`, as the head of a
 * struct of its own. */
struct wfe_virtual_content {
    uint64_t size_bytes;
    bool is_final; /* the file will never hold anything else */
    /* Exactly length bytes, which lie within the size. Returns 0 or -errno. Any thread. */
    int (*read)(struct wfe_virtual_content *content, void *buffer, size_t length, uint64_t offset,
        const struct wfe_index_patience *patience);
    /* Whether the two, of one file, hold the same; NULL: never. */
    bool (*equals)(
        const struct wfe_virtual_content *content, const struct wfe_virtual_content *other);
    void (*free)(struct wfe_virtual_content *content);
};

struct wfe_virtual_file {
    const char *name; /* borrowed for as long as the file is there */
    /* Look at the file: what it holds now, which becomes the caller's. It may take its time.
     * Returns 0 or -errno. Any thread. */
    int (*open)(
        void *context, const struct wfe_index_patience *patience, struct wfe_virtual_content **ret);
    void *context;
};

struct wfe_virtual;

/* Errors: WFE_ERROR_INTERNAL. */
int wfe_virtual_new(struct wfe_virtual **ret, struct wfe_error *err);
void wfe_virtual_free(struct wfe_virtual *tree);

/* Add a file; its name is not there yet. Errors: WFE_ERROR_INTERNAL. */
int wfe_virtual_add(struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    const struct wfe_virtual_file *file, struct wfe_error *err);

/* The inode called name; a content's counts one more lookup. Returns 0, -ENOENT, or what the
 * file's `open` returned. */
int wfe_virtual_lookup(struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    const char *name, const struct wfe_index_patience *patience, uint64_t *ret_number);
/* Whether the inode will be the one of its name as long as the kernel knows it. */
bool wfe_virtual_is_final(struct wfe_virtual *tree, uint64_t number);
/* The kernel gives up lookups of a content. */
void wfe_virtual_forget(struct wfe_virtual *tree, uint64_t number, uint64_t lookups);

/* st_ino, st_mode, st_nlink, st_size, st_blocks and the times. Returns 0 or -ENOENT. */
int wfe_virtual_stat(struct wfe_virtual *tree, uint64_t number, struct stat *ret);
/* Up to length bytes, fewer only at the end. Returns them, -ENOENT, -EISDIR, or what the content's
 * `read` returned. */
ssize_t wfe_virtual_read(struct wfe_virtual *tree, uint64_t number, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience);

/* Name number `position` of a directory, NULL past the last; is_directory says of which kind. */
const char *wfe_virtual_name(const struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    size_t position, bool *ret_is_directory);

#endif
