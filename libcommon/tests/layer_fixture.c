/* SPDX-License-Identifier: MIT */
#include "libcommon/tests/layer_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/digest.h"
#include "libcommon/file.h"

static char scratch[64];

int scratch_setup(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/wfe-layer-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

int scratch_teardown(void **state)
{
    (void)state;
    return wfe_remove_tree(scratch);
}

const char *scratch_path(const char *name)
{
    static char paths[4][4200];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", scratch, name);
    return path;
}

void scratch_write(const char *name, const void *data, size_t length)
{
    WFE_CLOSE int fd = open(scratch_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, data, length), 0);
}

static void put(struct wfe_buffer *tar, const void *data, size_t length)
{
    static const char zeros[512];
    assert_int_equal(wfe_buffer_append(tar, data, length), 0);
    if (tar->length % 512 != 0)
        assert_int_equal(wfe_buffer_append(tar, zeros, 512 - tar->length % 512), 0);
}

static void put_header(struct wfe_buffer *tar, const struct tar_entry *entry, uint64_t size)
{
    char header[512] = "";
    strncpy(header, entry->name, 100);
    snprintf(header + 100, 8, "%07o", (entry->mode ? entry->mode : 0644) & 07777);
    snprintf(header + 108, 8, "%07llo", (unsigned long long)entry->uid);
    snprintf(header + 116, 8, "%07llo", (unsigned long long)entry->gid);
    snprintf(header + 124, 12, "%011llo", (unsigned long long)size);
    snprintf(header + 136, 12, "%011llo", (unsigned long long)entry->mtime_s);
    memset(header + 148, ' ', 8);
    header[156] = entry->type ? entry->type : '0';
    if (entry->target)
        strncpy(header + 157, entry->target, 100);
    memcpy(header + 257,
        "ustar\0"
        "00",
        8);
    snprintf(header + 265, 32, "somebody");
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof header; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    put(tar, header, sizeof header);
}

void tar_add_pax(struct wfe_buffer *tar, const void *records, size_t length)
{
    put_header(tar, &(struct tar_entry){.name = "pax", .type = 'x'}, length);
    put(tar, records, length);
}

static void add_pax_lines(struct wfe_buffer *tar, const char *lines)
{
    WFE_BUFFER struct wfe_buffer records = WFE_BUFFER_INIT(4 << 20);
    while (*lines) {
        size_t length = strcspn(lines, "\n");
        size_t total = length + 3;
        char digits[24];
        while ((size_t)snprintf(digits, sizeof digits, "%zu", total) + 2 + length != total)
            total++;
        assert_int_equal(wfe_buffer_printf(&records, "%zu ", total), 0);
        assert_int_equal(wfe_buffer_append(&records, lines, length), 0);
        assert_int_equal(wfe_buffer_puts(&records, "\n"), 0);
        lines += length + (lines[length] == '\n');
    }
    tar_add_pax(tar, records.data, records.length);
}

void tar_add(struct wfe_buffer *tar, const struct tar_entry *entry)
{
    size_t length = entry->data_length ? entry->data_length : entry->data ? strlen(entry->data) : 0;
    if (entry->pax)
        add_pax_lines(tar, entry->pax);
    put_header(tar, entry, entry->size ? entry->size : length);
    if (length > 0)
        put(tar, entry->data, length);
}

void tar_end(struct wfe_buffer *tar)
{
    static const char zeros[1024];
    put(tar, zeros, sizeof zeros);
}

void write_tar(const struct tar_entry *entries)
{
    TAR_BUFFER(tar);
    for (; entries->name; entries++)
        tar_add(&tar, entries);
    tar_end(&tar);
    scratch_write("a.tar", tar.data, tar.length);
}

int to_buffer(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

int make_layer(const char *path, const struct wfe_layer_options *options, struct wfe_buffer *layer,
    struct wfe_layer_result *ret, struct wfe_error *err)
{
    struct wfe_sink sink = {.write = to_buffer, .context = layer};
    layer->length = 0;
    return wfe_layer_write(path, options, sink, ret, err);
}

static void list_data(struct archive *reader, struct archive_entry *entry, struct wfe_buffer *ret)
{
    la_int64_t size = archive_entry_size(entry);
    WFE_FREE char *data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(archive_read_data(reader, data, (size_t)size + 1), size);
    assert_int_equal(wfe_buffer_printf(ret, " %lld", (long long)size), 0);
    if (size > 64) {
        struct wfe_digest digest;
        wfe_digest_of(data, (size_t)size, &digest);
        assert_int_equal(wfe_buffer_printf(ret, " %.8s", wfe_digest_hex(&digest)), 0);
    } else if (size > 0) {
        assert_int_equal(wfe_buffer_puts(ret, " "), 0);
        assert_int_equal(wfe_buffer_append(ret, data, (size_t)size), 0);
    }
}

static void list_xattrs(struct archive_entry *entry, struct wfe_buffer *ret)
{
    const char *name;
    const void *value;
    size_t length;
    int count = archive_entry_xattr_reset(entry);
    while (count-- > 0) {
        assert_int_equal(archive_entry_xattr_next(entry, &name, &value, &length), ARCHIVE_OK);
        assert_int_equal(
            wfe_buffer_printf(ret, " %s=%.*s", name, (int)length, (const char *)value), 0);
    }
}

static void list_entry(struct archive *reader, struct archive_entry *entry, struct wfe_buffer *ret)
{
    const char *name = archive_entry_pathname(entry);
    const char *hardlink = archive_entry_hardlink(entry);
    if (hardlink) {
        assert_int_equal(wfe_buffer_printf(ret, "h %s > %s\n", name, hardlink), 0);
        return;
    }
    unsigned type = archive_entry_filetype(entry);
    assert_int_equal(archive_entry_mtime_nsec(entry), 0);
    assert_string_equal(archive_entry_uname(entry) ? archive_entry_uname(entry) : "", "");
    int r = wfe_buffer_printf(ret, "%c %o %lld:%lld %lld %s",
        type == AE_IFREG   ? '-'
        : type == AE_IFDIR ? 'd'
        : type == AE_IFLNK ? 'l'
        : type == AE_IFIFO ? 'p'
                           : '?',
        (unsigned)archive_entry_perm(entry), (long long)archive_entry_uid(entry),
        (long long)archive_entry_gid(entry), (long long)archive_entry_mtime(entry), name);
    assert_int_equal(r, 0);
    if (type == AE_IFLNK)
        assert_int_equal(wfe_buffer_printf(ret, " > %s", archive_entry_symlink(entry)), 0);
    if (type == AE_IFREG)
        list_data(reader, entry, ret);
    list_xattrs(entry, ret);
    assert_int_equal(wfe_buffer_puts(ret, "\n"), 0);
}

void list_layer(const struct wfe_buffer *layer, struct wfe_buffer *ret)
{
    struct archive *reader = archive_read_new();
    assert_non_null(reader);
    archive_read_support_filter_all(reader);
    archive_read_support_format_tar(reader);
    assert_int_equal(archive_read_open_memory(reader, layer->data, layer->length), ARCHIVE_OK);
    struct archive_entry *entry;
    int status;
    ret->length = 0;
    assert_int_equal(wfe_buffer_puts(ret, ""), 0);
    /* A warning: the name is not of this locale's charset, and is left as it is. */
    while (
        (status = archive_read_next_header(reader, &entry)) == ARCHIVE_OK || status == ARCHIVE_WARN)
        list_entry(reader, entry, ret);
    assert_int_equal(status, ARCHIVE_EOF);
    archive_read_free(reader);
}

/* A layer made of a layer is that layer. */
static void assert_settled(const struct wfe_buffer *layer)
{
    TAR_BUFFER(again);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    scratch_write("layer.tar", layer->data, layer->length);
    int r = make_layer(scratch_path("layer.tar"), NULL, &again, &result, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    assert_int_equal(again.length, layer->length);
    assert_memory_equal(again.data, layer->data, layer->length);
}

void assert_layer(const char *prefix, const char *expected)
{
    TAR_BUFFER(layer);
    TAR_BUFFER(listing);
    struct wfe_layer_options options = {.prefix = prefix};
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(scratch_path("a.tar"), &options, &layer, &result, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    list_layer(&layer, &listing);
    assert_string_equal(listing.data, expected);

    size_t lines = 0;
    for (const char *at = strchr(expected, '\n'); at; at = strchr(at + 1, '\n'))
        lines++;
    assert_int_equal(result.entries, lines);
    assert_int_equal(result.size_bytes, layer.length);
    assert_int_equal(result.tar_bytes, layer.length);
    struct wfe_digest digest;
    wfe_digest_of(layer.data, layer.length, &digest);
    assert_string_equal(result.digest.text, digest.text);
    assert_string_equal(result.diff_id.text, digest.text);
    assert_settled(&layer);
}

void assert_refused(enum wfe_error_kind kind, const char *word, const char *other_word)
{
    TAR_BUFFER(layer);
    struct wfe_layer_options options = {.prefix = "/in"};
    struct wfe_layer_result result = {.entries = 77};
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(scratch_path("a.tar"), &options, &layer, &result, &err);
    assert_true(r < 0);
    assert_int_equal(r, -err.errnum);
    if (err.kind != kind || !strstr(err.message, word) || !strstr(err.message, other_word) ||
        !strstr(err.message, "a.tar"))
        fail_msg("'%s' (kind %d), not '%s' and '%s'", err.message, err.kind, word, other_word);
    assert_int_equal(result.entries, 77);
}
