/* SPDX-License-Identifier: MIT */
#include "executor/run/result.h"

#include <assert.h>
#include <errno.h>
#include <grpc/status.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/utf8.h"

#define EXIT_TIMED_OUT 124
#define EXIT_FAILED 125
#define EXIT_NOT_RUNNABLE 126
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL_BASE 128

static const char replacement[] = "\xEF\xBF\xBD";
#define REPLACEMENT_LENGTH (sizeof replacement - 1)

/* Length of the text with its replacements; writes it when `out` is given. */
static size_t replace(const char *text, size_t length, char *out)
{
    const char *end = text + length;
    const char *nul = memchr(text, '\0', length);
    size_t written = 0;
    while (text < end) {
        size_t until_nul = (size_t)((nul ? nul : end) - text);
        size_t whole = wfe_utf8_span(text, until_nul);
        if (out)
            memcpy(out + written, text, whole);
        written += whole;
        text += whole;
        if (text == end)
            break;
        if (out)
            memcpy(out + written, replacement, REPLACEMENT_LENGTH);
        written += REPLACEMENT_LENGTH;
        if (text == nul) {
            text++;
            nul = memchr(text, '\0', (size_t)(end - text));
        } else {
            text += wfe_utf8_ill_formed(text, until_nul - whole);
        }
    }
    return written;
}

char *wfe_utf8_lossy(const char *data, size_t length)
{
    if (length == 0)
        return strdup("");
    size_t size = replace(data, length, NULL);
    char *text = malloc(size + 1);
    if (!text)
        return NULL;
    replace(data, length, text);
    text[size] = '\0';
    return text;
}

static char *member_name(const char *step_name, const char *suffix)
{
    char *name;
    return asprintf(&name, "%s.%s", step_name, suffix) < 0 ? NULL : name;
}

/* Add NAME.SUFFIX: item (taken; NULL when its memory ran out). */
static int add_member(cJSON *object, const char *step_name, const char *suffix, cJSON *item)
{
    WFE_FREE char *name = member_name(step_name, suffix);
    if (name && item && cJSON_AddItemToObject(object, name, item))
        return 0;
    cJSON_Delete(item);
    return -ENOMEM;
}

static int add_stream(cJSON *object, const char *step_name, const char *stream,
    const struct wfe_stream_output *output)
{
    assert(output->total_bytes >= output->length);
    WFE_FREE char *text = wfe_utf8_lossy(output->data, output->length);
    return text ? add_member(object, step_name, stream, cJSON_CreateString(text)) : -ENOMEM;
}

static int add_truncated(cJSON *object, const char *step_name, const char *suffix,
    const struct wfe_stream_output *output)
{
    if (output->total_bytes == output->length)
        return 0;
    return add_member(object, step_name, suffix, cJSON_CreateNumber((double)output->total_bytes));
}

/* Whether a directive's key is one of the step's own members, cut or not. */
static bool is_reserved(const char *step_name, const char *key)
{
    static const char *const suffixes[] = {
        "stdout", "stderr", "exit_code", "stdout_truncated", "stderr_truncated"};
    size_t length = strlen(step_name);
    if (strncmp(key, step_name, length) != 0 || key[length] != '.')
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(key + length + 1, suffixes[i]) == 0)
            return true;
    }
    return false;
}

static int add_directives(cJSON *object, const char *step_name, const cJSON *directives)
{
    const cJSON *directive;
    cJSON_ArrayForEach(directive, directives)
    {
        if (!is_reserved(step_name, directive->string) &&
            !cJSON_AddStringToObject(object, directive->string, directive->valuestring))
            return -ENOMEM;
    }
    return 0;
}

cJSON *wfe_result_step_data(const char *step_name, const cJSON *directives,
    const struct wfe_stream_output *stdout_output, const struct wfe_stream_output *stderr_output,
    int exit_code)
{
    const char *name = step_name ? step_name : "unknown";
    WFE_JSON cJSON *object = cJSON_CreateObject();
    if (!object || add_directives(object, name, directives) < 0 ||
        add_stream(object, name, "stdout", stdout_output) < 0 ||
        add_stream(object, name, "stderr", stderr_output) < 0 ||
        add_member(object, name, "exit_code", cJSON_CreateNumber(exit_code)) < 0 ||
        add_truncated(object, name, "stdout_truncated", stdout_output) < 0 ||
        add_truncated(object, name, "stderr_truncated", stderr_output) < 0)
        return NULL;
    return wfe_steal(&object);
}

int wfe_result_merge(cJSON *to, const cJSON *from)
{
    /* All memory is taken here; what follows only moves items. */
    WFE_JSON cJSON *copy = cJSON_Duplicate(from, true);
    if (!copy)
        return -ENOMEM;
    cJSON *item;
    while ((item = cJSON_DetachItemViaPointer(copy, copy->child))) {
        cJSON *old = cJSON_GetObjectItemCaseSensitive(to, item->string);
        if (old)
            cJSON_ReplaceItemViaPointer(to, old, item);
        else
            cJSON_AddItemToArray(to, item);
    }
    return 0;
}

int wfe_outcome_exit_status(const struct wfe_outcome *outcome)
{
    switch (outcome->kind) {
    case WFE_OUTCOME_DONE:
        return 0;
    case WFE_OUTCOME_EXITED:
    case WFE_OUTCOME_OOM:
        /* A status has 8 bits; none of a failure's may read as success. */
        return (outcome->exit_code & 0xFF) != 0 ? outcome->exit_code & 0xFF : EXIT_FAILED;
    case WFE_OUTCOME_TIMED_OUT:
        return EXIT_TIMED_OUT;
    case WFE_OUTCOME_CANCELLED:
        return EXIT_SIGNAL_BASE + outcome->signal_number;
    case WFE_OUTCOME_NOT_RUNNABLE:
        return EXIT_NOT_RUNNABLE;
    case WFE_OUTCOME_NOT_FOUND:
        return EXIT_NOT_FOUND;
    case WFE_OUTCOME_FAILED:
        return EXIT_FAILED;
    }
    return EXIT_FAILED;
}

static bool is_passing_status(int grpc_status)
{
    return grpc_status == GRPC_STATUS_UNAVAILABLE || grpc_status == GRPC_STATUS_DEADLINE_EXCEEDED ||
           grpc_status == GRPC_STATUS_RESOURCE_EXHAUSTED || grpc_status == GRPC_STATUS_ABORTED;
}

static bool is_passing_errno(int errnum)
{
    return errnum == ENOMEM || errnum == EAGAIN || errnum == EBUSY || errnum == EMFILE ||
           errnum == ENFILE || errnum == ETIMEDOUT || errnum == ECONNREFUSED ||
           errnum == ECONNRESET;
}

static bool is_passing_failure(const struct wfe_error *error)
{
    switch (error->kind) {
    case WFE_ERROR_TIMEOUT:
    case WFE_ERROR_CANCELLED:
        return true;
    case WFE_ERROR_CONTAINERD:
        return error->grpc_status != 0 ? is_passing_status(error->grpc_status)
                                       : is_passing_errno(error->errnum);
    case WFE_ERROR_SYSTEM:
    case WFE_ERROR_INTERNAL:
        return is_passing_errno(error->errnum);
    case WFE_ERROR_NONE:
    case WFE_ERROR_INPUT:
    case WFE_ERROR_ARCHIVE:
    case WFE_ERROR_INTEGRITY:
    case WFE_ERROR_LIMIT:
        return false;
    }
    return false;
}

bool wfe_outcome_retryable(const struct wfe_outcome *outcome)
{
    switch (outcome->kind) {
    case WFE_OUTCOME_TIMED_OUT:
    case WFE_OUTCOME_CANCELLED:
        return true;
    case WFE_OUTCOME_FAILED:
        return is_passing_failure(&outcome->error);
    case WFE_OUTCOME_DONE:
    case WFE_OUTCOME_EXITED:
    case WFE_OUTCOME_OOM:
    case WFE_OUTCOME_NOT_RUNNABLE:
    case WFE_OUTCOME_NOT_FOUND:
        return false;
    }
    return false;
}

static const char *kind_name(const struct wfe_outcome *outcome)
{
    if (outcome->kind == WFE_OUTCOME_EXITED)
        return "exit";
    return outcome->kind == WFE_OUTCOME_OOM ? "oom" : wfe_error_kind_name(outcome->error.kind);
}

static cJSON *error_object(const struct wfe_outcome *outcome)
{
    bool exited = outcome->kind == WFE_OUTCOME_EXITED || outcome->kind == WFE_OUTCOME_OOM;
    const char *kind = kind_name(outcome);
    WFE_FREE char *message = wfe_utf8_lossy(outcome->error.message, strlen(outcome->error.message));
    WFE_JSON cJSON *object = cJSON_CreateObject();
    if (!message || !object || !cJSON_AddStringToObject(object, "kind", kind) ||
        !cJSON_AddStringToObject(object, "message", message) ||
        !(exited ? cJSON_AddNumberToObject(object, "exit_code", outcome->exit_code)
                 : cJSON_AddNullToObject(object, "exit_code")) ||
        !cJSON_AddBoolToObject(object, "retryable", wfe_outcome_retryable(outcome)))
        return NULL;
    return wfe_steal(&object);
}

/* Add `name`: item (taken; NULL when its memory ran out). */
static int add_item(cJSON *object, const char *name, cJSON *item)
{
    if (item && cJSON_AddItemToObject(object, name, item))
        return 0;
    cJSON_Delete(item);
    return -ENOMEM;
}

cJSON *wfe_result_object(const struct wfe_outcome *outcome, const cJSON *output_data)
{
    bool done = outcome->kind == WFE_OUTCOME_DONE;
    WFE_JSON cJSON *object = cJSON_CreateObject();
    if (!object || !cJSON_AddBoolToObject(object, "proceed", done))
        return NULL;
    if (!done && add_item(object, "error", error_object(outcome)) < 0)
        return NULL;
    cJSON *data = output_data ? cJSON_Duplicate(output_data, true) : cJSON_CreateObject();
    if (add_item(object, "output_data", data) < 0)
        return NULL;
    return wfe_steal(&object);
}
