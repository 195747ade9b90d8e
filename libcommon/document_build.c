/* SPDX-License-Identifier: MIT */
#include "libcommon/document_build.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBLEM_TEXT_MAX 1024

void wfe_document_problem(struct wfe_document_builder *builder, const char *format, ...)
{
    char text[PROBLEM_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wfe_problems_add(builder->problems, false, builder->file, builder->line, "", "%s", text);
}

int wfe_document_limit(
    struct wfe_document_builder *builder, int line, const char *found, int allowed)
{
    wfe_problems_add(
        builder->problems, false, builder->file, line, "", "%s; allowed: %d", found, allowed);
    return -EINVAL;
}

int wfe_document_count_nodes(struct wfe_document_builder *builder, size_t count, int line)
{
    builder->node_count += count;
    if (builder->node_count > WFE_DOCUMENT_MAX_NODES)
        return wfe_document_limit(
            builder, line, "found too many values in the document", WFE_DOCUMENT_MAX_NODES);
    return 0;
}

int wfe_document_line_at(const char *text, size_t offset)
{
    int line = 1;
    const char *end = text + offset;
    while ((text = memchr(text, '\n', (size_t)(end - text)))) {
        line++;
        text++;
    }
    return line;
}

int wfe_document_read_scalar(struct wfe_document_builder *builder, const char *text, size_t length,
    bool quoted, struct wfe_node **ret)
{
    int r = wfe_document_count_nodes(builder, 1, builder->line);
    if (r < 0)
        return r;
    bool has_nul = length > 0 && memchr(text, '\0', length);
    if (has_nul) {
        wfe_document_problem(builder, "found a NUL character in text; allowed: text without it");
        length = 0;
    }
    struct wfe_node *node =
        wfe_document_scalar(builder->document, WFE_NODE_STRING, builder->line, text, length);
    if (!node)
        return -ENOMEM;
    node->quoted = quoted;
    node->reported = has_nul;
    if (has_nul)
        node->kind = WFE_NODE_NULL;
    else if (!quoted)
        node->kind = wfe_document_scalar_kind(node->text, length);
    *ret = node;
    return 0;
}

int wfe_document_attach_reported(struct wfe_document_builder *builder)
{
    struct wfe_node *node =
        wfe_document_scalar(builder->document, WFE_NODE_NULL, builder->line, "", 0);
    if (!node)
        return -ENOMEM;
    node->reported = true;
    return wfe_document_attach(builder, node);
}

static int grow(struct wfe_document_frame *frame)
{
    struct wfe_node *parent = frame->node;
    size_t capacity = frame->capacity ? frame->capacity * 2 : 8;
    if (parent->kind == WFE_NODE_LIST) {
        const struct wfe_node **items =
            reallocarray(parent->items, capacity, sizeof *parent->items);
        if (!items)
            return -ENOMEM;
        parent->items = items;
    } else {
        struct wfe_member *members =
            reallocarray(parent->members, capacity, sizeof *parent->members);
        if (!members)
            return -ENOMEM;
        parent->members = members;
    }
    frame->capacity = capacity;
    return 0;
}

int wfe_document_attach(struct wfe_document_builder *builder, const struct wfe_node *node)
{
    if (builder->depth == 0) {
        builder->document->root = node;
        return 0;
    }
    struct wfe_document_frame *frame = &builder->frames[builder->depth - 1];
    struct wfe_node *parent = frame->node;
    if (parent->kind == WFE_NODE_MAP && !frame->key) {
        if (!wfe_node_is_scalar(node))
            wfe_document_problem(builder, "found a list or map as a key; allowed: text");
        frame->key = node;
        return 0;
    }
    if (parent->count == frame->capacity && grow(frame) < 0)
        return -ENOMEM;
    if (parent->kind == WFE_NODE_LIST)
        parent->items[parent->count++] = node;
    else
        parent->members[parent->count++] = (struct wfe_member){frame->key, node};
    frame->key = NULL;
    return 0;
}

int wfe_document_open(
    struct wfe_document_builder *builder, enum wfe_node_kind kind, struct wfe_node **ret)
{
    int r = wfe_document_count_nodes(builder, 1, builder->line);
    if (r < 0)
        return r;
    if (builder->depth == WFE_DOCUMENT_MAX_DEPTH)
        return wfe_document_limit(builder, builder->line, "found too many levels of lists and maps",
            WFE_DOCUMENT_MAX_DEPTH);
    struct wfe_node *node = wfe_document_collection(builder->document, kind, builder->line, 0);
    if (!node)
        return -ENOMEM;
    node->open = true;
    r = wfe_document_attach(builder, node);
    if (r < 0)
        return r;
    builder->frames[builder->depth++] = (struct wfe_document_frame){.node = node};
    *ret = node;
    return 0;
}

/* A collection's size with its aliases followed, checked against the limits. */
static int measure(struct wfe_document_builder *builder, struct wfe_node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        const struct wfe_node *child =
            node->kind == WFE_NODE_LIST ? node->items[i] : node->members[i].value;
        node->expansion += child->expansion;
        if (node->height < child->height + 1)
            node->height = child->height + 1;
    }
    if (node->expansion > WFE_DOCUMENT_MAX_EXPANSION)
        return wfe_document_limit(builder, node->line, "found too many values behind aliases",
            WFE_DOCUMENT_MAX_EXPANSION);
    if (builder->depth + node->height > WFE_DOCUMENT_MAX_DEPTH)
        return wfe_document_limit(builder, node->line,
            "found too many levels of lists and maps behind aliases", WFE_DOCUMENT_MAX_DEPTH);
    return 0;
}

int wfe_document_close(struct wfe_document_builder *builder)
{
    assert(builder->depth > 0);
    struct wfe_node *node = builder->frames[builder->depth - 1].node;
    int r = node->kind == WFE_NODE_MAP ? wfe_document_finish_map(builder, node) : 0;
    if (r == 0)
        r = measure(builder, node);
    if (r < 0)
        return r;
    node->open = false;
    builder->depth--;
    return 0;
}
