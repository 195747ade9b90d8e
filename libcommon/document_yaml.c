/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"

struct anchor {
    const char *name; /* a scalar node's text: lives as long as the document */
    const struct wfe_node *node;
};

struct yaml_reader {
    struct wfe_document_builder *builder;
    struct anchor anchors[WFE_DOCUMENT_MAX_ANCHORS];
    size_t anchor_count;
    size_t document_count;
};

static int add_anchor(
    struct yaml_reader *reader, const yaml_char_t *name, const struct wfe_node *node)
{
    struct wfe_document_builder *builder = reader->builder;
    if (!name)
        return 0;
    if (reader->anchor_count == WFE_DOCUMENT_MAX_ANCHORS)
        return wfe_document_limit(
            builder, builder->line, "found too many anchors", WFE_DOCUMENT_MAX_ANCHORS);
    const char *text = (const char *)name;
    const struct wfe_node *kept =
        wfe_document_scalar(builder->document, WFE_NODE_STRING, builder->line, text, strlen(text));
    if (!kept)
        return -ENOMEM;
    reader->anchors[reader->anchor_count++] = (struct anchor){kept->text, node};
    return 0;
}

static int read_alias(struct yaml_reader *reader, const yaml_event_t *event)
{
    struct wfe_document_builder *builder = reader->builder;
    const char *name = (const char *)event->data.alias.anchor;
    const struct wfe_node *node = NULL;
    for (size_t i = reader->anchor_count; i > 0 && !node; i--) {
        if (strcmp(reader->anchors[i - 1].name, name) == 0)
            node = reader->anchors[i - 1].node;
    }
    if (node && !node->open)
        return wfe_document_attach(builder, node);
    if (node)
        wfe_document_problem(builder, "found the alias '*%.64s' inside of its own anchor", name);
    else
        wfe_document_problem(
            builder, "found the alias '*%.64s' without an anchor '&%.64s' before it", name, name);
    return wfe_document_attach_reported(builder);
}

/* Whether a node of that kind may bear the tag; if not, that is told. */
static bool tag_fits(
    struct wfe_document_builder *builder, const yaml_char_t *tag, enum wfe_node_kind kind)
{
    static const char *const tags[] = {
        [WFE_NODE_NULL] = YAML_NULL_TAG,
        [WFE_NODE_BOOL] = YAML_BOOL_TAG,
        [WFE_NODE_INT] = YAML_INT_TAG,
        [WFE_NODE_FLOAT] = YAML_FLOAT_TAG,
        [WFE_NODE_STRING] = YAML_STR_TAG,
        [WFE_NODE_LIST] = YAML_SEQ_TAG,
        [WFE_NODE_MAP] = YAML_MAP_TAG,
    };
    if (!tag || strcmp((const char *)tag, tags[kind]) == 0)
        return true;
    wfe_document_problem(builder,
        "found the tag '%.64s'; allowed: none, or !!str, !!int, !!float, !!bool, !!null, !!seq, "
        "!!map before a value of that kind",
        (const char *)tag);
    return false;
}

static bool means_string(const yaml_char_t *tag)
{
    return tag &&
           (strcmp((const char *)tag, YAML_STR_TAG) == 0 || strcmp((const char *)tag, "!") == 0);
}

static int read_scalar(struct yaml_reader *reader, const yaml_event_t *event)
{
    struct wfe_document_builder *builder = reader->builder;
    const yaml_char_t *tag = event->data.scalar.tag;
    struct wfe_node *node;
    int r = wfe_document_read_scalar(builder, (const char *)event->data.scalar.value,
        event->data.scalar.length, event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE, &node);
    if (r < 0)
        return r;
    if (!node->reported && means_string(tag)) {
        node->kind = WFE_NODE_STRING;
    } else if (!node->reported && !tag_fits(builder, tag, node->kind)) {
        node->kind = WFE_NODE_NULL;
        node->reported = true;
    }
    r = wfe_document_attach(builder, node);
    return r < 0 ? r : add_anchor(reader, event->data.scalar.anchor, node);
}

static int open_collection(struct yaml_reader *reader, enum wfe_node_kind kind,
    const yaml_char_t *anchor, const yaml_char_t *tag)
{
    struct wfe_node *node;
    int r = wfe_document_open(reader->builder, kind, &node);
    if (r < 0)
        return r;
    tag_fits(reader->builder, tag, kind);
    return add_anchor(reader, anchor, node);
}

static int handle_event(struct yaml_reader *reader, const yaml_event_t *event)
{
    reader->builder->line = (int)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reader->document_count++ == 0)
            return 0;
        wfe_document_problem(reader->builder, "found a second document; allowed: one");
        return -EINVAL;
    case YAML_SCALAR_EVENT:
        return read_scalar(reader, event);
    case YAML_ALIAS_EVENT:
        return read_alias(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_collection(reader, WFE_NODE_LIST, event->data.sequence_start.anchor,
            event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return open_collection(
            reader, WFE_NODE_MAP, event->data.mapping_start.anchor, event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return wfe_document_close(reader->builder);
    default:
        return 0;
    }
}

/* What the parser stopped at. */
static int report_syntax(struct wfe_document_builder *builder, const yaml_parser_t *parser,
    const char *text, size_t length)
{
    if (parser->error == YAML_MEMORY_ERROR || !parser->problem)
        return -ENOMEM;
    if (parser->error == YAML_READER_ERROR)
        builder->line = wfe_document_line_at(
            text, parser->problem_offset < length ? parser->problem_offset : length);
    else
        builder->line = (int)parser->problem_mark.line + 1;
    if (parser->context)
        wfe_document_problem(builder, "found text that is no YAML or JSON: %s, %s in line %zu",
            parser->problem, parser->context, parser->context_mark.line + 1);
    else
        wfe_document_problem(builder, "found text that is no YAML or JSON: %s", parser->problem);
    return -EINVAL;
}

int wfe_document_read_yaml(struct wfe_document_builder *builder, const char *text, size_t length)
{
    WFE_FREE struct yaml_reader *reader = calloc(1, sizeof *reader);
    yaml_parser_t parser;
    if (!reader || !yaml_parser_initialize(&parser))
        return -ENOMEM;
    reader->builder = builder;
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    int r = 0;
    bool at_end = false;
    while (r == 0 && !at_end) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            r = report_syntax(builder, &parser, text, length);
            break;
        }
        r = handle_event(reader, &event);
        at_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return r;
}
