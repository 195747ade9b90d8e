/* SPDX-License-Identifier: MIT */
#include "executor/run/outputs.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "executor/run/result.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

static const char directive_start[] = "##wfe[output ";
#define START_LENGTH (sizeof directive_start - 1)

enum line_state {
    LINE_MATCHING, /* so far a start of directive_start */
    LINE_KEPT,     /* a directive's, kept in `line` */
    LINE_PASSED,   /* of no interest up to its end */
};

struct output {
    struct output *next; /* in the order of first appearance */
    char *key;
    char *value;
    size_t bytes; /* of both */
};

struct wfe_outputs {
    enum line_state state;
    size_t matched;         /* bytes of directive_start, while matching */
    struct wfe_buffer line; /* what follows directive_start */
    void *by_key;           /* tsearch(3)'s tree of struct output */
    struct output *first;
    struct output **last;
    size_t count;
    size_t bytes;
    size_t dropped;
};

int wfe_outputs_new(struct wfe_outputs **ret)
{
    struct wfe_outputs *outputs = calloc(1, sizeof *outputs);
    if (!outputs)
        return -ENOMEM;
    outputs->line = (struct wfe_buffer)WFE_BUFFER_INIT(WFE_OUTPUTS_MAX_LINE_BYTES);
    outputs->last = &outputs->first;
    *ret = outputs;
    return 0;
}

static void output_free(struct output *output)
{
    free(output->key);
    free(output->value);
    free(output);
}

static void leave_to_list(void *output)
{
    (void)output;
}

void wfe_outputs_free(struct wfe_outputs *outputs)
{
    if (!outputs)
        return;
    tdestroy(outputs->by_key, leave_to_list);
    for (struct output *output = outputs->first; output;) {
        struct output *next = output->next;
        output_free(output);
        output = next;
    }
    wfe_buffer_done(&outputs->line);
    free(outputs);
}

static int compare_keys(const void *left, const void *right)
{
    return strcmp(((const struct output *)left)->key, ((const struct output *)right)->key);
}

static bool fits(const struct wfe_outputs *outputs, size_t replaced, size_t bytes)
{
    return outputs->bytes - replaced + bytes <= WFE_OUTPUTS_MAX_BYTES;
}

/* Takes value on success. */
static void replace_value(
    struct wfe_outputs *outputs, struct output *output, char *value, size_t bytes)
{
    outputs->bytes = outputs->bytes - output->bytes + bytes;
    free(output->value);
    output->value = value;
    output->bytes = bytes;
}

/* Takes key and value on success. */
static int add_output(struct wfe_outputs *outputs, char *key, char *value, size_t bytes)
{
    struct output *output = calloc(1, sizeof *output);
    if (!output)
        return -ENOMEM;
    *output = (struct output){.key = key, .value = value, .bytes = bytes};
    if (!tsearch(output, &outputs->by_key, compare_keys)) {
        free(output);
        return -ENOMEM;
    }
    *outputs->last = output;
    outputs->last = &output->next;
    outputs->count++;
    outputs->bytes += bytes;
    return 0;
}

static int store(struct wfe_outputs *outputs, const char *key_text, size_t key_length,
    const char *value_text, size_t value_length)
{
    WFE_FREE char *key = wfe_utf8_lossy(key_text, key_length);
    WFE_FREE char *value = wfe_utf8_lossy(value_text, value_length);
    if (!key || !value)
        return -ENOMEM;
    size_t bytes = strlen(key) + strlen(value);
    struct output **known = tfind(&(struct output){.key = key}, &outputs->by_key, compare_keys);
    if (!fits(outputs, known ? (*known)->bytes : 0, bytes) ||
        (!known && outputs->count == WFE_OUTPUTS_MAX_KEYS)) {
        outputs->dropped++;
        return 0;
    }
    if (known) {
        replace_value(outputs, *known, wfe_steal(&value), bytes);
        return 0;
    }
    int r = add_output(outputs, key, value, bytes);
    if (r == 0) {
        (void)wfe_steal(&key);
        (void)wfe_steal(&value);
    }
    return r;
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The kept line: "KEY=VALUE]", or no directive after all. */
static int read_directive(struct wfe_outputs *outputs)
{
    const char *line = outputs->line.data;
    size_t length = outputs->line.length;
    if (length > 0 && line[length - 1] == '\r')
        length--;
    if (length == 0 || line[length - 1] != ']')
        return 0;
    length--;
    const char *equals = memchr(line, '=', length);
    if (!equals)
        return 0;
    const char *value = equals + 1;
    while (equals > line && is_blank(equals[-1]))
        equals--;
    while (line < equals && is_blank(*line))
        line++;
    if (line == equals)
        return 0;
    return store(outputs, line, (size_t)(equals - line), value,
        length - (size_t)(value - outputs->line.data));
}

static int end_line(struct wfe_outputs *outputs)
{
    int r = outputs->state == LINE_KEPT ? read_directive(outputs) : 0;
    outputs->line.length = 0;
    outputs->state = LINE_MATCHING;
    outputs->matched = 0;
    return r;
}

/* A part of one line, without its end. */
static int take(struct wfe_outputs *outputs, const char *data, size_t length)
{
    while (outputs->state == LINE_MATCHING && length > 0) {
        if (*data != directive_start[outputs->matched]) {
            outputs->state = LINE_PASSED;
            break;
        }
        data++;
        length--;
        if (++outputs->matched == START_LENGTH)
            outputs->state = LINE_KEPT;
    }
    if (outputs->state != LINE_KEPT || length == 0)
        return 0;
    int r = wfe_buffer_append(&outputs->line, data, length);
    if (r != -EMSGSIZE)
        return r;
    outputs->state = LINE_PASSED;
    outputs->dropped++;
    return 0;
}

int wfe_outputs_feed(struct wfe_outputs *outputs, const void *data, size_t length)
{
    const char *cursor = data;
    const char *end = cursor + length;
    while (cursor < end) {
        const char *newline = memchr(cursor, '\n', (size_t)(end - cursor));
        int r = take(outputs, cursor, (size_t)((newline ? newline : end) - cursor));
        if (r == 0 && newline)
            r = end_line(outputs);
        if (r < 0)
            return r;
        cursor = newline ? newline + 1 : end;
    }
    return 0;
}

cJSON *wfe_outputs_finish(struct wfe_outputs *outputs)
{
    if (end_line(outputs) < 0)
        return NULL;
    WFE_JSON cJSON *object = cJSON_CreateObject();
    for (const struct output *output = outputs->first; object && output; output = output->next) {
        if (!cJSON_AddStringToObject(object, output->key, output->value))
            return NULL;
    }
    return wfe_steal(&object);
}

size_t wfe_outputs_dropped(const struct wfe_outputs *outputs)
{
    return outputs->dropped;
}
