/* SPDX-License-Identifier: MIT */
#include "artifactfs/limits.h"
#include "artifactfs/stream_decoder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <zstd.h>
#include <zstd_errors.h>

/* RFC 8878, 3.1.1 and 3.1.2 */
#define SKIPPABLE_MAGIC UINT32_C(0x184d2a50)
#define SKIPPABLE_MASK UINT32_C(0xfffffff0)
enum { MAX_HEADER_BYTES = 18, MAX_BLOCK_BYTES = 128 * 1024 };
enum { BLOCK_RLE = 1, BLOCK_COMPRESSED = 2 };
/* Programs write one or none in front of the first frame. */
enum { MAX_SKIPPED = 16 };

enum { WINDOW_LOG = 27 };
_Static_assert(UINT64_C(1) << WINDOW_LOG == WFE_STREAM_MAX_WINDOW_BYTES, "one limit");

struct zstd_decoder {
    struct wfe_decoder base;
    struct wfe_input input;
    ZSTD_DCtx *context;
    bool in_frame;
    uint64_t frame; /* offset of the last one that began */
};

static void free_decoder(struct wfe_decoder *decoder)
{
    struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;
    ZSTD_freeDCtx(zstd->context);
    wfe_input_done(&zstd->input);
    free(zstd);
}

static int failed(const struct zstd_decoder *zstd, size_t code, struct wfe_error *err)
{
    switch (ZSTD_getErrorCode(code)) {
    case ZSTD_error_memory_allocation:
        return wfe_error_nomem(err);
    case ZSTD_error_frameParameter_windowTooLarge:
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "zstd: a frame needs a window of more than %" PRIu64 " bytes",
            WFE_STREAM_MAX_WINDOW_BYTES);
    default:
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "zstd: %s at byte %" PRIu64,
            ZSTD_getErrorName(code), wfe_input_tell(&zstd->input));
    }
}

static uint32_t le32(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* The library also takes formats older than RFC 8878's, and does not decode those the same way each
 * time. */
static int check_frame(const struct zstd_decoder *zstd, struct wfe_error *err)
{
    unsigned char bytes[4];
    uint64_t offset = wfe_input_tell(&zstd->input);
    ssize_t n = wfe_source_read(zstd->input.source, bytes, sizeof bytes, offset, err);
    if (n < (ssize_t)sizeof bytes)
        return n < 0 ? (int)n : 0;
    uint32_t magic = le32(bytes);
    if (magic == ZSTD_MAGICNUMBER || (magic & SKIPPABLE_MASK) == SKIPPABLE_MAGIC)
        return 0;
    return wfe_error_set(
        err, WFE_ERROR_ARCHIVE, EINVAL, "zstd: Unknown frame descriptor at byte %" PRIu64, offset);
}

static int decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;
    struct wfe_input *input = &zstd->input;
    ZSTD_outBuffer out = {.dst = data, .size = length};
    *ret_length = 0;
    while (out.pos < out.size) {
        size_t left;
        int r = wfe_input_fill(input, &left, err);
        if (r < 0)
            return r;
        if (left == 0 && !zstd->in_frame)
            break;
        if (!zstd->in_frame) {
            r = check_frame(zstd, err);
            if (r < 0)
                return r;
            zstd->frame = wfe_input_tell(input);
            zstd->in_frame = true;
            if (decoder->is_pass && decoder->out + out.pos >= decoder->stop_from) {
                decoder->stopped = true;
                break;
            }
        }
        ZSTD_inBuffer in = {.src = input->data + input->begin, .size = left};
        size_t before = out.pos;
        size_t code = ZSTD_decompressStream(zstd->context, &out, &in);
        *ret_length = out.pos;
        if (ZSTD_isError(code))
            return failed(zstd, code, err);
        input->begin += in.pos;
        zstd->in_frame = code != 0;
        if (left == 0 && zstd->in_frame && out.pos == before)
            return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "zstd: the file is cut short");
    }
    decoder->memory_bytes = ZSTD_sizeof_DCtx(zstd->context);
    return 0;
}

static int start(
    struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint, struct wfe_error *err)
{
    struct zstd_decoder *zstd = (struct zstd_decoder *)decoder;
    size_t code = ZSTD_DCtx_reset(zstd->context, ZSTD_reset_session_only);
    if (ZSTD_isError(code))
        return failed(zstd, code, err);
    decoder->out = checkpoint->out;
    zstd->in_frame = false;
    wfe_input_seek(&zstd->input, checkpoint->in);
    return 0;
}

static void describe(const struct wfe_decoder *decoder, struct wfe_checkpoint *ret)
{
    const struct zstd_decoder *zstd = (const struct zstd_decoder *)decoder;
    *ret = (struct wfe_checkpoint){.out = decoder->out, .in = zstd->frame};
}

static const struct wfe_decoder_ops zstd_ops = {
    .free = free_decoder,
    .start = start,
    .decode = decode,
    .describe = describe,
};

int wfe_zstd_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err)
{
    struct zstd_decoder *zstd = calloc(1, sizeof *zstd);
    if (!zstd || wfe_input_init(&zstd->input, source) < 0) {
        free(zstd);
        return wfe_error_nomem(err);
    }
    zstd->base.ops = &zstd_ops;
    zstd->base.stop_from = WFE_DECODER_NEVER;
    zstd->context = ZSTD_createDCtx();
    if (!zstd->context ||
        ZSTD_isError(ZSTD_DCtx_setParameter(zstd->context, ZSTD_d_windowLogMax, WINDOW_LOG))) {
        free_decoder(&zstd->base);
        return wfe_error_nomem(err);
    }
    *ret = &zstd->base;
    return 0;
}

/* The length of a frame's header whose first bytes these are. */
static size_t header_bytes(const unsigned char *header)
{
    static const size_t dictionary_bytes[] = {0, 1, 2, 4};
    static const size_t content_bytes[] = {0, 2, 4, 8};
    unsigned descriptor = header[4];
    bool single_segment = descriptor & 0x20;
    size_t content = content_bytes[descriptor >> 6];
    if (content == 0 && single_segment)
        content = 1;
    return 5 + (single_segment ? 0 : 1) + dictionary_bytes[descriptor & 3] + content;
}

/* Go over a frame's blocks, the first of them at offset, as long as they can't decode to too
 * much. */
static int walk_blocks(
    const struct wfe_source *source, uint64_t offset, bool *ret, struct wfe_error *err)
{
    uint64_t decoded = 0;
    while (decoded <= WFE_STREAM_MAX_FRAME_BYTES) {
        unsigned char bytes[3];
        ssize_t n = wfe_source_read(source, bytes, sizeof bytes, offset, err);
        if (n < 0)
            return (int)n;
        if ((size_t)n < sizeof bytes)
            break;
        uint32_t head = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16;
        unsigned type = head >> 1 & 3;
        uint32_t size = head >> 3;
        if (head & 1) {
            *ret = false;
            return 0;
        }
        decoded += type == BLOCK_COMPRESSED ? MAX_BLOCK_BYTES : size;
        offset += sizeof bytes + (type == BLOCK_RLE ? 1 : size);
    }
    *ret = true;
    return 0;
}

int wfe_zstd_is_solid(const struct wfe_source *source, bool *ret, struct wfe_error *err)
{
    uint64_t offset = 0;
    for (int skipped = 0; skipped < MAX_SKIPPED; skipped++) {
        unsigned char header[MAX_HEADER_BYTES];
        ssize_t n = wfe_source_read(source, header, sizeof header, offset, err);
        if (n < 0)
            return (int)n;
        if (n < 8)
            break;
        if ((le32(header) & SKIPPABLE_MASK) == SKIPPABLE_MAGIC) {
            offset += 8 + (uint64_t)le32(header + 4);
            continue;
        }
        unsigned long long content = ZSTD_getFrameContentSize(header, (size_t)n);
        if (content == ZSTD_CONTENTSIZE_UNKNOWN)
            return walk_blocks(source, offset + header_bytes(header), ret, err);
        *ret = content == ZSTD_CONTENTSIZE_ERROR || content > WFE_STREAM_MAX_FRAME_BYTES;
        return 0;
    }
    *ret = true;
    return 0;
}
