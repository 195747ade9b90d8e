/* SPDX-License-Identifier: MIT */
#include "executor/step/step_interpolate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

#define REFERENCE_PATH_MAX 256
#define MAX_WHOLE_NUMBER 1e17

/* "((a.b))" in a text: from `start`, `length` bytes, with `path` of path_length inside. */
struct reference {
    size_t start;
    size_t length;
    char path[REFERENCE_PATH_MAX + 1];
};

static const struct wfe_node reported_null = {
    .kind = WFE_NODE_NULL, .reported = true, .text = "", .expansion = 1};

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static size_t name_length(const char *text)
{
    if (!is_name_start(text[0]))
        return 0;
    size_t length = 1;
    while (is_name_start(text[length]) || (text[length] >= '0' && text[length] <= '9') ||
           text[length] == '-')
        length++;
    return length;
}

/* Length of the path at text, 0 when there is none. */
static size_t path_length(const char *text)
{
    size_t length = 0;
    for (;;) {
        size_t name = name_length(text + length);
        if (name == 0)
            return 0;
        length += name;
        if (text[length] != '.')
            return length;
        length++;
    }
}

/* The first reference at or after `from`. */
static bool find_reference(const char *text, size_t from, struct reference *ret)
{
    for (const char *open = text + from; (open = strstr(open, "((")); open++) {
        if (open > text && open[-1] == '$') {
            open++;
            continue;
        }
        size_t length = path_length(open + 2);
        if (length == 0 || length > REFERENCE_PATH_MAX || strncmp(open + 2 + length, "))", 2) != 0)
            continue;
        ret->start = (size_t)(open - text);
        ret->length = length + 4;
        memcpy(ret->path, open + 2, length);
        ret->path[length] = '\0';
        return true;
    }
    return false;
}

static const cJSON *look_up(const cJSON *data, const char *path)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(data, path);
    for (const char *dot = strchr(path, '.'); !found && dot; dot = strchr(dot + 1, '.')) {
        char name[REFERENCE_PATH_MAX + 1];
        memcpy(name, path, (size_t)(dot - path));
        name[dot - path] = '\0';
        const cJSON *inner = cJSON_GetObjectItemCaseSensitive(data, name);
        if (cJSON_IsObject(inner))
            found = look_up(inner, dot + 1);
    }
    return found;
}

static const cJSON *resolve(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct reference *reference)
{
    const cJSON *value = look_up(reader->data, reference->path);
    if (!value)
        wfe_step_problem(reader, node, path,
            "found ((%s)), which is not in the workflow data; allowed: a path into the data"
            " (shell arithmetic needs a blank: (( %s )))",
            reference->path, reference->path);
    return value;
}

/* What interpolation puts in counts against the limits of a document. */
static bool afford(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, size_t bytes)
{
    reader->interpolated_bytes += bytes;
    reader->interpolated_nodes++;
    if (reader->interpolated_bytes <= WFE_DOCUMENT_MAX_BYTES &&
        reader->interpolated_nodes <= WFE_DOCUMENT_MAX_NODES)
        return true;
    wfe_step_problem(reader, node, path,
        "found more data behind (( )) than a document may hold; allowed: %d bytes, %d values",
        WFE_DOCUMENT_MAX_BYTES, WFE_DOCUMENT_MAX_NODES);
    return false;
}

/* The digits of a JSON number: a whole one without an exponent, another one in its shortest form.
 */
static void number_text(double value, char text[static 32])
{
    if (fabs(value) < MAX_WHOLE_NUMBER && value == floor(value)) {
        snprintf(text, 32, "%.0f", value);
        return;
    }
    snprintf(text, 32, "%.15g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, 32, "%.17g", value);
}

static const struct wfe_node *node_of(struct wfe_step_reader *reader, const struct wfe_node *origin,
    const struct wfe_step_path *path, const cJSON *json, size_t depth);

static const struct wfe_node *collection_of(struct wfe_step_reader *reader,
    const struct wfe_node *origin, const struct wfe_step_path *path, const cJSON *json,
    size_t depth)
{
    bool list = cJSON_IsArray(json);
    if (depth == WFE_DOCUMENT_MAX_DEPTH) {
        wfe_step_problem(reader, origin, path,
            "found too many levels of lists and maps behind (( )); allowed: %d",
            WFE_DOCUMENT_MAX_DEPTH);
        return &reported_null;
    }
    struct wfe_node *node = wfe_document_collection(reader->document,
        list ? WFE_NODE_LIST : WFE_NODE_MAP, origin->line, (size_t)cJSON_GetArraySize(json));
    if (!node)
        return NULL;
    size_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json)
    {
        const struct wfe_node *value = node_of(reader, origin, path, item, depth + 1);
        if (!value || value->reported)
            return value;
        if (list) {
            node->items[count++] = value;
            continue;
        }
        const struct wfe_node *key = wfe_document_scalar(
            reader->document, WFE_NODE_STRING, origin->line, item->string, strlen(item->string));
        if (!key)
            return NULL;
        node->members[count++] = (struct wfe_member){key, value};
    }
    return node;
}

/* JSON → a node that stands where origin stands. NULL when memory ran out. */
static const struct wfe_node *node_of(struct wfe_step_reader *reader, const struct wfe_node *origin,
    const struct wfe_step_path *path, const cJSON *json, size_t depth)
{
    char number[32];
    const char *text = "";
    enum wfe_node_kind kind = WFE_NODE_NULL;
    if (cJSON_IsArray(json) || cJSON_IsObject(json)) {
        return afford(reader, origin, path, 0) ? collection_of(reader, origin, path, json, depth)
                                               : &reported_null;
    } else if (cJSON_IsBool(json)) {
        kind = WFE_NODE_BOOL;
        text = cJSON_IsTrue(json) ? "true" : "false";
    } else if (cJSON_IsNumber(json)) {
        number_text(json->valuedouble, number);
        kind = strpbrk(number, ".e") ? WFE_NODE_FLOAT : WFE_NODE_INT;
        text = number;
    } else if (cJSON_IsRaw(json)) {
        kind = WFE_NODE_INT;
        text = json->valuestring;
    } else if (cJSON_IsString(json)) {
        kind = WFE_NODE_STRING;
        text = json->valuestring;
    }
    size_t length = strlen(text);
    if (!afford(reader, origin, path, length))
        return &reported_null;
    return wfe_document_scalar(reader->document, kind, origin->line, text, length);
}

/* Append the value as it stands inside of text. Returns 0, -ENOMEM or -EMSGSIZE. */
static int append_value(struct wfe_buffer *text, const cJSON *value)
{
    if (cJSON_IsString(value))
        return wfe_buffer_puts(text, value->valuestring);
    if (cJSON_IsNumber(value)) {
        char number[32];
        number_text(value->valuedouble, number);
        return wfe_buffer_puts(text, number);
    }
    WFE_FREE char *json = cJSON_PrintUnformatted(value);
    return json ? wfe_buffer_puts(text, json) : -ENOMEM;
}

/* A text with references inside; NULL when memory ran out. */
static const struct wfe_node *interpolate_text(struct wfe_step_reader *reader,
    const struct wfe_node *node, const struct wfe_step_path *path, struct reference *reference)
{
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(2 * WFE_DOCUMENT_MAX_BYTES);
    size_t offset = 0;
    bool resolved = true;
    int r = 0;
    do {
        r = wfe_buffer_append(&text, node->text + offset, reference->start - offset);
        const cJSON *value = resolve(reader, node, path, reference);
        if (!value)
            resolved = false;
        else if (r == 0)
            r = append_value(&text, value);
        offset = reference->start + reference->length;
    } while (r == 0 && find_reference(node->text, offset, reference));
    if (r == 0)
        r = wfe_buffer_append(&text, node->text + offset, node->length - offset);
    if (r == -ENOMEM)
        return NULL;
    if (!resolved || !afford(reader, node, path, r < 0 ? text.cap_bytes : text.length))
        return &reported_null;
    struct wfe_node *result =
        wfe_document_scalar(reader->document, WFE_NODE_STRING, node->line, text.data, text.length);
    if (result)
        result->quoted = true;
    return result;
}

static const struct wfe_node *interpolate_scalar(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    struct reference reference;
    if (node->kind != WFE_NODE_STRING || !find_reference(node->text, 0, &reference))
        return node;
    if (reference.start > 0 || reference.length < node->length)
        return interpolate_text(reader, node, path, &reference);
    const cJSON *value = resolve(reader, node, path, &reference);
    return value ? node_of(reader, node, path, value, 0) : &reported_null;
}

/* A collection's copy, made when the first of its values changes. */
static struct wfe_node *copy_collection(struct wfe_step_reader *reader, const struct wfe_node *node)
{
    struct wfe_node *copy =
        wfe_document_collection(reader->document, node->kind, node->line, node->count);
    if (!copy)
        return NULL;
    if (node->kind == WFE_NODE_LIST)
        memcpy(copy->items, node->items, node->count * sizeof *node->items);
    else
        memcpy(copy->members, node->members, node->count * sizeof *node->members);
    return copy;
}

static const struct wfe_node *interpolate(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    if (wfe_node_is_scalar(node))
        return interpolate_scalar(reader, node, path);
    struct wfe_node *copy = NULL;
    bool list = node->kind == WFE_NODE_LIST;
    for (size_t i = 0; i < node->count; i++) {
        struct wfe_step_path where = {
            .up = path, .name = list ? NULL : node->members[i].key->text, .index = i};
        const struct wfe_node *old = list ? node->items[i] : node->members[i].value;
        const struct wfe_node *value = interpolate(reader, old, &where);
        if (value && value != old && !copy)
            copy = copy_collection(reader, node);
        if (!value || (value != old && !copy))
            return NULL;
        if (copy && list)
            copy->items[i] = value;
        else if (copy)
            copy->members[i].value = value;
    }
    return copy ? copy : node;
}

const struct wfe_node *wfe_step_interpolate(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    const struct wfe_node *result = interpolate(reader, node, path);
    if (result)
        return result;
    reader->nomem = true;
    return &reported_null;
}
