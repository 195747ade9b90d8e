/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_IMPORT_SOURCE_H
#define WFE_EXECUTOR_IMPORT_SOURCE_H

/*
 * The files inside of what an image is imported from: a directory, or a tar that may be
 * compressed (gzip, bzip2, xz, zstd). Members are read as streams; nothing is unpacked onto disk.
 *
 * A tar is listed once, and read again from its start for each read or visit. Of two members
 * of one name the last counts; symbolic and hard links to members are followed.
 *
 * Limits: WFE_IMPORT_MAX_MEMBERS of a tar, WFE_IMPORT_MAX_LINKS from link to link.
 * Threads: a source belongs to one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libcommon/error.h"

#define WFE_IMPORT_MAX_MEMBERS 100000
#define WFE_IMPORT_MAX_LINKS 8

struct wfe_import_source;
struct wfe_import_member; /* open for reading, valid during one visit */

/*
 * Open the directory or (archive) the tar at path. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INPUT
 * (a directory where a tar is expected, or the reverse), WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT.
 */
int wfe_import_source_open(
    const char *path, bool archive, struct wfe_import_source **ret, struct wfe_error *err);
void wfe_import_source_free(struct wfe_import_source *source);

/*
 * The member `name` whole, NUL-terminated; caller frees. A name for a directory must be safe to be
 * a path below it. Errors: WFE_ERROR_INPUT (ENOENT: no such member), WFE_ERROR_LIMIT past
 * max_bytes, WFE_ERROR_ARCHIVE, WFE_ERROR_SYSTEM.
 */
int wfe_import_source_read(struct wfe_import_source *source, const char *name, size_t max_bytes,
    char **ret, size_t *ret_length, struct wfe_error *err);

/* Sees names[index], which need not be read, or not to its end. Returns 0, or -errno with err
 * set, which ends the visit. */
typedef int wfe_import_visitor(
    void *context, size_t index, struct wfe_import_member *member, struct wfe_error *err);

/* Show each of the names to the visitor once, in the order in which they come. Errors: as
 * wfe_import_source_read(), and the visitor's. */
int wfe_import_source_visit(struct wfe_import_source *source, const char *const *names,
    size_t count, wfe_import_visitor *visitor, void *context, struct wfe_error *err);

/* The length that the source states. */
int64_t wfe_import_member_size(const struct wfe_import_member *member);

/* The member's next bytes: length of them, fewer only at its end. Returns their number, or
 * -errno with err set. */
ssize_t wfe_import_member_read(
    struct wfe_import_member *member, void *data, size_t length, struct wfe_error *err);

#endif
