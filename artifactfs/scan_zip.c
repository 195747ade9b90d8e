/* SPDX-License-Identifier: MIT */
#include "artifactfs/scan_zip.h"

#include <endian.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

/* A local header, and how far back from the data it is looked for. */
enum {
    HEADER_BYTES = 30,
    LOOK_BACK_BYTES = 4096,
    ZIP64_EXTRA = 0x0001,
    FLAG_ENCRYPTED = 0x0001,
};

static uint16_t get_16(const char *at)
{
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static uint32_t get_32(const char *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint64_t get_64(const char *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

/* The extra field of a kind, in *ret with its length; NULL: there is none. */
static const char *find_extra(const char *extra, size_t length, uint16_t kind, size_t *ret_length)
{
    while (length >= 4) {
        size_t field_length = get_16(extra + 2);
        if (field_length > length - 4)
            return NULL;
        if (get_16(extra) == kind) {
            *ret_length = field_length;
            return extra + 4;
        }
        extra += 4 + field_length;
        length -= 4 + field_length;
    }
    return NULL;
}

/* Whether a local header says that its data have this size, packed and unpacked. */
static bool has_size(const char *header, uint64_t size)
{
    uint64_t packed = get_32(header + 18);
    uint64_t unpacked = get_32(header + 22);
    if (packed == UINT32_MAX && unpacked == UINT32_MAX) {
        size_t name_length = get_16(header + 26), length;
        const char *field = find_extra(
            header + HEADER_BYTES + name_length, get_16(header + 28), ZIP64_EXTRA, &length);
        if (!field || length < 16)
            return false;
        unpacked = get_64(field);
        packed = get_64(field + 8);
    }
    return packed == size && unpacked == size;
}

/* The local header that ends where the data begin. */
static const char *find_header(const char *window, size_t length)
{
    for (size_t back = HEADER_BYTES; back <= length; back++) {
        const char *header = window + length - back;
        if (memcmp(header, "PK\003\004", 4) == 0 &&
            HEADER_BYTES + (size_t)get_16(header + 26) + get_16(header + 28) == back)
            return header;
    }
    return NULL;
}

bool wfe_scan_zip_is_stored(struct wfe_scan_input *input, struct archive *reader,
    struct archive_entry *entry, uint64_t *ret_data)
{
    const char *form = archive_format_name(reader);
    la_int64_t data = archive_filter_bytes(reader, 0);
    if (!form || !strstr(form, "(uncompressed)") || archive_entry_is_encrypted(entry) ||
        !archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0 || data < HEADER_BYTES)
        return false;
    char scratch[LOOK_BACK_BYTES];
    size_t length = data < LOOK_BACK_BYTES ? (size_t)data : LOOK_BACK_BYTES;
    const char *window = wfe_scan_input_recent(input, (uint64_t)data - length, length, scratch);
    const char *header = window ? find_header(window, length) : NULL;
    if (!header || (get_16(header + 6) & FLAG_ENCRYPTED) || get_16(header + 8) != 0 ||
        !has_size(header, (uint64_t)archive_entry_size(entry)))
        return false;
    *ret_data = (uint64_t)data;
    return true;
}
