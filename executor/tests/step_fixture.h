/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TESTS_STEP_FIXTURE_H
#define WFE_EXECUTOR_TESTS_STEP_FIXTURE_H

/* What the tests of step documents share: parse a text that must be right, or must be wrong. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "executor/step/step.h"
#include "libcommon/cleanup.h"

static inline void cleanup_workflow(struct wfe_workflow **workflow)
{
    wfe_workflow_free(*workflow);
}
#define WORKFLOW WFE_CLEANUP(cleanup_workflow) struct wfe_workflow

static inline void print_problems(const struct wfe_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        print_message("%s\n", problems->items[i].text);
}

/* The workflow of a text without errors; json (NULL: none) is the workflow data. Warnings stay in
 * *problems, which may be NULL when there must be none. */
static inline struct wfe_workflow *parse_with(
    const char *text, const char *json, struct wfe_problems *problems)
{
    struct wfe_problems own = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_JSON cJSON *data = json ? cJSON_Parse(json) : NULL;
    int r = wfe_workflow_parse(
        "s.yaml", text, strlen(text), data, &workflow, problems ? problems : &own, &err);
    print_problems(problems ? problems : &own);
    assert_int_equal(r, 0);
    assert_int_equal(err.kind, WFE_ERROR_NONE);
    assert_int_equal(own.count, 0);
    wfe_problems_done(&own);
    return workflow;
}

static inline struct wfe_workflow *parse(const char *text)
{
    return parse_with(text, NULL, NULL);
}

/* The text must be refused for this problem alone. */
static inline void assert_refused(const char *text, const char *json, const char *expected)
{
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_JSON cJSON *data = json ? cJSON_Parse(json) : NULL;
    int r = wfe_workflow_parse("s.yaml", text, strlen(text), data, &workflow, &problems, &err);
    assert_true(r < 0);
    assert_null(workflow);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    if (problems.errors != 1)
        print_problems(&problems);
    assert_int_equal(problems.errors, 1);
    assert_string_equal(problems.items[0].text, expected);
    assert_string_equal(err.message, expected);
    wfe_problems_done(&problems);
}

#endif
