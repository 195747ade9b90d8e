/* SPDX-License-Identifier: MIT */
#include "executor/step/workflow_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

/* Everything that is wrong with the document goes to stderr, a line each. */
static void print_problems(const struct wfe_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct wfe_problem *problem = &problems->items[i];
        if (problem->warning)
            wfe_log(WFE_LOG_WARN, "document", "%s", problem->text);
        else
            fprintf(stderr, "%s\n", problem->text);
    }
}

int wfe_workflow_load(
    const char *path, const char *data_path, struct wfe_workflow **ret, struct wfe_error *err)
{
    WFE_JSON cJSON *data = NULL;
    int r = data_path ? wfe_data_read(data_path, &data, err) : 0;
    if (r < 0)
        return r;
    WFE_FREE char *text = NULL;
    size_t length;
    r = wfe_read_file(path, WFE_DOCUMENT_MAX_BYTES, &text, &length, err);
    if (r < 0)
        return r;
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    r = wfe_workflow_parse(
        strcmp(path, "-") == 0 ? "stdin" : path, text, length, data, ret, &problems, err);
    print_problems(&problems);
    wfe_problems_done(&problems);
    return r;
}
