/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "executor/daemon/task.h"

static enum wfe_task_refusal judge(const char *text)
{
    struct wfe_error err = WFE_ERROR_INIT;
    wfe_error_set(&err, WFE_ERROR_CONTAINERD, EIO, "%s", text);
    return wfe_task_judge(&err);
}

#define RUNC                                                                                       \
    "Tasks/Create: failed to create shim task: OCI runtime create failed: runc create "            \
    "failed: unable to start container process: "

static void a_command_that_is_not_there_is_not_found(void **state)
{
    (void)state;
    assert_int_equal(judge(RUNC "exec: \"nope\": executable file not found in $PATH: unknown"),
        WFE_TASK_NOT_FOUND);
    assert_int_equal(judge(RUNC "exec: \"/bin/nope\": stat /bin/nope: no such file or directory"),
        WFE_TASK_NOT_FOUND);
}

static void a_command_that_may_not_run_is_not_runnable(void **state)
{
    (void)state;
    assert_int_equal(
        judge(RUNC "exec: \"/etc/passwd\": permission denied: unknown"), WFE_TASK_NOT_RUNNABLE);
    assert_int_equal(judge(RUNC "exec: \"/etc\": is a directory"), WFE_TASK_NOT_RUNNABLE);
    assert_int_equal(
        judge("Tasks/Start: exec /in/x: exec format error: unknown"), WFE_TASK_NOT_RUNNABLE);
}

static void other_failures_are_not_blamed_on_the_command(void **state)
{
    (void)state;
    assert_int_equal(judge(RUNC "error mounting \"/nope\" to rootfs: stat /nope: no such file or "
                                "directory: unknown"),
        WFE_TASK_REFUSED_OTHERWISE);
    assert_int_equal(judge("Tasks/Create: permission denied"), WFE_TASK_REFUSED_OTHERWISE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_that_is_not_there_is_not_found),
        cmocka_unit_test(a_command_that_may_not_run_is_not_runnable),
        cmocka_unit_test(other_failures_are_not_blamed_on_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
