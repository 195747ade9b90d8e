/* SPDX-License-Identifier: MIT */
#include "executor/network/cni.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "executor/network/cni_plugin.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

/* A directory of plugins that are shell scripts. */
struct fixture {
    char directory[64];
    cJSON *kept; /* the last result that was kept */
    int keep_calls;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/wfe-test-cni-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    wfe_remove_tree(fixture->directory);
    cJSON_Delete(fixture->kept);
    free(fixture);
    return 0;
}

static char *path_of(const struct fixture *fixture, const char *name)
{
    char *path = wfe_path_join(fixture->directory, name);
    assert_non_null(path);
    return path;
}

static void write_file(
    const struct fixture *fixture, const char *name, const char *text, mode_t mode)
{
    WFE_FREE char *path = path_of(fixture, name);
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, text, strlen(text)), 0);
}

static char *read_file(const struct fixture *fixture, const char *name)
{
    WFE_FREE char *path = path_of(fixture, name);
    char *text = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(path, 65536, &text, &length, NULL), 0);
    return text;
}

/* A plugin that writes down how it was called, then does as `body` says. */
static void write_plugin(const struct fixture *fixture, const char *name, const char *body)
{
    char text[2048];
    snprintf(text, sizeof text,
        "#!/bin/sh\n"
        "cat >%s/%s.$CNI_COMMAND.stdin\n"
        "echo \"%s $CNI_COMMAND $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME\" >>%s/calls\n%s\n",
        fixture->directory, name, name, fixture->directory, body);
    write_file(fixture, name, text, 0755);
}

static cJSON *parse(const char *text)
{
    cJSON *list = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_cni_list_parse("net.conflist", text, &list, &err) < 0)
        fail_msg("%s", err.message);
    return list;
}

static void assert_refused(const char *text, const char *words)
{
    cJSON *list = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_cni_list_parse("net.conflist", text, &list, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_null(list);
    if (!strstr(err.message, words) || strncmp(err.message, "net.conflist: ", 14) != 0)
        fail_msg("%s", err.message);
}

static struct wfe_cni_attachment attachment(const struct fixture *fixture)
{
    return (struct wfe_cni_attachment){
        .path = fixture->directory,
        .container_id = "wfe-1",
        .netns = "/run/netns/x",
        .interface = "eth0",
        .lock_fd = -1,
    };
}

static int keep(void *context, const cJSON *result, struct wfe_error *err)
{
    (void)err;
    struct fixture *fixture = context;
    cJSON_Delete(fixture->kept);
    fixture->kept = cJSON_Duplicate(result, true);
    fixture->keep_calls++;
    return 0;
}

static const char TWO[] = "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":["
                          "{\"type\":\"first\"},{\"type\":\"second\"}]}";

static void a_list_is_checked(void **state)
{
    (void)state;
    assert_refused("[]", "no JSON object");
    assert_refused("{\"cniVersion\":\"0.2.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"b\"}]}",
        "cniVersion: found '0.2.0'");
    assert_refused("{\"cniVersion\":\"1.0.0\",\"plugins\":[{\"type\":\"b\"}]}", "name: ");
    assert_refused(
        "{\"cniVersion\":\"1.0.0\",\"name\":\"../a\",\"plugins\":[{\"type\":\"b\"}]}", "name: ");
    assert_refused("{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[]}", "plugins: found 0");
    assert_refused(
        "{\"cniVersion\":\"1.0.0\",\"name\":\"a\",\"plugins\":[{\"type\":\"b\"},{\"type\":"
        "\"../sh\"}]}",
        "plugins[1].type");
}

static void one_plugins_configuration_becomes_a_list(void **state)
{
    (void)state;
    WFE_JSON cJSON *list = parse("{\"cniVersion\":\"0.4.0\",\"name\":\"a\",\"type\":\"ptp\"}");
    const cJSON *plugins = cJSON_GetObjectItemCaseSensitive(list, "plugins");
    assert_int_equal(cJSON_GetArraySize(plugins), 1);
    assert_string_equal(
        cJSON_GetObjectItemCaseSensitive(plugins->child, "type")->valuestring, "ptp");
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(list, "name")->valuestring, "a");
}

static void the_first_configuration_by_name_is_taken(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    cJSON *none = NULL;
    assert_int_equal(wfe_cni_list_load("/nowhere/at/all", &none, &err), 0);
    assert_null(none);
    write_file(fixture, "05-not-one.txt", "x", 0644);
    assert_int_equal(wfe_cni_list_load(fixture->directory, &none, &err), 0);
    assert_null(none);
    write_file(
        fixture, "20.conf", "{\"cniVersion\":\"1.0.0\",\"name\":\"b\",\"type\":\"x\"}", 0644);
    write_file(fixture, "10.conflist", TWO, 0644);
    WFE_JSON cJSON *list = NULL;
    assert_int_equal(wfe_cni_list_load(fixture->directory, &list, &err), 0);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(list, "name")->valuestring, "n");
}

static void a_missing_plugin_is_named(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "");
    WFE_JSON cJSON *list = parse(TWO);
    assert_true(wfe_cni_list_check(list, fixture->directory, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_non_null(strstr(err.message, "'second'"));
    assert_non_null(strstr(err.message, fixture->directory));
}

static void a_plugin_gets_what_the_specification_says(void **state)
{
    (void)state;
    WFE_JSON cJSON *list =
        parse("{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"portmap\","
              "\"snat\":true,\"capabilities\":{\"portMappings\":true,\"ips\":false}}]}");
    WFE_JSON cJSON *capabilities = cJSON_Parse("{\"portMappings\":[1],\"ips\":[2],\"mac\":3}");
    WFE_JSON cJSON *previous = cJSON_Parse("{\"ips\":[]}");
    const cJSON *plugin = cJSON_GetObjectItemCaseSensitive(list, "plugins")->child;
    WFE_JSON cJSON *config = wfe_cni_plugin_config(list, plugin, capabilities, previous);
    WFE_JSON cJSON *expected =
        cJSON_Parse("{\"type\":\"portmap\",\"snat\":true,\"cniVersion\":\"1.0.0\",\"name\":\"n\","
                    "\"runtimeConfig\":{\"portMappings\":[1]},\"prevResult\":{\"ips\":[]}}");
    assert_true(cJSON_Compare(config, expected, true));
}

static void results_are_chained_and_plugins_end_in_reverse_order(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "[ $CNI_COMMAND = DEL ] || echo '{\"ips\":[{\"address\":1}]}'");
    write_plugin(fixture, "second", "[ $CNI_COMMAND = DEL ] || echo '{\"ips\":[{\"address\":2}]}'");
    WFE_JSON cJSON *list = parse(TWO);
    struct wfe_cni_attachment to = attachment(fixture);
    assert_int_equal(wfe_cni_add(list, &to, keep, fixture, &err), 0);
    assert_int_equal(fixture->keep_calls, 2);
    WFE_FREE char *first = read_file(fixture, "first.ADD.stdin");
    WFE_FREE char *second = read_file(fixture, "second.ADD.stdin");
    assert_null(strstr(first, "prevResult"));
    assert_non_null(strstr(second, "\"prevResult\":{\"ips\":[{\"address\":1}]}"));
    assert_int_equal(wfe_cni_del(list, &to, fixture->kept, &err), 0);
    WFE_FREE char *last = read_file(fixture, "first.DEL.stdin");
    assert_non_null(strstr(last, "\"prevResult\":{\"ips\":[{\"address\":2}]}"));
    WFE_FREE char *calls = read_file(fixture, "calls");
    assert_string_equal(calls, "first ADD wfe-1 /run/netns/x eth0\n"
                               "second ADD wfe-1 /run/netns/x eth0\n"
                               "second DEL wfe-1 /run/netns/x eth0\n"
                               "first DEL wfe-1 /run/netns/x eth0\n");
}

static void a_plugins_own_words_tell_why_it_failed(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "echo '{\"cniVersion\":\"1.0.0\",\"ips\":[]}'");
    write_plugin(fixture, "second",
        "echo '{\"code\":7,\"msg\":\"no such thing\",\"details\":\"eth9\"}'; exit 1");
    WFE_JSON cJSON *list = parse(TWO);
    struct wfe_cni_attachment to = attachment(fixture);
    assert_true(wfe_cni_add(list, &to, keep, fixture, &err) < 0);
    assert_int_equal(fixture->keep_calls, 1);
    assert_string_equal(err.message, "CNI plugin 'second' (ADD): no such thing: eth9");
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
}

static void a_failing_plugin_does_not_keep_the_others_from_detaching(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "echo broken >&2; exit 3");
    write_plugin(fixture, "second", "kill -9 $$");
    WFE_JSON cJSON *list = parse(TWO);
    struct wfe_cni_attachment to = attachment(fixture);
    assert_true(wfe_cni_del(list, &to, NULL, &err) < 0);
    assert_non_null(strstr(err.message, "'second' (DEL): it ended with signal 9"));
    WFE_FREE char *calls = read_file(fixture, "calls");
    assert_non_null(strstr(calls, "first DEL"));
}

static int run(const struct fixture *fixture, const char *name, struct wfe_cancel *cancel,
    struct wfe_error *err)
{
    WFE_FREE char *program = path_of(fixture, name);
    char *const env[] = {(char *)"PATH=/usr/bin:/bin", (char *)"CNI_COMMAND=ADD", NULL};
    struct wfe_cni_plugin plugin = {
        .program = program, .env = env, .config = "{}", .lock_fd = -1, .cancel = cancel};
    WFE_JSON cJSON *answer = NULL;
    return wfe_cni_plugin_run(&plugin, &answer, err);
}

static void an_endless_answer_is_cut_off(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "exec yes");
    assert_true(run(fixture, "first", NULL, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
}

static void an_answer_that_is_no_json_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    write_plugin(fixture, "first", "echo hello");
    assert_true(run(fixture, "first", NULL, &err) < 0);
    assert_non_null(strstr(err.message, "hello"));
}

static void a_request_to_stop_kills_the_plugin_and_what_it_started(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_cancel *cancel = NULL;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    wfe_cancel_trigger(cancel);
    write_plugin(fixture, "first", "sleep 100; echo late");
    time_t before = time(NULL);
    assert_true(run(fixture, "first", cancel, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    assert_true(time(NULL) - before < 50);
    wfe_cancel_free(cancel);
}

static void a_plugin_has_signals_as_usual(void **state)
{
    struct fixture *fixture = *state;
    struct wfe_error err = WFE_ERROR_INIT;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);
    write_plugin(fixture, "first", "kill -TERM $$; echo '{}'");
    assert_true(run(fixture, "first", NULL, &err) < 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    assert_non_null(strstr(err.message, "signal 15"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_is_checked),
        cmocka_unit_test(one_plugins_configuration_becomes_a_list),
        cmocka_unit_test_setup_teardown(
            the_first_configuration_by_name_is_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_missing_plugin_is_named, set_up, tear_down),
        cmocka_unit_test(a_plugin_gets_what_the_specification_says),
        cmocka_unit_test_setup_teardown(
            results_are_chained_and_plugins_end_in_reverse_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_plugins_own_words_tell_why_it_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_failing_plugin_does_not_keep_the_others_from_detaching, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_endless_answer_is_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_answer_that_is_no_json_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_request_to_stop_kills_the_plugin_and_what_it_started, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_plugin_has_signals_as_usual, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
