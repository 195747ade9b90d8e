/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_GUNZIP_INFLATE_H
#define WFE_LIBCOMMON_GUNZIP_INFLATE_H

/*
 * One gzip member after the other, its sum and length verified, by the library that was built with:
 * ISA-L (gunzip_isal.c), which takes half of the time, or zlib (gunzip_zlib.c).
 */

#include <stddef.h>

struct wfe_gunzip_inflate;

enum wfe_gunzip_status { WFE_GUNZIP_MORE, WFE_GUNZIP_END, WFE_GUNZIP_BROKEN, WFE_GUNZIP_NOMEM };

struct wfe_gunzip_buffers {
    const unsigned char *in;
    size_t in_bytes;
    unsigned char *out;
    size_t out_bytes;
};

/* NULL: no memory. */
struct wfe_gunzip_inflate *wfe_gunzip_inflate_new(void);
void wfe_gunzip_inflate_free(struct wfe_gunzip_inflate *inflate);

/* What comes next is a member's beginning. */
void wfe_gunzip_inflate_reset(struct wfe_gunzip_inflate *inflate);

/* Takes and gives as much as it can, and moves the buffers on. MORE: all input taken or all output
 * filled. END: the member is whole; what follows it was not taken. */
enum wfe_gunzip_status wfe_gunzip_inflate_run(
    struct wfe_gunzip_inflate *inflate, struct wfe_gunzip_buffers *buffers);

#endif
