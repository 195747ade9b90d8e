/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_STREAM_INFLATE_H
#define WFE_ARTIFACTFS_STREAM_INFLATE_H

/*
 * Raw deflate (RFC 1951) that can begin at a block and stop at one, by two libraries: zlib, and
 * ISA-L where it was built with it, which takes half of the time.
 *
 * Threads: an inflater belongs to one at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wfe_inflate;

enum wfe_inflate_status {
    WFE_INFLATE_MORE,   /* all input taken, or all output filled */
    WFE_INFLATE_BLOCK,  /* at the end of a block that is not the last one */
    WFE_INFLATE_END,    /* at the end of the last block */
    WFE_INFLATE_BROKEN, /* what was put out in this call is worth nothing, where !is_exact */
    WFE_INFLATE_NOMEM,
};

struct wfe_inflate_buffers {
    const unsigned char *in;
    size_t in_bytes;
    unsigned char *out;
    size_t out_bytes;
};

struct wfe_inflate_ops {
    /* How far it came is right where it fails, or where the input ends within a symbol. */
    bool is_exact;
    /* Whether run() can stop at blocks. */
    bool (*can_stop)(void);
    /* NULL when memory ran out. */
    struct wfe_inflate *(*create)(void);
    void (*free)(struct wfe_inflate *inflate);
    /* Begin at a block with the upper bits of byte (0 to 7), then the input. Returns 0 or
     * -ENOMEM. */
    int (*start)(struct wfe_inflate *inflate, unsigned bits, unsigned char byte,
        const unsigned char *window, size_t window_bytes);
    /* Decode, and move the buffers on; with stop, only up to a block's end. */
    enum wfe_inflate_status (*run)(
        struct wfe_inflate *inflate, struct wfe_inflate_buffers *buffers, bool stop);
    /* After WFE_INFLATE_BLOCK or _END: the bits at the end of the input taken so far that come
     * after the block; more than 7 when it has read ahead. */
    unsigned (*unused_bits)(const struct wfe_inflate *inflate);
};

extern const struct wfe_inflate_ops wfe_inflate_zlib;
#ifdef WFE_WITH_ISAL
extern const struct wfe_inflate_ops wfe_inflate_isal;
#endif

/* The CRC-32 of gzip (RFC 1952, 8), by whichever of the two is there. */
uint32_t wfe_inflate_crc32(uint32_t crc, const unsigned char *data, size_t length);

#endif
