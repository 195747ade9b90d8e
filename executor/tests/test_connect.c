/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/daemon/connect.h"

static void connect_to(const char *address, struct wfe_error *err)
{
    struct wfe_connect_options options = {.address = address, .namespace_ = "default"};
    struct wfe_session session;
    assert_true(wfe_connect(&options, &session, err) < 0);
}

static void a_missing_unix_socket_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    connect_to("/tmp/nonexistent-wfe-containerd-test.sock", &err);
    assert_string_equal(
        err.message, "containerd socket not found: /tmp/nonexistent-wfe-containerd-test.sock");
}

static void a_missing_unix_socket_with_scheme_is_an_error_that_names_it(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    connect_to("unix:///tmp/nonexistent-wfe-containerd-test.sock", &err);
    assert_string_equal(
        err.message, "containerd socket not found: /tmp/nonexistent-wfe-containerd-test.sock");
}

static void a_tcp_address_where_nobody_listens_fails_to_connect(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    connect_to("tcp://127.0.0.1:1", &err);
    assert_non_null(strstr(err.message, "failed to connect to containerd at tcp://127.0.0.1:1"));
    assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_unix_socket_is_an_error_that_names_it),
        cmocka_unit_test(a_missing_unix_socket_with_scheme_is_an_error_that_names_it),
        cmocka_unit_test(a_tcp_address_where_nobody_listens_fails_to_connect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
