/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "executor/image/transfer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static char scratch[64];

static int make_scratch(void **state)
{
    (void)state;
    static const char *const proxies[] = {
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof proxies / sizeof *proxies; i++)
        unsetenv(proxies[i]);
    snprintf(scratch, sizeof scratch, "/tmp/wfe-transfer-XXXXXX");
    if (!mkdtemp(scratch))
        return -1;
    return setenv("DOCKER_CONFIG", scratch, 1);
}

static int remove_scratch(void **state)
{
    (void)state;
    return wfe_remove_tree(scratch);
}

/* A pull that a daemon with the service could do. */
struct fixture {
    struct wfe_session session;
    struct wfe_reference reference;
    struct wfe_registry_options registry;
    struct wfe_transfer_pull pull;
};

static void make_pull(struct fixture *fixture, const char *reference)
{
    *fixture = (struct fixture){
        .session = {.transfers = true, .local = true}, .registry = {.hosts_directory = scratch}};
    assert_int_equal(wfe_image_split(reference, &fixture->reference, NULL), 0);
    fixture->pull = (struct wfe_transfer_pull){.session = &fixture->session,
        .reference = &fixture->reference,
        .source = reference,
        .name = reference,
        .registry = &fixture->registry};
}

static void assert_obstacle(const struct fixture *fixture, const char *expected)
{
    struct wfe_error err = WFE_ERROR_INIT;
    const char *obstacle = "";
    assert_int_equal(wfe_transfer_obstacle(&fixture->pull, &obstacle, &err), 0);
    assert_string_equal(obstacle ? obstacle : "none", expected);
}

static void a_daemon_with_the_service_pulls(void **state)
{
    (void)state;
    struct fixture fixture;
    make_pull(&fixture, "registry.invalid/team/box:1");
    assert_obstacle(&fixture, "none");
    make_pull(&fixture, "localhost:5000/box");
    assert_obstacle(&fixture, "none");
}

static void a_daemon_without_the_service_does_not(void **state)
{
    (void)state;
    struct fixture fixture;
    make_pull(&fixture, "registry.invalid/team/box:1");
    fixture.session.transfers = false;
    assert_obstacle(&fixture, "the daemon has no Transfer service");
}

static void a_bound_of_downloads_is_ours_to_keep(void **state)
{
    (void)state;
    struct fixture fixture;
    make_pull(&fixture, "registry.invalid/team/box:1");
    fixture.pull.limits_downloads = true;
    assert_obstacle(&fixture, "it takes no bound of downloads at once");
}

static void a_proxy_is_heeded_but_for_this_machine(void **state)
{
    (void)state;
    struct fixture fixture;
    setenv("HTTPS_PROXY", "http://proxy.invalid", 1);
    make_pull(&fixture, "registry.invalid/team/box:1");
    assert_obstacle(&fixture, "it knows nothing of the proxy in this environment");
    make_pull(&fixture, "127.0.0.1:5000/box");
    assert_obstacle(&fixture, "none");
    unsetenv("HTTPS_PROXY");
}

static void a_hosts_file_for_the_registry_alone_counts(void **state)
{
    (void)state;
    WFE_FREE char *directory = wfe_path_join(scratch, "registry.invalid");
    WFE_FREE char *path = wfe_path_join(directory, "hosts.toml");
    assert_int_equal(wfe_make_directories(directory, 0755), 0);
    WFE_FCLOSE FILE *file = fopen(path, "we");
    assert_non_null(file);
    struct fixture fixture;
    make_pull(&fixture, "registry.invalid/team/box:1");
    assert_obstacle(&fixture, "a hosts.toml of this machine is for the registry");
    make_pull(&fixture, "other.invalid/team/box:1");
    assert_obstacle(&fixture, "none");
    assert_int_equal(wfe_remove_tree(directory), 0);
}

static void a_daemon_elsewhere_gets_no_credentials(void **state)
{
    (void)state;
    const struct wfe_step_registry_auth login = {
        .host = (char *)"registry.invalid", .username = (char *)"ann", .password = (char *)"word"};
    struct fixture fixture;
    make_pull(&fixture, "registry.invalid/team/box:1");
    fixture.session.local = false;
    assert_obstacle(&fixture, "none");
    fixture.registry.logins = &login;
    fixture.registry.login_count = 1;
    assert_obstacle(&fixture, "credentials stay on this machine, and the daemon is on another");
    fixture.session.local = true;
    assert_obstacle(&fixture, "none");
}

static void a_daemon_elsewhere_reaches_no_registry_of_this_machine(void **state)
{
    (void)state;
    struct fixture fixture;
    make_pull(&fixture, "localhost:5000/box");
    fixture.session.local = false;
    assert_obstacle(&fixture, "the registry is on this machine, the daemon on another");
}

static void the_environment_chooses(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum wfe_transfer_use use;
    } cases[] = {{"", WFE_TRANSFER_AUTO}, {"auto", WFE_TRANSFER_AUTO},
        {"always", WFE_TRANSFER_ALWAYS}, {"never", WFE_TRANSFER_NEVER}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum wfe_transfer_use use;
        setenv("WFE_TRANSFER", cases[i].value, 1);
        assert_int_equal(wfe_transfer_use(&use, NULL), 0);
        assert_int_equal(use, cases[i].use);
    }
    struct wfe_error err = WFE_ERROR_INIT;
    enum wfe_transfer_use use = WFE_TRANSFER_NEVER;
    setenv("WFE_TRANSFER", "Always", 1);
    assert_int_equal(wfe_transfer_use(&use, &err), -EINVAL);
    assert_int_equal(use, WFE_TRANSFER_NEVER);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    unsetenv("WFE_TRANSFER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_daemon_with_the_service_pulls),
        cmocka_unit_test(a_daemon_without_the_service_does_not),
        cmocka_unit_test(a_bound_of_downloads_is_ours_to_keep),
        cmocka_unit_test(a_proxy_is_heeded_but_for_this_machine),
        cmocka_unit_test(a_hosts_file_for_the_registry_alone_counts),
        cmocka_unit_test(a_daemon_elsewhere_gets_no_credentials),
        cmocka_unit_test(a_daemon_elsewhere_reaches_no_registry_of_this_machine),
        cmocka_unit_test(the_environment_chooses),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
