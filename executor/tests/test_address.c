/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "executor/daemon/address.h"

static void assert_parsed(const char *text, enum wfe_address_kind kind, const char *target,
    const char *path, const char *host, const char *port)
{
    WFE_ADDRESS struct wfe_address address;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_address_parse(text, &address, &err), 0);
    assert_int_equal(address.kind, kind);
    assert_string_equal(address.target, target);
    assert_string_equal(address.path ? address.path : "", path);
    assert_string_equal(address.host ? address.host : "", host);
    assert_string_equal(address.port ? address.port : "", port);
}

static void assert_refused(const char *text)
{
    struct wfe_address address;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_address_parse(text, &address, &err), -EINVAL);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_non_null(strstr(err.message, text));
}

static void a_path_and_a_unix_address_name_the_same_socket(void **state)
{
    (void)state;
    const char *path = "/run/c.sock";
    assert_parsed(path, WFE_ADDRESS_UNIX, "unix:/run/c.sock", path, "", "");
    assert_parsed("unix:///run/c.sock", WFE_ADDRESS_UNIX, "unix:/run/c.sock", path, "", "");
}

static void a_sockets_path_may_hold_any_character(void **state)
{
    (void)state;
    const char *path = "/a b/50%25?#c:\xc3\xbc";
    assert_parsed(path, WFE_ADDRESS_UNIX, "unix:/a%20b/50%2525%3F%23c%3A%C3%BC", path, "", "");
}

static void tcp_and_http_addresses_are_plain(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        assert_parsed(i ? "tcp://127.0.0.1:2500" : "http://127.0.0.1:2500", WFE_ADDRESS_TCP,
            "dns:///127.0.0.1:2500", "", "127.0.0.1", "2500");
    assert_parsed(
        "http://builder:2500/", WFE_ADDRESS_TCP, "dns:///builder:2500", "", "builder", "2500");
    assert_parsed("tcp://[::1]:2500", WFE_ADDRESS_TCP, "dns:///[::1]:2500", "", "::1", "2500");
}

static void https_addresses_are_tls(void **state)
{
    (void)state;
    assert_parsed(
        "https://builder:2376", WFE_ADDRESS_TLS, "dns:///builder:2376", "", "builder", "2376");
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
    assert_refused("https://host");
    assert_refused("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_and_a_unix_address_name_the_same_socket),
        cmocka_unit_test(a_sockets_path_may_hold_any_character),
        cmocka_unit_test(tcp_and_http_addresses_are_plain),
        cmocka_unit_test(https_addresses_are_tls),
        cmocka_unit_test(other_addresses_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
