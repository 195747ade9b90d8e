/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_decoder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "libcommon/archive.h"

struct other_decoder {
    struct wfe_decoder base;
    struct wfe_input input;
    struct wfe_error read_failure;
    struct archive *archive;
    const unsigned char *block; /* what libarchive has given and is not taken yet */
    size_t block_bytes;
    bool ended;
};

static la_ssize_t read_input(struct archive *archive, void *context, const void **ret)
{
    struct other_decoder *other = context;
    struct wfe_input *input = &other->input;
    size_t left;
    input->begin = input->end;
    if (wfe_input_fill(input, &left, &other->read_failure) < 0) {
        archive_set_error(archive, EIO, "read");
        return ARCHIVE_FATAL;
    }
    *ret = input->data;
    return (la_ssize_t)left;
}

static la_int64_t skip_input(struct archive *archive, void *context, la_int64_t bytes)
{
    (void)archive;
    struct wfe_input *input = &((struct other_decoder *)context)->input;
    uint64_t left = input->source->length_bytes - input->next;
    if ((uint64_t)bytes > left)
        bytes = (la_int64_t)left;
    wfe_input_seek(input, input->next + (uint64_t)bytes);
    return bytes;
}

/* All that come without an external program. */
static void support_filters(struct archive *archive)
{
    archive_read_support_filter_bzip2(archive);
    archive_read_support_filter_compress(archive);
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_lz4(archive);
    archive_read_support_filter_lzip(archive);
    archive_read_support_filter_lzma(archive);
    archive_read_support_filter_rpm(archive);
    archive_read_support_filter_uu(archive);
    archive_read_support_filter_xz(archive);
    archive_read_support_filter_zstd(archive);
}

static int failed(struct other_decoder *other, struct wfe_error *err)
{
    const struct wfe_error *failure = &other->read_failure;
    if (failure->kind != WFE_ERROR_NONE)
        return wfe_error_set(err, failure->kind, failure->errnum, "%s", failure->message);
    return wfe_archive_reader_failed(other->archive, err);
}

static int decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    struct other_decoder *other = (struct other_decoder *)decoder;
    *ret_length = 0;
    while (*ret_length < length && !other->ended) {
        if (other->block_bytes == 0) {
            const void *block;
            la_int64_t offset;
            int status =
                archive_read_data_block(other->archive, &block, &other->block_bytes, &offset);
            if (status != ARCHIVE_OK && status != ARCHIVE_EOF) {
                other->block_bytes = 0;
                return failed(other, err);
            }
            other->block = block;
            other->ended = status == ARCHIVE_EOF;
            continue;
        }
        size_t n = length - *ret_length;
        if (n > other->block_bytes)
            n = other->block_bytes;
        memcpy(data + *ret_length, other->block, n);
        other->block += n;
        other->block_bytes -= n;
        *ret_length += n;
    }
    return 0;
}

static int start(
    struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint, struct wfe_error *err)
{
    (void)err;
    assert(decoder->out == 0 && checkpoint->out == 0);
    return 0;
}

static void free_decoder(struct wfe_decoder *decoder)
{
    struct other_decoder *other = (struct other_decoder *)decoder;
    archive_read_free(other->archive);
    wfe_input_done(&other->input);
    free(other);
}

static const struct wfe_decoder_ops other_ops = {
    .free = free_decoder,
    .start = start,
    .decode = decode,
};

static int open_archive(struct other_decoder *other, struct wfe_error *err)
{
    struct archive *archive = other->archive;
    support_filters(archive);
    archive_read_support_format_raw(archive);
    archive_read_support_format_empty(archive);
    archive_read_set_read_callback(archive, read_input);
    archive_read_set_skip_callback(archive, skip_input);
    archive_read_set_callback_data(archive, other);
    struct archive_entry *entry;
    if (archive_read_open1(archive) != ARCHIVE_OK)
        return failed(other, err);
    int status = archive_read_next_header(archive, &entry);
    other->ended = status == ARCHIVE_EOF;
    return status == ARCHIVE_OK || status == ARCHIVE_EOF ? 0 : failed(other, err);
}

int wfe_other_decoder_new(const struct wfe_source *source, struct wfe_decoder **ret,
    int *ret_filters, struct wfe_error *err)
{
    struct other_decoder *other = calloc(1, sizeof *other);
    if (!other || wfe_input_init(&other->input, source) < 0) {
        free(other);
        return wfe_error_nomem(err);
    }
    other->base.ops = &other_ops;
    other->base.stop_from = WFE_DECODER_NEVER;
    other->archive = archive_read_new();
    int r = other->archive ? open_archive(other, err) : wfe_error_nomem(err);
    if (r < 0) {
        free_decoder(&other->base);
        return r;
    }
    if (ret_filters)
        *ret_filters = archive_filter_count(other->archive) - 1;
    *ret = &other->base;
    return 0;
}
