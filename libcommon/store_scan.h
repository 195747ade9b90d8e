/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_SCAN_H
#define WFE_LIBCOMMON_STORE_SCAN_H

/*
 * Within the store: one pass over a tar, plain or below gzip or zstd, that copies it,
 * hashes both the bytes and the tar inside, and finds what is malformed or cut off:
 * wrong checksums of headers or of the compression, an entry that falls short, a
 * compressed stream without its end, a tar without its end-of-archive block (POSIX.1-2017,
 * pax, "ustar Interchange Format").
 *
 * Names and types of the entries are not judged: what may enter an image is the layer
 * writer's policy (libcommon/layer.h), and an artifact can be mounted without it.
 */

#include <stdint.h>

#include "libcommon/archive.h"
#include "libcommon/digest.h"
#include "libcommon/error.h"

struct wfe_scan_result {
    struct wfe_digest digest;  /* of the bytes read */
    struct wfe_digest diff_id; /* of the tar inside */
    uint64_t size_bytes;
};

/*
 * Read `in` to its end; out is a descriptor that gets a copy, or -1. form is one of the
 * three tars, max_tar_bytes 0 stands for WFE_LAYER_MAX_TAR_BYTES.
 * Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT (a larger tar), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL.
 */
int wfe_scan_tar(int in, int out, enum wfe_archive_form form, uint64_t max_tar_bytes,
    struct wfe_scan_result *ret, struct wfe_error *err);

/*
 * A second look at a file, from its start, that wfe_archive_probe() took for a plain one: a short
 * compressed tar that is damaged or cut off makes libarchive give up before its first entry.
 * Sets *ret when a tar's header is at the start of what is below gzip or zstd, and leaves it else.
 * Errors: WFE_ERROR_ARCHIVE (gzip or zstd that breaks before it tells what is inside),
 * WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_scan_probe(int in, enum wfe_archive_form *ret, struct wfe_error *err);

#endif
