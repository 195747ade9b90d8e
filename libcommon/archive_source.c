/* SPDX-License-Identifier: MIT */

/*
 * The entries of an archive, through libarchive.
 *
 * libarchive converts names to the charset of the thread's locale. In the C locale it can't,
 * and leaves those of a tar alone, which is what is wanted there; formats whose names
 * are Unicode by definition (zip, 7z, …) lose them in that way, and are read in C.UTF-8.
 * Neither depends on the locale of the process.
 */

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/gunzip.h"
#include "libcommon/layer_source.h"

struct archive_source {
    struct wfe_layer_source head;
    int fd;
    struct stat st; /* as it was at the start */
    locale_t locale;
    struct archive *reader;
    bool is_tar_gzip;          /* gunzip stands between the file and the reader */
    struct wfe_gunzip *gunzip; /* or NULL */
    struct wfe_error failure;  /* gunzip's, which the reader can't tell */
    struct archive_entry *entry;
    /* Data of the entry: what was given out, and a block that waits behind a hole. */
    uint64_t position;
    const char *block;
    size_t block_length;
    uint64_t block_offset;
    bool at_end;
};

static const char zeros[64 * 1024];

static struct archive_source *downcast(struct wfe_layer_source *source)
{
    return (struct archive_source *)source;
}

static enum wfe_layer_kind kind_of(struct archive_entry *entry)
{
    if (archive_entry_hardlink(entry))
        return WFE_LAYER_HARDLINK;
    switch (archive_entry_filetype(entry)) {
    case AE_IFDIR:
        return WFE_LAYER_DIRECTORY;
    case AE_IFLNK:
        return WFE_LAYER_SYMLINK;
    case AE_IFIFO:
        return WFE_LAYER_FIFO;
    case AE_IFCHR:
    case AE_IFBLK:
        return WFE_LAYER_DEVICE;
    case AE_IFSOCK:
        return WFE_LAYER_OTHER;
    default:
        return WFE_LAYER_FILE;
    }
}

static int format_of(struct archive *reader)
{
    return archive_format(reader) & ARCHIVE_FORMAT_BASE_MASK;
}

static bool is_symbol_table(struct archive *reader, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    return format_of(reader) == ARCHIVE_FORMAT_AR && name && name[0] == '/';
}

static void describe(struct archive_entry *entry, struct wfe_layer_entry *ret)
{
    enum wfe_layer_kind kind = kind_of(entry);
    bool has_size = archive_entry_size_is_set(entry) && archive_entry_size(entry) >= 0;
    *ret = (struct wfe_layer_entry){
        .kind = kind,
        .name = archive_entry_pathname(entry),
        .target = kind == WFE_LAYER_HARDLINK  ? archive_entry_hardlink(entry)
                  : kind == WFE_LAYER_SYMLINK ? archive_entry_symlink(entry)
                                              : NULL,
        .mode = archive_entry_perm(entry) & 07777,
        .uid = archive_entry_uid(entry),
        .gid = archive_entry_gid(entry),
        .mtime_s = archive_entry_mtime(entry),
        .size_known = has_size || kind != WFE_LAYER_FILE,
        .encrypted = archive_entry_is_encrypted(entry) != 0,
    };
    if (has_size && (kind == WFE_LAYER_FILE || kind == WFE_LAYER_HARDLINK))
        ret->size_bytes = (uint64_t)archive_entry_size(entry);
}

static bool is_unchanged(const struct archive_source *source)
{
    struct stat now;
    return fstat(source->fd, &now) == 0 && now.st_size == source->st.st_size &&
           now.st_mtim.tv_sec == source->st.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == source->st.st_mtim.tv_nsec;
}

static int reader_failed(struct archive_source *source, struct wfe_error *err)
{
    const struct wfe_error *failure = &source->failure;
    if (failure->kind == WFE_ERROR_NONE)
        return wfe_archive_reader_failed(source->reader, err);
    return wfe_error_set(err, failure->kind, failure->errnum, "%s", failure->message);
}

/* A tar's reader stops at its end, before the sum of what is around it. */
static int read_to_end(struct archive_source *source, struct wfe_error *err)
{
    ssize_t n = source->gunzip ? 1 : 0;
    while (n > 0) {
        const void *data;
        n = wfe_gunzip_next(source->gunzip, &data, err);
    }
    return (int)n;
}

static int next(struct wfe_layer_source *base, struct wfe_layer_entry *ret, struct wfe_error *err)
{
    struct archive_source *source = downcast(base);
    locale_t saved = uselocale(source->locale);
    /* A warning is about an attribute that we drop, or a name, which is checked. */
    int status;
    bool good;
    do {
        status = archive_read_next_header(source->reader, &source->entry);
        good = status == ARCHIVE_OK || status == ARCHIVE_WARN;
    } while (good && is_symbol_table(source->reader, source->entry));
    if (good)
        describe(source->entry, ret);
    uselocale(saved);
    source->position = 0;
    source->block_length = 0;
    source->at_end = false;
    if (good)
        return 1;
    if (status != ARCHIVE_EOF)
        return reader_failed(source, err);
    int r = read_to_end(source, err);
    if (r < 0)
        return r;
    if (!is_unchanged(source))
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EBUSY, "it was changed while it was read");
    return 0;
}

static int read_xattrs(
    struct wfe_layer_source *base, struct wfe_layer_xattrs *xattrs, struct wfe_error *err)
{
    struct archive_entry *entry = downcast(base)->entry;
    const char *name;
    const void *value;
    size_t length;
    int count = archive_entry_xattr_reset(entry);
    while (count-- > 0 && archive_entry_xattr_next(entry, &name, &value, &length) == ARCHIVE_OK) {
        int r = name ? wfe_layer_xattrs_add(xattrs, name, value, length, err) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* Fetch the block that comes after position. */
static int fetch(struct archive_source *source, struct wfe_error *err)
{
    const void *block = NULL;
    size_t length = 0;
    la_int64_t offset = (la_int64_t)source->position;
    int status = archive_read_data_block(source->reader, &block, &length, &offset);
    if (status != ARCHIVE_OK && status != ARCHIVE_EOF)
        return reader_failed(source, err);
    if (status == ARCHIVE_EOF) {
        source->at_end = true;
        length = 0;
    }
    /* Of a hole at the end of a file only the reader of tars tells. */
    bool is_tar = format_of(source->reader) == ARCHIVE_FORMAT_TAR;
    if (offset < 0 || (source->at_end && !is_tar))
        offset = (la_int64_t)source->position;
    source->block_offset = (uint64_t)offset;
    if (source->block_offset < source->position) {
        if (length > 0)
            return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "its data overlap");
        source->block_offset = source->position;
    }
    source->block = block;
    source->block_length = length;
    return 0;
}

static int read_data(
    struct wfe_layer_source *base, const void **ret_data, size_t *ret_length, struct wfe_error *err)
{
    struct archive_source *source = downcast(base);
    while (source->block_length == 0 && !source->at_end) {
        int r = fetch(source, err);
        if (r < 0)
            return r;
    }
    const char *data = zeros;
    size_t length = 0;
    if (source->position < source->block_offset) {
        uint64_t hole = source->block_offset - source->position;
        length = hole < sizeof zeros ? (size_t)hole : sizeof zeros;
    } else {
        data = source->block;
        length = source->block_length;
        source->block_length = 0;
    }
    source->position += length;
    *ret_data = data;
    *ret_length = length;
    return 0;
}

static la_ssize_t feed(struct archive *reader, void *context, const void **ret_data)
{
    struct archive_source *source = context;
    ssize_t n = source->failure.kind == WFE_ERROR_NONE
                    ? wfe_gunzip_next(source->gunzip, ret_data, &source->failure)
                    : -source->failure.errnum;
    if (n < 0)
        archive_set_error(reader, -(int)n, "%s", source->failure.message);
    return n < 0 ? ARCHIVE_FATAL : n;
}

static int open_gunzip(struct archive_source *source, struct wfe_error *err)
{
    if (lseek(source->fd, 0, SEEK_SET) < 0)
        return wfe_error_system(err, errno, "seek");
    int r = wfe_gunzip_new(source->fd, &source->gunzip, err);
    if (r < 0)
        return r;
    source->reader = archive_read_new();
    if (!source->reader)
        return wfe_error_nomem(err);
    wfe_archive_support_formats(source->reader);
    if (archive_read_open(source->reader, source, NULL, feed, NULL) != ARCHIVE_OK)
        return reader_failed(source, err);
    return 0;
}

static int open_reader(struct archive_source *source, struct wfe_error *err)
{
    locale_t saved = uselocale(source->locale);
    int r = source->is_tar_gzip ? open_gunzip(source, err)
                                : wfe_archive_reader_open(source->fd, &source->reader, err);
    uselocale(saved);
    return r;
}

static int rewind_source(struct wfe_layer_source *base, struct wfe_error *err)
{
    struct archive_source *source = downcast(base);
    archive_read_free(source->reader);
    source->reader = NULL;
    wfe_gunzip_free(wfe_steal(&source->gunzip));
    return open_reader(source, err);
}

static void free_source(struct wfe_layer_source *base)
{
    struct archive_source *source = downcast(base);
    archive_read_free(source->reader);
    wfe_gunzip_free(source->gunzip);
    if (source->locale)
        freelocale(source->locale);
    close(source->fd);
    free(source);
}

static const struct wfe_layer_source_ops ops = {
    .next = next,
    .read_xattrs = read_xattrs,
    .read = read_data,
    .rewind = rewind_source,
    .free = free_source,
};

/* The locale by the archive's format. */
static int choose_locale(struct archive_source *source, struct wfe_error *err)
{
    enum wfe_archive_form form;
    bool is_tar;
    int r = wfe_archive_probe_fd(source->fd, &form, &is_tar, err);
    if (r < 0)
        return r;
    if (form == WFE_ARCHIVE_NONE)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "not an archive");
    source->is_tar_gzip = form == WFE_ARCHIVE_TAR_GZIP;
    source->locale = newlocale(LC_ALL_MASK, is_tar ? "C" : "C.UTF-8", (locale_t)0);
    return source->locale ? 0 : wfe_error_system(err, errno, "locale C.UTF-8");
}

int wfe_archive_source_new(int fd, struct wfe_layer_source **ret, struct wfe_error *err)
{
    assert(fd >= 0);
    struct archive_source *source = calloc(1, sizeof *source);
    if (!source) {
        close(fd);
        return wfe_error_nomem(err);
    }
    WFE_LAYER_SOURCE struct wfe_layer_source *owner = &source->head;
    source->head.ops = &ops;
    source->fd = fd;
    if (fstat(fd, &source->st) < 0)
        return wfe_error_system(err, errno, "stat");
    int r = choose_locale(source, err);
    if (r == 0)
        r = open_reader(source, err);
    if (r < 0)
        return r;
    *ret = wfe_steal(&owner);
    return 0;
}
