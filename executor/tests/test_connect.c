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

static void assert_target(const char *address, const char *expected, bool expected_local)
{
    char *target = NULL;
    bool local = !expected_local;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_connect_target(address, &target, &local, &err), 0);
    assert_string_equal(target, expected);
    assert_int_equal(local, expected_local);
    free(target);
}

static void assert_refused(const char *address)
{
    char *target = NULL;
    bool local;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_connect_target(address, &target, &local, &err), -EINVAL);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_non_null(strstr(err.message, address));
    assert_null(target);
}

static void a_path_and_a_unix_address_name_the_same_socket(void **state)
{
    (void)state;
    assert_target("/run/c.sock", "unix:/run/c.sock", true);
    assert_target("unix:///run/c.sock", "unix:/run/c.sock", true);
}

static void a_sockets_path_may_hold_any_character(void **state)
{
    (void)state;
    assert_target("/a b/50%25?#c:\xc3\xbc", "unix:/a%20b/50%2525%3F%23c%3A%C3%BC", true);
}

static void tcp_and_http_addresses_are_remote(void **state)
{
    (void)state;
    assert_target("tcp://127.0.0.1:2500", "dns:///127.0.0.1:2500", false);
    assert_target("http://127.0.0.1:2500", "dns:///127.0.0.1:2500", false);
    assert_target("http://builder:2500/", "dns:///builder:2500", false);
    assert_target("tcp://[::1]:2500", "dns:///[::1]:2500", false);
}

static void other_addresses_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused("containerd.sock");
    assert_refused("unix://containerd.sock");
    assert_refused("ftp://host:1");
    assert_refused("tcp://host");
    assert_refused("tcp://:2500");
    assert_refused("tcp://host:port");
    assert_refused("http://host:1/path");
    assert_refused("");
}

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
        cmocka_unit_test(a_path_and_a_unix_address_name_the_same_socket),
        cmocka_unit_test(a_sockets_path_may_hold_any_character),
        cmocka_unit_test(tcp_and_http_addresses_are_remote),
        cmocka_unit_test(other_addresses_are_refused_by_name),
        cmocka_unit_test(a_missing_unix_socket_is_an_error_that_names_it),
        cmocka_unit_test(a_missing_unix_socket_with_scheme_is_an_error_that_names_it),
        cmocka_unit_test(a_tcp_address_where_nobody_listens_fails_to_connect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
