/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_GUNZIP_H
#define WFE_LIBCOMMON_GUNZIP_H

/*
 * Decompresses a gzip file of any number of members (RFC 1952) and verifies the sum and the length
 * of each, which libarchive does not. What follows the last member and is none is passed over, as
 * gzip(1) does.
 *
 * Threads: one at a time.
 */

#include <sys/types.h>

#include "libcommon/error.h"

struct wfe_gunzip;

/* From fd's position on; it is borrowed. Errors: WFE_ERROR_INTERNAL. */
int wfe_gunzip_new(int fd, struct wfe_gunzip **ret, struct wfe_error *err);
void wfe_gunzip_free(struct wfe_gunzip *gunzip);

/* The next bytes, a view that holds until the next call. Returns their number, 0 at the end, or
 * -errno. Errors: WFE_ERROR_ARCHIVE (malformed, a wrong sum, cut off), WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL. */
ssize_t wfe_gunzip_next(struct wfe_gunzip *gunzip, const void **ret_data, struct wfe_error *err);

#endif
