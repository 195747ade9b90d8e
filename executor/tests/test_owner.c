/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "executor/owner.h"

/* Our own owner text with one of its five words replaced. */
static void replace_word(int index, const char *word, char *text, size_t size)
{
    char self[WFE_OWNER_TEXT_MAX];
    assert_int_equal(wfe_owner_self(self), 0);
    size_t length = 0;
    char *at = self;
    for (int i = 0; i < 5; i++) {
        char *end = strchrnul(at, ' ');
        int n = (int)(end - at);
        length += (size_t)snprintf(text + length, size - length, "%s%.*s", i > 0 ? " " : "",
            i == index ? (int)strlen(word) : n, i == index ? word : at);
        at = *end ? end + 1 : end;
    }
}

static void this_process_is_alive(void **state)
{
    (void)state;
    char text[WFE_OWNER_TEXT_MAX];
    assert_int_equal(wfe_owner_self(text), 0);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_ALIVE);
}

static void a_process_that_ended_is_dead(void **state)
{
    (void)state;
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char text[WFE_OWNER_TEXT_MAX] = {0};
        wfe_owner_self(text);
        _exit(write(fds[1], text, sizeof text) == sizeof text ? 0 : 1);
    }
    char text[WFE_OWNER_TEXT_MAX];
    assert_int_equal(read(fds[0], text, sizeof text), sizeof text);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_DEAD);
}

static void a_reused_process_id_is_dead(void **state)
{
    (void)state;
    char text[WFE_OWNER_TEXT_MAX];
    replace_word(4, "1", text, sizeof text);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_DEAD);
}

static void an_owner_of_another_boot_is_told_apart(void **state)
{
    (void)state;
    char text[WFE_OWNER_TEXT_MAX];
    replace_word(1, "00000000-0000-0000-0000-000000000000", text, sizeof text);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_OTHER_BOOT);
}

static void another_host_is_unknown(void **state)
{
    (void)state;
    char text[WFE_OWNER_TEXT_MAX];
    replace_word(0, "elsewhere/0123", text, sizeof text);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_UNKNOWN);
}

static void another_pid_namespace_is_unknown(void **state)
{
    (void)state;
    char text[WFE_OWNER_TEXT_MAX];
    replace_word(2, "1", text, sizeof text);
    assert_int_equal(wfe_owner_judge(text), WFE_OWNER_UNKNOWN);
}

static void foreign_text_is_unknown(void **state)
{
    (void)state;
    assert_int_equal(wfe_owner_judge(""), WFE_OWNER_UNKNOWN);
    assert_int_equal(wfe_owner_judge("me"), WFE_OWNER_UNKNOWN);
    assert_int_equal(wfe_owner_judge("a b c d e"), WFE_OWNER_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(this_process_is_alive),
        cmocka_unit_test(a_process_that_ended_is_dead),
        cmocka_unit_test(a_reused_process_id_is_dead),
        cmocka_unit_test(an_owner_of_another_boot_is_told_apart),
        cmocka_unit_test(another_host_is_unknown),
        cmocka_unit_test(another_pid_namespace_is_unknown),
        cmocka_unit_test(foreign_text_is_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
