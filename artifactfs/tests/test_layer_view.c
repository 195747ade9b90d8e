/* SPDX-License-Identifier: MIT */

/* What is read from .wfe/layers, at any offset, is what wfe_layer_write() makes. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cmocka.h>

#include "artifactfs/artifact_source.h"
#include "artifactfs/layer_view.h"
#include "artifactfs/tests/scan_fixture.h"
#include "libcommon/cleanup.h"
#include "libcommon/tests/layer_fixture.h"

#define WRITE_TAR(...) write_tar((const struct tar_entry[]){__VA_ARGS__, {.name = NULL}})
#define LONG_NAME "0123456789012345678901234567890123456789012345678901234567890123456789"

/* A volume with one artifact, x, and its layers. */
struct shown {
    struct wfe_volume *volume;
    struct wfe_virtual *tree;
    struct wfe_layer_views *views;
    unsigned logged;
    char message[1024];
};

static void hear(void *context, const char *name, const char *message)
{
    struct shown *shown = context;
    assert_string_equal(name, "x");
    shown->logged++;
    snprintf(shown->message, sizeof shown->message, "%s", message);
}

static void show(const char *path, const char *prefix, uint64_t max_spool_bytes, struct shown *ret)
{
    *ret = (struct shown){.logged = 0};
    char step[256];
    int length = snprintf(
        step, sizeof step, "{\"image\":\"i\",\"inputs\":{\"x\":\"%s\"}}", prefix ? prefix : "");
    char step_path[4200];
    snprintf(step_path, sizeof step_path, "%s", scratch_path("step.json"));
    scratch_write("step.json", step, (size_t)length);
    const struct wfe_volume_binding binding = {.name = "x", .source = path};
    const struct wfe_volume_options options = {
        .bindings = &binding,
        .binding_count = 1,
        .inputs_path = prefix ? step_path : NULL,
    };
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_volume_open(&options, &ret->volume, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    assert_int_equal(wfe_virtual_new(&ret->tree, &err), 0);
    const struct wfe_layer_view_options view_options = {
        .max_spool_bytes = max_spool_bytes, .log = hear, .log_context = ret};
    assert_int_equal(
        wfe_layer_views_add(ret->tree, ret->volume, &view_options, &ret->views, &err), 0);
}

static void shown_done(struct shown *shown)
{
    wfe_virtual_free(shown->tree);
    wfe_layer_views_free(shown->views);
    wfe_volume_free(shown->volume);
}
#define SHOWN __attribute__((cleanup(shown_done)))

static int look_up(const struct shown *shown, const char *name, uint64_t *ret)
{
    return wfe_virtual_lookup(shown->tree, WFE_VIRTUAL_LAYERS, name, NULL, ret);
}

static void assert_read(const struct shown *shown, uint64_t number, const struct wfe_buffer *layer,
    size_t offset, size_t length)
{
    WFE_FREE char *data = malloc(length + 1);
    size_t rest = offset < layer->length ? layer->length - offset : 0;
    size_t expected = length < rest ? length : rest;
    ssize_t n = wfe_virtual_read(shown->tree, number, data, length, offset, NULL);
    assert_int_equal(n, expected);
    if (memcmp(data, layer->data + offset, expected) != 0)
        fail_msg("%zu bytes at %zu differ", length, offset);
}

/* All of it at once, piece by piece, around each block, and here and there. */
static void assert_reads(
    const struct shown *shown, uint64_t number, const struct wfe_buffer *layer, unsigned seed)
{
    struct stat st;
    assert_int_equal(wfe_virtual_stat(shown->tree, number, &st), 0);
    assert_int_equal(st.st_size, layer->length);
    assert_read(shown, number, layer, 0, layer->length + 10);
    size_t step = layer->length > 1000000 ? 100003 : 3001;
    for (size_t at = 0; at < layer->length; at += step)
        assert_read(shown, number, layer, at, step);
    for (size_t at = 512; at < layer->length; at += 512 * (1 + layer->length / 100000))
        assert_read(shown, number, layer, at - 1, 2 + at % 700);
    for (int i = 0; i < 100; i++)
        assert_read(shown, number, layer, (size_t)rand_r(&seed) % layer->length,
            1 + (size_t)rand_r(&seed) % 5000);
}

static void compare(const char *path, const char *prefix)
{
    SHOWN struct shown shown;
    show(path, prefix, 0, &shown);
    for (int gzip = 0; gzip < 2; gzip++) {
        TAR_BUFFER(layer);
        struct wfe_layer_options options = {
            .prefix = prefix, .compression = gzip ? WFE_LAYER_GZIP : WFE_LAYER_NONE};
        struct wfe_layer_result result;
        struct wfe_error err = WFE_ERROR_INIT;
        int r = make_layer(path, &options, &layer, &result, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(r, 0);
        uint64_t number;
        r = look_up(&shown, gzip ? "x.tar.gz" : "x.tar", &number);
        assert_string_equal(shown.message, "");
        assert_int_equal(r, 0);
        assert_reads(&shown, number, &layer, (unsigned)layer.length);
        wfe_virtual_forget(shown.tree, number, 1);
    }
}

static bool is_seekable(const char *path)
{
    struct wfe_artifact_options options = {.path = path};
    WFE_ARTIFACT struct wfe_artifact *artifact = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_artifact_open(&options, &artifact, &err), 0);
    assert_int_equal(wfe_index_wait(wfe_artifact_index(artifact), NULL), 0);
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    bool seekable;
    assert_int_equal(wfe_artifact_source_new(artifact, 1 << 20, &seekable, &source, &err), 0);
    return seekable;
}

/* The layer is the same with and without prefix, of the archive and of a gzip of it, and is made
 * without a copy of it. */
static void assert_same(const char *at)
{
    char path[4200];
    snprintf(path, sizeof path, "%s", at);
    assert_true(is_seekable(path));
    compare(path, NULL);
    compare(path, "/in/put");
}

static void assert_same_packed(const char *at)
{
    char path[4200];
    snprintf(path, sizeof path, "%s", at);
    assert_same(path);
    assert_same(gzip_path(path));
}

static void refuse(const char *at, const char *word)
{
    char path[4200];
    snprintf(path, sizeof path, "%s", at);
    SHOWN struct shown shown;
    show(path, NULL, 0, &shown);
    uint64_t number;
    assert_int_equal(look_up(&shown, "x.tar", &number), -EIO);
    assert_int_equal(shown.logged, 1);
    if (!strstr(shown.message, word))
        fail_msg("'%s' does not say '%s'", shown.message, word);
    assert_int_equal(look_up(&shown, "x.tar", &number), -EIO);
    assert_int_equal(look_up(&shown, "x.tar", &number), -EIO);
    assert_int_equal(shown.logged, 1);
    assert_int_equal(look_up(&shown, "x.tar.gz", &number), -EIO);
    assert_int_equal(shown.logged, 2);
}

static void a_layer_of_files_and_folders_is_the_same(void **state)
{
    static const char zeros[700000];
    (void)state;
    WRITE_TAR({.name = "./", .type = '5', .mode = 0711, .uid = 5},
        {.name = "./d/", .type = '5', .mode = 0750, .mtime_s = 12},
        {.name = "./d/f", .data = "one"},
        {.name = "a/b/c/f", .data = "parents without entries", .mode = 04755},
        {.name = "d/l", .type = '2', .target = "../a"}, {.name = "p", .type = '6'},
        {.name = "a/b", .type = '5', .mode = 0700, .gid = 9, .pax = "SCHILY.xattr.user.k=v"},
        {.name = "big", .data_length = 700000, .data = zeros},
        {.name = "d", .type = '5', .mode = 0555}, {.name = "empty"});
    assert_same_packed(scratch_path("a.tar"));
}

static void a_layer_of_hard_links_and_duplicates_is_the_same(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "first", .uid = 1},
        {.name = "dir/g", .type = '1', .target = "f"},
        {.name = "h", .type = '1', .target = "./dir//g"}, {.name = "f", .data = "second"},
        {.name = "f", .type = '1', .target = "f"}, {.name = "h", .type = '5'},
        {.name = "h/x", .data = "x"}, {.name = "s", .type = '2', .target = "f"},
        {.name = "t", .type = '1', .target = "s"}, {.name = "gone/a", .data = "a"},
        {.name = "kept", .type = '1', .target = "gone/a"}, {.name = "gone", .data = "file"},
        {.name = "dir/g", .data = "third"}, {.name = "h", .data = "no directory any more"});
    assert_same_packed(scratch_path("a.tar"));
}

static void a_link_that_carries_the_data_is_written_at_its_place(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .mode = 0600}, {.name = "z/early", .type = '1', .target = "a"},
        {.name = "between", .data = "x"},
        {.name = "b",
            .type = '1',
            .target = "a",
            .data = "data",
            .mode = 0640,
            .pax = "SCHILY.xattr.user.k=v"},
        {.name = "late", .type = '1', .target = "z/early"}, {.name = "after", .data = "y"},
        {.name = "late", .type = '1', .target = "late", .data = "newer data"},
        {.name = "end", .data = "z"}, {.name = "a", .data = "replaced"});
    assert_same_packed(scratch_path("a.tar"));
}

/* A file of inode 1 with three links, in cpio's "newc" format. */
static void add_newc(
    struct wfe_buffer *cpio, unsigned mode, unsigned inode, const char *name, const char *data)
{
    static const char zeros[4];
    int r =
        wfe_buffer_printf(cpio, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s%c",
            inode, mode, 0, 0, inode == 1 ? 3 : 1, 1, (unsigned)strlen(data), 0, 0, 0, 0,
            (unsigned)strlen(name) + 1, 0, name, 0);
    assert_int_equal(r, 0);
    assert_int_equal(wfe_buffer_append(cpio, zeros, -cpio->length % 4), 0);
    assert_int_equal(wfe_buffer_puts(cpio, data), 0);
    assert_int_equal(wfe_buffer_append(cpio, zeros, -cpio->length % 4), 0);
}

static void a_layer_of_a_cpio_with_links_is_the_same(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer cpio = WFE_BUFFER_INIT(4096);
    add_newc(&cpio, 0100644, 1, "a", "");
    add_newc(&cpio, 0100644, 2, "other", "other");
    add_newc(&cpio, 0100644, 1, "d/b", "");
    add_newc(&cpio, 0040755, 3, "e", "");
    add_newc(&cpio, 0100644, 1, "e/c", "hello");
    add_newc(&cpio, 0150644, 4, "of no kind that there is", "odd");
    add_newc(&cpio, 0, 0, "TRAILER!!!", "");
    scratch_write("a.cpio", cpio.data, cpio.length);
    assert_same_packed(scratch_path("a.cpio"));
}

static void long_names_and_values_are_the_same(void **state)
{
    (void)state;
    static char lines[8][9000];
    struct tar_entry entries[9] = {{.name = NULL}};
    for (int i = 0; i < 8; i++) {
        size_t length = (size_t)snprintf(lines[i], sizeof lines[i], "path=%d/", i);
        for (int part = 0; part < 1 + 6 * i; part++)
            length += (size_t)snprintf(lines[i] + length, 99, "%d" LONG_NAME "/", part);
        snprintf(lines[i] + length, 9000 - length, "f\nSCHILY.xattr.user.%d=%s\nuid=%d\nmtime=%d.5",
            i, LONG_NAME, 3000000 * i, -1000 * i);
        entries[i] = (struct tar_entry){.name = "x", .data = LONG_NAME, .pax = lines[i]};
    }
    write_tar(entries);
    assert_same_packed(scratch_path("a.tar"));
    WRITE_TAR({.name = "x",
        .type = '2',
        .target = "x",
        .pax = "path=\xff\xfe" LONG_NAME LONG_NAME "\nlinkpath=" LONG_NAME LONG_NAME});
    assert_same_packed(scratch_path("a.tar"));
}

static void write_sparse(
    struct archive *writer, const char *name, unsigned from, unsigned length, unsigned size)
{
    WFE_FREE char *data = calloc(1, size);
    memset(data + from, 'x', length);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, S_IFREG | 0644);
    archive_entry_set_size(entry, size);
    archive_entry_sparse_add_entry(entry, from, length);
    assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(writer, data, size), size);
    archive_entry_free(entry);
}

static void a_layer_of_sparse_files_is_the_same(void **state)
{
    (void)state;
    struct archive *writer = start_archive("sparse.tar", "pax", "");
    write_sparse(writer, "middle", 1 << 20, 4096, 2 << 20);
    write_sparse(writer, "end", 300000, 4096, 304096);
    write_sparse(writer, "start", 0, 10, 999999);
    write_sparse(writer, "hole", 0, 0, 100000);
    write_file(writer, "dense", 1000, 1);
    end_archive(writer);
    assert_same_packed(scratch_path("sparse.tar"));
}

static void write_without_permissions(struct archive *writer, const char *name, unsigned kind)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_mode(entry, kind);
    archive_entry_set_size(entry, 0);
    assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
    archive_entry_free(entry);
}

static void other_formats_become_the_same_layer(void **state)
{
    (void)state;
    static const char *const formats[] = {"zip", "7zip", "iso9660", "xar", "newc", "ustar"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct archive *writer = start_archive("a.other", formats[i], "");
        write_directory(writer, "d");
        write_file(writer, "d/f", 100000, 1);
        write_file(writer, "d/empty", 0, 2);
        write_file(writer, "g", 77, 3);
        write_without_permissions(writer, "h", S_IFREG);
        write_without_permissions(writer, "i", S_IFDIR);
        end_archive(writer);
        assert_same(scratch_path("a.other"));
    }
    struct archive *writer = start_archive("a.other", "zip", "compression=store");
    write_file(writer, "stored", 100000, 1);
    end_archive(writer);
    assert_same(scratch_path("a.other"));
    scratch_write("a.other",
        "!<arch>\n/               0           0     0     0       4         `\nabcd"
        "f.o/            1           2     3     644     4         `\nabcd",
        8 + 60 + 4 + 60 + 4);
    assert_same(scratch_path("a.other"));
}

static void an_empty_archive_has_the_same_layer(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_end(&tar);
    scratch_write("a.tar", tar.data, tar.length);
    assert_same_packed(scratch_path("a.tar"));
    WRITE_TAR({.name = "./", .type = '5', .mode = 0700});
    assert_same_packed(scratch_path("a.tar"));
}

static void the_last_of_two_xattrs_with_one_name_counts_for_all(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .pax = "SCHILY.xattr.user.k=1\nSCHILY.xattr.user.k=2"});
    assert_same_packed(scratch_path("a.tar"));
}

static void make_directory(const char *name)
{
    assert_int_equal(mkdir(scratch_path(name), 0755), 0);
}

static void make_tree(void)
{
    make_directory("tree");
    make_directory("tree/d.d");
    make_directory("tree/d");
    scratch_write("tree/d/z", "z", 1);
    scratch_write("tree/d.d/a", "abc", 3);
    assert_int_equal(link(scratch_path("tree/d/z"), scratch_path("tree/d.d/b")), 0);
    assert_int_equal(symlink("d/z", scratch_path("tree/s")), 0);
    assert_int_equal(link(scratch_path("tree/s"), scratch_path("tree/t")), 0);
    assert_int_equal(mkfifo(scratch_path("tree/p"), 0600), 0);
    assert_int_equal(link(scratch_path("tree/p"), scratch_path("tree/q")), 0);
    scratch_write("tree/sparse", "x", 1);
    assert_int_equal(truncate(scratch_path("tree/sparse"), 300000), 0);
    (void)setxattr(scratch_path("tree/d/z"), "user.k", "v", 1, 0);
    assert_int_equal(chmod(scratch_path("tree"), 0700), 0);
}

static void a_directory_has_the_same_layer(void **state)
{
    (void)state;
    make_tree();
    assert_same(scratch_path("tree"));
}

/* Few names, so that they meet often; those in capitals are meant for directories. */
static void random_name(unsigned *seed, bool is_directory, char out[32])
{
    size_t length = 0;
    for (int depth = rand_r(seed) % 3; depth > 0; depth--)
        length += (size_t)snprintf(out + length, 3, "%c/", "ABC"[rand_r(seed) % 3]);
    bool is_capital = is_directory != (rand_r(seed) % 40 == 0);
    out[length] = (char)((is_capital ? 'A' : 'a') + rand_r(seed) % 3);
    out[length + 1] = '\0';
}

/* An entry of some kind behind those before it. */
static struct tar_entry random_entry(
    unsigned *seed, const struct tar_entry *before, int count, char text[2][32])
{
    static const char types[] = "00005511111226";
    struct tar_entry entry = {
        .name = text[0],
        .type = types[(size_t)rand_r(seed) % (sizeof types - 1)],
        .mode = (unsigned)rand_r(seed) % 0777 + 1,
        .uid = (uint64_t)rand_r(seed) % 3,
        .mtime_s = (uint64_t)rand_r(seed) % 1000,
    };
    random_name(seed, entry.type == '5', text[0]);
    if (entry.type == '2')
        entry.target = "target";
    if (entry.type == '1') {
        const struct tar_entry *target = count > 0 ? &before[rand_r(seed) % count] : NULL;
        entry.target = target && target->type != '5' ? target->name : "a";
    }
    bool has_data = entry.type == '0' || (entry.type == '1' && rand_r(seed) % 3 == 0);
    if (rand_r(seed) % 5 == 0)
        entry.pax = "SCHILY.xattr.user.k=v";
    if (has_data && rand_r(seed) % 5 > 0) {
        snprintf(text[1], sizeof text[1], "data %d", rand_r(seed));
        entry.data = text[1];
    }
    return entry;
}

static void archives_of_all_kinds_have_the_same_layer_or_none(void **state)
{
    (void)state;
    enum { ROUNDS = 400, ENTRIES = 14 };
    unsigned made = 0, refused = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned seed = round;
        char texts[ENTRIES][2][32];
        struct tar_entry entries[ENTRIES + 1] = {{.name = NULL}};
        int count = 1 + rand_r(&seed) % ENTRIES;
        for (int i = 0; i < count; i++)
            entries[i] = random_entry(&seed, entries, i, texts[i]);
        write_tar(entries);
        TAR_BUFFER(layer);
        struct wfe_layer_options options = {.prefix = "a/b"};
        struct wfe_layer_result result;
        bool good = make_layer(scratch_path("a.tar"), &options, &layer, &result, NULL) == 0;
        SHOWN struct shown shown;
        show(scratch_path("a.tar"), "/a/b", 0, &shown);
        uint64_t number;
        int r = look_up(&shown, "x.tar", &number);
        if (r != (good ? 0 : -EIO))
            fail_msg("round %u: %d, %s", round, r, shown.message);
        if (good)
            assert_reads(&shown, number, &layer, round);
        made += good;
        refused += !good;
    }
    assert_in_range(made, ROUNDS / 5, ROUNDS);
    assert_in_range(refused, ROUNDS / 5, ROUNDS);
}

static void what_the_policy_refuses_has_no_layer(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a/../../b", .data = "x"});
    refuse(scratch_path("a.tar"), "'..' may not stand in a name");
    WRITE_TAR({.name = "f", .data = "x"}, {.name = "null", .type = '3'});
    refuse(scratch_path("a.tar"), "'null': device nodes are not allowed");
    WRITE_TAR({.name = "d/.wh.f", .data = "x"});
    refuse(scratch_path("a.tar"), "whiteouts");
    WRITE_TAR({.name = "f", .data = "x"}, {.name = "f/g", .data = "x"});
    refuse(scratch_path("a.tar"), "'f/g': it lies below");
    WRITE_TAR({.name = "l", .type = '1', .target = "nothing"});
    refuse(scratch_path("a.tar"), "'l': a hard link to 'nothing'");
    WRITE_TAR({.name = "f", .data = "x", .pax = "SCHILY.xattr.trusted.overlay.opaque=y"});
    refuse(scratch_path("a.tar"), "overlayfs");
}

static void what_is_broken_has_no_layer(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "x"}, {.name = "g", .data = "x", .size = 100000});
    refuse(scratch_path("a.tar"), "it is broken: ");
}

static void a_file_that_is_no_archive_is_a_layer_as_it_is(void **state)
{
    (void)state;
    WFE_FREE char *text = malloc(600000);
    for (size_t i = 0; i < 600000; i++)
        text[i] = (char)('a' + i % 17);
    for (int packed = 0; packed < 2; packed++) {
        char path[4200];
        scratch_write("notes.txt", text, 600000);
        assert_int_equal(chmod(scratch_path("notes.txt"), 0640), 0);
        snprintf(path, sizeof path, "%s",
            packed ? gzip_path(scratch_path("notes.txt")) : scratch_path("notes.txt"));
        assert_true(is_seekable(path));
        TAR_BUFFER(layer);
        SHOWN struct shown shown;
        show(path, "/in", 0, &shown);
        struct wfe_layer_options options = {.prefix = "/in"};
        struct wfe_layer_result result;
        layer.length = 0;
        WFE_CLOSE int fd =
            open(scratch_path("layer.out"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        assert_int_equal(wfe_layer_write_file(path, packed ? "packed.gz" : "notes.txt", &options,
                             wfe_sink_to_fd(&fd), &result, NULL),
            0);
        WFE_FREE char *data = malloc(result.size_bytes);
        assert_int_equal(pread(fd, data, result.size_bytes, 0), result.size_bytes);
        assert_int_equal(wfe_buffer_append(&layer, data, result.size_bytes), 0);
        uint64_t number;
        assert_int_equal(look_up(&shown, "x.tar", &number), 0);
        assert_reads(&shown, number, &layer, 1);
    }
}

/* More xattrs than can be listed, none of which the layer has. */
static void an_archive_that_the_index_lacks_something_of_is_read_again(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer lines = WFE_BUFFER_INIT(1 << 20);
    for (int i = 0; i < 300; i++)
        assert_int_equal(wfe_buffer_printf(&lines, "SCHILY.xattr.security.%0240d=v\n", i), 0);
    WRITE_TAR({.name = "f", .data = "x", .pax = lines.data});
    char path[4200];
    snprintf(path, sizeof path, "%s", scratch_path("a.tar"));
    assert_false(is_seekable(path));
    compare(path, "/in");
    SHOWN struct shown shown;
    show(path, NULL, 1000, &shown);
    uint64_t number;
    assert_int_equal(look_up(&shown, "x.tar", &number), -EIO);
    assert_non_null(strstr(shown.message, "more than the 1000 bytes"));
}

static void what_was_made_is_shared_and_forgotten_with_the_last_look(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "x"});
    SHOWN struct shown shown;
    show(scratch_path("a.tar"), NULL, 0, &shown);
    uint64_t first, second, third;
    assert_int_equal(look_up(&shown, "x.tar.gz", &first), 0);
    assert_int_equal(look_up(&shown, "x.tar.gz", &second), 0);
    assert_int_equal(first, second);
    assert_true(wfe_virtual_is_final(shown.tree, first));
    wfe_virtual_forget(shown.tree, first, 1);
    char byte;
    assert_int_equal(wfe_virtual_read(shown.tree, first, &byte, 1, 0, NULL), 1);
    wfe_virtual_forget(shown.tree, first, 1);
    assert_int_equal(wfe_virtual_read(shown.tree, first, &byte, 1, 0, NULL), -ENOENT);
    assert_int_equal(look_up(&shown, "x.tar.gz", &third), 0);
    assert_int_not_equal(first, third);
}

static bool always(void *context)
{
    (void)context;
    return true;
}

static void who_has_no_patience_gets_no_layer_and_spoils_it_for_nobody(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "x"});
    SHOWN struct shown shown;
    show(scratch_path("a.tar"), NULL, 0, &shown);
    const struct wfe_index_patience none = {.is_over = always};
    for (int gzip = 0; gzip < 2; gzip++) {
        const char *name = gzip ? "x.tar.gz" : "x.tar";
        uint64_t number;
        assert_int_equal(
            wfe_virtual_lookup(shown.tree, WFE_VIRTUAL_LAYERS, name, &none, &number), -EINTR);
        assert_int_equal(look_up(&shown, name, &number), 0);
    }
    assert_int_equal(shown.logged, 0);
}

struct hurried {
    const struct shown *shown;
    const struct wfe_buffer *layer;
    unsigned seed;
    bool failed;
};

static void *read_here_and_there(void *context)
{
    struct hurried *self = context;
    const struct wfe_buffer *layer = self->layer;
    uint64_t number;
    self->failed = look_up(self->shown, "x.tar", &number) < 0;
    char data[3000];
    for (int i = 0; i < 300 && !self->failed; i++) {
        size_t offset = (size_t)rand_r(&self->seed) % (layer->length - sizeof data);
        ssize_t n = wfe_virtual_read(self->shown->tree, number, data, sizeof data, offset, NULL);
        self->failed = n != sizeof data || memcmp(data, layer->data + offset, sizeof data) != 0;
    }
    if (!self->failed)
        wfe_virtual_forget(self->shown->tree, number, 1);
    return NULL;
}

static void many_readers_read_the_same(void **state)
{
    (void)state;
    enum { READERS = 8 };
    struct archive *writer = start_archive("many.tar", "pax", "");
    for (unsigned i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%u/f%u", i % 7, i);
        write_file(writer, name, 20000 * (i % 4), i);
        snprintf(name, sizeof name, "l/%u", i);
        write_symlink(writer, name, "x");
    }
    end_archive(writer);
    char path[4200];
    snprintf(path, sizeof path, "%s", gzip_path(scratch_path("many.tar")));
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    assert_int_equal(make_layer(path, NULL, &layer, &result, NULL), 0);
    SHOWN struct shown shown;
    show(path, NULL, 0, &shown);
    struct hurried readers[READERS];
    pthread_t threads[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct hurried){.shown = &shown, .layer = &layer, .seed = i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_here_and_there, &readers[i]), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(readers[i].failed);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_layer_of_files_and_folders_is_the_same),
        TEST(a_layer_of_hard_links_and_duplicates_is_the_same),
        TEST(a_link_that_carries_the_data_is_written_at_its_place),
        TEST(a_layer_of_a_cpio_with_links_is_the_same),
        TEST(long_names_and_values_are_the_same),
        TEST(a_layer_of_sparse_files_is_the_same),
        TEST(other_formats_become_the_same_layer),
        TEST(an_empty_archive_has_the_same_layer),
        TEST(the_last_of_two_xattrs_with_one_name_counts_for_all),
        TEST(a_directory_has_the_same_layer),
        TEST(archives_of_all_kinds_have_the_same_layer_or_none),
        TEST(what_the_policy_refuses_has_no_layer),
        TEST(what_is_broken_has_no_layer),
        TEST(a_file_that_is_no_archive_is_a_layer_as_it_is),
        TEST(an_archive_that_the_index_lacks_something_of_is_read_again),
        TEST(what_was_made_is_shared_and_forgotten_with_the_last_look),
        TEST(who_has_no_patience_gets_no_layer_and_spoils_it_for_nobody),
        TEST(many_readers_read_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
