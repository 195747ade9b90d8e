/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ROOT_FILE_H
#define WFE_EXECUTOR_ROOT_FILE_H

/*
 * A file of a root file system that nobody has mounted: looked up through the directories of its
 * layers, as overlayfs shows them (Documentation/filesystems/overlayfs.rst): the uppermost layer
 * wins, whiteouts and opaque directories hide what is below them. Symbolic links are followed as
 * they are inside of the container, across layers, and never out of it.
 *
 * Threads: calls are independent.
 */

#include <stddef.h>

#include "libcommon/error.h"

/*
 * The contents of the regular file at path, an absolute path in the container, NUL-terminated; the
 * caller frees *ret. layers is "A:B:C", the uppermost first. Errors: WFE_ERROR_INPUT (ENOENT: there
 * is none; ELOOP, ENAMETOOLONG, EINVAL: no regular file), WFE_ERROR_LIMIT (past max_bytes),
 * WFE_ERROR_SYSTEM (EACCES, ENOENT: a layer can't be opened), WFE_ERROR_INTERNAL.
 */
int wfe_root_file_read(const char *layers, const char *path, size_t max_bytes, char **ret,
    size_t *ret_length, struct wfe_error *err);

#endif
