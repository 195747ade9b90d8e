/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "executor/daemon/sharing.h"
#include "executor/daemon/sharing_memory.h"
#include "libcommon/file.h"

static char home[PATH_MAX];

static int make_home(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(home, sizeof home, "%s/wfe-test-memory-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(home))
        return -1;
    setenv("XDG_CACHE_HOME", home, 1);
    return 0;
}

static int remove_home(void **state)
{
    (void)state;
    return wfe_remove_tree(home);
}

static struct wfe_session session_of(const char *uuid)
{
    struct wfe_session session = {
        .address = (char *)"/run/c.sock", .target.kind = WFE_ADDRESS_UNIX};
    session.socket.st_ino = 17;
    snprintf(session.uuid, sizeof session.uuid, "%s", uuid);
    return session;
}

static void assert_recalled(
    const struct wfe_session *session, const char *directory, enum wfe_sharing expected)
{
    enum wfe_sharing sharing = WFE_SHARES_NOTHING;
    assert_int_equal(wfe_sharing_recall(session, directory, &sharing), 0);
    assert_int_equal(sharing, expected);
}

static void assert_unknown(const struct wfe_session *session, const char *directory)
{
    enum wfe_sharing sharing;
    assert_int_equal(wfe_sharing_recall(session, directory, &sharing), -ENOENT);
}

static void a_machine_is_the_same_for_all_directories(void **state)
{
    (void)state;
    struct wfe_session session = session_of("u1");
    assert_unknown(&session, "/tmp");
    wfe_sharing_remember(&session, "/tmp", WFE_SHARES_MACHINE);
    assert_recalled(&session, "/tmp", WFE_SHARES_MACHINE);
    assert_recalled(&session, "/other", WFE_SHARES_MACHINE);
}

static void other_answers_are_for_their_directory_alone(void **state)
{
    (void)state;
    struct wfe_session session = session_of("u1");
    wfe_sharing_remember(&session, "/shared", WFE_SHARES_DIRECTORY);
    assert_recalled(&session, "/shared", WFE_SHARES_DIRECTORY);
    assert_unknown(&session, "/other");
    wfe_sharing_remember(&session, "/tmp", WFE_SHARES_NOTHING);
    assert_recalled(&session, "/tmp", WFE_SHARES_NOTHING);
    assert_unknown(&session, "/shared");
}

static void another_daemon_or_socket_is_not_known(void **state)
{
    (void)state;
    struct wfe_session session = session_of("u1"), other = session;
    wfe_sharing_remember(&session, "/tmp", WFE_SHARES_MACHINE);
    other = session_of("u2");
    assert_unknown(&other, "/tmp");
    other = session;
    other.socket.st_ctim.tv_nsec++;
    assert_unknown(&other, "/tmp");
    other = session;
    other.address = (char *)"/run/other.sock";
    assert_unknown(&other, "/tmp");
    assert_recalled(&session, "/tmp", WFE_SHARES_MACHINE);
}

static void a_daemon_without_a_uuid_is_never_known(void **state)
{
    (void)state;
    struct wfe_session session = session_of("");
    wfe_sharing_remember(&session, "/tmp", WFE_SHARES_MACHINE);
    assert_unknown(&session, "/tmp");
    struct stat st;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/wfe", home);
    assert_int_equal(stat(path, &st), -1);
}

static void what_is_forgotten_is_not_known(void **state)
{
    (void)state;
    struct wfe_session session = session_of("u1");
    wfe_sharing_remember(&session, "/tmp", WFE_SHARES_MACHINE);
    wfe_sharing_forget(&session);
    assert_unknown(&session, "/tmp");
    wfe_sharing_forget(&session);
}

static void the_memory_does_not_grow_for_ever(void **state)
{
    (void)state;
    for (int i = 0; i < 300; i++) {
        char uuid[16];
        snprintf(uuid, sizeof uuid, "n%d", i);
        struct wfe_session session = session_of(uuid);
        wfe_sharing_remember(&session, "/tmp", WFE_SHARES_MACHINE);
    }
    struct wfe_session first = session_of("n0"), last = session_of("n299");
    assert_unknown(&first, "/tmp");
    assert_recalled(&last, "/tmp", WFE_SHARES_MACHINE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_machine_is_the_same_for_all_directories, make_home, remove_home),
        cmocka_unit_test_setup_teardown(
            other_answers_are_for_their_directory_alone, make_home, remove_home),
        cmocka_unit_test_setup_teardown(
            another_daemon_or_socket_is_not_known, make_home, remove_home),
        cmocka_unit_test_setup_teardown(
            a_daemon_without_a_uuid_is_never_known, make_home, remove_home),
        cmocka_unit_test_setup_teardown(what_is_forgotten_is_not_known, make_home, remove_home),
        cmocka_unit_test_setup_teardown(the_memory_does_not_grow_for_ever, make_home, remove_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
