/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_decoder.h"
#include "artifactfs/stream_inflate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* RFC 1952, 2.3.1 */
enum { MAGIC_0 = 0x1f, MAGIC_1 = 0x8b, METHOD_DEFLATE = 8 };
enum { HEADER_CRC = 2, EXTRA = 4, NAME = 8, COMMENT = 16, RESERVED = 0xe0 };

#ifdef WFE_WITH_ISAL
static const struct wfe_inflate_ops *const fast_ops = &wfe_inflate_isal;
#else
static const struct wfe_inflate_ops *const fast_ops = &wfe_inflate_zlib;
#endif

/* Where the inflater began last. */
struct origin {
    uint64_t out;
    uint64_t in;
    unsigned bits;
    size_t window_bytes;
    unsigned char window[WFE_CHECKPOINT_WINDOW_BYTES];
};

struct gzip_decoder {
    struct wfe_decoder base;
    struct wfe_input input;
    const struct wfe_inflate_ops *inflate_ops;
    struct wfe_inflate *inflate;
    enum { AT_MEMBER, IN_MEMBER, AT_END } place;
    bool careful;         /* use zlib up to the next start() */
    bool first;           /* no member has come before */
    bool summed;          /* crc and size are of the whole member so far */
    uint32_t crc;         /* of the member */
    uint32_t size;        /* of the member, modulo 2^32 */
    uint64_t member;      /* offset of its header */
    uint8_t stopped_form; /* of the checkpoint, see struct wfe_checkpoint */
    struct origin origin; /* after a stop, the checkpoint */
    size_t window_bytes;  /* of the pass only */
    unsigned char window[WFE_CHECKPOINT_WINDOW_BYTES];
};

static int corrupt(const struct gzip_decoder *gzip, const char *what, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "gzip: %s at byte %" PRIu64, what,
        wfe_input_tell(&gzip->input));
}

static int cut_short(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "gzip: the file is cut short");
}

static void free_decoder(struct wfe_decoder *decoder)
{
    struct gzip_decoder *gzip = (struct gzip_decoder *)decoder;
    if (gzip->inflate)
        gzip->inflate_ops->free(gzip->inflate);
    wfe_input_done(&gzip->input);
    free(gzip);
}

static int use_inflate(
    struct gzip_decoder *gzip, const struct wfe_inflate_ops *ops, struct wfe_error *err)
{
    if (gzip->inflate && gzip->inflate_ops == ops)
        return 0;
    if (gzip->inflate)
        gzip->inflate_ops->free(gzip->inflate);
    gzip->inflate_ops = ops;
    gzip->inflate = ops->create();
    gzip->base.memory_bytes = sizeof *gzip;
    return gzip->inflate ? 0 : wfe_error_nomem(err);
}

/* Begin at the origin. */
static int begin_block(struct gzip_decoder *gzip, struct wfe_error *err)
{
    struct origin *origin = &gzip->origin;
    bool fast = !gzip->careful && (!gzip->base.is_pass || fast_ops->can_stop());
    int r = use_inflate(gzip, fast ? fast_ops : &wfe_inflate_zlib, err);
    if (r < 0)
        return r;
    unsigned char byte = 0;
    wfe_input_seek(&gzip->input, origin->bits > 0 ? origin->in - 1 : origin->in);
    if (origin->bits > 0) {
        r = wfe_input_byte(&gzip->input, &byte, err);
        if (r <= 0)
            return r < 0 ? r : cut_short(err);
    }
    r = gzip->inflate_ops->start(
        gzip->inflate, origin->bits, byte, origin->window, origin->window_bytes);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

/* Returns 1, 0 at the end of the file, or -errno. */
static int header_byte(
    struct gzip_decoder *gzip, uint32_t *crc, unsigned char *ret, struct wfe_error *err)
{
    int r = wfe_input_byte(&gzip->input, ret, err);
    if (r > 0)
        *crc = wfe_inflate_crc32(*crc, ret, 1);
    return r;
}

/* Past a NUL. Returns as header_byte(). */
static int skip_text(struct gzip_decoder *gzip, uint32_t *crc, struct wfe_error *err)
{
    unsigned char byte;
    int r;
    do
        r = header_byte(gzip, crc, &byte, err);
    while (r > 0 && byte != '\0');
    return r;
}

/* What follows the ten bytes that each header has. Returns as header_byte(). */
static int skip_optional(
    struct gzip_decoder *gzip, unsigned flags, uint32_t *crc, struct wfe_error *err)
{
    unsigned char bytes[2];
    int r = 1;
    if (flags & EXTRA) {
        for (int i = 0; i < 2 && r > 0; i++)
            r = header_byte(gzip, crc, &bytes[i], err);
        unsigned length = r > 0 ? bytes[0] | (unsigned)bytes[1] << 8 : 0;
        for (; length > 0 && r > 0; length--)
            r = header_byte(gzip, crc, &bytes[0], err);
    }
    if (r > 0 && (flags & NAME))
        r = skip_text(gzip, crc, err);
    if (r > 0 && (flags & COMMENT))
        r = skip_text(gzip, crc, err);
    if (r > 0 && (flags & HEADER_CRC)) {
        uint32_t expected = *crc & 0xffff;
        for (int i = 0; i < 2 && r > 0; i++)
            r = header_byte(gzip, crc, &bytes[i], err);
        if (r > 0 && (bytes[0] | (uint32_t)bytes[1] << 8) != expected)
            return corrupt(gzip, "corrupt header", err);
    }
    return r;
}

/* The header of the next member. What follows the last member and does not begin as one is not
 * looked at: padding, most often. */
static int read_header(struct gzip_decoder *gzip, struct wfe_error *err)
{
    gzip->member = wfe_input_tell(&gzip->input);
    unsigned char head[10];
    uint32_t crc = 0;
    int r = 1;
    size_t have = 0;
    while (have < sizeof head && r > 0) {
        r = header_byte(gzip, &crc, &head[have], err);
        if (r < 0)
            return r;
        have += (size_t)r;
    }
    if (!gzip->first && (have < 2 || head[0] != MAGIC_0 || head[1] != MAGIC_1)) {
        gzip->place = AT_END;
        return 0;
    }
    if (r == 0)
        return cut_short(err);
    if (head[0] != MAGIC_0 || head[1] != MAGIC_1 || head[2] != METHOD_DEFLATE ||
        (head[3] & RESERVED))
        return corrupt(gzip, "corrupt header", err);
    r = skip_optional(gzip, head[3], &crc, err);
    if (r <= 0)
        return r < 0 ? r : cut_short(err);

    gzip->place = IN_MEMBER;
    gzip->first = false;
    gzip->summed = gzip->base.is_pass;
    gzip->crc = 0;
    gzip->size = 0;
    gzip->window_bytes = 0;
    gzip->origin.in = wfe_input_tell(&gzip->input);
    gzip->origin.bits = 0;
    gzip->origin.window_bytes = 0;
    return begin_block(gzip, err);
}

static int read_trailer(struct gzip_decoder *gzip, struct wfe_error *err)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < sizeof bytes; i++) {
        int r = wfe_input_byte(&gzip->input, &bytes[i], err);
        if (r <= 0)
            return r < 0 ? r : cut_short(err);
    }
    uint32_t crc = 0;
    uint32_t size = 0;
    for (int i = 3; i >= 0; i--) {
        crc = crc << 8 | bytes[i];
        size = size << 8 | bytes[4 + i];
    }
    if (gzip->summed && (crc != gzip->crc || size != gzip->size))
        return corrupt(gzip, "checksum does not match", err);
    gzip->place = AT_MEMBER;
    return 0;
}

static void keep_window(struct gzip_decoder *gzip, const unsigned char *data, size_t length)
{
    size_t size = sizeof gzip->window;
    if (length >= size) {
        memcpy(gzip->window, data + length - size, size);
        gzip->window_bytes = size;
        return;
    }
    size_t keep = gzip->window_bytes;
    if (keep > size - length)
        keep = size - length;
    memmove(gzip->window, gzip->window + gzip->window_bytes - keep, keep);
    memcpy(gzip->window + keep, data, length);
    gzip->window_bytes = keep + length;
}

/* The inflater has come to the block's end: go on from there as from a checkpoint, which it is. */
static int stop_at_block(
    struct gzip_decoder *gzip, uint64_t out, unsigned unused_bits, struct wfe_error *err)
{
    struct origin *origin = &gzip->origin;
    origin->out = out;
    origin->in = wfe_input_tell(&gzip->input) - unused_bits / 8;
    origin->bits = unused_bits % 8;
    origin->window_bytes = gzip->window_bytes;
    memcpy(origin->window, gzip->window, gzip->window_bytes);
    gzip->base.stopped = true;
    gzip->stopped_form = 1;
    return begin_block(gzip, err);
}

/* One run of the inflater from the input to out_bytes of out. */
static int run_once(struct gzip_decoder *gzip, unsigned char *out, size_t out_bytes, bool stop,
    enum wfe_inflate_status *ret_status, size_t *ret_length, bool *ret_stuck, struct wfe_error *err)
{
    struct wfe_input *input = &gzip->input;
    size_t left;
    int r = wfe_input_fill(input, &left, err);
    if (r < 0)
        return r;
    struct wfe_inflate_buffers buffers = {input->data + input->begin, left, out, out_bytes};
    *ret_status = gzip->inflate_ops->run(gzip->inflate, &buffers, stop);
    /* It can give back what it took from the input before. */
    wfe_input_seek(input, input->next - buffers.in_bytes);
    *ret_length = out_bytes - buffers.out_bytes;
    *ret_stuck = *ret_status == WFE_INFLATE_MORE && left == 0 && *ret_length == 0;
    return 0;
}

/*
 * The inflater failed and can't tell how many of the bytes before were good: come to `out` again,
 * up to where its earlier runs had led, by one that can.
 */
static int go_careful(struct gzip_decoder *gzip, uint64_t out, struct wfe_error *err)
{
    gzip->careful = true;
    int r = begin_block(gzip, err);
    unsigned char scratch[16 * 1024];
    for (uint64_t at = gzip->origin.out; r == 0 && at < out;) {
        size_t length = out - at < sizeof scratch ? (size_t)(out - at) : sizeof scratch;
        enum wfe_inflate_status status;
        bool stuck;
        r = run_once(gzip, scratch, length, false, &status, &length, &stuck, err);
        if (r == 0 && (stuck || status != WFE_INFLATE_MORE))
            r = corrupt(gzip, "corrupt data", err);
        at += length;
    }
    return r;
}

static int decode_member(struct gzip_decoder *gzip, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    uint64_t out = gzip->base.out + *ret_length;
    size_t want = length - *ret_length;
    bool stop = gzip->base.is_pass && out >= gzip->base.stop_from;
    if (gzip->base.is_pass && !stop && want > gzip->base.stop_from - out)
        want = (size_t)(gzip->base.stop_from - out);

    unsigned char *to = data + *ret_length;
    enum wfe_inflate_status status;
    size_t got;
    bool stuck;
    int r = run_once(gzip, to, want, stop, &status, &got, &stuck, err);
    if (r < 0)
        return r;
    if ((status == WFE_INFLATE_BROKEN || stuck) && !gzip->inflate_ops->is_exact)
        return go_careful(gzip, out, err);
    *ret_length += got;
    if (gzip->summed) {
        gzip->crc = wfe_inflate_crc32(gzip->crc, to, got);
        gzip->size += (uint32_t)got;
    }
    if (gzip->base.is_pass)
        keep_window(gzip, to, got);

    switch (status) {
    case WFE_INFLATE_MORE:
        return stuck ? cut_short(err) : 0;
    case WFE_INFLATE_BLOCK:
        return stop_at_block(gzip, out + got, gzip->inflate_ops->unused_bits(gzip->inflate), err);
    case WFE_INFLATE_END:
        wfe_input_seek(&gzip->input,
            wfe_input_tell(&gzip->input) - gzip->inflate_ops->unused_bits(gzip->inflate) / 8);
        return read_trailer(gzip, err);
    case WFE_INFLATE_NOMEM:
        return wfe_error_nomem(err);
    case WFE_INFLATE_BROKEN:
        break;
    }
    return corrupt(gzip, "corrupt data", err);
}

static int decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    struct gzip_decoder *gzip = (struct gzip_decoder *)decoder;
    *ret_length = 0;
    int r = 0;
    while (r == 0 && *ret_length < length && gzip->place != AT_END && !decoder->stopped) {
        if (gzip->place == IN_MEMBER) {
            r = decode_member(gzip, data, length, ret_length, err);
            continue;
        }
        gzip->origin.out = decoder->out + *ret_length;
        r = read_header(gzip, err);
        if (r == 0 && gzip->place == IN_MEMBER && decoder->is_pass &&
            gzip->origin.out >= decoder->stop_from) {
            decoder->stopped = true;
            gzip->stopped_form = 0;
        }
    }
    return r;
}

static int start(
    struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint, struct wfe_error *err)
{
    struct gzip_decoder *gzip = (struct gzip_decoder *)decoder;
    decoder->out = checkpoint->out;
    gzip->careful = false;
    gzip->summed = false;
    gzip->first = checkpoint->in == 0;
    if (checkpoint->form == 0) {
        gzip->place = AT_MEMBER;
        wfe_input_seek(&gzip->input, checkpoint->in);
        return 0;
    }
    gzip->place = IN_MEMBER;
    gzip->origin.out = checkpoint->out;
    gzip->origin.in = checkpoint->in;
    gzip->origin.bits = checkpoint->bits;
    gzip->origin.window_bytes = checkpoint->window_bytes;
    memcpy(gzip->origin.window, checkpoint->window, checkpoint->window_bytes);
    return begin_block(gzip, err);
}

static void describe(const struct wfe_decoder *decoder, struct wfe_checkpoint *ret)
{
    const struct gzip_decoder *gzip = (const struct gzip_decoder *)decoder;
    bool at_block = gzip->stopped_form != 0;
    *ret = (struct wfe_checkpoint){
        .out = decoder->out,
        .in = at_block ? gzip->origin.in : gzip->member,
        .bits = (uint8_t)gzip->origin.bits,
        .form = gzip->stopped_form,
        .window_bytes = (uint16_t)gzip->origin.window_bytes,
        .window = gzip->origin.window,
    };
}

static const struct wfe_decoder_ops gzip_ops = {
    .free = free_decoder,
    .start = start,
    .decode = decode,
    .describe = describe,
};

int wfe_gzip_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err)
{
    struct gzip_decoder *gzip = calloc(1, sizeof *gzip);
    if (!gzip || wfe_input_init(&gzip->input, source) < 0) {
        free(gzip);
        return wfe_error_nomem(err);
    }
    gzip->base.ops = &gzip_ops;
    gzip->base.stop_from = WFE_DECODER_NEVER;
    gzip->first = true;
    *ret = &gzip->base;
    return 0;
}
