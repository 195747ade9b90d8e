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

#include <cmocka.h>

#include "executor/input/artifacts.h"
#include "libcommon/file.h"

/* Resolving names to sources; what the daemon makes of them is tested against a real one. */

static char directory[PATH_MAX];
static char store_path[PATH_MAX + 16];
static struct wfe_digest stored;

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(
        directory, sizeof directory, "%s/wfe-test-artifacts-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(directory))
        return -1;
    snprintf(store_path, sizeof store_path, "%s/store", directory);
    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_store_entry entry;
    if (wfe_store_open(store_path, true, &store, NULL) < 0 ||
        wfe_store_put(store, "/etc/passwd", NULL, 3600, &entry, NULL) < 0)
        return -1;
    stored = entry.digest;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return wfe_remove_tree(directory);
}

static int resolve(const char *data_text, const struct wfe_artifact_binding *bindings,
    size_t binding_count, struct wfe_inputs *ret, struct wfe_error *err)
{
    struct wfe_step_pair pair = {.name = (char *)"src", .value = (char *)"/in/src"};
    struct wfe_step_config config = {.inputs = &pair, .input_count = 1};
    cJSON *data = cJSON_Parse(data_text);
    int r = wfe_inputs_resolve(&config, data, bindings, binding_count, store_path, ret, err);
    cJSON_Delete(data);
    return r;
}

static void assert_refused(const char *data_text, const char *expected)
{
    struct wfe_inputs inputs;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(resolve(data_text, NULL, 0, &inputs, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_non_null(strstr(err.message, "input 'src'"));
    if (!strstr(err.message, expected))
        fail_msg("'%s' is not in '%s'", expected, err.message);
}

static void a_step_without_inputs_needs_no_store(void **state)
{
    (void)state;
    struct wfe_step_config config = {0};
    struct wfe_inputs inputs;
    assert_int_equal(wfe_inputs_resolve(&config, NULL, NULL, 0, "/nonexistent", &inputs, NULL), 0);
    assert_int_equal(inputs.count, 0);
    assert_null(inputs.store);
    wfe_inputs_done(&inputs);
}

static void a_reference_in_the_data_names_a_stored_artifact(void **state)
{
    (void)state;
    char data[256];
    snprintf(data, sizeof data, "{\"src\":{\"__wfe_artifact\":\"%s\",\"size\":1}}", stored.text);
    struct wfe_inputs inputs;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(resolve(data, NULL, 0, &inputs, &err), 0);
    assert_int_equal(inputs.count, 1);
    assert_true(inputs.items[0].stored);
    assert_string_equal(inputs.items[0].digest.text, stored.text);
    assert_string_equal(inputs.items[0].target, "/in/src");
    wfe_inputs_done(&inputs);
}

static void a_binding_wins_over_the_data(void **state)
{
    (void)state;
    struct wfe_artifact_binding binding = {.name = "src", .source = directory};
    struct wfe_inputs inputs;
    assert_int_equal(resolve("{\"src\":1}", &binding, 1, &inputs, NULL), 0);
    assert_false(inputs.items[0].stored);
    assert_string_equal(inputs.items[0].path, directory);
    wfe_inputs_done(&inputs);
}

static void each_way_to_be_no_artifact_is_told_apart(void **state)
{
    (void)state;
    assert_refused("[1]", "not a JSON object");
    assert_refused("{\"other\":1}", "no such artifact in the workflow data");
    assert_refused("{\"src\":\"sha256:00\"}", "no artifact reference");
    assert_refused("{\"src\":{\"__wfe_artifact\":7}}", "no artifact reference");
    assert_refused("{\"src\":{\"__wfe_artifact\":\"sha256:../../x\"}}", "no digest");
    assert_refused("{\"src\":{\"__wfe_artifact\":\"/etc/passwd\"}}", "no digest");
    assert_refused("{\"src\":{\"__wfe_artifact\":\"sha256:"
                   "0000000000000000000000000000000000000000000000000000000000000000\"}}",
        "not in the store");
}

static void a_binding_to_nothing_names_the_path(void **state)
{
    (void)state;
    struct wfe_artifact_binding binding = {.name = "src", .source = "/nonexistent/tree"};
    struct wfe_inputs inputs;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(resolve("{}", &binding, 1, &inputs, &err), -ENOENT);
    assert_string_equal(err.message, "input 'src': /nonexistent/tree: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_without_inputs_needs_no_store),
        cmocka_unit_test(a_reference_in_the_data_names_a_stored_artifact),
        cmocka_unit_test(a_binding_wins_over_the_data),
        cmocka_unit_test(each_way_to_be_no_artifact_is_told_apart),
        cmocka_unit_test(a_binding_to_nothing_names_the_path),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
