/* SPDX-License-Identifier: MIT */
#include "executor/spec/user.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/step/step.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

static const char PASSWD[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# a comment\n"
                             "\n"
                             "broken:x:-1:7\n"
                             "broken:x:12\n"
                             "large:x:4294967295:1::/:\n"
                             "app:x:1000:1001:An App:/srv:/bin/sh\n"
                             "app:x:7:7::/:\n"
                             "twin:x:1000:55::/:\n"
                             "last:x:1002:1002";
static const char GROUP[] = "root:x:0:\n"
                            "broken:x:many:app\n"
                            "app:x:1001:app\n"
                            "wheel:x:10:root,app\n"
                            "disk:x:6:apparat\n"
                            "video:x:44:x,app,y\n"
                            "again:x:44:app\n"
                            "staff:x:50:last";

static int resolve(const char *text, struct wfe_user *ret, struct wfe_error *err)
{
    assert_true(wfe_user_is_valid(text));
    struct wfe_user_file passwd = {PASSWD, strlen(PASSWD)}, group = {GROUP, strlen(GROUP)};
    return wfe_user_resolve(text, passwd, group, ret, err);
}

/* Without any file, as text that needs none must do. */
static void assert_numbers(const char *text, uint32_t uid, uint32_t gid)
{
    struct wfe_user user;
    struct wfe_user_file none = {.data = NULL};
    assert_true(wfe_user_is_valid(text));
    assert_int_equal(wfe_user_resolve(text, none, none, &user, NULL), 0);
    assert_int_equal(user.uid, uid);
    assert_int_equal(user.gid, gid);
    assert_int_equal(user.group_count, 0);
    wfe_user_done(&user);
}

static void assert_resolved(
    const char *text, uint32_t uid, uint32_t gid, const uint32_t *groups, size_t count)
{
    struct wfe_user user;
    assert_int_equal(resolve(text, &user, NULL), 0);
    assert_int_equal(user.uid, uid);
    assert_int_equal(user.gid, gid);
    assert_int_equal(user.group_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(user.groups[i], groups[i]);
    wfe_user_done(&user);
}

static void numbers_need_no_file(void **state)
{
    (void)state;
    assert_int_equal(wfe_user_needs("1000:2000"), 0);
    assert_numbers("1000:1000", 1000, 1000);
    assert_numbers("1000:2000", 1000, 2000);
    assert_numbers("0:0", 0, 0);
    assert_numbers("4294967294:4294967294", 4294967294, 4294967294);
    assert_int_equal(wfe_user_needs(WFE_STEP_DEFAULT_USER), 0);
    assert_numbers(WFE_STEP_DEFAULT_USER, 65534, 65534);
}

static void a_number_that_nobody_knows_has_group_zero(void **state)
{
    (void)state;
    assert_numbers("1000", 1000, 0);
    assert_resolved("4242", 4242, 0, NULL, 0);
}

static void each_part_is_looked_up_in_its_file(void **state)
{
    (void)state;
    assert_int_equal(wfe_user_needs("1000"), WFE_USER_NEEDS_PASSWD | WFE_USER_NEEDS_GROUP);
    assert_int_equal(wfe_user_needs("app"), WFE_USER_NEEDS_PASSWD | WFE_USER_NEEDS_GROUP);
    assert_int_equal(wfe_user_needs("app:1"), WFE_USER_NEEDS_PASSWD);
    assert_int_equal(wfe_user_needs("1:wheel"), WFE_USER_NEEDS_GROUP);
    assert_int_equal(wfe_user_needs("a:b"), WFE_USER_NEEDS_PASSWD | WFE_USER_NEEDS_GROUP);
    assert_true(wfe_user_is_number("1000"));
    assert_false(wfe_user_is_number("app"));
    assert_false(wfe_user_is_number("1000:app"));
}

static void a_name_has_its_primary_group_and_its_others(void **state)
{
    (void)state;
    static const uint32_t groups[] = {10, 44}, wheel[] = {10}, staff[] = {50};
    assert_resolved("app", 1000, 1001, groups, 2);
    assert_resolved("root", 0, 0, wheel, 1);
    assert_resolved("last", 1002, 1002, staff, 1);
}

static void a_number_has_the_groups_of_its_first_name(void **state)
{
    (void)state;
    static const uint32_t groups[] = {10, 44};
    assert_resolved("1000", 1000, 1001, groups, 2);
}

static void a_group_that_is_given_is_the_only_one(void **state)
{
    (void)state;
    assert_resolved("app:wheel", 1000, 10, NULL, 0);
    assert_resolved("app:77", 1000, 77, NULL, 0);
    assert_resolved("4242:video", 4242, 44, NULL, 0);
}

static void a_name_that_is_not_there_is_told_with_its_file(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {{"nobody", "'nobody' is not in the image's /etc/passwd"},
        {"ap", "'ap' is not in the image's /etc/passwd"},
        {"large", "'large' is not in the image's /etc/passwd"},
        {"app:broken", "'broken' is not in the image's /etc/group"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wfe_user user;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(resolve(cases[i].text, &user, &err), -ENOENT);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
        assert_string_equal(err.message, cases[i].message);
    }
    struct wfe_user user;
    struct wfe_user_file none = {.data = NULL};
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_user_resolve("app", none, none, &user, &err), -ENOENT);
    assert_string_equal(err.message, "'app' can't be looked up: the image has no /etc/passwd");
}

static void more_groups_than_the_limit_are_refused(void **state)
{
    (void)state;
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_USER_FILE_MAX_BYTES);
    for (int i = 1; i <= WFE_USER_MAX_GROUPS; i++)
        wfe_buffer_printf(&text, "g%d:x:%d:app\n", i, 2000 + i);
    struct wfe_user user;
    struct wfe_user_file passwd = {PASSWD, strlen(PASSWD)};
    struct wfe_user_file group = {text.data, text.length};
    assert_int_equal(wfe_user_resolve("app", passwd, group, &user, NULL), 0);
    assert_int_equal(user.group_count, WFE_USER_MAX_GROUPS);
    wfe_user_done(&user);

    wfe_buffer_puts(&text, "one-more:x:1:app\n");
    group = (struct wfe_user_file){text.data, text.length};
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_user_resolve("app", passwd, group, &user, &err), -E2BIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
}

static void what_is_no_user_is_not_valid(void **state)
{
    (void)state;
    static const char *const texts[] = {"", ":", "1:", ":1", "1:2:3", "-1", "+", " 1", "1 ", "a b",
        "a/b", "a\nb", "\x7f", "4294967295", "0:4294967295", "18446744073709551616:0", "a:-b"};
    static const char *const valid[] = {
        "abc", "abc:1", "1:abc", "0x0:0x0", "_apt", "www-data", "j.doe@example.org", "müller"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (wfe_user_is_valid(texts[i]))
            fail_msg("'%s' is valid", texts[i]);
    for (size_t i = 0; i < sizeof valid / sizeof valid[0]; i++)
        if (!wfe_user_is_valid(valid[i]))
            fail_msg("'%s' is not valid", valid[i]);
    char name[WFE_USER_MAX_NAME + 2] = "";
    memset(name, 'a', WFE_USER_MAX_NAME + 1);
    assert_false(wfe_user_is_valid(name));
    assert_true(wfe_user_is_valid(name + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_need_no_file),
        cmocka_unit_test(a_number_that_nobody_knows_has_group_zero),
        cmocka_unit_test(each_part_is_looked_up_in_its_file),
        cmocka_unit_test(a_name_has_its_primary_group_and_its_others),
        cmocka_unit_test(a_number_has_the_groups_of_its_first_name),
        cmocka_unit_test(a_group_that_is_given_is_the_only_one),
        cmocka_unit_test(a_name_that_is_not_there_is_told_with_its_file),
        cmocka_unit_test(more_groups_than_the_limit_are_refused),
        cmocka_unit_test(what_is_no_user_is_not_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
