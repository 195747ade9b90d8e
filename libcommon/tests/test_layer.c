/* SPDX-License-Identifier: MIT */

/* The policy table of libcommon/layer.h, row by row. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer.h"
#include "libcommon/tests/layer_fixture.h"

#define WRITE_TAR(...) write_tar((const struct tar_entry[]){__VA_ARGS__, {.name = NULL}})

static void names_are_cleaned(void **state)
{
    (void)state;
    WRITE_TAR({.name = "./d//./f", .data = "x"}, {.name = "d/.//g", .data = "y"});
    assert_layer("//in/./", "d 755 0:0 0 in/\n"
                            "d 755 0:0 0 in/d/\n"
                            "- 644 0:0 0 in/d/f 1 x\n"
                            "- 644 0:0 0 in/d/g 1 y\n");
}

static void an_absolute_name_loses_its_slash(void **state)
{
    (void)state;
    WRITE_TAR({.name = "//etc/passwd", .data = "x"});
    assert_layer("in", "d 755 0:0 0 in/\n"
                       "d 755 0:0 0 in/etc/\n"
                       "- 644 0:0 0 in/etc/passwd 1 x\n");
}

static void a_name_with_two_dots_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a/../../b", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'a/../../b': '..'", "name");
    WRITE_TAR({.name = "..", .type = '5'});
    assert_refused(WFE_ERROR_ARCHIVE, "'..'", "name");
    WRITE_TAR({.name = "..a/b..", .data = "x"});
    assert_layer(NULL, "d 755 0:0 0 ..a/\n"
                       "- 644 0:0 0 ..a/b.. 1 x\n");
}

static void a_file_without_name_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "./.", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'./.'", "nothing is left");
}

static void a_name_ends_at_its_nul(void **state)
{
    (void)state;
    static const char records[] = "14 path=a/b\0c\n";
    TAR_BUFFER(tar);
    tar_add_pax(&tar, records, sizeof records - 1);
    tar_add(&tar, &(struct tar_entry){.name = "ustar", .data = "x"});
    tar_end(&tar);
    scratch_write("a.tar", tar.data, tar.length);
    assert_layer(NULL, "d 755 0:0 0 a/\n"
                       "- 644 0:0 0 a/b 1 x\n");
}

static void add_long_path(char *out, size_t length)
{
    memcpy(out, "path=", 5);
    for (size_t i = 5; i < length + 5; i++)
        out[i] = (i - 5) % 201 == 200 ? '/' : 'a';
    out[length + 5] = '\0';
}

static void a_component_of_256_bytes_is_beyond_the_limit(void **state)
{
    (void)state;
    char pax[300] = "path=";
    memset(pax + 5, 'x', 255);
    WRITE_TAR({.name = "u", .pax = pax, .data = "1"});
    WFE_FREE char *expected = NULL;
    assert_true(asprintf(&expected, "- 644 0:0 0 %s 1 1\n", pax + 5) > 0);
    assert_layer(NULL, expected);
    pax[260] = 'x';
    WRITE_TAR({.name = "u", .pax = pax, .data = "1"});
    assert_refused(WFE_ERROR_LIMIT, "component", "255");
}

static void a_path_of_4097_bytes_is_beyond_the_limit(void **state)
{
    (void)state;
    char pax[5000];
    add_long_path(pax, 4096 - strlen("in/"));
    WRITE_TAR({.name = "u", .pax = pax, .data = "1"});
    TAR_BUFFER(layer);
    struct wfe_layer_options options = {.prefix = "in"};
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), 0);
    assert_int_equal(result.entries, 22);
    options.prefix = "inn";
    assert_true(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_non_null(strstr(err.message, "4096"));
}

static void long_names_and_targets_are_kept(void **state)
{
    (void)state;
    char split[201], whole[205], target[205];
    memset(split, 'p', sizeof split);
    split[120] = '/';
    split[200] = '\0';
    memset(whole, 'w', sizeof whole);
    whole[204] = '\0';
    memset(target, 't', sizeof target);
    target[204] = '\0';
    WFE_FREE char *pax = NULL, *link_pax = NULL, *pax_split = NULL, *expected = NULL;
    assert_true(asprintf(&pax, "path=%s", whole) > 0);
    assert_true(asprintf(&pax_split, "path=%s", split) > 0);
    assert_true(asprintf(&link_pax, "linkpath=%s", target) > 0);
    WRITE_TAR({.name = "u", .pax = pax, .data = "1"}, {.name = "u", .pax = pax_split, .data = "2"},
        {.name = "l", .type = '2', .target = "t", .pax = link_pax});
    assert_true(asprintf(&expected,
                    "- 644 0:0 0 %s 1 1\nd 755 0:0 0 %.120s/\n- 644 0:0 0 %s 1 2\n"
                    "l 777 0:0 0 l > %s\n",
                    whole, split, split, target) > 0);
    assert_layer(NULL, expected);
}

static void a_long_directory_has_no_empty_name(void **state)
{
    (void)state;
    char pax[200] = "path=";
    memset(pax + 5, 'd', 120);
    WRITE_TAR({.name = "u", .type = '5', .pax = pax});
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    assert_int_equal(make_layer(scratch_path("a.tar"), NULL, &layer, &result, NULL), 0);
    assert_int_equal(layer.data[156], 'x');
    assert_memory_equal(layer.data + 1024, pax + 5, 100);
}

static void a_name_that_is_no_utf8_is_kept(void **state)
{
    (void)state;
    char pax[200] = "path=caf\xe9/";
    memset(pax + strlen(pax), '\xff', 150);
    WRITE_TAR({.name = "caf\xe9/x", .data = "1"}, {.name = "u", .pax = pax, .data = "2"},
        {.name = "l", .type = '2', .target = "\xfe"});
    WFE_FREE char *expected = NULL;
    assert_true(asprintf(&expected,
                    "d 755 0:0 0 caf\xe9/\n- 644 0:0 0 caf\xe9/x 1 1\n- 644 0:0 0 %s 1 2\n"
                    "l 777 0:0 0 l > \xfe\n",
                    pax + 5) > 0);
    assert_layer(NULL, expected);
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    assert_int_equal(make_layer(scratch_path("a.tar"), NULL, &layer, &result, NULL), 0);
    assert_non_null(memmem(layer.data, layer.length, "21 hdrcharset=BINARY\n", 21));
}

static void decomposed_letters_stay_decomposed(void **state)
{
    (void)state;
    WRITE_TAR({.name = "u", .pax = "path=cafe\xcc\x81", .data = "1"},
        {.name = "u", .pax = "path=caf\xc3\xa9", .data = "2"});
    assert_layer(NULL, "- 644 0:0 0 cafe\xcc\x81 1 1\n"
                       "- 644 0:0 0 caf\xc3\xa9 1 2\n");
}

static void the_root_entry_describes_the_prefix(void **state)
{
    (void)state;
    WRITE_TAR({.name = "./",
                  .type = '5',
                  .mode = 0750,
                  .uid = 7,
                  .gid = 8,
                  .mtime_s = 9,
                  .pax = "SCHILY.xattr.user.k=v"},
        {.name = "./f", .data = "x"});
    assert_layer("/a/b", "d 755 0:0 0 a/\n"
                         "d 750 7:8 9 a/b/ user.k=v\n"
                         "- 644 0:0 0 a/b/f 1 x\n");
    assert_layer("/", "- 644 0:0 0 f 1 x\n");
}

static void the_prefix_is_judged(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "x"});
    static const char *const wrong[] = {"/a/../b", "/a/.wh.b"};
    for (size_t i = 0; i < 2; i++) {
        TAR_BUFFER(layer);
        struct wfe_layer_options options = {.prefix = wrong[i]};
        struct wfe_layer_result result;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(
            make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
        assert_non_null(strstr(err.message, wrong[i]));
        assert_int_equal(layer.length, 0);
    }
}

static void an_archive_without_entries_is_the_prefix(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_end(&tar);
    scratch_write("a.tar", tar.data, tar.length);
    assert_layer("/a/b", "d 755 0:0 0 a/\n"
                         "d 755 0:0 0 a/b/\n");
    assert_layer(NULL, "");
}

static void a_root_alone_is_the_prefix_too(void **state)
{
    (void)state;
    TAR_BUFFER(layer);
    TAR_BUFFER(listing);
    struct wfe_layer_options options = {.prefix = "/a/b"};
    struct wfe_layer_result result;
    struct wfe_sink sink = {.write = to_buffer, .context = &layer};
    struct wfe_layer_root root = {.mode = 02710, .uid = 3, .gid = 4, .mtime_s = 5};
    assert_int_equal(wfe_layer_write_root(&root, &options, sink, &result, NULL), 0);
    list_layer(&layer, &listing);
    assert_string_equal(listing.data, "d 755 0:0 0 a/\n"
                                      "d 2710 3:4 5 a/b/\n");
    assert_int_equal(result.entries, 2);
    options.prefix = "/a/../b";
    assert_int_equal(wfe_layer_write_root(&root, &options, sink, &result, NULL), -EINVAL);
}

static void a_directory_comes_before_its_contents(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d/e/f", .data = "x"}, {.name = "other", .data = "y"},
        {.name = "d/", .type = '5', .mode = 0700, .uid = 5});
    assert_layer(NULL, "d 700 5:0 0 d/\n"
                       "d 755 0:0 0 d/e/\n"
                       "- 644 0:0 0 d/e/f 1 x\n"
                       "- 644 0:0 0 other 1 y\n");
}

static void the_last_of_duplicates_wins(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .data = "old"}, {.name = "b", .data = "x"},
        {.name = "./a", .data = "newer", .mode = 0600}, {.name = "a", .type = '2', .target = "t"});
    assert_layer(NULL, "- 644 0:0 0 b 1 x\n"
                       "l 777 0:0 0 a > t\n");
}

static void a_directory_twice_has_the_last_attributes(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d", .type = '5', .mode = 0700, .pax = "SCHILY.xattr.user.k=v"},
        {.name = "d/f", .data = "x"}, {.name = "d/", .type = '5', .mode = 0711, .mtime_s = 3});
    assert_layer(NULL, "d 711 0:0 3 d/\n"
                       "- 644 0:0 0 d/f 1 x\n");
}

static void a_file_takes_the_place_of_a_directory(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d/e/f", .data = "x"}, {.name = "l", .type = '1', .target = "d/e/f"},
        {.name = "d", .data = "file"});
    assert_layer(NULL, "- 644 0:0 0 l 1 x\n"
                       "- 644 0:0 0 d 4 file\n");
}

static void a_directory_takes_the_place_of_a_file(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d", .data = "file"}, {.name = "d", .type = '5', .mode = 0700},
        {.name = "d/f", .data = "x"});
    assert_layer(NULL, "d 700 0:0 0 d/\n"
                       "- 644 0:0 0 d/f 1 x\n");
    WRITE_TAR({.name = "d/old", .data = "x"}, {.name = "d", .data = "file"},
        {.name = "d", .type = '5', .mode = 0700});
    assert_layer(NULL, "d 700 0:0 0 d/\n");
}

static void an_entry_below_a_link_or_file_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "l", .type = '2', .target = "/etc"}, {.name = "l/passwd", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'l/passwd'", "below '/in/l', which is a symbolic link");
    WRITE_TAR({.name = "f", .data = "x"}, {.name = "f/g/h", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f/g/h'", "below '/in/f', which is a file");
}

static void a_hardlink_is_cleaned_and_prefixed(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d/f", .data = "x", .mode = 0600},
        {.name = "e/l", .type = '1', .target = "/.//d/f", .mode = 0777, .uid = 9});
    assert_layer("in", "d 755 0:0 0 in/\n"
                       "d 755 0:0 0 in/d/\n"
                       "- 600 0:0 0 in/d/f 1 x\n"
                       "d 755 0:0 0 in/e/\n"
                       "h in/e/l > in/d/f\n");
}

static void a_hardlink_to_a_missing_target_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "l", .type = '1', .target = "f"}, {.name = "f", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'l': a hard link to 'f'", "not in the archive before it");
    WRITE_TAR({.name = "l", .type = '1', .target = "../etc/shadow"});
    assert_refused(WFE_ERROR_ARCHIVE, "a hard link to '../etc/shadow'", "'..'");
    WRITE_TAR({.name = "s", .type = '2', .target = "/etc"},
        {.name = "l", .type = '1', .target = "s/shadow"});
    assert_refused(WFE_ERROR_ARCHIVE, "a hard link to 's/shadow'", "not in the archive before it");
}

static void a_hardlink_to_a_directory_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d", .type = '5'}, {.name = "l", .type = '1', .target = "d"});
    assert_refused(WFE_ERROR_ARCHIVE, "'l'", "is a directory");
    WRITE_TAR({.name = "l", .type = '1', .target = "."});
    assert_refused(WFE_ERROR_ARCHIVE, "'l'", "is a directory");
}

static void a_hardlink_in_the_place_of_a_directory_above_its_target_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d/f", .data = "x"}, {.name = "d", .type = '1', .target = "d/f"});
    assert_refused(WFE_ERROR_ARCHIVE, "'d'", "above its target");
}

static void a_version_that_was_replaced_lives_on_under_its_link(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "old", .mode = 0600}, {.name = "l", .type = '1', .target = "f"},
        {.name = "f", .data = "new"}, {.name = "m", .type = '1', .target = "l"},
        {.name = "n", .type = '1', .target = "f"});
    assert_layer("in", "d 755 0:0 0 in/\n"
                       "- 600 0:0 0 in/l 3 old\n"
                       "- 644 0:0 0 in/f 3 new\n"
                       "h in/m > in/l\n"
                       "h in/n > in/f\n");
}

static void a_version_lives_on_below_a_directory_that_comes_later(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .data = "old"}, {.name = "d", .type = '5', .mode = 0711},
        {.name = "d/l", .type = '1', .target = "f"}, {.name = "f", .type = '5', .mode = 0700},
        {.name = "f/m", .type = '1', .target = "d/l"});
    assert_layer(NULL, "d 711 0:0 0 d/\n"
                       "- 644 0:0 0 d/l 3 old\n"
                       "d 700 0:0 0 f/\n"
                       "h f/m > d/l\n");
}

static void a_link_that_returns_to_its_old_name_is_a_link(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .data = "1"}, {.name = "b", .type = '1', .target = "a"},
        {.name = "a", .data = "2"}, {.name = "a", .type = '1', .target = "b"});
    assert_layer(NULL, "- 644 0:0 0 b 1 1\n"
                       "h a > b\n");
}

static void a_hardlink_to_itself_is_nothing(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .data = "1"}, {.name = "b", .type = '1', .target = "a"},
        {.name = "a", .type = '1', .target = "./a"});
    assert_layer(NULL, "- 644 0:0 0 a 1 1\n"
                       "h b > a\n");
}

static void a_hardlink_may_name_a_symlink(void **state)
{
    (void)state;
    WRITE_TAR({.name = "s", .type = '2', .target = "t"}, {.name = "l", .type = '1', .target = "s"});
    assert_layer(NULL, "l 777 0:0 0 s > t\n"
                       "h l > s\n");
}

static void data_of_a_hardlink_become_the_file(void **state)
{
    (void)state;
    /* pax: a hard link may have data, which libarchive writes to the file. */
    WRITE_TAR({.name = "a", .pax = "comment=x", .data = "first"},
        {.name = "b", .pax = "comment=x", .type = '1', .target = "a"},
        {.name = "c", .pax = "comment=x\nsize=6", .type = '1', .target = "a", .data = "second"},
        {.name = "d", .pax = "comment=x", .type = '1', .target = "a"});
    assert_layer(NULL, "- 644 0:0 0 a 6 second\n"
                       "h b > a\n"
                       "h c > a\n"
                       "h d > a\n");
}

static void symlink_targets_are_kept_verbatim(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .type = '2', .target = "/etc//passwd"},
        {.name = "b", .type = '2', .target = "../../x/./y/"});
    assert_layer("in", "d 755 0:0 0 in/\n"
                       "l 777 0:0 0 in/a > /etc//passwd\n"
                       "l 777 0:0 0 in/b > ../../x/./y/\n");
}

static void a_symlink_without_target_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .type = '2'});
    assert_refused(WFE_ERROR_ARCHIVE, "'a'", "without target");
    char pax[4200] = "linkpath=";
    memset(pax + 9, 't', 4096);
    WRITE_TAR({.name = "a", .type = '2', .target = "t", .pax = pax});
    assert_refused(WFE_ERROR_LIMIT, "'a'", "4095");
}

static void setuid_and_setgid_are_cleared(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .mode = 06755, .data = "x"}, {.name = "t", .mode = 01644, .data = "x"},
        {.name = "d", .type = '5', .mode = 07777});
    assert_layer(NULL, "- 755 0:0 0 f 1 x\n"
                       "- 1644 0:0 0 t 1 x\n"
                       "d 3777 0:0 0 d/\n");
}

static void owners_are_numbers(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f", .uid = 1000, .gid = 100, .data = "x"},
        {.name = "g", .pax = "uid=4294967294\ngid=3000000\nuname=root", .data = "x"});
    assert_layer(NULL, "- 644 1000:100 0 f 1 x\n"
                       "- 644 4294967294:3000000 0 g 1 x\n");
    WRITE_TAR({.name = "f", .pax = "uid=4294967295", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f'", "owner");
    WRITE_TAR({.name = "f", .pax = "gid=-1", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f'", "owner");
    WRITE_TAR({.name = "f", .pax = "gid=4294967295", .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f'", "owner");
}

static void times_are_whole_seconds(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .pax = "mtime=1350244992.999999999\natime=5\nctime=6", .data = "x"},
        {.name = "b", .pax = "mtime=-2", .data = "x"},
        {.name = "c", .pax = "mtime=99999999999", .data = "x"});
    assert_layer(NULL, "- 644 0:0 1350244992 a 1 x\n"
                       "- 644 0:0 -2 b 1 x\n"
                       "- 644 0:0 99999999999 c 1 x\n");
}

static void user_xattrs_are_kept_and_others_dropped(void **state)
{
    (void)state;
    WRITE_TAR({.name = "f",
                  .pax = "SCHILY.xattr.user.b=2\nSCHILY.xattr.user.a=1\n"
                         "SCHILY.xattr.security.capability=x\nSCHILY.xattr.trusted.y=x\n"
                         "SCHILY.acl.access=user::rw-,group::r--,other::r--,user:5:rwx:5,mask::rwx",
                  .data = "x"},
        {.name = "l", .type = '2', .target = "t", .pax = "SCHILY.xattr.user.a=1"},
        {.name = "p", .type = '6', .pax = "SCHILY.xattr.user.a=1"});
    assert_layer(NULL, "- 644 0:0 0 f 1 x user.b=2 user.a=1\n"
                       "l 777 0:0 0 l > t\n"
                       "p 644 0:0 0 p\n");
}

static void an_overlay_xattr_is_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d", .type = '5', .pax = "SCHILY.xattr.trusted.overlay.opaque=y"});
    assert_refused(WFE_ERROR_ARCHIVE, "'d'", "trusted.overlay.opaque");
    WRITE_TAR({.name = "f", .data = "x", .pax = "SCHILY.xattr.user.overlay.redirect=/etc"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f'", "user.overlay.redirect");
}

static void an_xattr_that_pax_cant_express_is_refused(void **state)
{
    (void)state;
    /* LIBARCHIVE.xattr names are URL-encoded. */
    WRITE_TAR({.name = "f", .data = "x", .pax = "LIBARCHIVE.xattr.user.a%3Db=eA"});
    assert_refused(WFE_ERROR_ARCHIVE, "'f'", "'user.a=b'");
}

static void large_xattrs_are_beyond_the_limit(void **state)
{
    (void)state;
    enum { COUNT = 17, VALUE = 64 * 1024 };
    WFE_FREE char *pax = malloc(COUNT * (VALUE + 64));
    assert_non_null(pax);
    size_t length = 0;
    for (int i = 0; i < COUNT; i++) {
        length += (size_t)snprintf(pax + length, 64, "SCHILY.xattr.user.%02d=", i);
        memset(pax + length, 'v', VALUE);
        length += VALUE;
        pax[length++] = i + 1 < COUNT ? '\n' : '\0';
        if (i == 0) {
            pax[length - 1] = '\0';
            WRITE_TAR({.name = "f", .data = "x", .pax = pax});
            TAR_BUFFER(layer);
            struct wfe_layer_result result;
            struct wfe_error err = WFE_ERROR_INIT;
            assert_int_equal(make_layer(scratch_path("a.tar"), NULL, &layer, &result, &err), 0);
            pax[length - 1] = 'v';
            pax[length] = '\0';
            WRITE_TAR({.name = "f", .data = "x", .pax = pax});
            assert_refused(WFE_ERROR_LIMIT, "'user.00'", "65536");
            pax[length - 1] = '\n';
        }
        if (i == 14) {
            pax[length - 1] = '\0';
            WRITE_TAR({.name = "f", .data = "x", .pax = pax});
            TAR_BUFFER(layer);
            struct wfe_layer_options options = {.limits.max_xattrs_bytes = 900000};
            struct wfe_layer_result result;
            struct wfe_error err = WFE_ERROR_INIT;
            assert_int_equal(make_layer(scratch_path("a.tar"), NULL, &layer, &result, &err), 0);
            int r = make_layer(scratch_path("a.tar"), &options, &layer, &result, &err);
            assert_int_equal(r, -E2BIG);
            assert_non_null(strstr(err.message, "900000"));
            pax[length - 1] = '\n';
        }
    }
}

static void a_fifo_is_kept(void **state)
{
    (void)state;
    WRITE_TAR({.name = "p", .type = '6', .mode = 0600});
    assert_layer(NULL, "p 600 0:0 0 p\n");
}

static void device_nodes_are_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "null", .type = '3'});
    assert_refused(WFE_ERROR_ARCHIVE, "'null'", "whiteout");
    WRITE_TAR({.name = "sda", .type = '4'});
    assert_refused(WFE_ERROR_ARCHIVE, "'sda'", "device");
}

static void a_whiteout_name_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"d/.wh.x", ".wh.", ".wh..wh..opq", ".wh.d/f", "d/.wh.e/f"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        WRITE_TAR({.name = names[i], .data = "x"});
        assert_refused(WFE_ERROR_ARCHIVE, names[i], "they delete files of the image");
    }
    WRITE_TAR({.name = "a.wh.b", .data = "x"}, {.name = ".wha", .data = "x"});
    assert_layer(NULL, "- 644 0:0 0 a.wh.b 1 x\n"
                       "- 644 0:0 0 .wha 1 x\n");
}

static void sparse_files_are_expanded(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    char data[515] = "2\n2\n3\n20\n0\n";
    memcpy(data + 512, "abc", 3);
    tar_add(&tar, &(struct tar_entry){.name = "GNUSparseFile.0/f",
                      .pax = "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=f\n"
                             "GNU.sparse.realsize=20",
                      .data_length = 515,
                      .data = data});
    tar_end(&tar);
    scratch_write("a.tar", tar.data, tar.length);
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(scratch_path("a.tar"), NULL, &layer, &result, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    static const char expected[20] = "\0\0abc";
    assert_memory_equal(layer.data + 512, expected, sizeof expected);
    assert_memory_equal(layer.data + 124, "00000000024", 11);
}

static void data_that_fall_short_are_an_error(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_add(&tar, &(struct tar_entry){.name = "good", .data = "x"});
    tar_add(&tar, &(struct tar_entry){.name = "short", .data = "abc", .size = 5000});
    scratch_write("a.tar", tar.data, tar.length);
    assert_refused(WFE_ERROR_ARCHIVE, "short'", "runcated");
}

static void a_broken_header_is_an_error(void **state)
{
    (void)state;
    TAR_BUFFER(tar);
    tar_add(&tar, &(struct tar_entry){.name = "good", .data = "x"});
    tar_add(&tar, &(struct tar_entry){.name = "bad", .data = "x"});
    tar.data[1024]++;
    scratch_write("a.tar", tar.data, tar.length);
    assert_refused(WFE_ERROR_ARCHIVE, "after '/in/good'", "");
}

static void a_size_in_pax_is_for_the_next_file_alone(void **state)
{
    (void)state;
    WRITE_TAR({.name = "a", .pax = "size=3", .size = 99999, .data = "abc"},
        {.name = "b", .data = "next"});
    assert_layer(NULL, "- 644 0:0 0 a 3 abc\n"
                       "- 644 0:0 0 b 4 next\n");
}

static void entries_beyond_the_limit_are_refused(void **state)
{
    (void)state;
    WRITE_TAR({.name = "d/a", .data = "x"}, {.name = "d/b", .data = "x"});
    TAR_BUFFER(layer);
    struct wfe_layer_options options = {.prefix = "/very/deep", .limits.max_entries = 3};
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), 0);
    options.limits.max_entries = 2;
    assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), -E2BIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_non_null(strstr(err.message, "'d/b'"));
}

static void a_layer_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    char data[3000];
    memset(data, 'x', sizeof data);
    WRITE_TAR({.name = "a", .data = "x"}, {.name = "b", .data = data, .data_length = sizeof data});
    TAR_BUFFER(layer);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(make_layer(scratch_path("a.tar"), NULL, &layer, &result, &err), 0);
    struct wfe_layer_options options = {.limits.max_tar_bytes = result.tar_bytes};
    assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), 0);
    options.limits.max_tar_bytes = result.tar_bytes - 1;
    assert_int_equal(make_layer(scratch_path("a.tar"), &options, &layer, &result, &err), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_non_null(strstr(err.message, "'b': with it the layer has more than"));
}

static void a_name_is_shown_without_controls(void **state)
{
    (void)state;
    char name[600] = "path=\x1b[31m\\\xe2\x80\xae\xff\xc3\xa4";
    memset(name + strlen(name), 'x', 200);
    size_t length = strlen(name);
    snprintf(name + length, sizeof name - length, "/.wh.end");
    WRITE_TAR({.name = "u", .pax = name, .data = "x"});
    assert_refused(WFE_ERROR_ARCHIVE, "'\\x1b[31m\\x5c\\xe2\\x80\\xae\\xff\xc3\xa4xxx",
        "x\xe2\x80\xa6xx/.wh.end':");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_cleaned),
        cmocka_unit_test(an_absolute_name_loses_its_slash),
        cmocka_unit_test(a_name_with_two_dots_is_refused),
        cmocka_unit_test(a_file_without_name_is_refused),
        cmocka_unit_test(a_name_ends_at_its_nul),
        cmocka_unit_test(a_component_of_256_bytes_is_beyond_the_limit),
        cmocka_unit_test(a_path_of_4097_bytes_is_beyond_the_limit),
        cmocka_unit_test(long_names_and_targets_are_kept),
        cmocka_unit_test(a_long_directory_has_no_empty_name),
        cmocka_unit_test(a_name_that_is_no_utf8_is_kept),
        cmocka_unit_test(decomposed_letters_stay_decomposed),
        cmocka_unit_test(the_root_entry_describes_the_prefix),
        cmocka_unit_test(the_prefix_is_judged),
        cmocka_unit_test(an_archive_without_entries_is_the_prefix),
        cmocka_unit_test(a_root_alone_is_the_prefix_too),
        cmocka_unit_test(a_directory_comes_before_its_contents),
        cmocka_unit_test(the_last_of_duplicates_wins),
        cmocka_unit_test(a_directory_twice_has_the_last_attributes),
        cmocka_unit_test(a_file_takes_the_place_of_a_directory),
        cmocka_unit_test(a_directory_takes_the_place_of_a_file),
        cmocka_unit_test(an_entry_below_a_link_or_file_is_refused),
        cmocka_unit_test(a_hardlink_is_cleaned_and_prefixed),
        cmocka_unit_test(a_hardlink_to_a_missing_target_is_refused),
        cmocka_unit_test(a_hardlink_to_a_directory_is_refused),
        cmocka_unit_test(a_hardlink_in_the_place_of_a_directory_above_its_target_is_refused),
        cmocka_unit_test(a_version_that_was_replaced_lives_on_under_its_link),
        cmocka_unit_test(a_version_lives_on_below_a_directory_that_comes_later),
        cmocka_unit_test(a_link_that_returns_to_its_old_name_is_a_link),
        cmocka_unit_test(a_hardlink_to_itself_is_nothing),
        cmocka_unit_test(a_hardlink_may_name_a_symlink),
        cmocka_unit_test(data_of_a_hardlink_become_the_file),
        cmocka_unit_test(symlink_targets_are_kept_verbatim),
        cmocka_unit_test(a_symlink_without_target_is_refused),
        cmocka_unit_test(setuid_and_setgid_are_cleared),
        cmocka_unit_test(owners_are_numbers),
        cmocka_unit_test(times_are_whole_seconds),
        cmocka_unit_test(user_xattrs_are_kept_and_others_dropped),
        cmocka_unit_test(an_overlay_xattr_is_refused),
        cmocka_unit_test(an_xattr_that_pax_cant_express_is_refused),
        cmocka_unit_test(large_xattrs_are_beyond_the_limit),
        cmocka_unit_test(a_fifo_is_kept),
        cmocka_unit_test(device_nodes_are_refused),
        cmocka_unit_test(a_whiteout_name_is_refused),
        cmocka_unit_test(sparse_files_are_expanded),
        cmocka_unit_test(data_that_fall_short_are_an_error),
        cmocka_unit_test(a_broken_header_is_an_error),
        cmocka_unit_test(a_size_in_pax_is_for_the_next_file_alone),
        cmocka_unit_test(entries_beyond_the_limit_are_refused),
        cmocka_unit_test(a_layer_beyond_the_limit_is_refused),
        cmocka_unit_test(a_name_is_shown_without_controls),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
