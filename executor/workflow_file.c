/* SPDX-License-Identifier: MIT */
#include "executor/workflow_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

static int read_data(const char *path, cJSON **ret, struct wfe_error *err)
{
    if (!path)
        return 0;
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_read_file(path, WFE_DOCUMENT_MAX_BYTES, &text, &length, err);
    if (r < 0)
        return r;
    const char *end = NULL;
    cJSON *data = cJSON_ParseWithLengthOpts(text, length + 1, &end, true);
    if (!data) {
        int line = 1;
        for (const char *at = text; end && at < end && at < text + length; at++)
            line += *at == '\n';
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s:%d: not valid JSON", path, line);
    }
    if (!cJSON_IsObject(data)) {
        cJSON_Delete(data);
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: found something else than a JSON object; workflow data is one", path);
    }
    *ret = data;
    return 0;
}

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
    int r = read_data(data_path, &data, err);
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
