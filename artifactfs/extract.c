/* SPDX-License-Identifier: MIT */
#include "artifactfs/extract.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define READ_BLOCK_BYTES (256 * 1024)

static void cleanup_reader(struct archive **reader)
{
    archive_read_free(*reader);
}

static void cleanup_writer(struct archive **writer)
{
    archive_write_free(*writer);
}

static bool is_unsafe_path(const char *path)
{
    if (path[0] == '/')
        return true;
    for (const char *at = path; *at;) {
        const char *end = strchrnul(at, '/');
        if (end - at == 2 && at[0] == '.' && at[1] == '.')
            return true;
        at = *end ? end + 1 : end;
    }
    return false;
}

static int check_entry(struct archive_entry *entry, struct wfe_error *err)
{
    const char *name = archive_entry_pathname(entry);
    if (!name || !name[0])
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EBADMSG, "an entry has no name that could be a file's");
    if (is_unsafe_path(name))
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EBADMSG, "entry '%s': its name leaves the directory", name);
    const char *target = archive_entry_hardlink(entry);
    if (target && is_unsafe_path(target))
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG,
            "entry '%s': a hard link that leaves the directory, to '%s'", name, target);
    mode_t type = archive_entry_filetype(entry);
    if (type == AE_IFCHR || type == AE_IFBLK)
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EBADMSG, "entry '%s': device nodes are not extracted", name);
    return 0;
}

static int failed(struct archive *archive, const char *name, struct wfe_error *err)
{
    const char *text = archive_error_string(archive);
    int errnum = archive_errno(archive);
    enum wfe_error_kind kind = errnum == ENOSPC || errnum == EACCES || errnum == EIO
                                   ? WFE_ERROR_SYSTEM
                                   : WFE_ERROR_ARCHIVE;
    return wfe_error_set(err, kind, errnum > 0 ? errnum : EBADMSG, "%s%s%s%s",
        name ? "entry '" : "", name ? name : "", name ? "': " : "",
        text ? text : "malformed archive");
}

static int extract_data(
    struct archive *reader, struct archive *writer, const char *name, struct wfe_error *err)
{
    for (;;) {
        const void *data;
        size_t length;
        la_int64_t offset;
        int status = archive_read_data_block(reader, &data, &length, &offset);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status == ARCHIVE_RETRY || status < ARCHIVE_WARN)
            return failed(reader, name, err);
        if (archive_write_data_block(writer, data, length, offset) < ARCHIVE_OK)
            return failed(writer, name, err);
    }
}

static int extract_entry(struct archive *reader, struct archive *writer,
    struct archive_entry *entry, struct wfe_error *err)
{
    int r = check_entry(entry, err);
    if (r < 0)
        return r;
    const char *name = archive_entry_pathname(entry);
    if (archive_write_header(writer, entry) < ARCHIVE_OK)
        return failed(writer, name, err);
    r = extract_data(reader, writer, name, err);
    if (r < 0)
        return r;
    return archive_write_finish_entry(writer) < ARCHIVE_OK ? failed(writer, name, err) : 0;
}

static int extract_entries(struct archive *reader, struct archive *writer, struct wfe_error *err)
{
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(reader, &entry);
        if (status == ARCHIVE_EOF)
            return archive_write_close(writer) < ARCHIVE_OK ? failed(writer, NULL, err) : 0;
        /* RETRY stands above WARN, and is what a bad header gives. */
        if (status == ARCHIVE_RETRY || status < ARCHIVE_WARN)
            return failed(reader, NULL, err);
        int r = extract_entry(reader, writer, entry, err);
        if (r < 0)
            return r;
    }
}

int extract_archive(int in, const char *directory, struct wfe_error *err)
{
    __attribute__((cleanup(cleanup_reader))) struct archive *reader = archive_read_new();
    __attribute__((cleanup(cleanup_writer))) struct archive *writer = archive_write_disk_new();
    if (!reader || !writer)
        return wfe_error_nomem(err);
    archive_read_support_format_tar(reader);
    archive_read_support_filter_gzip(reader);
    archive_read_support_filter_zstd(reader);
    archive_write_disk_set_options(writer, ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_SECURE_SYMLINKS |
                                               ARCHIVE_EXTRACT_SECURE_NODOTDOT |
                                               ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS);
    if (archive_read_open_fd(reader, in, READ_BLOCK_BYTES) != ARCHIVE_OK)
        return failed(reader, NULL, err);
    int r = wfe_make_directories(directory, 0777);
    if (r < 0)
        return wfe_error_system(err, -r, "%s", directory);
    if (chdir(directory) < 0)
        return wfe_error_system(err, errno, "%s", directory);
    return extract_entries(reader, writer, err);
}
