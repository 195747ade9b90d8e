/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "artifactfs/mount_options.h"

/* All that libfuse gets, in one text. */
static void join(const struct wfe_mount_options *options, char *out, size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (int i = 1; i < options->args.argc && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s ", options->args.argv[i]);
}

static void defaults_are_read_only_and_name_the_source(void **context)
{
    (void)context;
    struct wfe_mount_options options;
    char text[512];
    assert_int_equal(wfe_mount_options_parse(NULL, "/a, b\\c", &options, NULL), 0);
    join(&options, text, sizeof text);
    assert_non_null(strstr(text, "ro,nosuid,nodev"));
    assert_non_null(strstr(text, "subtype=wfe-artifactfs"));
    assert_non_null(strstr(text, "fsname=/a\\, b\\\\c"));
    assert_null(strstr(text, "default_permissions"));
    assert_false(options.owner.has_uid || options.owner.has_gid || options.owner.has_umask);
    wfe_mount_options_done(&options);
}

static void owner_and_umask_are_kept_from_libfuse(void **context)
{
    (void)context;
    struct wfe_mount_options options;
    char text[512];
    assert_int_equal(
        wfe_mount_options_parse("uid=7,gid=8,umask=0027,noexec", "x", &options, NULL), 0);
    join(&options, text, sizeof text);
    assert_null(strstr(text, "uid="));
    assert_null(strstr(text, "umask"));
    assert_non_null(strstr(text, "noexec"));
    assert_int_equal(options.owner.uid, 7);
    assert_int_equal(options.owner.gid, 8);
    assert_int_equal(options.owner.umask, 0027);
    wfe_mount_options_done(&options);
}

static void who_lets_others_in_has_permissions_checked(void **context)
{
    (void)context;
    static const char *const lists[] = {"allow_other", "allow_root", "noexec,allow_other"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct wfe_mount_options options;
        char text[512];
        assert_int_equal(wfe_mount_options_parse(lists[i], "x", &options, NULL), 0);
        join(&options, text, sizeof text);
        assert_non_null(strstr(text, "default_permissions"));
        assert_non_null(strstr(text, "allow_"));
        wfe_mount_options_done(&options);
    }
}

static void names_given_win_over_those_of_the_program(void **context)
{
    (void)context;
    struct wfe_mount_options options;
    char text[512];
    assert_int_equal(wfe_mount_options_parse("fsname=mine,subtype=s", "x", &options, NULL), 0);
    join(&options, text, sizeof text);
    assert_non_null(strstr(text, "fsname=mine"));
    assert_null(strstr(text, "fsname=x"));
    assert_null(strstr(text, "wfe-artifactfs"));
    wfe_mount_options_done(&options);
}

static void what_belongs_to_mount_is_ignored(void **context)
{
    (void)context;
    struct wfe_mount_options options;
    char text[512];
    assert_int_equal(
        wfe_mount_options_parse(
            "defaults,auto,nofail,_netdev,user=me,x-a.b=c,ro,nosuid,nodev,", "x", &options, NULL),
        0);
    join(&options, text, sizeof text);
    assert_null(strstr(text, "nofail"));
    assert_null(strstr(text, "x-a"));
    wfe_mount_options_done(&options);
}

static void what_makes_no_sense_is_refused_by_name(void **context)
{
    (void)context;
    static const char *const lists[] = {"rw", "suid", "dev", "nonsense", "noexec,nonsense=1",
        "uid=", "uid=root", "uid=-1", "uid=4294967295", "gid=1x", "umask=8", "umask=1000",
        "umask=", "uid"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        struct wfe_mount_options options;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_true(wfe_mount_options_parse(lists[i], "x", &options, &err) < 0);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
        const char *last = strrchr(lists[i], ',');
        assert_non_null(strstr(err.message, last ? last + 1 : lists[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_read_only_and_name_the_source),
        cmocka_unit_test(owner_and_umask_are_kept_from_libfuse),
        cmocka_unit_test(who_lets_others_in_has_permissions_checked),
        cmocka_unit_test(names_given_win_over_those_of_the_program),
        cmocka_unit_test(what_belongs_to_mount_is_ignored),
        cmocka_unit_test(what_makes_no_sense_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
