/* SPDX-License-Identifier: MIT */
#include "executor/spec/root_file.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define LIMIT 64

/* Three layers in a directory of their own, "a" the uppermost. */
static char base[] = "/tmp/wfe-root-file-XXXXXX";
static char layers[128];

static int set_up(void **state)
{
    (void)state;
    memcpy(base + sizeof base - 7, "XXXXXX", 6);
    if (!mkdtemp(base))
        return -1;
    snprintf(layers, sizeof layers, "%s/a:%s/b:%s/c", base, base, base);
    for (const char *name = "abc"; *name; name++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%c/etc", base, *name);
        if (wfe_make_directories(path, 0755) < 0)
            return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return wfe_remove_tree(base);
}

static const char *place(const char *path)
{
    static char whole[128];
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return whole;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(place(path), "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void link_to(const char *path, const char *target)
{
    assert_int_equal(symlink(target, place(path)), 0);
}

static void make_directory(const char *path)
{
    assert_int_equal(wfe_make_directories(place(path), 0755), 0);
}

static void assert_reads(const char *path, const char *expected)
{
    WFE_FREE char *text = NULL;
    size_t length;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_root_file_read(layers, path, LIMIT, &text, &length, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(text, expected);
    assert_int_equal(length, strlen(expected));
}

static void assert_fails(const char *path, int errnum, enum wfe_error_kind kind)
{
    char *text = NULL;
    size_t length;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_root_file_read(layers, path, LIMIT, &text, &length, &err), -errnum);
    assert_int_equal(err.kind, kind);
    assert_non_null(strstr(err.message, path));
    assert_null(text);
}

static void the_uppermost_layer_wins(void **state)
{
    (void)state;
    write_file("c/etc/passwd", "lowest");
    assert_reads("/etc/passwd", "lowest");
    write_file("b/etc/passwd", "middle");
    assert_reads("/etc/passwd", "middle");
    write_file("a/etc/passwd", "");
    assert_reads("//etc/./passwd", "");
    assert_fails("/etc/group", ENOENT, WFE_ERROR_INPUT);
}

static void a_link_is_followed_across_layers_and_never_out_of_them(void **state)
{
    (void)state;
    make_directory("b/usr/share");
    write_file("b/usr/share/passwd", "shared");
    link_to("a/etc/absolute", "/usr/share/passwd");
    link_to("a/etc/relative", "../usr/share/passwd");
    link_to("a/etc/above", "../../../../usr/share/passwd");
    link_to("c/data", "usr");
    link_to("c/etc/twice", "/data/share/../share/passwd");
    assert_reads("/etc/absolute", "shared");
    assert_reads("/etc/relative", "shared");
    assert_reads("/etc/above", "shared");
    assert_reads("/etc/twice", "shared");

    /* There is such a file outside. */
    link_to("a/etc/outside", "/etc/hostname");
    assert_int_equal(access("/etc/hostname", F_OK), 0);
    assert_fails("/etc/outside", ENOENT, WFE_ERROR_INPUT);
    link_to("a/etc/loop", "loop");
    assert_fails("/etc/loop", ELOOP, WFE_ERROR_INPUT);
    link_to("a/etc/dangling", "nowhere");
    assert_fails("/etc/dangling", ENOENT, WFE_ERROR_INPUT);
}

static void whiteouts_and_opaque_directories_hide_what_is_below(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    write_file("c/etc/passwd", "lowest");
    write_file("c/etc/group", "lowest");
    assert_int_equal(mknod(place("b/etc/passwd"), S_IFCHR, 0), 0);
    assert_fails("/etc/passwd", ENOENT, WFE_ERROR_INPUT);
    assert_reads("/etc/group", "lowest");
    if (setxattr(place("a/etc"), "trusted.overlay.opaque", "y", 1, 0) < 0)
        skip();
    assert_fails("/etc/group", ENOENT, WFE_ERROR_INPUT);
    write_file("a/etc/group", "highest");
    assert_reads("/etc/group", "highest");
}

static void a_directory_over_something_else_hides_it(void **state)
{
    (void)state;
    make_directory("c/real");
    write_file("c/real/file", "hidden");
    link_to("b/place", "/real");
    make_directory("a/place");
    assert_fails("/place/file", ENOENT, WFE_ERROR_INPUT);
    assert_reads("/real/file", "hidden");
}

static void what_is_no_regular_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(place("a/etc/fifo"), 0600), 0);
    write_file("a/etc/file", "text");
    assert_fails("/etc/fifo", EINVAL, WFE_ERROR_INPUT);
    assert_fails("/etc", EISDIR, WFE_ERROR_INPUT);
    assert_fails("/", EISDIR, WFE_ERROR_INPUT);
    assert_fails("/etc/file/more", ENOTDIR, WFE_ERROR_INPUT);
}

static void a_long_file_is_refused(void **state)
{
    (void)state;
    char text[LIMIT + 2] = "";
    memset(text, 'x', LIMIT);
    write_file("b/etc/passwd", text);
    assert_reads("/etc/passwd", text);
    text[LIMIT] = 'x';
    write_file("b/etc/passwd", text);
    assert_fails("/etc/passwd", EFBIG, WFE_ERROR_LIMIT);
}

static void a_missing_layer_is_no_missing_file(void **state)
{
    (void)state;
    assert_int_equal(wfe_remove_tree(place("b")), 0);
    assert_fails("/etc/passwd", ESTALE, WFE_ERROR_SYSTEM);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_uppermost_layer_wins),
        TEST(a_link_is_followed_across_layers_and_never_out_of_them),
        TEST(whiteouts_and_opaque_directories_hide_what_is_below),
        TEST(a_directory_over_something_else_hides_it),
        TEST(what_is_no_regular_file_is_refused),
        TEST(a_long_file_is_refused),
        TEST(a_missing_layer_is_no_missing_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
