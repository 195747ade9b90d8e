/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CONTENT_H
#define WFE_EXECUTOR_CONTENT_H

/*
 * containerd's content store: read a small blob whole, write a blob of any size in chunks.
 */

#include <stddef.h>
#include <stdint.h>

#include "executor/daemon/connect.h"
#include "executor/daemon/labels.h"
#include "libcommon/digest.h"
#include "libcommon/sink.h"

/* The whole blob, verified against its digest, NUL-terminated; caller frees. Errors:
 * WFE_ERROR_CONTAINERD (ENOENT: not there), WFE_ERROR_LIMIT past max_bytes,
 * WFE_ERROR_INTEGRITY. */
int wfe_content_read(const struct wfe_session *session, const struct wfe_digest *digest,
    size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err);

/* Whether the blob is there. Returns 0 and *ret_size (-1 when it is not there), or an error. */
int wfe_content_size(const struct wfe_session *session, const struct wfe_digest *digest,
    int64_t *ret_size, struct wfe_error *err);

struct wfe_content_found {
    struct wfe_digest digest;
    int64_t size_bytes;
    char value[WFE_LABEL_MAX_BYTES + 1]; /* of the label; "" when there is no such blob */
};

/* A blob that has the label `key` (letters, digits, dots). It is not held: it may go any time. */
int wfe_content_find(const struct wfe_session *session, const char *key,
    struct wfe_content_found *ret, struct wfe_error *err);

struct wfe_content_writer;

/*
 * Open a write under a reference of its own ("wfe-…", unique): two writers never collide. When
 * digest is given and its blob is there already, *ret_known is true, the blob is under the
 * session's lease, and nothing may be written (commit all the same, for the labels). digest NULL:
 * not known yet.
 */
int wfe_content_writer_open(const struct wfe_session *session, const struct wfe_digest *digest,
    struct wfe_content_writer **ret, bool *ret_known, struct wfe_error *err);

/* The writer as a sink. */
struct wfe_sink wfe_content_writer_sink(struct wfe_content_writer *writer);

/* Bytes that the daemon has taken; safe to call from another thread. */
uint64_t wfe_content_writer_bytes(const struct wfe_content_writer *writer);

/*
 * Commit under digest and size with labels. A blob that is there already is success.
 * Errors: WFE_ERROR_INTEGRITY when the daemon found other bytes, WFE_ERROR_CONTAINERD.
 */
int wfe_content_writer_commit(struct wfe_content_writer *writer, const struct wfe_digest *digest,
    int64_t size_bytes, const struct wfe_label *labels, size_t label_count, struct wfe_error *err);

/* Ends a write; an uncommitted one is aborted on the daemon. NULL is fine. */
void wfe_content_writer_free(struct wfe_content_writer *writer);

static inline void wfe_cleanup_content_writer(struct wfe_content_writer **writer)
{
    wfe_content_writer_free(*writer);
}
#define WFE_CONTENT_WRITER __attribute__((cleanup(wfe_cleanup_content_writer)))

/* Write a small blob at once. Errors: as the writer's. */
int wfe_content_put(const struct wfe_session *session, const void *data, size_t length,
    struct wfe_digest *ret, struct wfe_error *err);

/* Set labels on a blob; an empty value removes the label. */
int wfe_content_label(const struct wfe_session *session, const struct wfe_digest *digest,
    const struct wfe_label *labels, size_t label_count, struct wfe_error *err);

#endif
