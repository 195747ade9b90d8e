/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_DIFF_H
#define WFE_EXECUTOR_DIFF_H

/*
 * Files of the daemon's machine, read with gRPC alone: Diff.Diff against nothing makes a plain tar
 * of a directory in the daemon's content store, Content.Read brings it, or a part of it.
 *
 *     directory (mounts) ── wfe_diff_make ──► tar ── wfe_diff_read ──► bytes to a sink
 *                                              └──── wfe_diff_visit ─► entries, by libarchive
 *
 * The tar is what containerd makes of an image's layer: names relative to the directory, without an
 * entry for the directory itself, in the order of a sorted walk; times in whole seconds; no
 * sockets. What an overlay file system hides is not in it, when the mounts are that overlay; of an
 * upper directory alone, deletions are in it as whiteouts.
 *
 * A file that grows while the daemon copies it makes Diff fail (archive/tar: write too long), one
 * that shrinks does too: wfe_diff_make() tries again a few times, which helps against a line now
 * and then. A file that is written to all the time needs a copy first: see
 * executor/daemon/volume.h.
 *
 * The tar is under the session's lease, which there has to be, and takes up the daemon's disk until
 * wfe_diff_drop(), or until the lease is gone and the daemon has collected. Memory here is bounded
 * by a message of 16 MiB.
 *
 * Threads: calls are independent of each other.
 */

#include <stdbool.h>
#include <stdint.h>

#include "executor/daemon/connect.h"
#include "libcommon/digest.h"
#include "libcommon/sink.h"
#include "types.pb-c.h"

struct archive;
struct archive_entry;

/* A tar in the daemon's content store. */
struct wfe_diff {
    struct wfe_digest digest;
    uint64_t size_bytes;
};

/*
 * Make a tar of what the mounts show, which the daemon mounts one upon the other in a temporary
 * place: those of a prepared snapshot, or one of wfe_diff_bind(). Errors: WFE_ERROR_CONTAINERD
 * (also: no such directory, and a file that still changed at the last try, EBUSY),
 * WFE_ERROR_CANCELLED.
 */
int wfe_diff_make(const struct wfe_session *session, Types__Mount *const *mounts,
    size_t mount_count, struct wfe_diff *ret, struct wfe_error *err);

/* The same of what the mounts show otherwise than those `before`, with whiteouts (OCI image spec,
 * "Representing Changes") for what is not there any more. */
int wfe_diff_compare(const struct wfe_session *session, Types__Mount *const *before,
    size_t before_count, Types__Mount *const *mounts, size_t mount_count, struct wfe_diff *ret,
    struct wfe_error *err);

/* A read-only bind mount of a directory of the daemon's machine, for wfe_diff_make(). Views: valid
 * as long as directory. */
Types__Mount wfe_diff_bind(const char *directory);

/* The bytes from offset on, length of them or as many as there are, to the sink. Errors:
 * WFE_ERROR_CONTAINERD (ENOENT: it is gone), WFE_ERROR_CANCELLED, or what the sink returned. */
int wfe_diff_read(const struct wfe_session *session, const struct wfe_diff *diff, uint64_t offset,
    uint64_t length, struct wfe_sink sink, struct wfe_error *err);

/* One entry; its data may be read from reader (archive_read_data and the like) until this returns.
 * Returns 0 to go on, 1 when no more is wanted, or -errno with err set. */
typedef int wfe_diff_visitor(
    void *context, struct archive *reader, struct archive_entry *entry, struct wfe_error *err);

/* All entries in order, as libarchive has them: a directory's name ends in a slash. Errors: as
 * wfe_diff_read(), WFE_ERROR_ARCHIVE, WFE_ERROR_INTERNAL, or what the visitor returned. */
int wfe_diff_visit(const struct wfe_session *session, const struct wfe_diff *diff,
    wfe_diff_visitor *visitor, void *context, struct wfe_error *err);

/*
 * Done with it. When the tar can't be anybody else's (it holds a name that only we have given), it
 * is deleted at once; otherwise the lease lets go of it, since a tar of the same bytes may be
 * another step's, or an image's layer, and the next collection takes it. What can't be done goes
 * with the lease.
 */
void wfe_diff_drop(const struct wfe_session *session, const struct wfe_diff *diff, bool is_ours);
/* The same in two halves, of a tar that is ours. The first leaves *ret_call alone when nothing went
 * out; the second takes the call, or NULL, and asks again when that failed. */
void wfe_diff_drop_start(
    const struct wfe_session *session, const struct wfe_diff *diff, struct wfe_rpc_call **ret_call);
void wfe_diff_drop_finish(
    const struct wfe_session *session, const struct wfe_diff *diff, struct wfe_rpc_call *call);

#endif
