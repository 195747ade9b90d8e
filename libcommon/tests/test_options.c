/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/options.h"

static const struct wfe_option TABLE[] = {
    {"name", 'n', "N", "a name", 1},
    {"quiet", 'q', NULL, "say nothing", 2},
    {"long-only", 0, "X", "no letter", 3},
    {NULL, 0, NULL, NULL, 0},
};

struct taken {
    const char *name, *long_only;
    int quiet;
};

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    struct taken *taken = context;
    if (id == 1)
        taken->name = value;
    else if (id == 2)
        taken->quiet++;
    else
        taken->long_only = value;
    if (value && strcmp(value, "bad") == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EDOM, "bad value");
    return 0;
}

/* Splits words at spaces, since argv must be writable. */
static int parse(
    const char *line, bool stop, struct taken *taken, const char **operand, struct wfe_error *err)
{
    static char text[200];
    static char *argv[20];
    snprintf(text, sizeof text, "%s", line);
    int argc = 0;
    char *save = NULL;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    argv[argc] = NULL;
    int first = -1;
    *taken = (struct taken){0};
    int r = wfe_options_parse(TABLE, argc, argv, stop, take, taken, &first, err);
    *operand = r == 0 ? argv[first] : NULL;
    return r;
}

static void options_and_operands_may_mix(void **state)
{
    (void)state;
    struct taken taken;
    const char *operand;
    assert_int_equal(
        parse("prog file -n one --long-only=two -q --quiet", false, &taken, &operand, NULL), 0);
    assert_string_equal(taken.name, "one");
    assert_string_equal(taken.long_only, "two");
    assert_int_equal(taken.quiet, 2);
    assert_string_equal(operand, "file");
}

static void the_first_operand_can_end_the_options(void **state)
{
    (void)state;
    struct taken taken;
    const char *operand;
    assert_int_equal(parse("prog -q run -n one", true, &taken, &operand, NULL), 0);
    assert_int_equal(taken.quiet, 1);
    assert_null(taken.name);
    assert_string_equal(operand, "run");
}

static void an_unknown_option_is_named(void **state)
{
    (void)state;
    struct taken taken;
    const char *operand;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(parse("prog --nmae x", false, &taken, &operand, &err), -EINVAL);
    assert_string_equal(err.message, "--nmae is not an option");
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(parse("prog -x", false, &taken, &operand, &err), -EINVAL);
    assert_string_equal(err.message, "-x is not an option");
}

static void a_missing_argument_is_named(void **state)
{
    (void)state;
    struct taken taken;
    const char *operand;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(parse("prog --name", false, &taken, &operand, &err), -EINVAL);
    assert_string_equal(err.message, "--name needs an argument");
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(parse("prog -n", false, &taken, &operand, &err), -EINVAL);
    assert_string_equal(err.message, "-n needs an argument");
}

static void a_refused_value_ends_it(void **state)
{
    (void)state;
    struct taken taken;
    const char *operand;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(parse("prog -n bad -q", false, &taken, &operand, &err), -EDOM);
    assert_int_equal(taken.quiet, 0);
}

static void the_help_has_one_line_an_option(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *to = open_memstream(&text, &length);
    wfe_options_print(TABLE, to);
    fclose(to);
    assert_string_equal(text, "  -n, --name N                   a name\n"
                              "  -q, --quiet                    say nothing\n"
                              "      --long-only X              no letter\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_and_operands_may_mix),
        cmocka_unit_test(the_first_operand_can_end_the_options),
        cmocka_unit_test(an_unknown_option_is_named),
        cmocka_unit_test(a_missing_argument_is_named),
        cmocka_unit_test(a_refused_value_ends_it),
        cmocka_unit_test(the_help_has_one_line_an_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
