/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/image/http.h"
#include "executor/image/registry_hosts.h"
#include "executor/image/toml.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    snprintf(scratch, sizeof scratch, "/tmp/wfe-hosts-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int remove_scratch(void **state)
{
    (void)state;
    return wfe_remove_tree(scratch);
}

static void write_file(const char *host, const char *name, const char *text)
{
    WFE_FREE char *directory = wfe_path_join(scratch, host);
    WFE_FREE char *path = wfe_path_join(directory, name);
    assert_int_equal(wfe_make_directories(directory, 0755), 0);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static struct wfe_registry_endpoint *load(const char *host, size_t expected_count)
{
    struct wfe_registry_endpoint *endpoints;
    size_t count;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_registry_endpoints_load(host, scratch, &endpoints, &count, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    assert_int_equal(count, expected_count);
    return endpoints;
}

static void a_registry_is_its_own_host_over_tls(void **state)
{
    (void)state;
    struct wfe_registry_endpoint *endpoints = load("r.example.org:5000", 1);
    assert_string_equal(endpoints[0].base, "https://r.example.org:5000/v2");
    assert_string_equal(endpoints[0].host, "r.example.org:5000");
    assert_true(endpoints[0].resolves && endpoints[0].pulls && !endpoints[0].mirror);
    wfe_registry_endpoints_free(endpoints, 1);
    endpoints = load("docker.io", 1);
    assert_string_equal(endpoints[0].base, "https://registry-1.docker.io/v2");
    assert_string_equal(endpoints[0].host, "docker.io");
    wfe_registry_endpoints_free(endpoints, 1);
}

static void on_this_machine_plain_http_comes_first(void **state)
{
    (void)state;
    static const char *const hosts[] = {
        "localhost", "LOCALHOST:1", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000", "[::1]"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct wfe_registry_endpoint *endpoints = load(hosts[i], 2);
        assert_memory_equal(endpoints[0].base, "http://", 7);
        assert_memory_equal(endpoints[1].base, "https://", 8);
        assert_true(!endpoints[0].tls_fallback && endpoints[1].tls_fallback);
        wfe_registry_endpoints_free(endpoints, 2);
    }
    static const char *const others[] = {"localhost.example.org", "128.0.0.1",
        "127.0.0.1.example.org", "[::2]:5000", "1270.0.0.1", "example.org"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(wfe_http_is_loopback(others[i]));
}

static void mirrors_come_before_the_server_in_their_order(void **state)
{
    (void)state;
    write_file("docker.io", "ca.pem", "CERTIFICATE\n");
    write_file("docker.io", "hosts.toml",
        "# mirrors\n"
        "server = \"https://hub.example.org\"\n"
        "\n"
        "[host.\"https://one.example.org:444\"]\n"
        "  capabilities = [\"pull\", \"resolve\"]\r\n"
        "  ca = [\"ca.pem\", 'ca.pem']\n"
        "  client = [[\"/c.cert\", \"c.key\"]]\n"
        "  [host.\"https://one.example.org:444\".header]\n"
        "    x-custom = [\"a\", \"b\"]\n"
        "[host.\"http://two.example.org/prefix/\"]\n"
        "  capabilities = [\n"
        "    \"pull\", # only\n"
        "  ]\n"
        "  skip_verify = true\n"
        "[host.\"three.example.org/root\"]\n"
        "  override_path = true\n");
    struct wfe_registry_endpoint *endpoints = load("docker.io", 4);
    assert_string_equal(endpoints[0].base, "https://one.example.org:444/v2");
    assert_string_equal(endpoints[0].host, "one.example.org:444");
    assert_string_equal(endpoints[0].tls.ca_pem, "CERTIFICATE\n\nCERTIFICATE\n\n");
    assert_string_equal(endpoints[0].tls.certificate, "/c.cert");
    assert_non_null(strstr(endpoints[0].tls.key, "/docker.io/c.key"));
    assert_true(endpoints[0].mirror && endpoints[0].resolves && endpoints[0].pulls);
    assert_string_equal(endpoints[1].base, "http://two.example.org/prefix/v2");
    assert_true(!endpoints[1].resolves && endpoints[1].pulls && endpoints[1].tls.skip_verify);
    assert_string_equal(endpoints[2].base, "https://three.example.org/root");
    assert_true(endpoints[2].resolves && endpoints[2].pulls);
    assert_string_equal(endpoints[3].base, "https://hub.example.org/v2");
    assert_string_equal(endpoints[3].host, "docker.io");
    assert_false(endpoints[3].mirror);
    wfe_registry_endpoints_free(endpoints, 4);
}

static void a_directory_may_name_the_port_in_two_ways_or_be_that_of_all(void **state)
{
    (void)state;
    write_file("a.example.org_5000_", "hosts.toml", "server = \"http://one\"");
    write_file("b.example.org:5000", "hosts.toml", "server = \"http://two\"");
    write_file("_default", "hosts.toml", "[host.\"http://three\"]");
    static const char *const expected[][2] = {{"a.example.org:5000", "http://one/v2"},
        {"b.example.org:5000", "http://two/v2"}, {"c.example.org:5000", "http://three/v2"}};
    for (size_t i = 0; i < 3; i++) {
        size_t count = i == 2 ? 2 : 1;
        struct wfe_registry_endpoint *endpoints = load(expected[i][0], count);
        assert_string_equal(endpoints[0].base, expected[i][1]);
        wfe_registry_endpoints_free(endpoints, count);
    }
}

static void certificates_at_the_top_are_the_registrys_own(void **state)
{
    (void)state;
    write_file("127.0.0.1_5000_", "ca.pem", "CERTIFICATE\n");
    write_file("127.0.0.1_5000_", "hosts.toml", "ca = \"ca.pem\"");
    struct wfe_registry_endpoint *endpoints = load("127.0.0.1:5000", 1);
    assert_string_equal(endpoints[0].base, "https://127.0.0.1:5000/v2");
    assert_non_null(endpoints[0].tls.ca_pem);
    wfe_registry_endpoints_free(endpoints, 1);
}

static void wrong_configurations_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"server = 3", "server: expected a URL"},
        {"server = \"ftp://x\"", "expected http:// or https://"},
        {"server = \"https://user@x\"", "alone"},
        {"server = \"https://\"", "alone"},
        {"[host.\"http://x\"]\ncapabilities = \"pull\"", "capabilities: expected a list"},
        {"[host.\"http://x\"]\ncapabilities = [\"all\"]", "capabilities: expected a list"},
        {"[host.\"http://x\"]\nskip_verify = \"yes\"", "skip_verify: expected true or false"},
        {"[host.\"http://x\"]\nca = 1", "ca: expected a path"},
        {"[host.\"http://x\"]\nca = \"none.pem\"", "none.pem"},
        {"[host.\"http://x\"]\nclient = [\"a\", \"b\", \"c\"]", "client: expected"},
        {"[host.\"http://x\"]\nclient = [[\"a\", \"b\"], [\"c\", \"d\"]]", "client: expected"},
        {"host = \"http://x\"", "host: expected tables"},
        {"x", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("bad.example.org", "hosts.toml", cases[i].text);
        struct wfe_registry_endpoint *endpoints;
        size_t count;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_true(
            wfe_registry_endpoints_load("bad.example.org", scratch, &endpoints, &count, &err) < 0);
        assert_non_null(strstr(err.message, "/bad.example.org/hosts.toml: "));
        if (!strstr(err.message, cases[i].message))
            assert_string_equal(err.message, cases[i].message);
    }
}

static void assert_toml(const char *text, const char *expected_json)
{
    WFE_JSON cJSON *root = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_toml_parse(text, strlen(text), &root, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(r, 0);
    WFE_FREE char *json = cJSON_PrintUnformatted(root);
    assert_string_equal(json, expected_json);
}

static void toml_becomes_json(void **state)
{
    (void)state;
    assert_toml("", "{}");
    assert_toml("# nothing\n\n", "{}");
    assert_toml(
        "a = 1\nb.c = true\n\"d e\" = 'f\\n'", "{\"a\":1,\"b\":{\"c\":true},\"d e\":\"f\\\\n\"}");
    assert_toml("[a.b]\nc = -2\n[a]\nd = []\n[e]", "{\"a\":{\"b\":{\"c\":-2},\"d\":[]},\"e\":{}}");
    assert_toml("a = [ [1,2], [\n3, # three\n], ]", "{\"a\":[[1,2],[3]]}");
    assert_toml(
        "a = { b = 1, c.d = \"x\" }\ne = {}", "{\"a\":{\"b\":1,\"c\":{\"d\":\"x\"}},\"e\":{}}");
    assert_toml("a = \"\\t\\\"\\\\ \\u00fc\\U0001F600\"",
        "{\"a\":\"\\t\\\"\\\\ \xc3\xbc\xf0\x9f\x98\x80\"}");
    assert_toml("a = ''", "{\"a\":\"\"}");
}

static void malformed_toml_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int line;
    } cases[] = {{"a", 1}, {"a =", 1}, {"\na = x", 2}, {"a = 1 b = 2", 1}, {"a = 1\na = 2", 2},
        {"a = \"x", 1}, {"a = \"x\ny\"", 1}, {"a = \"\\q\"", 1}, {"a = \"\\u12\"", 1},
        {"a = \"\\ud800\"", 1}, {"a = \"\\u0000\"", 1}, {"a = \"\"\"x\"\"\"", 1}, {"[a", 1},
        {"[[a]]", 1}, {"[]", 1}, {"a = 1\n[a]", 2}, {"a = [1 2]", 1}, {"a = [1", 1}, {"a = {b}", 1},
        {"a = {b = 1", 1}, {"a = 1979-05-27", 1}, {"a = 1.5", 1}, {"a = 0x10", 1}, {"= 1", 1},
        {"a. = 1", 1}, {"a = [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]", 1},
        {"a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s = 1", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *root = NULL;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(
            wfe_toml_parse(cases[i].text, strlen(cases[i].text), &root, &err), -EINVAL);
        char line[32];
        snprintf(line, sizeof line, "line %d: ", cases[i].line);
        assert_memory_equal(err.message, line, strlen(line));
    }
    cJSON *root = NULL;
    assert_int_equal(wfe_toml_parse("a\0b", 3, &root, NULL), -EINVAL);
    assert_int_equal(wfe_toml_parse("a = \"\xff\"", 7, &root, NULL), -EINVAL);
}

static void an_origin_is_scheme_host_and_port(void **state)
{
    (void)state;
    assert_true(wfe_http_same_origin("https://h:1/a", "HTTPS://H:1/b?c"));
    assert_true(wfe_http_same_origin("http://h", "http://h/"));
    assert_false(wfe_http_same_origin("https://h/a", "http://h/a"));
    assert_false(wfe_http_same_origin("https://h/a", "https://h:444/a"));
    assert_false(wfe_http_same_origin("https://h/a", "https://hh/a"));
    assert_false(wfe_http_same_origin("https://h/a", "https://h@evil/a"));
    assert_false(wfe_http_same_origin("h/a", "h/a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_registry_is_its_own_host_over_tls),
        cmocka_unit_test(on_this_machine_plain_http_comes_first),
        cmocka_unit_test(mirrors_come_before_the_server_in_their_order),
        cmocka_unit_test(a_directory_may_name_the_port_in_two_ways_or_be_that_of_all),
        cmocka_unit_test(certificates_at_the_top_are_the_registrys_own),
        cmocka_unit_test(wrong_configurations_are_refused_by_name),
        cmocka_unit_test(toml_becomes_json),
        cmocka_unit_test(malformed_toml_is_refused_with_its_line),
        cmocka_unit_test(an_origin_is_scheme_host_and_port),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
