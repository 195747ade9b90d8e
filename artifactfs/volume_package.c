/* SPDX-License-Identifier: MIT */
/*
 * A volume package: a tar of regular files NAME.tar, NAME.tar.gz or NAME.tar.zst at its top and
 * nothing else, but for an entry of the top directory itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define COPY_BYTES (1024 * 1024)

/* Where the artifact's name ends in a member's; 0 when no member of a package is called so. */
static size_t stem_length(const char *name, size_t length)
{
    static const char *const endings[] = {".tar", ".tar.gz", ".tar.zst"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && memcmp(name + length - ending, endings[i], ending) == 0)
            return length - ending;
    }
    return 0;
}

/* Whether the archive begins as a package does. Only its first headers are read. */
static bool begins_like_package(int fd)
{
    WFE_ARCHIVE_READER struct archive *reader = NULL;
    if (wfe_archive_reader_open(fd, &reader, NULL) < 0)
        return false;
    struct archive_entry *entry;
    while (archive_read_next_header(reader, &entry) >= ARCHIVE_WARN) {
        if ((archive_format(reader) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR)
            return false;
        const char *name = archive_entry_pathname(entry);
        if (!name)
            return false;
        while (strncmp(name, "./", 2) == 0)
            name += 2;
        if (archive_entry_filetype(entry) == AE_IFDIR && (!*name || strcmp(name, ".") == 0))
            continue;
        return archive_entry_filetype(entry) == AE_IFREG && !strchr(name, '/') &&
               stem_length(name, strlen(name)) > 0;
    }
    return false;
}

/* Of the whole index, so only once it is complete. */
static bool is_package(struct wfe_index *index)
{
    uint32_t position = 0;
    const char *name;
    size_t length;
    uint32_t inode;
    for (; wfe_index_child(index, WFE_INDEX_ROOT, position, &name, &length, &inode) == 0;
         position++) {
        struct wfe_inode record;
        if (wfe_index_get(index, inode, &record) < 0 || !S_ISREG(record.mode) ||
            stem_length(name, length) == 0)
            return false;
    }
    return position > 0;
}

static int copy_member(
    struct wfe_volume *volume, uint32_t inode, uint64_t size, off_t to, struct wfe_error *err)
{
    WFE_FREE char *chunk = malloc(COPY_BYTES);
    if (!chunk)
        return wfe_error_nomem(err);
    uint64_t done = 0;
    while (done < size) {
        ssize_t n = wfe_artifact_read(volume->package, inode, chunk, COPY_BYTES, done, NULL, err);
        if (n <= 0)
            return (int)n;
        for (ssize_t written = 0; written < n;) {
            ssize_t w = pwrite(volume->package_fd, chunk + written, (size_t)(n - written),
                to + (off_t)done + written);
            if (w < 0 && errno != EINTR)
                return wfe_error_system(err, errno, "temporary file");
            written += w > 0 ? w : 0;
        }
        done += (uint64_t)n;
    }
    return 0;
}

static int open_copy(struct wfe_volume *volume, struct wfe_error *err)
{
    if (volume->package_fd >= 0)
        return 0;
    const char *candidates[] = {
        volume->cache ? wfe_index_cache_directory(volume->cache) : NULL,
        getenv("TMPDIR"),
        "/var/tmp",
        "/tmp",
    };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates && volume->package_fd < 0; i++) {
        if (candidates[i])
            volume->package_fd = open(candidates[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    }
    return volume->package_fd < 0 ? wfe_error_system(err, errno, "temporary file") : 0;
}

/* Let the item be the member: where it lies, or a copy of it behind `used` bytes of copies. */
static int set_member(struct wfe_volume *volume, struct wfe_volume_item *item, uint32_t inode,
    const struct wfe_inode *record, uint64_t *used, struct wfe_error *err)
{
    uint64_t offset;
    size_t length;
    int fd =
        wfe_artifact_map(volume->package, inode, 0, (size_t)record->size_bytes, &offset, &length);
    if (fd < 0 || length != record->size_bytes) {
        uint64_t limit = volume->max_spool_bytes ? volume->max_spool_bytes : WFE_SPOOL_MAX_BYTES;
        if (record->size_bytes > limit - *used)
            return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
                "a compressed volume package of more than %" PRIu64
                " bytes has to be decompressed first",
                limit);
        int r = open_copy(volume, err);
        if (r == 0)
            r = copy_member(volume, inode, record->size_bytes, (off_t)*used, err);
        if (r < 0)
            return r;
        fd = volume->package_fd;
        offset = *used;
        *used += record->size_bytes;
    }
    item->offset_bytes = offset;
    item->length_bytes = record->size_bytes;
    item->size_bytes = record->size_bytes;
    item->mtime_s = record->mtime_s;
    /* By its descriptor: the package may have been replaced by the time the member is opened. */
    if (asprintf(&item->path, "/proc/self/fd/%d", fd) < 0)
        item->path = NULL;
    item->file_name = strdup(item->name);
    return item->path && item->file_name ? 0 : wfe_error_nomem(err);
}

static int add_member(struct wfe_volume *volume, const char *path, uint32_t position,
    uint64_t *used, struct wfe_error *err)
{
    struct wfe_index *index = wfe_artifact_index(volume->package);
    const char *name;
    size_t length;
    uint32_t inode;
    struct wfe_inode record;
    if (wfe_index_child(index, WFE_INDEX_ROOT, position, &name, &length, &inode) < 0 ||
        wfe_index_get(index, inode, &record) < 0)
        return -ENOENT;
    char stem[WFE_MAX_COMPONENT_BYTES + 1];
    snprintf(stem, sizeof stem, "%.*s", (int)stem_length(name, length), name);
    struct wfe_volume_item *item;
    int r = wfe_volume_add(volume, stem, &item, err);
    if (r == 0)
        r = set_member(volume, item, inode, &record, used, err);
    if (r < 0)
        wfe_error_prefix(err, "%s: member '%s'", path, stem);
    return r;
}

int wfe_volume_fill_package(struct wfe_volume *volume, const char *path, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return wfe_error_system(err, errno, "%s", path);
    if (!begins_like_package(fd))
        return -ENOTSUP;
    struct wfe_artifact_options options = {
        .path = path,
        .cache = volume->cache,
        .max_spool_bytes = volume->max_spool_bytes,
    };
    int r = wfe_artifact_open(&options, &volume->package, err);
    if (r < 0)
        return r;
    struct wfe_index *index = wfe_artifact_index(volume->package);
    wfe_index_wait(index, NULL);
    if (!is_package(index)) {
        wfe_artifact_free(volume->package);
        volume->package = NULL;
        return -ENOTSUP;
    }
    if (index->broken)
        wfe_volume_log(volume, path, "the package is cut off or damaged: %s", index->broken);
    uint64_t used = 0;
    for (uint32_t position = 0; r == 0; position++)
        r = add_member(volume, path, position, &used, err);
    return r == -ENOENT ? 0 : r;
}
