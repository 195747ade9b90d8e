/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_tar.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"
#include "libcommon/layer_xattrs.h"

enum { BLOCK = WFE_TAR_BLOCK_BYTES, END_BYTES = 2 * BLOCK };

/* POSIX pax, "ustar Header Block". */
struct ustar {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char checksum[8];
    char typeflag;
    char linkname[100];
    char magic[6];
    char version[2];
    char uname[32];
    char gname[32];
    char devmajor[8];
    char devminor[8];
    char prefix[155];
    char padding[12];
};
_Static_assert(sizeof(struct ustar) == BLOCK, "a header is one block");

static const char PAX_NAME[] = "././@PaxHeader";

void wfe_tar_writer_init_part(
    struct wfe_tar_writer *writer, struct wfe_sink sink, uint64_t max_bytes)
{
    *writer = (struct wfe_tar_writer){
        .sink = sink,
        .max_bytes = max_bytes,
        .records = WFE_BUFFER_INIT(2 * 1024 * 1024),
    };
}

int wfe_tar_writer_init(
    struct wfe_tar_writer *writer, struct wfe_sink sink, uint64_t max_bytes, struct wfe_error *err)
{
    wfe_tar_writer_init_part(writer, sink, max_bytes);
    writer->chunk = malloc(WFE_TAR_CHUNK_BYTES);
    return writer->chunk ? 0 : wfe_error_nomem(err);
}

void wfe_tar_writer_done(struct wfe_tar_writer *writer)
{
    wfe_buffer_done(&writer->records);
    free(writer->chunk);
    writer->chunk = NULL;
}

static int flush(struct wfe_tar_writer *writer, struct wfe_error *err)
{
    size_t length = writer->chunk_length;
    writer->chunk_length = 0;
    return length > 0 ? writer->sink.write(writer->sink.context, writer->chunk, length, err) : 0;
}

void wfe_tar_skip_data(struct wfe_tar_writer *writer, uint64_t length)
{
    assert(length <= writer->drop_bytes);
    writer->total_bytes += length;
    writer->drop_bytes -= length;
}

int wfe_tar_write_data(
    struct wfe_tar_writer *writer, const void *data, size_t length, struct wfe_error *err)
{
    size_t dropped = length < writer->drop_bytes ? length : (size_t)writer->drop_bytes;
    wfe_tar_skip_data(writer, dropped);
    const char *at = (const char *)data + dropped;
    length -= dropped;
    if (!writer->chunk) {
        writer->total_bytes += length;
        return length > 0 ? writer->sink.write(writer->sink.context, at, length, err) : 0;
    }
    while (length > 0) {
        size_t room = WFE_TAR_CHUNK_BYTES - writer->chunk_length;
        size_t n = length < room ? length : room;
        memcpy(writer->chunk + writer->chunk_length, at, n);
        writer->chunk_length += n;
        writer->total_bytes += n;
        at += n;
        length -= n;
        if (writer->chunk_length == WFE_TAR_CHUNK_BYTES) {
            int r = flush(writer, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

int wfe_tar_write_padding(struct wfe_tar_writer *writer, struct wfe_error *err)
{
    static const char zeros[BLOCK];
    size_t over = writer->total_bytes % BLOCK;
    return over > 0 ? wfe_tar_write_data(writer, zeros, BLOCK - over, err) : 0;
}

int wfe_tar_finish(struct wfe_tar_writer *writer, struct wfe_error *err)
{
    static const char zeros[END_BYTES];
    assert(writer->total_bytes % BLOCK == 0);
    int r = wfe_tar_write_data(writer, zeros, sizeof zeros, err);
    return r < 0 ? r : flush(writer, err);
}

/* Digits with a NUL at the end. False, and zero there, when they don't fit. */
static bool put_octal(char *field, size_t size, uint64_t value)
{
    bool fits = size > 21 || value < UINT64_C(1) << (3 * (size - 1));
    if (!fits)
        value = 0;
    field[size - 1] = '\0';
    for (size_t i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
    return fits;
}

/* Path in name, or cut at a slash into prefix and name. */
static bool put_path(struct ustar *ustar, const char *path)
{
    size_t length = strlen(path);
    if (length <= sizeof ustar->name) {
        memcpy(ustar->name, path, length);
        return true;
    }
    if (length > sizeof ustar->prefix + 1 + sizeof ustar->name)
        return false;
    /* The first slash that leaves no more than a name; not the one at a directory's end. */
    const char *slash = strchr(path + length - sizeof ustar->name - 1, '/');
    if (!slash || !slash[1] || (size_t)(slash - path) > sizeof ustar->prefix)
        return false;
    memcpy(ustar->prefix, path, (size_t)(slash - path));
    memcpy(ustar->name, slash + 1, strlen(slash + 1));
    return true;
}

static void put_checksum(struct ustar *ustar)
{
    memset(ustar->checksum, ' ', sizeof ustar->checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *ustar; i++)
        sum += ((const unsigned char *)ustar)[i];
    put_octal(ustar->checksum, 7, sum);
}

static int write_ustar(struct wfe_tar_writer *writer, struct ustar *ustar, struct wfe_error *err)
{
    memcpy(ustar->magic, "ustar", sizeof ustar->magic);
    memcpy(ustar->version, "00", sizeof ustar->version);
    put_octal(ustar->devmajor, sizeof ustar->devmajor, 0);
    put_octal(ustar->devminor, sizeof ustar->devminor, 0);
    put_checksum(ustar);
    return wfe_tar_write_data(writer, ustar, sizeof *ustar, err);
}

static int add_number(struct wfe_buffer *records, const char *key, int64_t value)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%" PRId64, value);
    return wfe_layer_pax_record(records, key, text, (size_t)length);
}

/* The ustar header of an entry, and in writer->records what does not fit into it. */
static int encode(
    struct wfe_tar_writer *writer, const struct wfe_tar_header *header, struct ustar *ustar)
{
    struct wfe_buffer *records = &writer->records;
    const char *target = header->target ? header->target : "";
    bool path_fits = put_path(ustar, header->path);
    bool target_fits = strlen(target) <= sizeof ustar->linkname;
    if (!path_fits)
        memcpy(ustar->name, header->path, sizeof ustar->name);
    memcpy(ustar->linkname, target, target_fits ? strlen(target) : sizeof ustar->linkname);
    ustar->typeflag = header->typeflag;
    put_octal(ustar->mode, sizeof ustar->mode, header->mode);

    int r = 0;
    if ((!path_fits && !wfe_layer_is_utf8(header->path)) ||
        (!target_fits && !wfe_layer_is_utf8(target)))
        r = wfe_layer_pax_record(records, "hdrcharset", "BINARY", strlen("BINARY"));
    if (r == 0 && !path_fits)
        r = wfe_layer_pax_record(records, "path", header->path, strlen(header->path));
    if (r == 0 && !target_fits)
        r = wfe_layer_pax_record(records, "linkpath", target, strlen(target));
    if (r == 0 && !put_octal(ustar->size, sizeof ustar->size, header->size_bytes))
        r = add_number(records, "size", (int64_t)header->size_bytes);
    if (r == 0 && !put_octal(ustar->uid, sizeof ustar->uid, header->uid))
        r = add_number(records, "uid", header->uid);
    if (r == 0 && !put_octal(ustar->gid, sizeof ustar->gid, header->gid))
        r = add_number(records, "gid", header->gid);
    if (r == 0 && !put_octal(ustar->mtime, sizeof ustar->mtime, (uint64_t)header->mtime_s))
        r = add_number(records, "mtime", header->mtime_s);
    if (r == 0 && header->records_length > 0)
        r = wfe_buffer_append(records, header->records, header->records_length);
    return r;
}

static int write_pax(struct wfe_tar_writer *writer, struct wfe_error *err)
{
    struct ustar ustar = {.typeflag = 'x'};
    memcpy(ustar.name, PAX_NAME, sizeof PAX_NAME);
    put_octal(ustar.mode, sizeof ustar.mode, 0644);
    put_octal(ustar.uid, sizeof ustar.uid, 0);
    put_octal(ustar.gid, sizeof ustar.gid, 0);
    put_octal(ustar.size, sizeof ustar.size, writer->records.length);
    put_octal(ustar.mtime, sizeof ustar.mtime, 0);
    int r = write_ustar(writer, &ustar, err);
    if (r == 0)
        r = wfe_tar_write_data(writer, writer->records.data, writer->records.length, err);
    return r < 0 ? r : wfe_tar_write_padding(writer, err);
}

static uint64_t padded(uint64_t length)
{
    return (length + BLOCK - 1) / BLOCK * BLOCK;
}

int wfe_tar_write_header(
    struct wfe_tar_writer *writer, const struct wfe_tar_header *header, struct wfe_error *err)
{
    assert(writer->total_bytes % BLOCK == 0);
    struct ustar ustar = {.name = ""};
    writer->records.length = 0;
    if (encode(writer, header, &ustar) < 0)
        return wfe_error_nomem(err);
    uint64_t headers = BLOCK + END_BYTES;
    if (writer->records.length > 0)
        headers += BLOCK + padded(writer->records.length);
    if (header->size_bytes > writer->max_bytes ||
        writer->total_bytes + headers + padded(header->size_bytes) > writer->max_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "with it the layer has more than %" PRIu64 " bytes", writer->max_bytes);
    int r = writer->records.length > 0 ? write_pax(writer, err) : 0;
    if (r < 0)
        return r;
    writer->entries++;
    return write_ustar(writer, &ustar, err);
}
