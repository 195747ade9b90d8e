/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_H
#define WFE_LIBCOMMON_LAYER_H

/*
 * Writes any archive that libarchive reads, or a directory, as an OCI image
 * layer (OCI image spec, "Image Layer Filesystem Changeset") below a prefix.
 *
 * The layer is a pax-restricted tar. The same source, prefix and compression give
 * the same bytes on every machine and in every locale. Memory is bounded by the number
 * of entries (names of duplicates and hardlinks are remembered), never by the size
 * of a file; a source is read twice, so it must be seekable.
 *
 * Threads: calls are independent of each other.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libcommon/digest.h"
#include "libcommon/error.h"
#include "libcommon/sink.h"

#define WFE_LAYER_MEDIA_TYPE_TAR "application/vnd.oci.image.layer.v1.tar"
#define WFE_LAYER_MEDIA_TYPE_GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define WFE_LAYER_MEDIA_TYPE_ZSTD "application/vnd.oci.image.layer.v1.tar+zstd"

enum wfe_layer_compression {
    WFE_LAYER_NONE,
    WFE_LAYER_GZIP,
    WFE_LAYER_ZSTD,
};

struct wfe_layer_options {
    /* Container path below which the tree goes: "/in/data" or "in/data"; NULL or "/" for
     * the root. Cleaned; ".." is refused (WFE_ERROR_INPUT). Its directories come first in
     * the layer: root's, 0755, mtime 0, unless the archive's own root entry ("./") gives
     * the last one other attributes. */
    const char *prefix;
    enum wfe_layer_compression compression;
};

struct wfe_layer_result {
    struct wfe_digest digest;  /* of the bytes written */
    struct wfe_digest diff_id; /* of the tar inside */
    uint64_t size_bytes;       /* bytes written */
    uint64_t tar_bytes;        /* bytes of the tar inside */
    uint64_t entries;          /* tar entries, the prefix's directories included */
    const char *media_type;    /* static */
};

/*
 * Write the layer of the archive or directory at `path` to `sink`, in order and
 * without seeking. A sink that fails ends it, which is also the way to cancel.
 *
 * Errors: WFE_ERROR_ARCHIVE (malformed, or an entry that breaks the path policy: the
 * message names entry and rule), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_INPUT (prefix), WFE_ERROR_INTERNAL, and what the sink returned.
 * After an error the bytes already given to the sink are worthless.
 */
int wfe_layer_write(const char *path, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *ret, struct wfe_error *err);

#endif
