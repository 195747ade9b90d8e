/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_FILE_H
#define WFE_LIBCOMMON_FILE_H

/* Whole operations on files: each loops over short reads, short writes and EINTR. */

#include <stddef.h>
#include <sys/types.h>

#include "libcommon/error.h"

/* Writes all of data. Returns 0 or -errno. */
int wfe_write_all(int fd, const void *data, size_t length);

/* Reads until length bytes or the end of the file. Returns the bytes read or -errno. */
ssize_t wfe_read_full(int fd, void *data, size_t length);

/*
 * The contents of a file ("-" is stdin), NUL-terminated; caller frees *ret.
 * Errors: WFE_ERROR_LIMIT (EFBIG) past max_bytes, WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_read_file(
    const char *path, size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err);

/* mkdir -p. Returns 0 or -errno. */
int wfe_make_directories(const char *path, mode_t mode);

/*
 * Replace dirfd/name by data: a temporary file beside it, fsync, rename, fsync of the
 * directory, so that a reader or a power cut sees the old or the new contents.
 * Returns 0 or -errno; nothing is left behind on failure.
 */
int wfe_replace_file(int dirfd, const char *name, const void *data, size_t length, mode_t mode);

/* rm -rf, never following a symbolic link or crossing into another file system.
 * A missing path is success. Returns 0 or -errno. */
int wfe_remove_tree(const char *path);

/* The names in the directory fd, without "." and "..", in the order of their bytes. The caller
 * frees them with wfe_names_free(). fd's position is left alone. Returns 0 or -errno. */
int wfe_list_directory(int fd, char ***ret_names, size_t *ret_count);
void wfe_names_free(char **names, size_t count);

/* "DIRECTORY/NAME", allocated; NULL when memory ran out. */
char *wfe_path_join(const char *directory, const char *name);

#endif
