/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_DIFF_TAIL_H
#define WFE_EXECUTOR_DIFF_TAIL_H

/*
 * What has been added to files since they were read last: of a tar in the daemon's content store
 * only the headers are read (POSIX: "ustar Interchange Format"; of the pax records, "size"), and
 * the ends of the files that are wanted. So however often a growing file is looked at, each of its
 * bytes comes once.
 *
 * Threads: calls are independent.
 */

#include "executor/daemon/diff.h"

/* A file in the tar's root that is followed. */
struct wfe_diff_tail {
    const char *name;
    struct wfe_sink sink; /* gets the bytes from read_bytes on */
    uint64_t read_bytes;  /* how many it has had, also after a failure in the midst */
};

/* How a part of a tar is read: as wfe_diff_read() does. */
typedef int wfe_diff_reader(
    void *context, uint64_t offset, uint64_t length, struct wfe_sink sink, struct wfe_error *err);

/* Read on in the tails that are in a tar of size_bytes. Errors: WFE_ERROR_ARCHIVE (it is no tar as
 * containerd makes them), WFE_ERROR_INTERNAL, or what the reader or a sink returned. */
int wfe_diff_tails_from(wfe_diff_reader *reader, void *context, uint64_t size_bytes,
    struct wfe_diff_tail *tails, size_t count, struct wfe_error *err);

/* The same for a tar of the daemon. */
int wfe_diff_tails(const struct wfe_session *session, const struct wfe_diff *diff,
    struct wfe_diff_tail *tails, size_t count, struct wfe_error *err);

#endif
