/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_ARCHIVE_H
#define WFE_LIBCOMMON_ARCHIVE_H

/*
 * Tells whether a file is an archive, and whether it is one that can serve as an
 * image layer as it stands.
 *
 * An archive is what libarchive reads, but for two kinds that reach outside of the
 * file: mtree (a list of names whose contents lie elsewhere) and filters that need an
 * external program (lzop, lrzip, grzip). A compressed file with no archive inside is
 * none, nor is an empty file, nor a disk image that begins with zeros: a tar without
 * entries is nothing but zeros, 1 to 20 blocks of 512 bytes.
 *
 * Threads: calls are independent of each other.
 */

#include <stdbool.h>

#include "libcommon/error.h"

enum wfe_archive_form {
    WFE_ARCHIVE_NONE,     /* a plain file */
    WFE_ARCHIVE_TAR,      /* a tar (v7, ustar, pax, GNU), not compressed */
    WFE_ARCHIVE_TAR_GZIP, /* a tar below gzip and nothing else */
    WFE_ARCHIVE_TAR_ZSTD, /* a tar below zstd and nothing else */
    WFE_ARCHIVE_OTHER,    /* zip, cpio, tar.xz, …: wfe_layer_write() converts it */
};

/*
 * The form of the regular file at path (symbolic links are followed). Only its beginning
 * is read, so what is broken further on is found by who reads on.
 * Errors: WFE_ERROR_INPUT (EISDIR, or EINVAL: a device, FIFO or socket), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL.
 */
int wfe_archive_probe(const char *path, enum wfe_archive_form *ret, struct wfe_error *err);

/* The same for an open file, read from its start; its position is anywhere afterwards.
 * ret_is_tar tells of a tar in any compression; it may be NULL. */
int wfe_archive_probe_fd(
    int fd, enum wfe_archive_form *ret, bool *ret_is_tar, struct wfe_error *err);

struct archive;

/*
 * A libarchive reader at the start of fd, which stays the caller's and must be left alone
 * until archive_read_free(). Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL, and
 * WFE_ERROR_ARCHIVE (a compressed file that is broken at its start).
 */
int wfe_archive_reader_open(int fd, struct archive **ret, struct wfe_error *err);

/* Lets a reader of one's own read the formats that count as archives, without filters. */
void wfe_archive_support_formats(struct archive *reader);

/* Records what the reader's last call failed with. Returns the negative errno. */
int wfe_archive_reader_failed(struct archive *reader, struct wfe_error *err);

void wfe_cleanup_archive_reader(struct archive **reader);
#define WFE_ARCHIVE_READER __attribute__((cleanup(wfe_cleanup_archive_reader)))

#endif
