/* SPDX-License-Identifier: MIT */
#include "executor/tests/step_fixture.h"

#include <stdlib.h>

#include "libcommon/buffer.h"

static const char data[] =
    "{\"s\":\"text\",\"n\":3,\"f\":1.5,\"t\":true,\"z\":null,\"e\":\"\",\"big\":1000000000000000,"
    "\"o\":{\"p\":{\"q\":\"deep\"},\"l\":[1,{\"a\":\"b\"}]},\"build.stdout\":\"out\\n\","
    "\"o.p\":{\"r\":\"dotted\"},\"my-key\":\"dash\",\"ref\":\"((s))\",\"third\":0.1}";

/* `value` as the text of a `run`. */
static void assert_run(const char *value, const char *expected)
{
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(4096);
    assert_int_equal(wfe_buffer_printf(&text, "image: a\nrun: '%s'\n", value), 0);
    WORKFLOW *workflow = parse_with(text.data, data, NULL);
    assert_string_equal(workflow->steps[0].config.run, expected);
}

static void a_reference_inside_of_text_is_replaced(void **context)
{
    (void)context;
    assert_run("a ((s)) b", "a text b");
    assert_run("((s))((s))", "texttext");
    assert_run("x((n))", "x3");
    assert_run("x((f)) ((third))", "x1.5 0.1");
    assert_run("x((big))", "x1000000000000000");
    assert_run("x((t)) ((z))", "xtrue null");
    assert_run("x((e))y", "xy");
    assert_run("x((o.p.q))", "xdeep");
    assert_run("x((o))", "x{\"p\":{\"q\":\"deep\"},\"l\":[1,{\"a\":\"b\"}]}");
    assert_run("x((o.l))", "x[1,{\"a\":\"b\"}]");
    assert_run("x((my-key))", "xdash");
}

static void a_name_with_dots_is_found_too(void **context)
{
    (void)context;
    assert_run("x((build.stdout))", "xout\n");
    assert_run("x((o.p.r)) ((o.p.q))", "xdotted deep");
}

static void what_is_no_reference_is_left_alone(void **context)
{
    (void)context;
    static const char *const texts[] = {"(( s ))", "((s+1))", "((1))", "((s.))", "((.s))", "((s)",
        "(s)", "((s) )", "(())", "((", "((s", "$((s))", "echo $((s)) $(((s)))", "((-s))"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_run(texts[i], texts[i]);
}

static void parentheses_around_a_reference_stay(void **context)
{
    (void)context;
    assert_run("(((s)))", "(text)");
    assert_run("$(echo ((s)))", "$(echo text)");
    assert_run("((s))) ((n))", "text) 3");
}

static void what_was_put_in_is_not_searched_again(void **context)
{
    (void)context;
    assert_run("x((ref))", "x((s))");
    WORKFLOW *workflow = parse_with("{image: a, run: ((ref))}", data, NULL);
    assert_string_equal(workflow->steps[0].config.run, "((s))");
}

static void a_whole_value_keeps_its_type(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse_with(
        "name: ((name))\n"
        "config:\n"
        "  image: ((image))\n"
        "  command: ((command))\n"
        "  env: ((env))\n"
        "  user: ((none))\n"
        "  cpu: ((cpu))\n"
        "  timeout_ms: ((timeout))\n"
        "  volumes: [{source: /s, target: /t, readonly: ((readonly))}]\n"
        "  inputs: {a: ((target))}\n",
        "{\"name\":\"n\",\"image\":\"i\",\"command\":[\"a\",5,true],\"env\":{\"A\":1,\"B\":null,"
        "\"C\":\"((x))\"},\"none\":null,\"cpu\":1.5,\"timeout\":1500,\"readonly\":true,"
        "\"target\":\"/in\"}",
        NULL);
    const struct wfe_step_config *config = &workflow->steps[0].config;
    assert_string_equal(workflow->steps[0].name, "n");
    assert_string_equal(config->image, "i");
    assert_string_equal(config->command[1], "5");
    assert_string_equal(config->command[2], "true");
    assert_null(config->command[3]);
    assert_int_equal(config->env_count, 3);
    assert_null(config->env[1].value);
    assert_string_equal(config->env[2].value, "((x))");
    assert_string_equal(config->user, "65534:65534");
    assert_int_equal(config->cpu_millis, 1500);
    assert_int_equal(config->timeout_ms, 1500);
    assert_true(config->volumes[0].readonly);
    assert_string_equal(config->inputs[0].value, "/in");
}

static void a_whole_configuration_comes_from_the_data(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("data: {c: {image: a, run: x}}\ntype: containerd\nconfig: ((c))\n");
    assert_string_equal(workflow->steps[0].config.run, "x");
}

static void a_replaced_value_is_reported_at_its_reference(void **context)
{
    (void)context;
    assert_refused("image: a\nmemory: ((s))\n", data,
        "s.yaml:2: memory: found 'text'; allowed: a size such as 512m, 1g or 64Ki");
    assert_refused("image: a\nenv:\n  A: ((o))\n", data,
        "s.yaml:3: env.A: found a map; allowed: text, a number, true or false");
    assert_refused(
        "image: a\nenv: ((o.p.q))\n", data, "s.yaml:2: env: found 'deep'; allowed: a map");
}

static void aliases_share_what_was_not_replaced(void **context)
{
    (void)context;
    struct wfe_problems warnings = WFE_PROBLEMS_INIT;
    WORKFLOW *workflow =
        parse_with("_e: &e {A: ((s)), B: b}\n"
                   "workflow:\n"
                   "  id: ((s))-((n))\n"
                   "  steps:\n"
                   "    - {name: x, type: containerd, config: {image: a, env: *e}}\n"
                   "    - {name: y, type: containerd, config: {image: a, env: *e}}\n"
                   "    - {name: z, type: http, config: {url: ((nowhere))}}\n",
            data, &warnings);
    assert_int_equal(warnings.count, 1);
    wfe_problems_done(&warnings);
    assert_string_equal(workflow->id, "text-3");
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(workflow->steps[i].config.env[0].value, "text");
}

static char *repeat(char letter, size_t count)
{
    char *text = malloc(count + 1);
    assert_non_null(text);
    memset(text, letter, count);
    text[count] = '\0';
    return text;
}

static void what_is_put_in_is_bounded(void **context)
{
    (void)context;
    WFE_FREE char *long_text = repeat('a', 1024 * 1024);
    WFE_JSON cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "x", long_text);
    WFE_FREE char *json = cJSON_PrintUnformatted(object);
    assert_refused("image: a\nenv: {A: ((x)), B: ((x))b, C: ((x)), D: ((x))}\nrun: y\n", json,
        "s.yaml:2: env.D: found more data behind (( )) than a document may hold; allowed: 4194304 "
        "bytes, 100000 values");
    WORKFLOW *workflow = parse_with("image: a\nenv: {A: ((x)), B: ((x)), C: ((x))}\n", json, NULL);
    assert_int_equal(strlen(workflow->steps[0].config.env[2].value), 1024 * 1024);
}

static void deep_data_is_refused(void **context)
{
    (void)context;
    WFE_FREE char *open = repeat('[', 100);
    WFE_FREE char *close = repeat(']', 100);
    WFE_BUFFER struct wfe_buffer json = WFE_BUFFER_INIT(1024);
    wfe_buffer_printf(&json, "{\"x\":%s%s}", open, close);
    assert_refused("image: a\ncommand: ((x))\n", json.data,
        "s.yaml:2: command: found too many levels of lists and maps behind (( )); allowed: 64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reference_inside_of_text_is_replaced),
        cmocka_unit_test(a_name_with_dots_is_found_too),
        cmocka_unit_test(what_is_no_reference_is_left_alone),
        cmocka_unit_test(parentheses_around_a_reference_stay),
        cmocka_unit_test(what_was_put_in_is_not_searched_again),
        cmocka_unit_test(a_whole_value_keeps_its_type),
        cmocka_unit_test(a_whole_configuration_comes_from_the_data),
        cmocka_unit_test(a_replaced_value_is_reported_at_its_reference),
        cmocka_unit_test(aliases_share_what_was_not_replaced),
        cmocka_unit_test(what_is_put_in_is_bounded),
        cmocka_unit_test(deep_data_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
