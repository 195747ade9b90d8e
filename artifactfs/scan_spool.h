/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_SCAN_SPOOL_H
#define WFE_ARTIFACTFS_SCAN_SPOOL_H

/* A file without a name, for the data that can't be read out of order. */

#include <stddef.h>
#include <stdint.h>

#include "libcommon/error.h"

struct wfe_scan_spool {
    int fd;        /* -1: there is none */
    int handed_fd; /* the same file, for who reads it */
    uint64_t length_bytes;
    uint64_t max_bytes;
};

#define WFE_SCAN_SPOOL_INIT                                                                        \
    {                                                                                              \
        .fd = -1, .handed_fd = -1                                                                  \
    }

/* Errors: WFE_ERROR_SYSTEM. */
int wfe_scan_spool_open(
    struct wfe_scan_spool *spool, const char *directory, uint64_t max_bytes, struct wfe_error *err);
void wfe_scan_spool_done(struct wfe_scan_spool *spool);

/* Write data, whose place may be behind the end: what lies between is zeros. Errors:
 * WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM. */
int wfe_scan_spool_write(struct wfe_scan_spool *spool, uint64_t place, const void *data,
    size_t length, struct wfe_error *err);

#endif
