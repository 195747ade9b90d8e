/* SPDX-License-Identifier: MIT */
#include "artifactfs/tests/stream_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static void must(int good)
{
    if (!good)
        abort();
}

void bytes_done(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static unsigned char *grow(struct bytes *to, size_t length)
{
    if (to->capacity - to->length < length || !to->data) {
        to->capacity = 2 * (to->length + length) + 1;
        to->data = realloc(to->data, to->capacity);
        must(to->data != NULL);
    }
    to->length += length;
    return to->data + to->length - length;
}

void bytes_append(struct bytes *to, const void *data, size_t length)
{
    if (length > 0)
        memcpy(grow(to, length), data, length);
}

uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

struct bytes make_plain(size_t length, unsigned seed)
{
    static const char *const words[] = {"checkpoint ", "window ", "block ", "the ", "stream\n",
        "of a ", "frame, ", "which ", "ends. ", "Before ", "decoded "};
    struct bytes plain = {0};
    uint32_t state = seed;
    unsigned char *at = grow(&plain, length);
    unsigned char *end = at + length;
    while (at < end) {
        uint32_t kind = next_random(&state) % 4096;
        size_t run = kind < 2 ? next_random(&state) % 40000 : 1;
        const char *word = words[next_random(&state) % (sizeof words / sizeof *words)];
        if (kind >= 2)
            run = strlen(word);
        for (size_t i = 0; i < run && at < end; i++)
            *at++ = kind == 0   ? (unsigned char)next_random(&state)
                    : kind == 1 ? 'a'
                                : (unsigned char)word[i];
    }
    return plain;
}

static void deflate_to(struct bytes *to, const void *data, size_t length, int memory, int strategy)
{
    z_stream z = {0};
    must(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, memory, strategy) == Z_OK);
    size_t bound = deflateBound(&z, length) + length / 8 + 1024;
    unsigned char *out = grow(to, bound);
    z.next_in = (unsigned char *)data;
    z.avail_in = (uInt)length;
    z.next_out = out;
    z.avail_out = (uInt)bound;
    must(deflate(&z, Z_FINISH) == Z_STREAM_END);
    to->length -= z.avail_out;
    deflateEnd(&z);
}

void add_gzip(struct bytes *to, const void *data, size_t length)
{
    deflate_to(to, data, length, 8, Z_DEFAULT_STRATEGY);
}

void add_gzip_small_blocks(struct bytes *to, const void *data, size_t length, int other_strategy)
{
    deflate_to(to, data, length, 1, other_strategy ? Z_FIXED : Z_DEFAULT_STRATEGY);
}

void add_zstd(struct bytes *to, const void *data, size_t length, size_t frame_bytes)
{
    for (size_t at = 0; at < length || at == 0; at += frame_bytes) {
        size_t n = length - at < frame_bytes ? length - at : frame_bytes;
        size_t bound = ZSTD_compressBound(n);
        unsigned char *out = grow(to, bound);
        size_t packed = ZSTD_compress(out, bound, (const char *)data + at, n, 1);
        must(!ZSTD_isError(packed));
        to->length -= bound - packed;
    }
}

void add_zstd_streamed(struct bytes *to, const void *data, size_t length, int window_log)
{
    ZSTD_CCtx *context = ZSTD_createCCtx();
    must(context != NULL);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    size_t bound = ZSTD_compressBound(length) + 64;
    ZSTD_inBuffer in = {data, length / 2, 0};
    ZSTD_outBuffer out = {grow(to, bound), bound, 0};
    while (in.pos < in.size)
        must(!ZSTD_isError(ZSTD_compressStream2(context, &out, &in, ZSTD_e_continue)));
    in.size = length;
    must(ZSTD_compressStream2(context, &out, &in, ZSTD_e_end) == 0);
    to->length -= bound - out.pos;
    ZSTD_freeCCtx(context);
}

void add_xz(struct bytes *to, const void *data, size_t length, size_t block_bytes)
{
    lzma_stream lzma = LZMA_STREAM_INIT;
    must(lzma_easy_encoder(&lzma, 0, LZMA_CHECK_CRC32) == LZMA_OK);
    size_t bound = length + length / 4 + 4096 + 256 * (length / block_bytes + 1);
    lzma.next_out = grow(to, bound);
    lzma.avail_out = bound;
    for (size_t at = 0; at < length; at += block_bytes) {
        size_t n = length - at < block_bytes ? length - at : block_bytes;
        lzma.next_in = (const unsigned char *)data + at;
        lzma.avail_in = n;
        must(lzma_code(&lzma, LZMA_FULL_FLUSH) == LZMA_STREAM_END);
    }
    must(lzma_code(&lzma, LZMA_FINISH) == LZMA_STREAM_END);
    to->length -= lzma.avail_out;
    lzma_end(&lzma);
}

void add_bzip2(struct bytes *to, const void *data, size_t length, int level)
{
    unsigned bound = (unsigned)(length + length / 50 + 1024);
    char *out = (char *)grow(to, bound);
    unsigned packed = bound;
    must(BZ2_bzBuffToBuffCompress(out, &packed, (char *)data, (unsigned)length, level, 0, 0) ==
         BZ_OK);
    to->length -= bound - packed;
}

void add_lz4(struct bytes *to, const void *data, size_t length)
{
    static const unsigned char empty[] = {
        0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7, 0, 0, 0, 0, 0x05, 0x5d, 0xcc, 0x02};
    if (length == 0) {
        /* libarchive's writer can't. */
        bytes_append(to, empty, sizeof empty);
        return;
    }
    struct archive *archive = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    size_t bound = length + length / 50 + 65536;
    unsigned char *out = grow(to, bound);
    size_t packed = 0;
    archive_write_set_format_raw(archive);
    archive_write_add_filter_lz4(archive);
    archive_write_set_bytes_in_last_block(archive, 1);
    must(archive_write_open_memory(archive, out, bound, &packed) == ARCHIVE_OK);
    archive_entry_set_filetype(entry, AE_IFREG);
    must(archive_write_header(archive, entry) == ARCHIVE_OK);
    must(archive_write_data(archive, data, length) == (la_ssize_t)length);
    must(archive_write_close(archive) == ARCHIVE_OK);
    archive_entry_free(entry);
    archive_write_free(archive);
    to->length -= bound - packed;
}

enum { UNIT_BYTES = 100000 };

static void pack_plain(struct bytes *to, const void *data, size_t length)
{
    bytes_append(to, data, length);
}

static void pack_gzip_small(struct bytes *to, const void *data, size_t length)
{
    add_gzip_small_blocks(to, data, length, 0);
}

static void pack_gzip_fixed(struct bytes *to, const void *data, size_t length)
{
    add_gzip_small_blocks(to, data, length, 1);
}

static void pack_gzip_members(struct bytes *to, const void *data, size_t length)
{
    for (size_t at = 0; at < length; at += UNIT_BYTES) {
        size_t n = length - at < UNIT_BYTES ? length - at : UNIT_BYTES;
        add_gzip_small_blocks(to, (const char *)data + at, n, 0);
        add_gzip(to, "", 0);
    }
}

static void pack_zstd(struct bytes *to, const void *data, size_t length)
{
    static const unsigned char skippable[] = {0x52, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'};
    bytes_append(to, skippable, sizeof skippable);
    add_zstd(to, data, length / 2, UNIT_BYTES);
    bytes_append(to, skippable, sizeof skippable);
    add_zstd(to, (const char *)data + length / 2, length - length / 2, UNIT_BYTES);
}

static void pack_xz(struct bytes *to, const void *data, size_t length)
{
    static const unsigned char padding[8];
    add_xz(to, data, length / 2, UNIT_BYTES);
    bytes_append(to, padding, sizeof padding);
    add_xz(to, (const char *)data + length / 2, length - length / 2, UNIT_BYTES);
}

static void pack_bzip2(struct bytes *to, const void *data, size_t length)
{
    add_bzip2(to, data, length / 2, 1);
    add_bzip2(to, "", 0, 3);
    add_bzip2(to, (const char *)data + length / 2, length - length / 2, 2);
}

static void pack_twice(struct bytes *to, const void *data, size_t length)
{
    BYTES struct bytes inner = {0};
    add_gzip(&inner, data, length);
    add_xz(to, inner.data, inner.length, inner.length);
}

const struct packing packings[] = {
    {"plain", WFE_STREAM_PLAIN, 0, pack_plain},
    {"gzip", WFE_STREAM_GZIP, 0, add_gzip},
    {"gzip, small blocks", WFE_STREAM_GZIP, 0, pack_gzip_small},
    {"gzip, fixed codes", WFE_STREAM_GZIP, 0, pack_gzip_fixed},
    {"gzip, members", WFE_STREAM_GZIP, 0, pack_gzip_members},
    {"zstd", WFE_STREAM_ZSTD, 0, pack_zstd},
    {"xz", WFE_STREAM_XZ, 0, pack_xz},
    {"bzip2", WFE_STREAM_BZIP2, 0, pack_bzip2},
    {"lz4", WFE_STREAM_OTHER, 1, add_lz4},
    {"gzip below xz", WFE_STREAM_OTHER, 1, pack_twice},
};
const size_t packing_count = sizeof packings / sizeof *packings;

int bytes_to_file(const struct bytes *bytes)
{
    int fd = memfd_create("stream", MFD_CLOEXEC);
    must(fd >= 0 && wfe_write_all(fd, bytes->data, bytes->length) == 0);
    return fd;
}

struct wfe_stream *open_bytes(const struct bytes *bytes, uint64_t spacing_bytes)
{
    const struct wfe_stream_options options = {
        .spool_directory = "/tmp", .spacing_bytes = spacing_bytes};
    struct wfe_stream *stream = NULL;
    must(wfe_stream_open(bytes_to_file(bytes), &options, &stream, NULL) == 0);
    return stream;
}

int run_pass(struct wfe_stream *stream, struct bytes *to, struct wfe_error *err)
{
    for (;;) {
        const void *data;
        size_t length;
        int r = wfe_stream_next(stream, &data, &length, err);
        if (r < 0 || length == 0)
            return r;
        if (to)
            bytes_append(to, data, length);
    }
}

void saved_done(struct saved *saved)
{
    bytes_done(&saved->places);
    bytes_done(&saved->windows);
}

static int append(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    bytes_append(context, data, length);
    return 0;
}

int save_stream(const struct wfe_stream *stream, struct saved *saved)
{
    struct wfe_sink places = {.write = append, .context = &saved->places};
    struct wfe_sink windows = {.write = append, .context = &saved->windows};
    int r = wfe_stream_save(stream, places, NULL);
    return r < 0 ? r : wfe_stream_save_windows(stream, windows, NULL);
}

int load_stream(struct wfe_stream *stream, const struct saved *saved, struct wfe_error *err)
{
    /* Not at the file's start, as in an index. */
    BYTES struct bytes file = {0};
    bytes_append(&file, "head", 4);
    bytes_append(&file, saved->windows.data, saved->windows.length);
    WFE_CLOSE int fd = bytes_to_file(&file);
    return wfe_stream_load(stream, saved->places.data, saved->places.length, fd, 4, err);
}
