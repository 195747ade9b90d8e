/* SPDX-License-Identifier: MIT */
#include "artifactfs/limits.h"
#include "artifactfs/stream_decoder.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include <lzma.h>

/* What liblzma needs beside the dictionary. */
#define MEMORY_LIMIT (WFE_STREAM_MAX_WINDOW_BYTES + 1024 * 1024)

struct wfe_xz_blocks {
    lzma_index *index;
};

struct xz_decoder {
    struct wfe_decoder base;
    struct wfe_input input;
    const struct wfe_xz_blocks *blocks; /* NULL: the whole file by liblzma's own decoder */
    lzma_index_iter next;               /* the block under way, else the one before the next */
    lzma_block block;
    lzma_stream lzma;
    bool in_block;
    bool resumed; /* stopped before the block; it is next */
    bool ended;
};

static int failed(lzma_ret code, uint64_t offset, struct wfe_error *err)
{
    switch (code) {
    case LZMA_MEM_ERROR:
        return wfe_error_nomem(err);
    case LZMA_MEMLIMIT_ERROR:
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "xz: a block needs a dictionary of more than %" PRIu64 " bytes",
            WFE_STREAM_MAX_WINDOW_BYTES);
    case LZMA_BUF_ERROR:
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "xz: the file is cut short");
    case LZMA_OPTIONS_ERROR:
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL,
            "xz: filters that are not supported at byte %" PRIu64, offset);
    default:
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EINVAL, "xz: corrupt data at byte %" PRIu64, offset);
    }
}

void wfe_xz_blocks_free(struct wfe_xz_blocks *blocks)
{
    if (blocks)
        lzma_index_end(blocks->index, NULL);
    free(blocks);
}

static bool has_large_block(const lzma_index *index)
{
    lzma_index_iter iter;
    lzma_index_iter_init(&iter, index);
    while (!lzma_index_iter_next(&iter, LZMA_INDEX_ITER_NONEMPTY_BLOCK)) {
        if (iter.block.uncompressed_size > WFE_STREAM_MAX_BLOCK_BYTES)
            return true;
    }
    return false;
}

/* *ret stays NULL where the indexes make no sense. */
static int read_indexes(struct wfe_input *input, lzma_index **ret, struct wfe_error *err)
{
    lzma_stream lzma = LZMA_STREAM_INIT;
    lzma_ret code = lzma_file_info_decoder(
        &lzma, ret, WFE_STREAM_MAX_BLOCKS_BYTES, input->source->length_bytes);
    int r = 0;
    while (r == 0 && (code == LZMA_OK || code == LZMA_SEEK_NEEDED)) {
        size_t left;
        r = wfe_input_fill(input, &left, err);
        if (r < 0)
            break;
        lzma.next_in = input->data + input->begin;
        lzma.avail_in = left;
        code = lzma_code(&lzma, left == 0 ? LZMA_FINISH : LZMA_RUN);
        input->begin = input->end - lzma.avail_in;
        if (code == LZMA_SEEK_NEEDED)
            wfe_input_seek(input, lzma.seek_pos);
    }
    lzma_end(&lzma);
    if (r == 0 && code == LZMA_MEM_ERROR)
        r = wfe_error_nomem(err);
    return r;
}

int wfe_xz_blocks_read(
    const struct wfe_source *source, struct wfe_xz_blocks **ret, struct wfe_error *err)
{
    struct wfe_xz_blocks *blocks = calloc(1, sizeof *blocks);
    struct wfe_input input;
    if (!blocks || wfe_input_init(&input, source) < 0) {
        free(blocks);
        return wfe_error_nomem(err);
    }
    int r = read_indexes(&input, &blocks->index, err);
    wfe_input_done(&input);
    if (r < 0 || !blocks->index || has_large_block(blocks->index)) {
        wfe_xz_blocks_free(blocks);
        blocks = NULL;
    }
    if (r == 0)
        *ret = blocks;
    return r;
}

static void free_decoder(struct wfe_decoder *decoder)
{
    struct xz_decoder *xz = (struct xz_decoder *)decoder;
    lzma_end(&xz->lzma);
    wfe_input_done(&xz->input);
    free(xz);
}

/* Set liblzma's decoder up for a block whose header has been read. */
static int begin_body(struct xz_decoder *xz, struct wfe_error *err)
{
    uint64_t offset = xz->next.block.compressed_file_offset;
    uint64_t memory = lzma_raw_decoder_memusage(xz->block.filters);
    if (memory > MEMORY_LIMIT)
        return failed(memory == UINT64_MAX ? LZMA_OPTIONS_ERROR : LZMA_MEMLIMIT_ERROR, offset, err);
    xz->base.memory_bytes = (size_t)memory;
    if (lzma_block_compressed_size(&xz->block, xz->next.block.unpadded_size) != LZMA_OK)
        return failed(LZMA_DATA_ERROR, offset, err);
    if (xz->block.uncompressed_size == LZMA_VLI_UNKNOWN)
        xz->block.uncompressed_size = xz->next.block.uncompressed_size;
    if (xz->block.uncompressed_size != xz->next.block.uncompressed_size)
        return failed(LZMA_DATA_ERROR, offset, err);
    lzma_ret code = lzma_block_decoder(&xz->lzma, &xz->block);
    return code == LZMA_OK ? 0 : failed(code, offset, err);
}

static int begin_block(struct xz_decoder *xz, struct wfe_error *err)
{
    uint64_t offset = xz->next.block.compressed_file_offset;
    unsigned char header[LZMA_BLOCK_HEADER_SIZE_MAX];
    ssize_t n = wfe_source_read(xz->input.source, header, sizeof header, offset, err);
    if (n < 0)
        return (int)n;
    lzma_filter filters[LZMA_FILTERS_MAX + 1];
    xz->block = (lzma_block){
        .version = 1,
        .header_size = n > 0 ? lzma_block_header_size_decode(header[0]) : 0,
        .check = xz->next.stream.flags->check,
        .filters = filters,
    };
    if (n == 0 || header[0] == 0 || xz->block.header_size > (size_t)n)
        return failed(LZMA_DATA_ERROR, offset, err);
    lzma_ret code = lzma_block_header_decode(&xz->block, NULL, header);
    if (code != LZMA_OK)
        return failed(code, offset, err);
    /* It has been checked by the pass. */
    xz->block.ignore_check = !xz->base.is_pass;
    int r = begin_body(xz, err);
    lzma_filters_free(filters, NULL);
    xz->block.filters = NULL;
    if (r < 0)
        return r;
    wfe_input_seek(&xz->input, offset + xz->block.header_size);
    xz->in_block = true;
    return 0;
}

/* One step of liblzma. */
static int run(struct xz_decoder *xz, unsigned char *data, size_t length, size_t *ret_length,
    bool *ret_end, struct wfe_error *err)
{
    struct wfe_input *input = &xz->input;
    size_t left;
    int r = wfe_input_fill(input, &left, err);
    if (r < 0)
        return r;
    xz->lzma.next_in = input->data + input->begin;
    xz->lzma.avail_in = left;
    xz->lzma.next_out = data + *ret_length;
    xz->lzma.avail_out = length - *ret_length;
    lzma_ret code = lzma_code(&xz->lzma, left == 0 ? LZMA_FINISH : LZMA_RUN);
    input->begin = input->end - xz->lzma.avail_in;
    *ret_length = length - xz->lzma.avail_out;
    *ret_end = code == LZMA_STREAM_END;
    if (code == LZMA_OK || code == LZMA_STREAM_END)
        return 0;
    return failed(code, wfe_input_tell(input), err);
}

static int decode_solid(struct xz_decoder *xz, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    int r = 0;
    while (r == 0 && *ret_length < length && !xz->ended)
        r = run(xz, data, length, ret_length, &xz->ended, err);
    return r;
}

static int decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    struct xz_decoder *xz = (struct xz_decoder *)decoder;
    *ret_length = 0;
    if (!xz->blocks)
        return decode_solid(xz, data, length, ret_length, err);
    int r = 0;
    while (r == 0 && *ret_length < length) {
        if (xz->in_block) {
            bool end;
            r = run(xz, data, length, ret_length, &end, err);
            xz->in_block = r == 0 && !end;
            continue;
        }
        if (!xz->resumed && lzma_index_iter_next(&xz->next, LZMA_INDEX_ITER_NONEMPTY_BLOCK))
            break;
        if (!xz->resumed && decoder->is_pass && decoder->out + *ret_length >= decoder->stop_from) {
            xz->resumed = true;
            decoder->stopped = true;
            break;
        }
        xz->resumed = false;
        r = begin_block(xz, err);
    }
    return r;
}

static int start(
    struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint, struct wfe_error *err)
{
    struct xz_decoder *xz = (struct xz_decoder *)decoder;
    decoder->out = checkpoint->out;
    if (!xz->blocks) {
        assert(checkpoint->in == 0);
        lzma_ret code = lzma_stream_decoder(&xz->lzma, MEMORY_LIMIT, LZMA_CONCATENATED);
        return code == LZMA_OK ? 0 : failed(code, 0, err);
    }
    xz->in_block = false;
    xz->resumed = false;
    lzma_index_iter_init(&xz->next, xz->blocks->index);
    if (checkpoint->in == 0)
        return 0;
    if (lzma_index_iter_locate(&xz->next, checkpoint->out) ||
        xz->next.block.uncompressed_file_offset != checkpoint->out ||
        xz->next.block.compressed_file_offset != checkpoint->in)
        return wfe_error_set(
            err, WFE_ERROR_INTEGRITY, EINVAL, "xz: a checkpoint is not where a block is");
    xz->resumed = true;
    return 0;
}

static void describe(const struct wfe_decoder *decoder, struct wfe_checkpoint *ret)
{
    const struct xz_decoder *xz = (const struct xz_decoder *)decoder;
    *ret =
        (struct wfe_checkpoint){.out = decoder->out, .in = xz->next.block.compressed_file_offset};
}

static const struct wfe_decoder_ops xz_ops = {
    .free = free_decoder,
    .start = start,
    .decode = decode,
    .describe = describe,
};

int wfe_xz_decoder_new(const struct wfe_source *source, const struct wfe_xz_blocks *blocks,
    struct wfe_decoder **ret, struct wfe_error *err)
{
    struct xz_decoder *xz = calloc(1, sizeof *xz);
    if (!xz || wfe_input_init(&xz->input, source) < 0) {
        free(xz);
        return wfe_error_nomem(err);
    }
    xz->base.ops = &xz_ops;
    xz->base.stop_from = WFE_DECODER_NEVER;
    xz->blocks = blocks;
    xz->lzma = (lzma_stream)LZMA_STREAM_INIT;
    *ret = &xz->base;
    return 0;
}
