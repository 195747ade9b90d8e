/* SPDX-License-Identifier: MIT */
#include "libcommon/store_scan.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <zlib.h>
#include <zstd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"

#define SOURCE_BYTES (128 * 1024)
#define TAR_BYTES (256 * 1024)
#define TAR_BLOCK_BYTES 512

struct scan {
    int in;
    int out;
    enum wfe_archive_form form;
    uint64_t max_tar_bytes;
    struct wfe_error *err;
    int failure; /* -errno once err is set */

    struct wfe_hasher *source_hasher;
    struct wfe_hasher *tar_hasher;
    uint64_t source_bytes;
    uint64_t tar_bytes;
    uint64_t trailing_zeros;

    unsigned char *source;
    size_t source_at;
    size_t source_length;
    bool source_ended;
    unsigned char *tar;

    z_stream gzip;
    bool gzip_ready;
    ZSTD_DStream *zstd;
    bool in_frame; /* a gzip member or zstd frame has begun and not ended */
};

static int fill_source(struct scan *s)
{
    ssize_t n = wfe_read_full(s->in, s->source, SOURCE_BYTES);
    if (n < 0)
        return wfe_error_system(s->err, (int)-n, "read");
    if (s->out >= 0) {
        int r = wfe_write_all(s->out, s->source, (size_t)n);
        if (r < 0)
            return wfe_error_system(s->err, -r, "write");
    }
    wfe_hasher_update(s->source_hasher, s->source, (size_t)n);
    s->source_bytes += (uint64_t)n;
    s->source_at = 0;
    s->source_length = (size_t)n;
    s->source_ended = n < SOURCE_BYTES;
    return 0;
}

/* One step of the decompressor. Returns bytes made, which may be 0, or -errno. */
static ssize_t inflate_step(struct scan *s)
{
    if (!s->in_frame && inflateReset(&s->gzip) != Z_OK)
        return wfe_error_set(s->err, WFE_ERROR_INTERNAL, EINVAL, "gzip: reset failed");
    s->in_frame = true;
    s->gzip.next_in = s->source + s->source_at;
    s->gzip.avail_in = (uInt)(s->source_length - s->source_at);
    s->gzip.next_out = s->tar;
    s->gzip.avail_out = TAR_BYTES;
    int status = inflate(&s->gzip, Z_NO_FLUSH);
    s->source_at = s->source_length - s->gzip.avail_in;
    if (status == Z_MEM_ERROR)
        return wfe_error_nomem(s->err);
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        return wfe_error_set(s->err, WFE_ERROR_ARCHIVE, EBADMSG, "gzip, below byte %llu: %s",
            (unsigned long long)(s->source_bytes - s->source_length + s->source_at),
            s->gzip.msg ? s->gzip.msg : "malformed");
    s->in_frame = status != Z_STREAM_END;
    return TAR_BYTES - (ssize_t)s->gzip.avail_out;
}

static ssize_t unzstd_step(struct scan *s)
{
    ZSTD_inBuffer in = {s->source, s->source_length, s->source_at};
    ZSTD_outBuffer out = {s->tar, TAR_BYTES, 0};
    size_t status = ZSTD_decompressStream(s->zstd, &out, &in);
    s->source_at = in.pos;
    if (ZSTD_isError(status))
        return wfe_error_set(s->err, WFE_ERROR_ARCHIVE, EBADMSG, "zstd, below byte %llu: %s",
            (unsigned long long)(s->source_bytes - s->source_length + s->source_at),
            ZSTD_getErrorName(status));
    s->in_frame = status != 0;
    return (ssize_t)out.pos;
}

/* The next bytes of the tar into *ret_data; 0 at the source's good end. */
static ssize_t next_tar_bytes(struct scan *s, const unsigned char **ret_data)
{
    for (;;) {
        if (s->source_at == s->source_length && !s->source_ended) {
            int r = fill_source(s);
            if (r < 0)
                return r;
        }
        bool dry = s->source_at == s->source_length;
        if (s->form == WFE_ARCHIVE_TAR) {
            *ret_data = s->source + s->source_at;
            size_t length = s->source_length - s->source_at;
            s->source_at = s->source_length;
            return (ssize_t)length;
        }
        if (dry && !s->in_frame)
            return 0;
        ssize_t made = s->form == WFE_ARCHIVE_TAR_GZIP ? inflate_step(s) : unzstd_step(s);
        *ret_data = s->tar;
        if (made != 0)
            return made;
        if (dry && s->in_frame)
            return wfe_error_set(s->err, WFE_ERROR_ARCHIVE, EBADMSG,
                "cut off: the compressed stream has no end (%llu bytes)",
                (unsigned long long)s->source_bytes);
    }
}

static void count_trailing_zeros(struct scan *s, const unsigned char *data, size_t length)
{
    size_t zeros = 0;
    while (zeros < length && data[length - 1 - zeros] == 0)
        zeros++;
    s->trailing_zeros = zeros == length ? s->trailing_zeros + zeros : zeros;
}

/* next_tar_bytes() and what is to be known of every byte of the tar. */
static ssize_t take_tar_bytes(struct scan *s, const unsigned char **ret_data)
{
    if (s->failure < 0)
        return s->failure;
    ssize_t n = next_tar_bytes(s, ret_data);
    if (n > 0) {
        s->tar_bytes += (uint64_t)n;
        if (s->tar_bytes > s->max_tar_bytes)
            n = wfe_error_set(s->err, WFE_ERROR_LIMIT, EFBIG, "the tar is larger than %llu bytes",
                (unsigned long long)s->max_tar_bytes);
    }
    if (n < 0) {
        s->failure = (int)n;
        return n;
    }
    wfe_hasher_update(s->tar_hasher, *ret_data, (size_t)n);
    count_trailing_zeros(s, *ret_data, (size_t)n);
    return n;
}

static la_ssize_t feed_archive(struct archive *archive, void *context, const void **ret_data)
{
    const unsigned char *data = NULL;
    ssize_t n = take_tar_bytes(context, &data);
    if (n < 0) {
        archive_set_error(archive, EIO, "source failed");
        return ARCHIVE_FATAL;
    }
    *ret_data = data;
    return n;
}

static int archive_failed(struct scan *s, struct archive *archive)
{
    if (s->failure < 0)
        return s->failure;
    const char *text = archive_error_string(archive);
    return wfe_error_set(
        s->err, WFE_ERROR_ARCHIVE, EBADMSG, "malformed tar: %s", text ? text : "unknown reason");
}

static void cleanup_archive(struct archive **archive)
{
    archive_read_free(*archive);
}

static int read_entries(struct scan *s)
{
    __attribute__((cleanup(cleanup_archive))) struct archive *archive = archive_read_new();
    if (!archive)
        return wfe_error_nomem(s->err);
    if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
        archive_read_open(archive, s, NULL, feed_archive, NULL) != ARCHIVE_OK)
        return archive_failed(s, archive);
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(archive, &entry);
        if (status == ARCHIVE_EOF)
            return 0;
        /* RETRY stands above WARN, and is what a bad header gives. */
        if (status == ARCHIVE_RETRY || status < ARCHIVE_WARN)
            return archive_failed(s, archive);
    }
}

static int scan_all(struct scan *s)
{
    int r = read_entries(s);
    if (r < 0)
        return r;
    ssize_t n;
    const unsigned char *data;
    do {
        n = take_tar_bytes(s, &data);
    } while (n > 0);
    if (n < 0)
        return (int)n;
    if (s->trailing_zeros < TAR_BLOCK_BYTES)
        return wfe_error_set(s->err, WFE_ERROR_ARCHIVE, EBADMSG,
            "cut off: the tar has no end-of-archive block (%llu bytes)",
            (unsigned long long)s->tar_bytes);
    return 0;
}

static int scan_begin(struct scan *s)
{
    s->source = malloc(SOURCE_BYTES);
    s->tar = malloc(TAR_BYTES);
    if (!s->source || !s->tar || wfe_hasher_new(&s->source_hasher) < 0 ||
        wfe_hasher_new(&s->tar_hasher) < 0)
        return wfe_error_nomem(s->err);
    if (s->form == WFE_ARCHIVE_TAR_GZIP) {
        if (inflateInit2(&s->gzip, 16 + MAX_WBITS) != Z_OK)
            return wfe_error_nomem(s->err);
        s->gzip_ready = true;
    }
    if (s->form == WFE_ARCHIVE_TAR_ZSTD) {
        s->zstd = ZSTD_createDStream();
        if (!s->zstd)
            return wfe_error_nomem(s->err);
    }
    return 0;
}

static void scan_done(struct scan *s)
{
    if (s->gzip_ready)
        inflateEnd(&s->gzip);
    ZSTD_freeDStream(s->zstd);
    wfe_hasher_free(s->source_hasher);
    wfe_hasher_free(s->tar_hasher);
    free(s->source);
    free(s->tar);
}

int wfe_scan_tar(int in, int out, enum wfe_archive_form form, uint64_t max_tar_bytes,
    struct wfe_scan_result *ret, struct wfe_error *err)
{
    assert(form == WFE_ARCHIVE_TAR || form == WFE_ARCHIVE_TAR_GZIP || form == WFE_ARCHIVE_TAR_ZSTD);
    __attribute__((cleanup(scan_done))) struct scan s = {.in = in,
        .out = out,
        .form = form,
        .max_tar_bytes = max_tar_bytes ? max_tar_bytes : WFE_LAYER_MAX_TAR_BYTES,
        .err = err};
    int r = scan_begin(&s);
    if (r < 0)
        return r;
    r = scan_all(&s);
    if (r < 0)
        return r;
    wfe_hasher_final(s.source_hasher, &ret->digest);
    wfe_hasher_final(s.tar_hasher, &ret->diff_id);
    ret->size_bytes = s.source_bytes;
    return 0;
}

static bool is_tar_header(const unsigned char *header)
{
    static const size_t sum_at = 148;
    static const size_t sum_length = 8;
    unsigned long sum = 0;
    for (size_t i = 0; i < TAR_BLOCK_BYTES; i++)
        sum += i >= sum_at && i < sum_at + sum_length ? ' ' : header[i];
    char text[9] = "";
    memcpy(text, header + sum_at, sum_length);
    return strtoul(text, NULL, 8) == sum;
}

int wfe_scan_probe(int in, enum wfe_archive_form *ret, struct wfe_error *err)
{
    unsigned char magic[4];
    ssize_t read_bytes = pread(in, magic, sizeof magic, 0);
    if (read_bytes < 0)
        return wfe_error_system(err, errno, "read");
    __attribute__((cleanup(scan_done))) struct scan s = {
        .in = in, .out = -1, .max_tar_bytes = WFE_LAYER_MAX_TAR_BYTES, .err = err};
    if (read_bytes == 4 && memcmp(magic, "\x1f\x8b\x08", 3) == 0)
        s.form = WFE_ARCHIVE_TAR_GZIP;
    else if (read_bytes == 4 && memcmp(magic, "\x28\xb5\x2f\xfd", 4) == 0)
        s.form = WFE_ARCHIVE_TAR_ZSTD;
    else
        return 0;
    int r = scan_begin(&s);
    if (r < 0)
        return r;
    unsigned char block[TAR_BLOCK_BYTES];
    size_t length = 0;
    while (length < sizeof block) {
        const unsigned char *data;
        ssize_t n = next_tar_bytes(&s, &data);
        if (n <= 0)
            return (int)n;
        size_t part = sizeof block - length < (size_t)n ? sizeof block - length : (size_t)n;
        memcpy(block + length, data, part);
        length += part;
    }
    if (is_tar_header(block))
        *ret = s.form;
    return 0;
}
