/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_H
#define WFE_LIBCOMMON_LAYER_H

/*
 * Writes any archive that libarchive reads (libcommon/archive.h), a directory, or a single
 * file as an OCI image layer (OCI image spec, "Image Layer Filesystem Changeset") below a
 * prefix.
 *
 * The layer is a ustar with pax headers where a value does not fit. The same source,
 * prefix and compression give the same bytes on every machine and in every locale (of a
 * compressed layer that is true for one version of the compressor; diff_id is free of it).
 * Memory is bounded by the number of entries, never by the size of a file. A source is read
 * twice, so it must be seekable, and one that changes meanwhile is an error.
 *
 * What becomes of an entry:
 *
 *     case                                      layer
 *     ----------------------------------------  ------------------------------------------
 *     "./" in front, "//", "." in the middle    cleaned
 *     absolute name                             the leading slashes are cut off
 *     ".." in a name                            refused
 *     nothing left of a name                    refused, but for a directory: the root entry
 *     NUL in a name                             the name ends there, as it does for libarchive
 *     component > 255 bytes, path > 4096        WFE_ERROR_LIMIT
 *     name that is no UTF-8                     kept byte for byte
 *     name in a tar or cpio                     kept byte for byte, decomposed letters too
 *     name in a format of Unicode (zip, 7z, …)  UTF-8; zip: composed (NFC), as libarchive has it
 *     root entry ("./")                         its attributes go to the prefix's last
 *                                               directory; without prefix: no entry
 *     prefix's directories                      come first, root's, 0755, mtime 0
 *     parent without entry                      made, root's, 0755, mtime 0
 *     directory's place                         before its contents, wherever its entry was
 *     duplicate                                 one entry, the last; a directory twice has the
 *                                               last attributes
 *     non-directory after a directory           takes its place, what was below it is dropped
 *     directory after a non-directory           takes its place
 *     entry below a file or a symbolic link     refused
 *     hard link                                 the target is cleaned and prefixed; the link
 *                                               comes after it and has its attributes
 *     hard link to nothing yet, or a directory  refused
 *     hard link to a version since replaced     that version lives on under the link's name
 *     hard link to itself                       nothing
 *     hard link that carries data (cpio)        the file has these data
 *     symbolic link                             its target verbatim, absolute and ".." too:
 *                                               it is followed inside of the container
 *     symbolic link without a target            refused; target > 4095 bytes: WFE_ERROR_LIMIT
 *     setuid, setgid                            cleared, but for a directory's setgid
 *     sticky                                    kept
 *     owner                                     the numbers kept, the names dropped; a number
 *                                               that Linux has not (negative, >= 2^32-1): refused
 *     times                                     mtime in whole seconds, no other; the local ones
 *                                               of DOS (zip, rar, cab, lha) are taken to be of
 *                                               the process's time zone: TZ=UTC0 makes them the
 *                                               same everywhere
 *     xattr user.*                              kept; the value up to 64 KiB, about 1 MiB an
 *                                               entry, else WFE_ERROR_LIMIT
 *     xattr twice                               the last that libarchive tells counts
 *     xattr of neither file nor directory       dropped: Linux has none there
 *     xattr user.overlay.*, trusted.overlay.*   refused: overlayfs would act upon it
 *     xattr with '=' in its name                refused: pax can't express it
 *     other xattrs, ACLs, file flags            dropped
 *     FIFO                                      kept
 *     device                                    refused (character 0:0 as a whiteout)
 *     socket                                    refused
 *     a type unknown                            a file
 *     ".wh." at the start of a component        refused: it deletes files of the image
 *     sparse file                               expanded
 *     symbol table of an ar                     passed over
 *     encrypted                                 refused
 *     data that fall short, wrong checksums     WFE_ERROR_ARCHIVE
 *
 * A directory as source follows the same table; its own attributes are not taken (they tell
 * of the place where it lay), names come in the order of their bytes, other file systems
 * mounted below it are entered.
 *
 * Threads: calls are independent of each other. Each has one for the hashing of the tar, and one
 * more for its compression.
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

#define WFE_LAYER_MAX_ENTRIES 2000000
#define WFE_LAYER_MAX_TAR_BYTES (UINT64_C(1) << 40)
#define WFE_LAYER_MAX_PATH_BYTES 4096 /* prefix included */
#define WFE_LAYER_MAX_COMPONENT_BYTES 255
#define WFE_LAYER_MAX_XATTR_BYTES (64 * 1024) /* one value */
/* Names and values of an entry and 32 bytes for each: readers take pax headers up to 1 MiB. */
#define WFE_LAYER_MAX_XATTRS_BYTES (1008 * 1024)

/* 0, or more than the value above, stands for the value above. */
struct wfe_layer_limits {
    uint64_t max_entries; /* of the source, and of the layer */
    uint64_t max_tar_bytes;
    uint64_t max_path_bytes;
    uint64_t max_xattr_bytes;
    uint64_t max_xattrs_bytes;
};

/* Set one of them: "entries=N", "bytes=N" (of the tar), "path=N", "xattr=N", "xattrs=N", N as in
 * wfe_size_parse(). Errors: WFE_ERROR_INPUT, also of one above its value above. */
int wfe_layer_limits_set(struct wfe_layer_limits *limits, const char *text, struct wfe_error *err);
bool wfe_layer_limits_are_set(const struct wfe_layer_limits *limits);

struct wfe_layer_options {
    /* Container path below which the tree goes: "/in/data" or "in/data"; NULL or "/" for
     * the root. Cleaned; ".." is refused (WFE_ERROR_INPUT). */
    const char *prefix;
    enum wfe_layer_compression compression;
    struct wfe_layer_limits limits;
    /* Asked for each entry while there is nothing yet for the sink, which could fail; NULL: never.
     * When it is true the layer ends with WFE_ERROR_CANCELLED (EINTR). */
    bool (*is_cancelled)(void *context);
    void *cancel_context;
};

/* What the source says of its root ("./"), by the policy above. */
struct wfe_layer_root {
    uint32_t mode; /* 07777 */
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_s;
    bool has_xattrs;
};
#define WFE_LAYER_NO_ROOT ((struct wfe_layer_root){.mode = 0755}) /* of a source that has none */

struct wfe_layer_result {
    struct wfe_digest digest;   /* of the bytes written */
    struct wfe_digest diff_id;  /* of the tar inside */
    uint64_t size_bytes;        /* bytes written */
    uint64_t tar_bytes;         /* bytes of the tar inside */
    uint64_t entries;           /* tar entries, the prefix's directories included */
    const char *media_type;     /* static */
    struct wfe_layer_root root; /* not in the layer when it has no prefix */
};

/*
 * Write the layer of the archive or directory at `path` to `sink`, in order and
 * without seeking. A sink that fails ends it, which is also the way to cancel. The sink is called
 * on another thread, one call at a time, and no more when this returns.
 *
 * Errors: WFE_ERROR_ARCHIVE (not an archive, malformed, or an entry that breaks the policy
 * above: the message names entry and rule), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM,
 * WFE_ERROR_INPUT (prefix), WFE_ERROR_INTERNAL, WFE_ERROR_CANCELLED (the options'
 * is_cancelled), and what the sink returned.
 * After an error the bytes already given to the sink are worthless.
 */
int wfe_layer_write(const char *path, const struct wfe_layer_options *options, struct wfe_sink sink,
    struct wfe_layer_result *ret, struct wfe_error *err);

/*
 * The same for the regular file at `path`, whatever it holds: the layer has it as `name`
 * (one component, so no slash) below the prefix. Its mode, owner, mtime and xattrs are kept
 * like those of a file in a directory.
 * Errors: as above, and WFE_ERROR_INPUT (name, or not a regular file).
 */
int wfe_layer_write_file(const char *path, const char *name,
    const struct wfe_layer_options *options, struct wfe_sink sink, struct wfe_layer_result *ret,
    struct wfe_error *err);

/* The same for a root alone: the layer has the prefix's directories, the last one with the root's
 * attributes, without xattrs. Errors: WFE_ERROR_INPUT (prefix), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL, and what the sink returned. */
int wfe_layer_write_root(const struct wfe_layer_root *root, const struct wfe_layer_options *options,
    struct wfe_sink sink, struct wfe_layer_result *ret, struct wfe_error *err);

#endif
