/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_TAR_H
#define WFE_LIBCOMMON_LAYER_TAR_H

/*
 * A tar as layers have it (POSIX pax: "pax Interchange Format", "ustar Interchange Format").
 *
 *     entry  = [ x header, pax records, padding ] ustar header [ data, padding ]
 *     layer  = entry … two blocks of zeros
 *
 * A pax header stands only where something does not fit into ustar: path and linkpath
 * (too long), size, uid, gid and mtime (too large, or before 1970), and xattrs. Names are
 * bytes: one in a pax record that is no UTF-8 has hdrcharset=BINARY before it.
 *
 * The sink gets pieces of WFE_TAR_CHUNK_BYTES, so that what a compressor makes of them
 * does not depend on how the source was read.
 */

#include <stdint.h>

#include "libcommon/buffer.h"
#include "libcommon/error.h"
#include "libcommon/sink.h"

#define WFE_TAR_CHUNK_BYTES (256 * 1024)
#define WFE_TAR_BLOCK_BYTES 512

struct wfe_tar_header {
    const char *path; /* a directory's ends in a slash */
    char typeflag;    /* 0 file, 1 hard link, 2 symbolic link, 5 directory, 6 FIFO */
    const char *target;
    uint32_t mode;
    uint32_t uid;
    uint32_t gid;
    int64_t mtime_s;
    uint64_t size_bytes;
    const char *records; /* xattrs as pax records */
    size_t records_length;
};

struct wfe_tar_writer {
    struct wfe_sink sink;
    uint64_t max_bytes; /* at most WFE_LAYER_MAX_TAR_BYTES */
    uint64_t total_bytes;
    uint64_t entries;
    uint64_t drop_bytes;       /* so many of the next are counted and not given to the sink */
    struct wfe_buffer records; /* of the entry in hand */
    char *chunk;               /* NULL: the sink gets pieces as they come */
    size_t chunk_length;
};

/* Errors: WFE_ERROR_INTERNAL. */
int wfe_tar_writer_init(
    struct wfe_tar_writer *writer, struct wfe_sink sink, uint64_t max_bytes, struct wfe_error *err);
/* A writer of a part of the tar: its sink gets pieces as they come. total_bytes may be set to where
 * an entry begins, and drop_bytes to how far behind that the part does. */
void wfe_tar_writer_init_part(
    struct wfe_tar_writer *writer, struct wfe_sink sink, uint64_t max_bytes);
void wfe_tar_writer_done(struct wfe_tar_writer *writer);
#define WFE_TAR_WRITER __attribute__((cleanup(wfe_tar_writer_done)))

/* Each: WFE_ERROR_LIMIT (max_bytes), WFE_ERROR_INTERNAL, or what the sink returned. */
int wfe_tar_write_header(
    struct wfe_tar_writer *writer, const struct wfe_tar_header *header, struct wfe_error *err);
/* Data and padding together must be what the header said. */
int wfe_tar_write_data(
    struct wfe_tar_writer *writer, const void *data, size_t length, struct wfe_error *err);
/* Count data that need not be there, at most drop_bytes of them. */
void wfe_tar_skip_data(struct wfe_tar_writer *writer, uint64_t length);
int wfe_tar_write_padding(struct wfe_tar_writer *writer, struct wfe_error *err);
int wfe_tar_finish(struct wfe_tar_writer *writer, struct wfe_error *err);

#endif
