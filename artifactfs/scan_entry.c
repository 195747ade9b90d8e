/* SPDX-License-Identifier: MIT */
#include "artifactfs/scan_entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "artifactfs/scan_zip.h"
#include "libcommon/archive.h"

enum {
    NOBODY = 65534,
    BLOCK_BYTES = 512,
    /* Headers of one entry that are looked through for a sparse file's marks. */
    MAX_HEADERS_BYTES = 64 * 1024,
};

void wfe_scan_entries_done(struct wfe_scan_entries *entries)
{
    free(entries->extents);
    free(entries->xattrs);
    entries->extents = NULL;
    entries->xattrs = NULL;
}

bool wfe_scan_format_is_contiguous(int format)
{
    return format == ARCHIVE_FORMAT_TAR || format == ARCHIVE_FORMAT_CPIO ||
           format == ARCHIVE_FORMAT_AR;
}

int wfe_scan_reader_failed(const struct wfe_scan_entries *entries, struct wfe_error *err)
{
    const struct wfe_error *failure = &entries->input->failure;
    if (failure->kind == WFE_ERROR_NONE)
        return wfe_archive_reader_failed(entries->reader, err);
    if (err)
        *err = *failure;
    return -failure->errnum;
}

static uint32_t kind_of(struct archive_entry *entry)
{
    uint32_t kind = archive_entry_filetype(entry);
    bool is_known = kind == AE_IFREG || kind == AE_IFDIR || kind == AE_IFLNK || kind == AE_IFCHR ||
                    kind == AE_IFBLK || kind == AE_IFIFO || kind == AE_IFSOCK;
    return is_known ? kind : AE_IFREG;
}

static uint32_t owner_of(struct wfe_index *index, const char *name, const char *what, int64_t id)
{
    if (id >= 0 && id < UINT32_MAX)
        return (uint32_t)id;
    wfe_index_report(index, name, "its %s %lld is none that there is; it is shown as %d", what,
        (long long)id, NOBODY);
    return NOBODY;
}

static int collect_xattrs(struct wfe_scan_entries *entries, struct archive_entry *entry)
{
    const char *name;
    const void *value;
    size_t length;
    entries->xattr_count = 0;
    for (int n = archive_entry_xattr_reset(entry); n > 0; n--) {
        if (archive_entry_xattr_next(entry, &name, &value, &length) != ARCHIVE_OK)
            break;
        if (!name || strncmp(name, "system.", 7) == 0 || strncmp(name, "xfsroot.", 8) == 0)
            continue;
        if (wfe_tree_grow((void **)&entries->xattrs, &entries->xattrs_allocated,
                entries->xattr_count, sizeof *entries->xattrs) < 0)
            return -ENOMEM;
        entries->xattrs[entries->xattr_count++] = (struct wfe_xattr){
            .name = name,
            .value = value,
            .value_length = length < UINT32_MAX ? (uint32_t)length : UINT32_MAX,
        };
    }
    return 0;
}

static int describe(struct wfe_scan_entries *entries, struct archive_entry *entry,
    struct wfe_index_entry *ret, struct wfe_error *err)
{
    const char *name = archive_entry_pathname(entry);
    uint32_t kind = kind_of(entry);
    la_int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
    long nanoseconds = archive_entry_mtime_nsec(entry);
    struct wfe_index_entry found = {
        .name = name,
        .hardlink = archive_entry_hardlink(entry),
        .symlink = kind == AE_IFLNK ? archive_entry_symlink(entry) : NULL,
        .size_bytes = size > 0 ? (uint64_t)size : 0,
        .mtime_s = archive_entry_mtime(entry),
        .mtime_ns = nanoseconds > 0 && nanoseconds < 1000000000 ? (uint32_t)nanoseconds : 0,
        .mode = kind | (archive_entry_perm(entry) & 07777),
        .rdev = (uint32_t)archive_entry_rdev(entry),
    };
    found.uid = owner_of(entries->index, name, "owner", archive_entry_uid(entry));
    found.gid = owner_of(entries->index, name, "group", archive_entry_gid(entry));
    if (archive_entry_xattr_count(entry) > 0) {
        if (collect_xattrs(entries, entry) < 0)
            return wfe_error_nomem(err);
        found.xattrs = entries->xattrs;
        found.xattr_count = entries->xattr_count;
    }
    *ret = found;
    return 0;
}

/* Whether headers, which end in the file's own, tell of sizes in ways of their own. */
static bool has_sparse_marks(const char *headers, size_t length)
{
    enum { MAGIC_AT = 257, REAL_SIZE_AT = 483 };
    const char *own = headers + length - BLOCK_BYTES;
    if (memcmp(own + MAGIC_AT, "ustar  ", 8) == 0 && own[REAL_SIZE_AT] != '\0')
        return true;
    if (length == BLOCK_BYTES)
        return false;
    /* GNU.sparse.*, SUN.holesdata, SCHILY.realsize */
    const char *end = headers + length;
    for (const char *at = headers; (at = memchr(at, '.', (size_t)(end - at))); at++) {
        size_t left = (size_t)(end - at) - 1;
        if ((left >= 6 && memcmp(at + 1, "sparse", 6) == 0) ||
            (left >= 5 && memcmp(at + 1, "holes", 5) == 0) ||
            (left >= 8 && memcmp(at + 1, "realsize", 8) == 0))
            return true;
    }
    return false;
}

/* Whether a tar's file may have its data elsewhere than in one piece behind its header. False alarm
 * costs time only. */
static bool may_be_sparse(
    struct wfe_scan_entries *entries, struct archive_entry *entry, uint64_t data)
{
    if (archive_entry_sparse_count(entry) > 0)
        return true;
    uint64_t start = (uint64_t)archive_read_header_position(entries->reader);
    if (data < start + BLOCK_BYTES || data - start > MAX_HEADERS_BYTES)
        return true;
    char scratch[MAX_HEADERS_BYTES];
    size_t length = (size_t)(data - start);
    const char *headers = wfe_scan_input_recent(entries->input, start, length, scratch);
    return !headers || has_sparse_marks(headers, length);
}

static int add_extent(struct wfe_scan_entries *entries, struct wfe_extent extent)
{
    struct wfe_extent *last =
        entries->extent_count > 0 ? &entries->extents[entries->extent_count - 1] : NULL;
    if (last && extent.data != WFE_INDEX_NO_DATA &&
        last->offset_bytes + last->length_bytes == extent.offset_bytes &&
        last->data + last->length_bytes == extent.data) {
        last->length_bytes += extent.length_bytes;
        return 0;
    }
    if (wfe_tree_grow((void **)&entries->extents, &entries->extents_allocated,
            entries->extent_count, sizeof *entries->extents) < 0)
        return -ENOMEM;
    entries->extents[entries->extent_count++] = extent;
    return 0;
}

static uint64_t end_of_extents(const struct wfe_scan_entries *entries)
{
    if (entries->extent_count == 0)
        return 0;
    const struct wfe_extent *last = &entries->extents[entries->extent_count - 1];
    return last->offset_bytes + last->length_bytes;
}

/* Go over the data of a sparse file. Returns 0; 1 when its map makes no sense; or what failed. */
static int walk_extents(struct wfe_scan_entries *entries, uint64_t size, struct wfe_error *err)
{
    entries->extent_count = 0;
    for (;;) {
        const void *block;
        size_t length;
        la_int64_t offset;
        int status = archive_read_data_block(entries->reader, &block, &length, &offset);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status != ARCHIVE_OK)
            return wfe_scan_reader_failed(entries, err);
        if (length == 0)
            continue;
        if (offset < 0 || (uint64_t)offset < end_of_extents(entries) ||
            entries->extent_count >= WFE_MAX_EXTENTS)
            return 1;
        /* As when a file is extracted, what is behind its end is no part of it. */
        if ((uint64_t)offset >= size)
            continue;
        uint64_t left = size - (uint64_t)offset;
        struct wfe_extent extent = {
            .offset_bytes = (uint64_t)offset,
            .length_bytes = length < left ? length : left,
            .data = (uint64_t)archive_filter_bytes(entries->reader, 0),
        };
        if (add_extent(entries, extent) < 0)
            return wfe_error_nomem(err);
    }
}

static int place_sparse(
    struct wfe_scan_entries *entries, struct wfe_index_entry *found, struct wfe_error *err)
{
    int r = walk_extents(entries, found->size_bytes, err);
    if (r != 0) {
        uint64_t end = end_of_extents(entries);
        struct wfe_extent lost = {.offset_bytes = end,
            .length_bytes = found->size_bytes - end,
            .data = WFE_INDEX_NO_DATA};
        if (lost.length_bytes > 0 && add_extent(entries, lost) < 0)
            return wfe_error_nomem(err);
        if (r > 0)
            wfe_index_report(entries->index, found->name,
                "the map of its holes makes no sense; the rest of it can't be read");
    }
    const struct wfe_extent *all = entries->extents;
    if (entries->extent_count == 1 && all->offset_bytes == 0 &&
        all->length_bytes == found->size_bytes) {
        found->data = all->data;
    } else {
        /* Without extents it is one hole: any address will do. */
        static const struct wfe_extent none;
        found->extents = entries->extent_count > 0 ? entries->extents : &none;
        found->extent_count = entries->extent_count;
    }
    return r < 0 ? r : 0;
}

/* The data of a file in the stream. */
static int place_in_stream(struct wfe_scan_entries *entries, struct archive_entry *entry,
    struct wfe_index_entry *found, struct wfe_error *err)
{
    found->data = (uint64_t)archive_filter_bytes(entries->reader, 0);
    found->has_data = found->hardlink && found->size_bytes > 0;
    bool is_file = found->hardlink ? found->has_data : S_ISREG(found->mode);
    if (entries->format != ARCHIVE_FORMAT_TAR || !is_file || found->size_bytes == 0 ||
        found->size_bytes > WFE_MAX_FILE_BYTES || !may_be_sparse(entries, entry, found->data))
        return 0;
    return place_sparse(entries, found, err);
}

/* Write the data of an entry to the spool. Returns 0; 1 when they are wrong; or what failed. */
static int spool_data(
    struct wfe_scan_entries *entries, uint64_t start, uint64_t *ret_length, struct wfe_error *err)
{
    *ret_length = 0;
    for (;;) {
        const void *block;
        size_t length;
        la_int64_t offset;
        int status = archive_read_data_block(entries->reader, &block, &length, &offset);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status == ARCHIVE_FATAL)
            return wfe_scan_reader_failed(entries, err);
        if (status != ARCHIVE_OK)
            return 1;
        if (length == 0)
            continue;
        uint64_t end;
        if (offset < 0 || (uint64_t)offset < *ret_length ||
            __builtin_add_overflow(start, (uint64_t)offset, &end))
            return 1;
        int r = wfe_scan_spool_write(entries->spool, end, block, length, err);
        if (r < 0)
            return r;
        *ret_length = (uint64_t)offset + length;
    }
}

static int place_in_spool(struct wfe_scan_entries *entries, struct archive_entry *entry,
    struct wfe_index_entry *found, struct wfe_error *err)
{
    if (!found->hardlink && !S_ISREG(found->mode))
        return 0;
    uint64_t start = entries->spool->length_bytes;
    uint64_t length = 0;
    int r;
    if (archive_entry_is_encrypted(entry)) {
        r = 1;
        wfe_index_report(entries->index, found->name, "it is encrypted, and can't be read");
    } else {
        r = spool_data(entries, start, &length, err);
        bool is_short = r == 0 && archive_entry_size_is_set(entry) && length < found->size_bytes;
        if (is_short && !found->hardlink)
            r = 1;
        if (r == 1) {
            const char *text = is_short ? NULL : archive_error_string(entries->reader);
            wfe_index_report(entries->index, found->name, "it can't be read: %s",
                text ? text : "its data fall short");
        }
    }
    if (r == 0)
        found->size_bytes = length;
    else if (found->size_bytes < length)
        found->size_bytes = length;
    found->has_data = found->hardlink && r == 0 && length > 0;
    found->data = r == 0 ? WFE_INDEX_IN_SPOOL | start : WFE_INDEX_NO_DATA;
    if (r != 0)
        entries->has_lost_data = true;
    return r < 0 ? r : 0;
}

static bool is_symbol_table(const struct wfe_scan_entries *entries, const char *name)
{
    return entries->format == ARCHIVE_FORMAT_AR && name && name[0] == '/';
}

int wfe_scan_entry_add(
    struct wfe_scan_entries *entries, struct archive_entry *entry, struct wfe_error *err)
{
    struct wfe_index_entry found;
    int r = describe(entries, entry, &found, err);
    if (r < 0 || is_symbol_table(entries, found.name))
        return r;
    bool is_file = S_ISREG(found.mode) && !found.hardlink;
    if (wfe_scan_format_is_contiguous(entries->format))
        r = place_in_stream(entries, entry, &found, err);
    else if (entries->format != ARCHIVE_FORMAT_ZIP || !is_file ||
             !wfe_scan_zip_is_stored(entries->input, entries->reader, entry, &found.data))
        r = place_in_spool(entries, entry, &found, err);
    /* What the data failed with counts more. */
    int added = wfe_index_add(entries->index, &found, r < 0 ? NULL : err);
    return r < 0 ? r : added;
}
