/* SPDX-License-Identifier: MIT */
#include "executor/spec/spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"

static struct wfe_step_config minimal_config(void)
{
    return (struct wfe_step_config){
        .image = (char *)"alpine:3.18",
        .run = (char *)"echo hello",
    };
}

static void assert_env(char *const *env, const char *const *expected)
{
    assert_non_null(env);
    size_t i = 0;
    for (; expected[i] && env[i]; i++)
        assert_string_equal(env[i], expected[i]);
    assert_null(expected[i]);
    assert_null(env[i]);
}

static void an_environment_starts_with_a_default_path(void **state)
{
    (void)state;
    struct wfe_step_config config = minimal_config();
    static const char *const expected[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    char **env = wfe_spec_env(NULL, NULL, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
    char *none[] = {NULL};
    struct wfe_image_config image = {.env = none, .entrypoint = none, .cmd = none};
    env = wfe_spec_env(&image, NULL, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
}

static void the_images_environment_replaces_the_default_path(void **state)
{
    (void)state;
    char *image_env[] = {(char *)"LANG=C", (char *)"BROKEN", (char *)"=x", (char *)"E=", NULL};
    struct wfe_image_config image = {.env = image_env};
    struct wfe_step_config config = minimal_config();
    static const char *const expected[] = {"LANG=C", "E=", NULL};
    char **env = wfe_spec_env(&image, NULL, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
}

static void data_then_the_steps_own_variables_win(void **state)
{
    (void)state;
    char *image_env[] = {(char *)"PATH=/bin", (char *)"MODE=image", (char *)"A=1", NULL};
    struct wfe_image_config image = {.env = image_env};
    WFE_JSON cJSON *data = cJSON_Parse("{\"mode\":\"data\",\"svc_port\":5432,\"list\":[1,\"b\"],"
                                       "\"none\":null,\"yes\":true,\"obj\":{\"a\": 1.5},"
                                       "\"\":1,\"x=y\":2,\"build.stdout\":\"out\\n\"}");
    struct wfe_step_pair pairs[] = {
        {(char *)"A", (char *)"2"}, {(char *)"SVC_PORT", (char *)"1"}, {(char *)"low", (char *)""}};
    struct wfe_step_config config = minimal_config();
    config.env = pairs;
    config.env_count = 3;
    static const char *const expected[] = {"PATH=/bin", "MODE=data", "A=2", "SVC_PORT=1",
        "LIST=[1,\"b\"]", "NONE=null", "YES=true", "OBJ={\"a\":1.5}", "BUILD.STDOUT=out\n",
        "low=", NULL};
    char **env = wfe_spec_env(&image, data, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
}

static void a_variable_without_a_value_is_taken_away(void **state)
{
    (void)state;
    char *image_env[] = {(char *)"PATH=/bin", (char *)"LONGER=1", (char *)"LONG=2", NULL};
    struct wfe_image_config image = {.env = image_env};
    WFE_JSON cJSON *data = cJSON_Parse("{\"token\":\"secret\",\"kept\":null}");
    struct wfe_step_pair pairs[] = {
        {(char *)"LONG", NULL}, {(char *)"TOKEN", NULL}, {(char *)"ABSENT", NULL}};
    struct wfe_step_config config = minimal_config();
    config.env = pairs;
    config.env_count = 3;
    static const char *const expected[] = {"PATH=/bin", "LONGER=1", "KEPT=null", NULL};
    char **env = wfe_spec_env(&image, data, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
}

static void a_name_that_begins_like_another_is_another(void **state)
{
    (void)state;
    char *image_env[] = {(char *)"AB=1", (char *)"A=2", (char *)"ABC=3", NULL};
    struct wfe_image_config image = {.env = image_env};
    struct wfe_step_pair pair = {(char *)"AB", (char *)"4"};
    struct wfe_step_config config = minimal_config();
    config.env = &pair;
    config.env_count = 1;
    static const char *const expected[] = {"AB=4", "A=2", "ABC=3", NULL};
    char **env = wfe_spec_env(&image, NULL, &config);
    assert_env(env, expected);
    wfe_spec_env_free(env);
}

static void many_data_members_each_become_one_variable(void **state)
{
    (void)state;
    /* Long names first, so that each shorter one passes by names that it begins. */
    WFE_JSON cJSON *data = cJSON_CreateObject();
    for (int i = 9999; i >= 0; i--) {
        char name[32];
        snprintf(name, sizeof name, "%s%d", i % 2 ? "key" : "KEY", i / 2);
        assert_non_null(cJSON_AddNumberToObject(data, name, i));
    }
    struct wfe_step_config config = minimal_config();
    char **env = wfe_spec_env(NULL, data, &config);
    assert_non_null(env);
    size_t count = 0;
    while (env[count])
        count++;
    assert_int_equal(count, 1 + 5000);
    assert_string_equal(env[1], "KEY4999=9998");
    assert_string_equal(env[5000], "KEY0=0");
    wfe_spec_env_free(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_environment_starts_with_a_default_path),
        cmocka_unit_test(the_images_environment_replaces_the_default_path),
        cmocka_unit_test(data_then_the_steps_own_variables_win),
        cmocka_unit_test(a_variable_without_a_value_is_taken_away),
        cmocka_unit_test(a_name_that_begins_like_another_is_another),
        cmocka_unit_test(many_data_members_each_become_one_variable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
