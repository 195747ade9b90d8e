/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_column.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/limits.h"

enum {
    VARINT_MAX_BYTES = 10,
    LEVEL = 3,
    WINDOW_LOG = 18,
};

int wfe_column_writer_new(
    struct wfe_sink sink, struct wfe_column_writer **ret, struct wfe_error *err)
{
    struct wfe_column_writer *writer = malloc(sizeof *writer);
    if (!writer)
        return wfe_error_nomem(err);
    writer->zstd = ZSTD_createCCtx();
    writer->sink = sink;
    writer->err = err;
    writer->result = 0;
    writer->zeros = 0;
    writer->content_bytes = 0;
    writer->length = 0;
    if (!writer->zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_compressionLevel, LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_windowLog, WINDOW_LOG)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(writer->zstd, ZSTD_c_checksumFlag, 1))) {
        wfe_column_writer_free(writer);
        return wfe_error_nomem(err);
    }
    *ret = writer;
    return 0;
}

void wfe_column_writer_free(struct wfe_column_writer *writer)
{
    if (!writer)
        return;
    ZSTD_freeCCtx(writer->zstd);
    free(writer);
}

static void compress(struct wfe_column_writer *writer, ZSTD_EndDirective directive)
{
    ZSTD_inBuffer in = {.src = writer->data, .size = writer->length};
    writer->length = 0;
    bool done = false;
    while (writer->result == 0 && !done) {
        ZSTD_outBuffer out = {.dst = writer->packed, .size = sizeof writer->packed};
        size_t left = ZSTD_compressStream2(writer->zstd, &out, &in, directive);
        if (ZSTD_isError(left)) {
            writer->result = wfe_error_nomem(writer->err);
            return;
        }
        if (out.pos > 0)
            writer->result =
                writer->sink.write(writer->sink.context, writer->packed, out.pos, writer->err);
        done = directive == ZSTD_e_end ? left == 0 : in.pos == in.size;
    }
}

void wfe_column_put_bytes(struct wfe_column_writer *writer, const void *data, size_t length)
{
    assert(writer->zeros == 0);
    const unsigned char *at = data;
    writer->content_bytes += length;
    if (writer->result == 0 && writer->content_bytes > WFE_CACHE_MAX_INDEX_BYTES)
        writer->result = wfe_error_set(
            writer->err, WFE_ERROR_LIMIT, EFBIG, "the index is too large for the cache");
    while (length > 0 && writer->result == 0) {
        size_t room = sizeof writer->data - writer->length;
        size_t n = length < room ? length : room;
        memcpy(writer->data + writer->length, at, n);
        writer->length += n;
        at += n;
        length -= n;
        if (writer->length == sizeof writer->data)
            compress(writer, ZSTD_e_continue);
    }
}

static void put_varint(struct wfe_column_writer *writer, uint64_t number)
{
    unsigned char text[VARINT_MAX_BYTES];
    size_t length = 0;
    for (; number >= 0x80; number >>= 7)
        text[length++] = (unsigned char)(number | 0x80);
    text[length++] = (unsigned char)number;
    wfe_column_put_bytes(writer, text, length);
}

void wfe_column_end(struct wfe_column_writer *writer)
{
    uint32_t zeros = writer->zeros;
    if (zeros == 0)
        return;
    writer->zeros = 0;
    wfe_column_put_bytes(writer, "", 1);
    put_varint(writer, zeros - 1);
}

void wfe_column_put(struct wfe_column_writer *writer, uint64_t number)
{
    if (number == 0) {
        if (++writer->zeros == WFE_COLUMN_MAX_ZEROS)
            wfe_column_end(writer);
        return;
    }
    wfe_column_end(writer);
    put_varint(writer, number);
}

int wfe_column_writer_finish(struct wfe_column_writer *writer)
{
    wfe_column_end(writer);
    compress(writer, ZSTD_e_end);
    return writer->result;
}

int wfe_column_reader_new(struct wfe_column_source source, struct wfe_column_reader **ret)
{
    struct wfe_column_reader *reader = malloc(sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->zstd = ZSTD_createDCtx();
    reader->source = source;
    reader->state = WFE_COLUMN_GOOD;
    reader->errnum = 0;
    reader->is_over = false;
    reader->zeros = 0;
    reader->content_bytes = 0;
    reader->source_bytes = 0;
    reader->at = reader->end = reader->data;
    reader->in = (ZSTD_inBuffer){.src = reader->packed};
    if (!reader->zstd ||
        ZSTD_isError(ZSTD_DCtx_setParameter(reader->zstd, ZSTD_d_windowLogMax, WINDOW_LOG))) {
        wfe_column_reader_free(reader);
        return -ENOMEM;
    }
    *ret = reader;
    return 0;
}

void wfe_column_reader_free(struct wfe_column_reader *reader)
{
    if (!reader)
        return;
    ZSTD_freeDCtx(reader->zstd);
    free(reader);
}

static void fail(struct wfe_column_reader *reader, enum wfe_column_state state)
{
    if (reader->state == WFE_COLUMN_GOOD)
        reader->state = state;
    reader->at = reader->end = reader->data;
    reader->zeros = 0;
}

/* Have some packed bytes to decode; false at the source's end, or when it failed. */
static bool refill_packed(struct wfe_column_reader *reader)
{
    if (reader->in.pos < reader->in.size)
        return true;
    ssize_t n = reader->source.read(reader->source.context, reader->packed, sizeof reader->packed);
    if (n < 0) {
        reader->errnum = (int)-n;
        fail(reader, WFE_COLUMN_UNREADABLE);
        return false;
    }
    reader->in.pos = 0;
    reader->in.size = (size_t)n;
    reader->source_bytes += (size_t)n;
    return n > 0;
}

/* Decode more behind what is left; a failure when there is no more. */
static void refill(struct wfe_column_reader *reader)
{
    if (reader->state != WFE_COLUMN_GOOD)
        return;
    size_t left = (size_t)(reader->end - reader->at);
    memmove(reader->data, reader->at, left);
    reader->at = reader->data;
    ZSTD_outBuffer out = {.dst = reader->data, .size = sizeof reader->data, .pos = left};
    while (out.pos == left && !reader->is_over) {
        bool more = refill_packed(reader);
        if (reader->state != WFE_COLUMN_GOOD)
            return;
        size_t in_before = reader->in.pos;
        size_t r = ZSTD_decompressStream(reader->zstd, &out, &reader->in);
        if (ZSTD_isError(r) || (!more && out.pos == left && reader->in.pos == in_before)) {
            fail(reader, WFE_COLUMN_MALFORMED);
            return;
        }
        reader->is_over = r == 0;
    }
    reader->content_bytes += out.pos - left;
    reader->end = reader->data + out.pos;
    if (reader->content_bytes > WFE_CACHE_MAX_INDEX_BYTES)
        fail(reader, WFE_COLUMN_TOO_LARGE);
    else if (out.pos == left)
        fail(reader, WFE_COLUMN_MALFORMED);
}

static uint64_t get_varint(struct wfe_column_reader *reader)
{
    uint64_t number = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (reader->at == reader->end) {
            refill(reader);
            if (reader->state != WFE_COLUMN_GOOD)
                return 0;
        }
        unsigned char byte = *reader->at++;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            /* The tenth byte has room for one bit. */
            if (shift == 63 && byte > 1)
                break;
            return number;
        }
    }
    fail(reader, WFE_COLUMN_MALFORMED);
    return 0;
}

uint64_t wfe_column_get_long(struct wfe_column_reader *reader)
{
    uint64_t number = get_varint(reader);
    if (number > 0 || reader->state != WFE_COLUMN_GOOD)
        return number;
    uint64_t zeros = get_varint(reader);
    if (zeros >= WFE_COLUMN_MAX_ZEROS)
        fail(reader, WFE_COLUMN_MALFORMED);
    else
        reader->zeros = (uint32_t)zeros;
    return 0;
}

bool wfe_column_get_end(struct wfe_column_reader *reader)
{
    if (reader->zeros > 0)
        fail(reader, WFE_COLUMN_MALFORMED);
    return reader->state == WFE_COLUMN_GOOD;
}

void wfe_column_get_bytes(struct wfe_column_reader *reader, void *data, size_t length)
{
    char *at = data;
    while (length > 0) {
        if (reader->at == reader->end)
            refill(reader);
        if (reader->state != WFE_COLUMN_GOOD) {
            memset(at, 0, length);
            return;
        }
        size_t left = (size_t)(reader->end - reader->at);
        size_t n = length < left ? length : left;
        memcpy(at, reader->at, n);
        reader->at += n;
        at += n;
        length -= n;
    }
}

bool wfe_column_is_at_end(struct wfe_column_reader *reader, uint64_t *ret_bytes)
{
    if (!wfe_column_get_end(reader) || reader->at != reader->end)
        return false;
    /* The checksum, or an empty last block, may still be due. */
    while (!reader->is_over) {
        if (!refill_packed(reader))
            return false;
        ZSTD_outBuffer out = {.dst = reader->data, .size = sizeof reader->data};
        size_t r = ZSTD_decompressStream(reader->zstd, &out, &reader->in);
        if (ZSTD_isError(r) || out.pos > 0)
            return false;
        reader->is_over = r == 0;
    }
    *ret_bytes = reader->source_bytes - (reader->in.size - reader->in.pos);
    return reader->state == WFE_COLUMN_GOOD;
}
