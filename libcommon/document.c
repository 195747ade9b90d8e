/* SPDX-License-Identifier: MIT */
#include "libcommon/document.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"
#include "libcommon/file.h"

#define PROBLEM_MAX_BYTES 4096
#define DESCRIPTION_TEXT_MAX 60
/* cJSON prints numbers with 15 digits when they look the same. */
#define MAX_EXACT_DOUBLE 999999999999999.0

void wfe_problems_done(struct wfe_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        free(problems->items[i].text);
    free(problems->items);
    *problems = (struct wfe_problems)WFE_PROBLEMS_INIT;
}

__attribute__((format(printf, 4, 0))) static char *problem_text(
    const char *file, int line, const char *path, const char *format, va_list args)
{
    char what[PROBLEM_MAX_BYTES / 2];
    vsnprintf(what, sizeof what, format, args);
    char where[16] = "";
    if (line > 0)
        snprintf(where, sizeof where, ":%d", line);
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(PROBLEM_MAX_BYTES);
    if (wfe_buffer_printf(&text, "%.1024s%s: %.512s%s%s", file, where, path,
            path[0] == '\0' ? "" : ": ", what) < 0)
        return NULL;
    return wfe_buffer_steal(&text);
}

void wfe_problems_add(struct wfe_problems *problems, bool warning, const char *file, int line,
    const char *path, const char *format, ...)
{
    if (!warning)
        problems->errors++;
    if (problems->count == WFE_PROBLEMS_MAX)
        return;
    if (!problems->items)
        problems->items = calloc(WFE_PROBLEMS_MAX, sizeof *problems->items);
    if (!problems->items)
        return;
    va_list args;
    va_start(args, format);
    char *text = problem_text(file, line, path, format, args);
    va_end(args);
    if (!text)
        return;
    problems->items[problems->count++] = (struct wfe_problem){.warning = warning, .text = text};
}

void wfe_document_free(struct wfe_document *document)
{
    if (!document)
        return;
    struct wfe_document_entry *entry = document->entries;
    while (entry) {
        struct wfe_document_entry *next = entry->next;
        free(entry->node.items);
        free(entry->node.members);
        free(entry);
        entry = next;
    }
    free(document);
}

const struct wfe_node *wfe_document_root(const struct wfe_document *document)
{
    return document->root;
}

static struct wfe_node *add_entry(
    struct wfe_document *document, enum wfe_node_kind kind, int line, size_t extra)
{
    struct wfe_document_entry *entry = calloc(1, sizeof *entry + extra);
    if (!entry)
        return NULL;
    entry->next = document->entries;
    document->entries = entry;
    entry->node.kind = kind;
    entry->node.line = line;
    entry->node.expansion = 1;
    return &entry->node;
}

struct wfe_node *wfe_document_scalar(struct wfe_document *document, enum wfe_node_kind kind,
    int line, const char *text, size_t length)
{
    assert(kind < WFE_NODE_LIST);
    struct wfe_node *node = add_entry(document, kind, line, length + 1);
    if (!node)
        return NULL;
    char *copy = (char *)node + sizeof(struct wfe_document_entry);
    if (length > 0)
        memcpy(copy, text, length);
    node->text = copy;
    node->length = length;
    return node;
}

struct wfe_node *wfe_document_collection(
    struct wfe_document *document, enum wfe_node_kind kind, int line, size_t count)
{
    assert(kind == WFE_NODE_LIST || kind == WFE_NODE_MAP);
    struct wfe_node *node = add_entry(document, kind, line, 0);
    if (!node || count == 0)
        return node;
    if (kind == WFE_NODE_LIST)
        node->items = calloc(count, sizeof *node->items);
    else
        node->members = calloc(count, sizeof *node->members);
    if (!node->items && !node->members)
        return NULL;
    node->count = count;
    return node;
}

const struct wfe_node *wfe_node_get(const struct wfe_node *map, const char *key)
{
    if (map->kind != WFE_NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++) {
        if (strcmp(map->members[i].key->text, key) == 0)
            return map->members[i].value;
    }
    return NULL;
}

/* The first characters of text as one printable line. */
static void describe_text(const struct wfe_node *node, char *buffer, const char *quote)
{
    size_t shown = node->length;
    const char *ellipsis = "";
    if (shown > DESCRIPTION_TEXT_MAX) {
        shown = DESCRIPTION_TEXT_MAX;
        while (shown > 0 && ((unsigned char)node->text[shown] & 0xC0) == 0x80)
            shown--;
        ellipsis = "…";
    }
    char line[DESCRIPTION_TEXT_MAX + 1];
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = (unsigned char)node->text[i];
        line[i] = byte == '\n' || byte == '\t'  ? ' '
                  : byte < 0x20 || byte == 0x7F ? '?'
                                                : (char)byte;
    }
    snprintf(
        buffer, WFE_NODE_DESCRIPTION_MAX, "%s%.*s%s%s", quote, (int)shown, line, ellipsis, quote);
}

const char *wfe_node_describe(
    const struct wfe_node *node, char buffer[static WFE_NODE_DESCRIPTION_MAX])
{
    switch (node->kind) {
    case WFE_NODE_NULL:
        snprintf(buffer, WFE_NODE_DESCRIPTION_MAX, "nothing");
        break;
    case WFE_NODE_BOOL:
    case WFE_NODE_INT:
    case WFE_NODE_FLOAT:
        describe_text(node, buffer, "");
        break;
    case WFE_NODE_STRING:
        describe_text(node, buffer, "'");
        break;
    case WFE_NODE_LIST:
        snprintf(buffer, WFE_NODE_DESCRIPTION_MAX, node->count ? "a list" : "an empty list");
        break;
    case WFE_NODE_MAP:
        snprintf(buffer, WFE_NODE_DESCRIPTION_MAX, node->count ? "a map" : "an empty map");
        break;
    }
    return buffer;
}

static cJSON *integer_to_json(const struct wfe_node *node)
{
    const char *text = node->text[0] == '+' ? node->text + 1 : node->text;
    if (text[0] == '0' && text[1] != '\0') {
        int base = text[1] == 'x' ? 16 : text[1] == 'o' ? 8 : 2;
        char digits[24];
        snprintf(digits, sizeof digits, "%llu", strtoull(text + 2, NULL, base));
        return strtod(digits, NULL) <= MAX_EXACT_DOUBLE ? cJSON_CreateNumber(strtod(digits, NULL))
                                                        : cJSON_CreateRaw(digits);
    }
    double value = strtod(text, NULL);
    if (value >= -MAX_EXACT_DOUBLE && value <= MAX_EXACT_DOUBLE)
        return cJSON_CreateNumber(value);
    return cJSON_CreateRaw(text);
}

static cJSON *collection_to_json(const struct wfe_node *node)
{
    bool list = node->kind == WFE_NODE_LIST;
    WFE_JSON cJSON *json = list ? cJSON_CreateArray() : cJSON_CreateObject();
    for (size_t i = 0; json && i < node->count; i++) {
        cJSON *item = wfe_node_to_json(list ? node->items[i] : node->members[i].value);
        if (!item)
            return NULL;
        if (!(list ? cJSON_AddItemToArray(json, item)
                   : cJSON_AddItemToObject(json, node->members[i].key->text, item))) {
            cJSON_Delete(item);
            return NULL;
        }
    }
    return wfe_steal(&json);
}

cJSON *wfe_node_to_json(const struct wfe_node *node)
{
    switch (node->kind) {
    case WFE_NODE_NULL:
        return cJSON_CreateNull();
    case WFE_NODE_BOOL:
        return cJSON_CreateBool(node->text[0] == 't' || node->text[0] == 'T');
    case WFE_NODE_INT:
        return integer_to_json(node);
    case WFE_NODE_FLOAT:
        return cJSON_CreateNumber(strtod(node->text, NULL));
    case WFE_NODE_STRING:
        return cJSON_CreateString(node->text);
    case WFE_NODE_LIST:
    case WFE_NODE_MAP:
        return collection_to_json(node);
    }
    return NULL;
}

int wfe_data_read(const char *path, cJSON **ret, struct wfe_error *err)
{
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_read_file(path, WFE_DOCUMENT_MAX_BYTES, &text, &length, err);
    if (r < 0)
        return r;
    const char *end = NULL;
    errno = 0;
    WFE_JSON cJSON *data = cJSON_ParseWithLengthOpts(text, length + 1, &end, true);
    if (!data && errno == ENOMEM)
        return wfe_error_nomem(err);
    if (!data) {
        int line = 1;
        for (const char *at = text; end && at < end && at < text + length; at++)
            line += *at == '\n';
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s:%d: not valid JSON", path, line);
    }
    if (!cJSON_IsObject(data))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: found something else than a JSON object; workflow data is one", path);
    *ret = wfe_steal(&data);
    return 0;
}
