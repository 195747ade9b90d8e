/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/image/docker_config.h"
#include "executor/image/registry_auth.h"
#include "libcommon/cleanup.h"

static struct wfe_challenge parse(const char *values)
{
    struct wfe_challenge challenge;
    assert_int_equal(wfe_challenge_parse(values, &challenge), 0);
    return challenge;
}

static void assert_challenge(const char *values, enum wfe_challenge_scheme scheme,
    const char *realm, const char *service, const char *scope)
{
    struct wfe_challenge challenge = parse(values);
    assert_int_equal(challenge.scheme, scheme);
    const char *const found[] = {challenge.realm, challenge.service, challenge.scope};
    const char *const expected[] = {realm, service, scope};
    for (int i = 0; i < 3; i++) {
        if (expected[i])
            assert_string_equal(found[i], expected[i]);
        else
            assert_null(found[i]);
    }
    wfe_challenge_done(&challenge);
}

static void a_bearer_challenge_is_read(void **state)
{
    (void)state;
    assert_challenge("Bearer realm=\"https://auth.example.org/token\",service=\"registry\","
                     "scope=\"repository:team/app:pull,push\"",
        WFE_CHALLENGE_BEARER, "https://auth.example.org/token", "registry",
        "repository:team/app:pull,push");
    assert_challenge("bearer  REALM = \"r\" , service = token-1\t,other=\"x\"",
        WFE_CHALLENGE_BEARER, "r", "token-1", NULL);
}

static void a_quoted_value_may_hold_anything(void **state)
{
    (void)state;
    assert_challenge(
        "Bearer realm=\"a\\\"b\\\\c, d=e\"", WFE_CHALLENGE_BEARER, "a\"b\\c, d=e", NULL, NULL);
}

static void the_strongest_of_several_challenges_counts(void **state)
{
    (void)state;
    assert_challenge("Basic realm=\"b\", Bearer realm=\"t\",service=\"s\"", WFE_CHALLENGE_BEARER,
        "t", "s", NULL);
    assert_challenge(
        "Bearer realm=\"t\"\nBasic realm=\"b\"", WFE_CHALLENGE_BEARER, "t", NULL, NULL);
    assert_challenge("Negotiate abc==\nBasic realm=\"b\"", WFE_CHALLENGE_BASIC, "b", NULL, NULL);
    assert_challenge("Negotiate, Basic realm=\"b\"", WFE_CHALLENGE_BASIC, "b", NULL, NULL);
}

static void what_nobody_can_answer_is_no_challenge(void **state)
{
    (void)state;
    static const char *const values[] = {"", "\n", ",,", "Digest realm=\"x\"", "Bearer",
        "Bearer service=\"s\"", "Bearer realm=\"unfinished", "Bearer realm=", "=\"x\"",
        "\"Basic\""};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        assert_challenge(values[i], WFE_CHALLENGE_NONE, NULL, NULL, NULL);
}

static void basic_credentials_become_base64(void **state)
{
    (void)state;
    struct wfe_challenge challenge = {.scheme = WFE_CHALLENGE_BASIC};
    struct wfe_registry_credentials credentials = {
        .username = (char *)"ann", .password = (char *)"pass:word"};
    WFE_FREE char *value = NULL;
    assert_int_equal(wfe_registry_authorize(NULL, &challenge, &credentials, "https://h/v2", "s",
                         NULL, NULL, &value, NULL),
        0);
    assert_string_equal(value, "Basic YW5uOnBhc3M6d29yZA==");
}

static void basic_without_credentials_is_an_error(void **state)
{
    (void)state;
    struct wfe_challenge challenge = {.scheme = WFE_CHALLENGE_BASIC};
    struct wfe_registry_credentials nobody = {.username = NULL};
    struct wfe_error err = WFE_ERROR_INIT;
    char *value = NULL;
    assert_int_equal(wfe_registry_authorize(
                         NULL, &challenge, &nobody, "https://h/v2", "s", NULL, NULL, &value, &err),
        -EACCES);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
}

static void a_realm_that_may_not_be_asked_is_refused(void **state)
{
    (void)state;
    static const char *const realms[] = {"ftp://h/token", "http://elsewhere/token", "token",
        "http://127.0.0.1:x@elsewhere/token", "https:///token", "file:///etc/passwd"};
    struct wfe_registry_credentials nobody = {.username = NULL};
    for (size_t i = 0; i < sizeof realms / sizeof *realms; i++) {
        struct wfe_challenge challenge = {
            .scheme = WFE_CHALLENGE_BEARER, .realm = (char *)realms[i]};
        struct wfe_error err = WFE_ERROR_INIT;
        char *value = NULL;
        assert_int_equal(wfe_registry_authorize(NULL, &challenge, &nobody, "https://h/v2", "s",
                             NULL, NULL, &value, &err),
            -EPROTO);
    }
}

static void assert_config(const char *text, const char *host, const char *username,
    const char *password, const char *token, const char *program)
{
    struct wfe_registry_credentials credentials;
    WFE_FREE char *found = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(
        wfe_docker_config_parse(text, strlen(text), host, &credentials, &found, &err), 0);
    const char *const got[] = {
        credentials.username, credentials.password, credentials.identity_token, found};
    const char *const expected[] = {username, password, token, program};
    for (int i = 0; i < 4; i++) {
        if (expected[i])
            assert_string_equal(got[i], expected[i]);
        else
            assert_null(got[i]);
    }
    wfe_registry_credentials_done(&credentials);
}

static void dockers_credentials_are_found_by_host(void **state)
{
    (void)state;
    static const char config[] =
        "{\"auths\":{\"r.example.org:5000\":{\"auth\":\"YW5uOnBhc3M6d29yZA==\"},"
        "\"https://other.example.org/v1/\":{\"username\":\"bob\",\"password\":\"b\"},"
        "\"https://index.docker.io/v1/\":{\"auth\":\"aHViOmg=\"},"
        "\"azure.example.org\":{\"auth\":\"MDA6\",\"identitytoken\":\"refresh\"}}}";
    assert_config(config, "r.example.org:5000", "ann", "pass:word", NULL, NULL);
    assert_config(config, "other.example.org", "bob", "b", NULL, NULL);
    assert_config(config, "docker.io", "hub", "h", NULL, NULL);
    assert_config(config, "azure.example.org", "00", "", "refresh", NULL);
    assert_config(config, "r.example.org", NULL, NULL, NULL, NULL);
    assert_config("{}", "r.example.org", NULL, NULL, NULL, NULL);
    assert_config("{\"auths\":{\"r\":{}}}", "r", NULL, NULL, NULL, NULL);
}

static void the_hosts_own_program_comes_before_that_of_all(void **state)
{
    (void)state;
    static const char config[] =
        "{\"credsStore\":\"all\",\"credHelpers\":{\"r.example.org\":\"one\"}}";
    assert_config(config, "r.example.org", NULL, NULL, NULL, "one");
    assert_config(config, "s.example.org", NULL, NULL, NULL, "all");
}

static void a_broken_configuration_is_refused(void **state)
{
    (void)state;
    static const char *const configs[] = {"", "[]", "{", "{\"auths\":{\"r\":{\"auth\":\"***\"}}}",
        "{\"auths\":{\"r\":{\"auth\":\"bm9jb2xvbg==\"}}}", "{\"credsStore\":\"../../bin/sh\"}",
        "{\"credHelpers\":{\"r\":\"a b\"}}"};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        struct wfe_registry_credentials credentials;
        char *program = NULL;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(wfe_docker_config_parse(
                             configs[i], strlen(configs[i]), "r", &credentials, &program, &err),
            -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bearer_challenge_is_read),
        cmocka_unit_test(a_quoted_value_may_hold_anything),
        cmocka_unit_test(the_strongest_of_several_challenges_counts),
        cmocka_unit_test(what_nobody_can_answer_is_no_challenge),
        cmocka_unit_test(basic_credentials_become_base64),
        cmocka_unit_test(basic_without_credentials_is_an_error),
        cmocka_unit_test(a_realm_that_may_not_be_asked_is_refused),
        cmocka_unit_test(dockers_credentials_are_found_by_host),
        cmocka_unit_test(the_hosts_own_program_comes_before_that_of_all),
        cmocka_unit_test(a_broken_configuration_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
