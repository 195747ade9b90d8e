/* SPDX-License-Identifier: MIT */
#include "artifactfs/tests/scan_fixture.h"

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
#include <zlib.h>

#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/tests/layer_fixture.h"

void scan_path(const char *path, const struct wfe_scan_options *options, struct scanned *ret)
{
    *ret = (struct scanned){.spool = -1, .err = WFE_ERROR_INIT};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_stream_options stream_options = {
        .spool_directory = scratch_path("."), .max_spool_bytes = 64 << 20};
    assert_int_equal(wfe_stream_open(fd, &stream_options, &ret->stream, &err), 0);
    struct wfe_scan_options filled = {.file_name = NULL};
    if (options)
        filled = *options;
    if (!filled.file_name)
        filled.file_name = "the-file";
    if (!filled.spool_directory)
        filled.spool_directory = scratch_path(".");
    struct wfe_scan *scan = NULL;
    ret->result = wfe_scan_open(ret->stream, &filled, &scan, &ret->err);
    if (ret->result < 0)
        return;
    ret->index = wfe_scan_take_index(scan);
    ret->spool = wfe_scan_take_spool(scan);
    ret->result = wfe_scan_run(scan, &ret->err);
    wfe_scan_free(scan);
    assert_true(wfe_index_is_complete(ret->index));
}

void scanned_done(struct scanned *scanned)
{
    wfe_index_free(scanned->index);
    wfe_stream_free(scanned->stream);
    wfe_cleanup_close(&scanned->spool);
}

int64_t scanned_find(const struct scanned *scanned, const char *path)
{
    uint32_t inode = WFE_INDEX_ROOT;
    struct wfe_layer_component next;
    while (wfe_layer_component_next(&path, &next)) {
        char name[WFE_MAX_COMPONENT_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)next.length, next.text);
        int r = wfe_index_lookup(scanned->index, inode, name, NULL, &inode);
        if (r < 0)
            return r;
    }
    return inode;
}

struct wfe_inode scanned_inode(const struct scanned *scanned, const char *path)
{
    int64_t inode = scanned_find(scanned, path);
    if (inode < 0)
        print_error("%s is not there\n", path);
    assert_true(inode >= 0);
    struct wfe_inode record;
    assert_int_equal(wfe_index_get(scanned->index, (uint32_t)inode, &record), 0);
    return record;
}

ssize_t scanned_read(
    const struct scanned *scanned, uint32_t inode, void *buffer, size_t length, uint64_t offset)
{
    size_t done = 0;
    while (done < length) {
        bool is_hole;
        uint64_t data, stretch;
        int r = wfe_index_locate(scanned->index, inode, offset + done, &is_hole, &data, &stretch);
        if (r == -ENXIO)
            break;
        if (r < 0)
            return r;
        size_t n = length - done < stretch ? length - done : (size_t)stretch;
        char *at = (char *)buffer + done;
        ssize_t got = (ssize_t)n;
        if (is_hole)
            memset(at, 0, n);
        else if (data & WFE_INDEX_IN_SPOOL)
            got = pread(scanned->spool, at, n, (off_t)(data & ~WFE_INDEX_IN_SPOOL));
        else
            got = wfe_stream_read(scanned->stream, at, n, data, NULL);
        if (got != (ssize_t)n)
            return -EIO;
        done += n;
    }
    return (ssize_t)done;
}

void assert_contents(const struct scanned *scanned, const char *path, const char *data)
{
    struct wfe_inode inode = scanned_inode(scanned, path);
    size_t length = strlen(data);
    assert_int_equal(inode.size_bytes, length);
    WFE_FREE char *found = malloc(length + 1);
    assert_int_equal(
        scanned_read(scanned, (uint32_t)scanned_find(scanned, path), found, length + 1, 0), length);
    assert_memory_equal(found, data, length);
}

void assert_problem(const struct scanned *scanned, const char *part)
{
    const struct wfe_index *index = scanned->index;
    bool found = false;
    for (uint64_t i = 0; i < index->problem_count && i < WFE_MAX_PROBLEMS; i++)
        found |= strstr(index->problems[i], part) != NULL;
    for (uint64_t i = 0; !found && i < index->problem_count && i < WFE_MAX_PROBLEMS; i++)
        print_error("problem: %s\n", index->problems[i]);
    assert_true(found);
}

void assert_broken(const struct scanned *scanned, const char *part)
{
    assert_non_null(scanned->index->broken);
    if (!strstr(scanned->index->broken, part))
        print_error("broken: %s\n", scanned->index->broken);
    assert_non_null(strstr(scanned->index->broken, part));
}

const char *gzip_path(const char *path)
{
    static char gz_path[4200];
    snprintf(gz_path, sizeof gz_path, "%s", scratch_path("packed.gz"));
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(path, 256 << 20, &data, &length, NULL), 0);
    gzFile gz = gzopen(gz_path, "wb1");
    assert_non_null(gz);
    assert_int_equal(gzwrite(gz, data, (unsigned)length), length);
    assert_int_equal(gzclose(gz), Z_OK);
    return gz_path;
}

const char *gunzip_data(const char *name)
{
    enum { MAX_BYTES = 16 << 20 };
    WFE_FREE char *path = wfe_path_join(getenv("WFE_TEST_DATA"), name);
    WFE_FREE char *data = malloc(MAX_BYTES);
    gzFile gz = gzopen(path, "rb");
    assert_non_null(gz);
    int length = gzread(gz, data, MAX_BYTES);
    assert_true(length > 0);
    gzclose(gz);
    scratch_write("unpacked", data, (size_t)length);
    return scratch_path("unpacked");
}

/* The blocks of an entry, each at its place in the scanned file, and holes between them. Returns
 * false when libarchive fails. */
static bool compare_data(
    const struct scanned *scanned, uint32_t inode, struct archive *reader, uint64_t size)
{
    uint64_t end = 0;
    for (;;) {
        const void *block;
        size_t length;
        la_int64_t offset;
        int status = archive_read_data_block(reader, &block, &length, &offset);
        if (status == ARCHIVE_EOF)
            return true;
        if (status != ARCHIVE_OK)
            return false;
        if ((uint64_t)offset > end) {
            assert_true(
                wfe_index_seek(scanned->index, inode, (int64_t)end, SEEK_HOLE) == (int64_t)end);
            assert_true(
                wfe_index_seek(scanned->index, inode, (int64_t)end, SEEK_DATA) == (int64_t)offset);
        }
        if ((uint64_t)offset + length > size)
            length = (uint64_t)offset < size ? (size_t)(size - (uint64_t)offset) : 0;
        WFE_FREE char *found = malloc(length + 1);
        assert_int_equal(scanned_read(scanned, inode, found, length, (uint64_t)offset), length);
        assert_memory_equal(found, block, length);
        end = (uint64_t)offset + length;
    }
}

static la_int64_t owner(la_int64_t id)
{
    return id >= 0 && id < UINT32_MAX ? id : 65534;
}

static bool compare_entry(
    const struct scanned *scanned, struct archive *reader, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    struct wfe_inode inode = scanned_inode(scanned, name);
    uint32_t number = (uint32_t)scanned_find(scanned, name);
    if (archive_entry_hardlink(entry)) {
        assert_int_equal(number, scanned_find(scanned, archive_entry_hardlink(entry)));
        assert_true(inode.nlink > 1);
        return archive_entry_size(entry) == 0 ||
               compare_data(scanned, number, reader, inode.size_bytes);
    }
    assert_int_equal(inode.mode & S_IFMT, archive_entry_filetype(entry));
    assert_int_equal(inode.mode & 07777, archive_entry_perm(entry));
    assert_int_equal(inode.uid, owner(archive_entry_uid(entry)));
    assert_int_equal(inode.gid, owner(archive_entry_gid(entry)));
    assert_int_equal(inode.mtime_s, archive_entry_mtime(entry));
    assert_int_equal(inode.mtime_ns, archive_entry_mtime_nsec(entry));
    if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode))
        assert_int_equal(inode.rdev, archive_entry_rdev(entry));
    if (S_ISLNK(inode.mode)) {
        char target[WFE_MAX_TARGET_BYTES + 1];
        assert_int_equal(wfe_index_readlink(scanned->index, number, target), 0);
        assert_string_equal(target, archive_entry_symlink(entry));
    }
    int count = archive_entry_xattr_reset(entry);
    const char *key;
    const void *value;
    size_t length;
    while (count-- > 0 && archive_entry_xattr_next(entry, &key, &value, &length) == ARCHIVE_OK) {
        char found[1024];
        assert_int_equal(
            wfe_index_getxattr(scanned->index, number, key, found, sizeof found), length);
    }
    if (!S_ISREG(inode.mode))
        return true;
    if (archive_entry_size_is_set(entry))
        assert_int_equal(inode.size_bytes, archive_entry_size(entry));
    return compare_data(scanned, number, reader, inode.size_bytes);
}

/* NULL: it does not even begin. */
static struct archive *open_reader(const char *path, int *ret_fd)
{
    struct archive *reader = NULL;
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(*ret_fd >= 0);
    wfe_archive_reader_open(*ret_fd, &reader, NULL);
    return reader;
}

/* How many of the entries come before the last one of this name. */
static int last_of_name(const char *path, const char *name)
{
    WFE_CLOSE int fd = -1;
    WFE_ARCHIVE_READER struct archive *reader = open_reader(path, &fd);
    struct archive_entry *entry;
    int last = -1;
    for (int i = 0; archive_read_next_header(reader, &entry) >= ARCHIVE_WARN; i++) {
        const char *found = archive_entry_pathname(entry);
        if (found && strcmp(found, name) == 0)
            last = i;
    }
    return last;
}

static void compare_scanned(const char *path, const struct scanned *scanned)
{
    WFE_CLOSE int fd = -1;
    WFE_ARCHIVE_READER struct archive *reader = open_reader(path, &fd);
    if (!reader) {
        assert_true(scanned->index->broken || scanned->index->item_count == 1);
        return;
    }
    struct archive_entry *entry;
    int status;
    bool is_good = true;
    for (int i = 0; (status = archive_read_next_header(reader, &entry)) >= ARCHIVE_WARN &&
                    status != ARCHIVE_EOF;
         i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s", archive_entry_pathname(entry));
        if (last_of_name(path, name) != i)
            continue;
        is_good = compare_entry(scanned, reader, entry);
        if (!is_good)
            break;
    }
    is_good = is_good && status == ARCHIVE_EOF;
    if (is_good && scanned->index->broken)
        print_error("%s is broken: %s\n", path, scanned->index->broken);
    assert_int_equal(is_good, scanned->index->broken == NULL);
}

void compare_with_libarchive(const char *at)
{
    char path[4200];
    snprintf(path, sizeof path, "%s", at);
    SCANNED struct scanned plain = {.spool = -1};
    scan_path(path, NULL, &plain);
    assert_int_equal(plain.result, 0);
    compare_scanned(path, &plain);
    SCANNED struct scanned packed = {.spool = -1};
    snprintf(path, sizeof path, "%s", gzip_path(path));
    scan_path(path, NULL, &packed);
    assert_int_equal(packed.result, 0);
    compare_scanned(path, &packed);
}

struct archive *start_archive(const char *name, const char *format, const char *options)
{
    struct archive *archive = archive_write_new();
    assert_non_null(archive);
    assert_int_equal(archive_write_set_format_by_name(archive, format), ARCHIVE_OK);
    assert_true(archive_write_set_options(archive, options) >= ARCHIVE_WARN);
    assert_int_equal(archive_write_open_filename(archive, scratch_path(name)), ARCHIVE_OK);
    return archive;
}

static void write_entry(struct archive *archive, struct archive_entry *entry, const char *data)
{
    size_t length = data ? (size_t)archive_entry_size(entry) : 0;
    if (archive_write_header(archive, entry) < ARCHIVE_WARN)
        fail_msg("%s", archive_error_string(archive));
    if (length > 0)
        assert_int_equal(archive_write_data(archive, data, length), length);
    archive_entry_free(entry);
}

static struct archive_entry *new_entry(const char *name, unsigned mode)
{
    struct archive_entry *entry = archive_entry_new();
    assert_non_null(entry);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, mode);
    archive_entry_set_uid(entry, 1000);
    archive_entry_set_gid(entry, 100);
    archive_entry_set_mtime(entry, 1234567890, 0);
    archive_entry_set_size(entry, 0);
    archive_entry_set_nlink(entry, 1);
    return entry;
}

void write_file(struct archive *archive, const char *name, size_t length, unsigned seed)
{
    WFE_FREE char *data = malloc(length + 1);
    for (size_t i = 0; i < length; i++)
        data[i] = (char)(i % 3 == 0 ? rand_r(&seed) : (int)seed);
    struct archive_entry *entry = new_entry(name, S_IFREG | 0640);
    archive_entry_set_size(entry, (la_int64_t)length);
    write_entry(archive, entry, data);
}

void write_directory(struct archive *archive, const char *name)
{
    write_entry(archive, new_entry(name, S_IFDIR | 0750), NULL);
}

void write_symlink(struct archive *archive, const char *name, const char *target)
{
    struct archive_entry *entry = new_entry(name, S_IFLNK | 0777);
    archive_entry_set_symlink(entry, target);
    write_entry(archive, entry, NULL);
}

void write_hardlink(struct archive *archive, const char *name, const char *target)
{
    struct archive_entry *entry = new_entry(name, S_IFREG | 0640);
    archive_entry_set_hardlink(entry, target);
    write_entry(archive, entry, NULL);
}

void end_archive(struct archive *archive)
{
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
}
