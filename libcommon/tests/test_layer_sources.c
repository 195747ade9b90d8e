/* SPDX-License-Identifier: MIT */

/* Layers of directories, single files, and archives of every format. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"
#include "libcommon/tests/layer_fixture.h"

static void set_mtime(const char *path, time_t seconds)
{
    struct timespec times[2] = {
        {.tv_sec = seconds, .tv_nsec = 5}, {.tv_sec = seconds, .tv_nsec = 5}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void make_directory(const char *name)
{
    assert_int_equal(wfe_make_directories(scratch_path(name), 0755), 0);
}

/* The listing of a layer that must succeed; owner numbers of this user become U. */
static void layer_listing(
    const char *path, const struct wfe_layer_options *options, struct wfe_buffer *ret)
{
    TAR_BUFFER(layer);
    TAR_BUFFER(listing);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(path, options, &layer, &result, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    list_layer(&layer, &listing);
    char owner[64];
    snprintf(owner, sizeof owner, " %u:%u ", (unsigned)getuid(), (unsigned)getgid());
    ret->length = 0;
    for (const char *at = listing.data; *at;) {
        const char *found = strstr(at, owner);
        size_t n = found ? (size_t)(found - at) : strlen(at);
        assert_int_equal(wfe_buffer_append(ret, at, n), 0);
        at += n;
        if (found) {
            assert_int_equal(wfe_buffer_puts(ret, " U "), 0);
            at += strlen(owner);
        }
    }
}

static void a_directory_is_walked_in_the_order_of_bytes(void **state)
{
    (void)state;
    static const char *const files[] = {"dir/B", "dir/a/z", "dir/a.x", "dir/\xc3\xa4", "dir/\xff"};
    make_directory("dir/a");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        scratch_write(files[i], "x", 1);
        set_mtime(scratch_path(files[i]), 1000);
    }
    assert_int_equal(symlink("../nowhere", scratch_path("dir/l")), 0);
    assert_int_equal(link(scratch_path("dir/a/z"), scratch_path("dir/link")), 0);
    assert_int_equal(mkfifo(scratch_path("dir/p"), 0600), 0);
    set_mtime(scratch_path("dir/l"), 1);
    set_mtime(scratch_path("dir/p"), 2);
    set_mtime(scratch_path("dir/a"), 3);
    assert_int_equal(chmod(scratch_path("dir/a"), 0711), 0);
    assert_int_equal(chmod(scratch_path("dir"), 0700), 0);
    struct wfe_layer_options options = {.prefix = "in"};
    TAR_BUFFER(listing);
    layer_listing(scratch_path("dir"), &options, &listing);
    /* Root's own prefix is U when this is root. */
    const char *below = strchr(listing.data, '\n') + 1;
    assert_string_equal(below, "- 644 U 1000 in/B 1 x\n"
                               "d 711 U 3 in/a/\n"
                               "- 644 U 1000 in/a/z 1 x\n"
                               "- 644 U 1000 in/a.x 1 x\n"
                               "l 777 U 1 in/l > ../nowhere\n"
                               "h in/link > in/a/z\n"
                               "p 600 U 2 in/p\n"
                               "- 644 U 1000 in/\xc3\xa4 1 x\n"
                               "- 644 U 1000 in/\xff 1 x\n");
    *strchr(listing.data, '\n') = '\0';
    assert_non_null(strstr(listing.data, "d 755 "));
    assert_non_null(strstr(listing.data, " 0 in/"));
}

static void xattrs_of_files_and_directories_are_read(void **state)
{
    (void)state;
    make_directory("xattrs/d");
    scratch_write("xattrs/d/f", "x", 1);
    if (setxattr(scratch_path("xattrs/d"), "user.k", "v", 1, 0) < 0)
        skip();
    assert_int_equal(setxattr(scratch_path("xattrs/d/f"), "user.b", "2", 1, 0), 0);
    assert_int_equal(setxattr(scratch_path("xattrs/d/f"), "user.a", "1", 1, 0), 0);
    set_mtime(scratch_path("xattrs/d/f"), 1);
    set_mtime(scratch_path("xattrs/d"), 1);
    TAR_BUFFER(listing);
    layer_listing(scratch_path("xattrs"), NULL, &listing);
    assert_string_equal(listing.data, "d 755 U 1 d/ user.k=v\n"
                                      "- 644 U 1 d/f 1 x user.b=2 user.a=1\n");
}

static void holes_of_a_file_are_zeros(void **state)
{
    (void)state;
    make_directory("holes");
    scratch_write("holes/f", "x", 1);
    assert_int_equal(truncate(scratch_path("holes/f"), 3 << 20), 0);
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_layer(scratch_path("holes"), NULL, &layer, &result, &err), 0);
    assert_int_equal(result.tar_bytes, 512 + (3 << 20) + 1024);
    assert_int_equal(layer.data[512], 'x');
    for (size_t i = 513; i < layer.length; i++)
        assert_int_equal(layer.data[i], 0);
}

static void a_socket_is_refused(void **state)
{
    (void)state;
    make_directory("socket");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", scratch_path("socket/s"));
    WFE_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(make_layer(scratch_path("socket"), NULL, &layer, &result, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_ARCHIVE);
    assert_non_null(strstr(err.message, "'s': neither file"));
}

static int grow_file(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)data;
    (void)length;
    (void)err;
    WFE_CLOSE int fd = open(context, O_WRONLY | O_APPEND | O_CLOEXEC);
    return wfe_write_all(fd, "more", 4);
}

static int touch_file(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)data;
    (void)length;
    (void)err;
    WFE_CLOSE int fd = open(context, O_WRONLY | O_CLOEXEC);
    return pwrite(fd, "x", 1, 0) == 1 ? 0 : -errno;
}

static void assert_change_is_seen(const char *source, const char *changed,
    int (*change)(void *, const void *, size_t, struct wfe_error *), const char *message)
{
    WFE_FREE char *file = strdup(scratch_path(changed));
    struct wfe_sink sink = {.write = change, .context = file};
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_layer_write(scratch_path(source), NULL, sink, &result, &err), -EBUSY);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    if (!strstr(err.message, message))
        fail_msg("'%s', not '%s'", err.message, message);
}

static void a_source_that_changes_is_an_error(void **state)
{
    (void)state;
    make_directory("changes");
    WFE_FREE char *data = calloc(1, 1 << 20);
    assert_non_null(data);
    scratch_write("changes/f", data, 1 << 20);
    scratch_write("changes/g", "x", 1);
    assert_change_is_seen("changes", "changes/f", grow_file, "'f': it was changed");
    scratch_write("changes/f", data, 1 << 20);
    assert_change_is_seen("changes", "changes/f", touch_file, "'f': it was changed");
    assert_change_is_seen("changes", "changes/g", touch_file, "'g': it was changed");

    TAR_BUFFER(tar);
    tar_add(&tar, &(struct tar_entry){.name = "f", .data = data, .data_length = 1 << 20});
    tar_end(&tar);
    scratch_write("changes.tar", tar.data, tar.length);
    assert_change_is_seen("changes.tar", "changes.tar", grow_file, "changes.tar: it was changed");
}

static int fail_write(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)context;
    (void)data;
    (void)length;
    return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "enough");
}

static void the_failure_of_the_sink_is_returned(void **state)
{
    (void)state;
    write_tar((const struct tar_entry[]){{.name = "f", .data = "x"}, {.name = NULL}});
    for (int compression = WFE_LAYER_NONE; compression <= WFE_LAYER_ZSTD; compression++) {
        struct wfe_layer_options options = {.compression = (enum wfe_layer_compression)compression};
        struct wfe_layer_result result = {.entries = 77};
        struct wfe_error err = WFE_ERROR_INIT;
        int r = wfe_layer_write(
            scratch_path("a.tar"), &options, (struct wfe_sink){.write = fail_write}, &result, &err);
        assert_int_equal(r, -ECANCELED);
        assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
        assert_int_equal(result.entries, 77);
    }
}

static int make_file_layer(
    const char *path, const char *name, struct wfe_buffer *layer, struct wfe_error *err)
{
    *err = (struct wfe_error)WFE_ERROR_INIT;
    struct wfe_layer_options options = {.prefix = "/in"};
    struct wfe_layer_result result;
    layer->length = 0;
    return wfe_layer_write_file(path, name, &options,
        (struct wfe_sink){.write = to_buffer, .context = layer}, &result, err);
}

static void a_single_file_becomes_a_layer(void **state)
{
    (void)state;
    scratch_write("single", "hello", 5);
    set_mtime(scratch_path("single"), 5);
    TAR_BUFFER(layer);
    TAR_BUFFER(listing);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_file_layer(scratch_path("single"), "n\xc3\xa4me", &layer, &err), 0);
    list_layer(&layer, &listing);
    WFE_FREE char *expected = NULL;
    assert_true(asprintf(&expected, "d 755 0:0 0 in/\n- 644 %u:%u 5 in/n\xc3\xa4me 5 hello\n",
                    (unsigned)getuid(), (unsigned)getgid()) > 0);
    assert_string_equal(listing.data, expected);
    static const char *const wrong[] = {"", ".", "..", "a/b", ".wh.a"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(make_file_layer(scratch_path("single"), wrong[i], &layer, &err), -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
    }
    make_directory("directory");
    assert_int_equal(make_file_layer(scratch_path("directory"), "x", &layer, &err), -EINVAL);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_int_equal(make_file_layer(scratch_path("missing"), "x", &layer, &err), -ENOENT);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
}

static void what_is_no_archive_is_refused(void **state)
{
    (void)state;
    scratch_write("a.tar", "just text\n", 10);
    assert_refused(WFE_ERROR_ARCHIVE, "not an archive", "");
    scratch_write("a.tar", "", 0);
    assert_refused(WFE_ERROR_ARCHIVE, "not an archive", "");
    scratch_write("a.tar", "#mtree\n./f type=file contents=/etc/passwd\n", 42);
    assert_refused(WFE_ERROR_ARCHIVE, "not an archive", "");
    WFE_FREE char *disk = calloc(1, 1 << 20);
    assert_non_null(disk);
    scratch_write("a.tar", disk, 1 << 20);
    assert_refused(WFE_ERROR_ARCHIVE, "not an archive", "");
}

/* The formats that libarchive writes, with a tree that each can hold. */
static void write_archive(const char *name, int (*set_format)(struct archive *),
    int (*add_filter)(struct archive *), const char *file_name)
{
    struct archive *writer = archive_write_new();
    assert_int_equal(set_format(writer), ARCHIVE_OK);
    if (add_filter)
        assert_int_equal(add_filter(writer), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, scratch_path(name)), ARCHIVE_OK);
    static const struct {
        const char *name;
        unsigned type;
        const char *data;
    } entries[] = {{"d/", AE_IFDIR, ""}, {"d/f", AE_IFREG, "hello"}, {NULL, AE_IFREG, "other"},
        {"d/l", AE_IFLNK, "f"}};
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, entries[i].name ? entries[i].name : file_name);
        archive_entry_set_filetype(entry, entries[i].type);
        archive_entry_set_perm(entry, entries[i].type == AE_IFDIR ? 0755 : 0644);
        archive_entry_set_mtime(entry, 1000000000, 0);
        size_t length = entries[i].type == AE_IFREG ? strlen(entries[i].data) : 0;
        /* Without, a zip has its sizes behind the data. */
        if (set_format != archive_write_set_format_zip)
            archive_entry_set_size(entry, (la_int64_t)length);
        if (entries[i].type == AE_IFLNK)
            archive_entry_set_symlink(entry, entries[i].data);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(writer, entries[i].data, length), length);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
}

static bool has_line(const struct wfe_buffer *listing, const char *line)
{
    if (!strstr(listing->data, line))
        print_error("no '%s' in:\n%s", line, listing->data);
    return strstr(listing->data, line) != NULL;
}

static void every_format_becomes_a_layer(void **state)
{
    (void)state;
    static int (*const formats[])(struct archive *) = {archive_write_set_format_7zip,
        archive_write_set_format_cpio_newc, archive_write_set_format_cpio_odc,
        archive_write_set_format_gnutar, archive_write_set_format_iso9660,
        archive_write_set_format_pax, archive_write_set_format_ustar,
        archive_write_set_format_v7tar, archive_write_set_format_xar, archive_write_set_format_zip};
    struct wfe_layer_options options = {.prefix = "in"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        write_archive("format", formats[i], NULL, "g");
        TAR_BUFFER(listing);
        layer_listing(scratch_path("format"), &options, &listing);
        assert_true(has_line(&listing, "1000000000 in/d/\n"));
        assert_true(has_line(&listing, "1000000000 in/d/f 5 hello\n"));
        assert_true(has_line(&listing, "1000000000 in/g 5 other\n"));
        assert_true(has_line(&listing, "1000000000 in/d/l > f\n"));
    }
}

static void every_filter_is_undone(void **state)
{
    (void)state;
    static int (*const filters[])(struct archive *) = {archive_write_add_filter_bzip2,
        archive_write_add_filter_compress, archive_write_add_filter_gzip,
        archive_write_add_filter_lz4, archive_write_add_filter_lzip, archive_write_add_filter_lzma,
        archive_write_add_filter_uuencode, archive_write_add_filter_xz,
        archive_write_add_filter_zstd};
    TAR_BUFFER(plain);
    write_archive("plain", archive_write_set_format_gnutar, NULL, "caf\xe9");
    layer_listing(scratch_path("plain"), NULL, &plain);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        write_archive("filter", archive_write_set_format_gnutar, filters[i], "caf\xe9");
        TAR_BUFFER(listing);
        layer_listing(scratch_path("filter"), NULL, &listing);
        assert_string_equal(listing.data, plain.data);
    }
}

static void the_sizes_of_a_streamed_zip_are_counted(void **state)
{
    (void)state;
    /* Behind a filter the central directory can't be reached, and sizes follow the data. */
    write_archive("zip.gz", archive_write_set_format_zip, archive_write_add_filter_gzip, "g");
    TAR_BUFFER(listing);
    layer_listing(scratch_path("zip.gz"), NULL, &listing);
    assert_true(has_line(&listing, " d/f 5 hello\n"));
    assert_true(has_line(&listing, " g 5 other\n"));

    struct wfe_layer_options options = {.limits.max_tar_bytes = 4};
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_layer(scratch_path("zip.gz"), &options, &layer, &result, &err), -EFBIG);
    assert_non_null(strstr(err.message, "'d/f': it has more than 4 bytes"));
}

static void local_times_of_a_zip_are_of_the_time_zone(void **state)
{
    (void)state;
    /* 2020-01-01 00:00:00, without a Unix time. */
    static const char zip[] =
        "PK\3\4\24\0\0\0\0\0\0\0\x21\x50\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0x"
        "PK\1\2\24\0\24\0\0\0\0\0\0\0\x21\x50\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\0\0\0\0x"
        "PK\5\6\0\0\0\0\1\0\1\0\57\0\0\0\37\0\0\0\0\0";
    scratch_write("a.tar", zip, sizeof zip - 1);
    setenv("TZ", "UTC0", 1);
    tzset();
    TAR_BUFFER(listing);
    layer_listing(scratch_path("a.tar"), NULL, &listing);
    assert_true(has_line(&listing, " 1577836800 x 0\n"));
    unsetenv("TZ");
    tzset();
}

static void a_wrong_checksum_in_a_zip_is_an_error(void **state)
{
    (void)state;
    write_archive("zip", archive_write_set_format_zip, NULL, "g");
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(scratch_path("zip"), 1 << 20, &data, &length, NULL), 0);
    unsigned found = 0;
    for (size_t i = 0; i + 5 < length; i++) {
        if (memcmp(data + i, "PK\1\2", 4) == 0 && ++found == 2)
            data[i + 16] ^= 1;
    }
    scratch_write("a.tar", data, length);
    assert_refused(WFE_ERROR_ARCHIVE, "'d/f': ZIP bad CRC", "");
}

/* A file of inode 1 with two links, in cpio's "newc" format. */
static void add_newc(struct wfe_buffer *cpio, unsigned mode, const char *name, const char *data)
{
    static const char zeros[4];
    int r = wfe_buffer_printf(cpio,
        "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s%c", 1, mode, 0, 0, 2, 1,
        (unsigned)strlen(data), 0, 0, 0, 0, (unsigned)strlen(name) + 1, 0, name, 0);
    assert_int_equal(r, 0);
    assert_int_equal(wfe_buffer_append(cpio, zeros, -cpio->length % 4), 0);
    assert_int_equal(wfe_buffer_puts(cpio, data), 0);
    assert_int_equal(wfe_buffer_append(cpio, zeros, -cpio->length % 4), 0);
}

static void hardlinks_of_a_cpio_have_the_data_of_the_last(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer cpio = WFE_BUFFER_INIT(4096);
    add_newc(&cpio, 0100644, "a", "");
    add_newc(&cpio, 0100644, "b", "hello");
    add_newc(&cpio, 0, "TRAILER!!!", "");
    scratch_write("a.tar", cpio.data, cpio.length);
    assert_layer(NULL, "- 644 0:0 1 a 5 hello\n"
                       "h b > a\n");
}

static void an_encrypted_entry_is_refused(void **state)
{
    (void)state;
    static const char zip[] =
        "PK\3\4\24\0\1\0\0\0\0\0\0\0\0\0\0\0\21\0\0\0\5\0\0\0\1\0\0\0x"
        "0123456789abcdefg"
        "PK\1\2\24\0\24\0\1\0\0\0\0\0\0\0\0\0\0\0\21\0\0\0\5\0\0\0\1\0\0\0\0\0"
        "\0\0\0\0\0\0\0\0\0\0\0\0x"
        "PK\5\6\0\0\0\0\1\0\1\0\57\0\0\0\60\0\0\0\0\0";
    scratch_write("a.tar", zip, sizeof zip - 1);
    assert_refused(WFE_ERROR_ARCHIVE, "'x'", "encrypted");
}

static void the_locale_changes_nothing(void **state)
{
    (void)state;
    static const char *const locales[] = {"C", "C.UTF-8"};
    write_archive("names.tar", archive_write_set_format_gnutar, NULL, "caf\xe9 \xc3\xa4");
    setlocale(LC_ALL, "C.UTF-8");
    write_archive("names.zip", archive_write_set_format_zip, NULL, "\xc3\xa4 \xe6\x97\xa5");
    write_archive("names.7z", archive_write_set_format_7zip, NULL, "\xc3\xa4 \xe6\x97\xa5");
    write_archive("names.pax", archive_write_set_format_pax, NULL, "\xc3\xa4 \xe6\x97\xa5");
    static const char *const files[] = {"names.tar", "names.zip", "names.7z", "names.pax"};
    for (size_t file = 0; file < sizeof files / sizeof *files; file++) {
        TAR_BUFFER(first);
        for (size_t i = 0; i < sizeof locales / sizeof *locales; i++) {
            assert_non_null(setlocale(LC_ALL, locales[i]));
            TAR_BUFFER(layer);
            struct wfe_layer_result result;
            struct wfe_error err = WFE_ERROR_INIT;
            int r = make_layer(scratch_path(files[file]), NULL, &layer, &result, &err);
            assert_string_equal(err.message, "");
            assert_int_equal(r, 0);
            assert_non_null(memmem(layer.data, layer.length, "\xc3\xa4", 2));
            if (i == 0)
                assert_int_equal(wfe_buffer_append(&first, layer.data, layer.length), 0);
            assert_int_equal(first.length, layer.length);
            assert_memory_equal(first.data, layer.data, layer.length);
            assert_string_equal(setlocale(LC_ALL, NULL), locales[i]);
        }
    }
    setlocale(LC_ALL, "C");
}

static void a_compressed_layer_has_the_same_tar(void **state)
{
    (void)state;
    WFE_FREE char *data = malloc(3 << 20);
    assert_non_null(data);
    for (size_t i = 0; i < 3 << 20; i++)
        data[i] = (char)(i * i >> 7);
    write_tar((const struct tar_entry[]){
        {.name = "f", .data = data, .data_length = 3 << 20}, {.name = NULL}});
    static const char *const media_types[] = {
        WFE_LAYER_MEDIA_TYPE_TAR, WFE_LAYER_MEDIA_TYPE_GZIP, WFE_LAYER_MEDIA_TYPE_ZSTD};
    struct wfe_layer_result plain = {.entries = 0};
    for (int compression = WFE_LAYER_NONE; compression <= WFE_LAYER_ZSTD; compression++) {
        TAR_BUFFER(layer);
        TAR_BUFFER(listing);
        struct wfe_layer_options options = {.compression = (enum wfe_layer_compression)compression};
        struct wfe_layer_result result;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), 0);
        list_layer(&layer, &listing);
        assert_non_null(strstr(listing.data, "f 3145728 "));
        struct wfe_digest digest;
        wfe_digest_of(layer.data, layer.length, &digest);
        assert_string_equal(result.digest.text, digest.text);
        assert_int_equal(result.size_bytes, layer.length);
        assert_string_equal(result.media_type, media_types[compression]);
        if (compression == WFE_LAYER_NONE)
            plain = result;
        else
            assert_true(result.size_bytes < result.tar_bytes);
        assert_string_equal(result.diff_id.text, plain.diff_id.text);
        assert_int_equal(result.tar_bytes, plain.tar_bytes);
        if (compression == WFE_LAYER_GZIP)
            assert_memory_equal(layer.data, "\x1f\x8b\x08\0\0\0\0\0\0\xff", 10);
    }
}

/* Each odd tar is either made a layer that reads back, or refused with a message. */
static void try_archive(const char *path)
{
    TAR_BUFFER(layer);
    TAR_BUFFER(listing);
    struct wfe_layer_options options = {.prefix = "in", .limits.max_tar_bytes = 32 << 20};
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(path, &options, &layer, &result, &err);
    if (r == 0) {
        list_layer(&layer, &listing);
        return;
    }
    assert_int_equal(r, -err.errnum);
    assert_true(err.kind == WFE_ERROR_ARCHIVE || err.kind == WFE_ERROR_LIMIT);
    assert_true(strlen(err.message) > strlen(path));
}

static void odd_archives_are_read_or_refused(void **state)
{
    (void)state;
    static const char *const folders[] = {
        "/usr/share/go-1.19/src/archive/tar/testdata", "/usr/lib/python3.11/test"};
    size_t tried = 0;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        DIR *dir = opendir(folders[i]);
        for (struct dirent *found; dir && (found = readdir(dir));) {
            if (!strstr(found->d_name, ".tar"))
                continue;
            WFE_FREE char *path = wfe_path_join(folders[i], found->d_name);
            assert_non_null(path);
            try_archive(path);
            tried++;
        }
        if (dir)
            closedir(dir);
    }
    if (tried == 0)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_is_walked_in_the_order_of_bytes),
        cmocka_unit_test(xattrs_of_files_and_directories_are_read),
        cmocka_unit_test(holes_of_a_file_are_zeros),
        cmocka_unit_test(a_socket_is_refused),
        cmocka_unit_test(a_source_that_changes_is_an_error),
        cmocka_unit_test(the_failure_of_the_sink_is_returned),
        cmocka_unit_test(a_single_file_becomes_a_layer),
        cmocka_unit_test(what_is_no_archive_is_refused),
        cmocka_unit_test(every_format_becomes_a_layer),
        cmocka_unit_test(every_filter_is_undone),
        cmocka_unit_test(the_sizes_of_a_streamed_zip_are_counted),
        cmocka_unit_test(local_times_of_a_zip_are_of_the_time_zone),
        cmocka_unit_test(a_wrong_checksum_in_a_zip_is_an_error),
        cmocka_unit_test(hardlinks_of_a_cpio_have_the_data_of_the_last),
        cmocka_unit_test(an_encrypted_entry_is_refused),
        cmocka_unit_test(the_locale_changes_nothing),
        cmocka_unit_test(a_compressed_layer_has_the_same_tar),
        cmocka_unit_test(odd_archives_are_read_or_refused),
    };
    umask(022);
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
