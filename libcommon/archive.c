/* SPDX-License-Identifier: MIT */
#include "libcommon/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"

enum { BLOCK_BYTES = 256 * 1024 };

/* The longest tar without entries: the record of 20 blocks that most programs write. */
enum { EMPTY_TAR_BYTES = 20 * 512 };

void wfe_cleanup_archive_reader(struct archive **reader)
{
    archive_read_free(*reader);
}

int wfe_archive_reader_failed(struct archive *reader, struct wfe_error *err)
{
    int errnum = archive_errno(reader);
    if (errnum == ENOMEM)
        return wfe_error_nomem(err);
    if (errnum == EIO || errnum == ESTALE || errnum == EISDIR)
        return wfe_error_system(err, errnum, "read");
    const char *text = archive_error_string(reader);
    char shown[WFE_LAYER_SHOWN_BYTES];
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "%s",
        wfe_layer_show(text ? text : "malformed archive", shown));
}

static void support_filters(struct archive *reader)
{
    archive_read_support_filter_bzip2(reader);
    archive_read_support_filter_compress(reader);
    archive_read_support_filter_gzip(reader);
    archive_read_support_filter_lz4(reader);
    archive_read_support_filter_lzip(reader);
    archive_read_support_filter_lzma(reader);
    archive_read_support_filter_rpm(reader);
    archive_read_support_filter_uu(reader);
    archive_read_support_filter_xz(reader);
    archive_read_support_filter_zstd(reader);
}

void wfe_archive_support_formats(struct archive *reader)
{
    archive_read_support_format_7zip(reader);
    archive_read_support_format_ar(reader);
    archive_read_support_format_cab(reader);
    archive_read_support_format_cpio(reader);
    archive_read_support_format_iso9660(reader);
    archive_read_support_format_lha(reader);
    archive_read_support_format_rar(reader);
    archive_read_support_format_rar5(reader);
    archive_read_support_format_tar(reader);
    archive_read_support_format_warc(reader);
    archive_read_support_format_xar(reader);
    archive_read_support_format_zip(reader);
}

static int open_reader(
    int fd, void (*support)(struct archive *), struct archive **ret, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = archive_read_new();
    if (!reader)
        return wfe_error_nomem(err);
    support_filters(reader);
    support(reader);
    if (lseek(fd, 0, SEEK_SET) < 0)
        return wfe_error_system(err, errno, "seek");
    if (archive_read_open_fd(reader, fd, BLOCK_BYTES) != ARCHIVE_OK)
        return wfe_archive_reader_failed(reader, err);
    *ret = wfe_steal(&reader);
    return 0;
}

int wfe_archive_reader_open(int fd, struct archive **ret, struct wfe_error *err)
{
    return open_reader(fd, wfe_archive_support_formats, ret, err);
}

static void support_raw(struct archive *reader)
{
    archive_read_support_format_raw(reader);
}

/* Whether fd, behind its filters, holds nothing but zeros and no more of them than a tar without
 * entries does. */
static int is_empty_tar(int fd, bool *ret, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = NULL;
    int r = open_reader(fd, support_raw, &reader, err);
    if (r < 0)
        return r;
    char data[EMPTY_TAR_BYTES + 1];
    struct archive_entry *entry;
    la_ssize_t length = archive_read_next_header(reader, &entry) == ARCHIVE_OK
                            ? archive_read_data(reader, data, sizeof data)
                            : 0;
    bool empty = length > 0 && length <= EMPTY_TAR_BYTES;
    for (la_ssize_t i = 0; empty && i < length; i++)
        empty = data[i] == '\0';
    *ret = empty;
    return 0;
}

static enum wfe_archive_form form_of_tar(struct archive *reader)
{
    /* libarchive counts the file itself as the last filter. */
    int count = archive_filter_count(reader);
    if (count == 1)
        return WFE_ARCHIVE_TAR;
    if (count == 2 && archive_filter_code(reader, 0) == ARCHIVE_FILTER_GZIP)
        return WFE_ARCHIVE_TAR_GZIP;
    if (count == 2 && archive_filter_code(reader, 0) == ARCHIVE_FILTER_ZSTD)
        return WFE_ARCHIVE_TAR_ZSTD;
    return WFE_ARCHIVE_OTHER;
}

/* A file whose bytes can't be read is an error, one that makes no sense is a plain file. */
static int unless_plain(const struct wfe_error *failure, struct wfe_error *err)
{
    if (failure->kind == WFE_ERROR_ARCHIVE)
        return 0;
    return wfe_error_set(err, failure->kind, failure->errnum, "%s", failure->message);
}

int wfe_archive_probe_fd(
    int fd, enum wfe_archive_form *ret, bool *ret_is_tar, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int format = 0;
    bool found = false;
    int r = wfe_archive_reader_open(fd, &reader, &failure);
    if (r < 0) {
        r = unless_plain(&failure, err);
    } else {
        struct archive_entry *entry;
        int status = archive_read_next_header(reader, &entry);
        format = archive_format(reader) & ARCHIVE_FORMAT_BASE_MASK;
        found = format != 0;
        if (!found && status == ARCHIVE_FATAL) {
            wfe_archive_reader_failed(reader, &failure);
            r = unless_plain(&failure, err);
        } else if (status == ARCHIVE_EOF && format == ARCHIVE_FORMAT_TAR) {
            r = is_empty_tar(fd, &found, err);
        }
    }
    if (r < 0)
        return r;
    bool is_tar = found && format == ARCHIVE_FORMAT_TAR;
    *ret = is_tar ? form_of_tar(reader) : found ? WFE_ARCHIVE_OTHER : WFE_ARCHIVE_NONE;
    if (ret_is_tar)
        *ret_is_tar = is_tar;
    return 0;
}

int wfe_archive_probe(const char *path, enum wfe_archive_form *ret, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return wfe_error_system(err, errno, "%s", path);
    if (S_ISDIR(st.st_mode))
        return wfe_error_set(err, WFE_ERROR_INPUT, EISDIR, "%s: is a directory", path);
    if (!S_ISREG(st.st_mode))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: is not a regular file", path);
    int r = wfe_archive_probe_fd(fd, ret, NULL, err);
    if (r < 0)
        wfe_error_prefix(err, "%s", path);
    return r;
}
