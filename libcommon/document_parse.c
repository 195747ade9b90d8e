/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libfyaml.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"
#include "libcommon/utf8.h"

/* A list or map whose end was not read yet. */
struct frame {
    struct wfe_node *node;
    const struct wfe_node *key; /* of a map: the key that waits for its value */
    size_t capacity;
};

struct anchor {
    const char *name; /* a scalar node's text: lives as long as the document */
    const struct wfe_node *node;
};

struct builder {
    struct wfe_document_parse parse;
    struct frame frames[WFE_DOCUMENT_MAX_DEPTH];
    size_t depth;
    struct anchor anchors[WFE_DOCUMENT_MAX_ANCHORS];
    size_t anchor_count;
    size_t document_count;
    int line; /* of the last event that had one */
};

static void add_problem(struct builder *builder, int line, const char *text)
{
    wfe_problems_add(builder->parse.problems, false, builder->parse.file, line, "", "%s", text);
}

static int limit(struct wfe_document_parse *parse, int line, const char *what, int allowed)
{
    wfe_problems_add(
        parse->problems, false, parse->file, line, "", "%s; allowed: %d", what, allowed);
    return -EINVAL;
}

int wfe_document_count_nodes(struct wfe_document_parse *parse, size_t count, int line)
{
    parse->node_count += count;
    if (parse->node_count > WFE_DOCUMENT_MAX_NODES)
        return limit(parse, line, "found too many values in the document", WFE_DOCUMENT_MAX_NODES);
    return 0;
}

static int attach_item(struct frame *frame, const struct wfe_node *node)
{
    struct wfe_node *parent = frame->node;
    bool list = parent->kind == WFE_NODE_LIST;
    if (parent->count == frame->capacity) {
        size_t capacity = frame->capacity ? frame->capacity * 2 : 8;
        size_t size = list ? sizeof *parent->items : sizeof *parent->members;
        void *grown =
            reallocarray(list ? (void *)parent->items : (void *)parent->members, capacity, size);
        if (!grown)
            return -ENOMEM;
        if (list)
            parent->items = grown;
        else
            parent->members = grown;
        frame->capacity = capacity;
    }
    if (list)
        parent->items[parent->count++] = node;
    else
        parent->members[parent->count++] = (struct wfe_member){frame->key, node};
    return 0;
}

/* Put the node where the document stands: root, list item, key or value. */
static int attach(struct builder *builder, const struct wfe_node *node)
{
    if (builder->depth == 0) {
        builder->parse.document->root = node;
        return 0;
    }
    struct frame *frame = &builder->frames[builder->depth - 1];
    if (frame->node->kind == WFE_NODE_MAP && !frame->key) {
        if (!wfe_node_is_scalar(node))
            add_problem(builder, builder->line, "found a list or map as a key; allowed: text");
        frame->key = node;
        return 0;
    }
    int r = attach_item(frame, node);
    frame->key = NULL;
    return r;
}

static int add_anchor(struct builder *builder, struct fy_token *token, const struct wfe_node *node)
{
    if (!token)
        return 0;
    if (builder->anchor_count == WFE_DOCUMENT_MAX_ANCHORS)
        return limit(
            &builder->parse, builder->line, "found too many anchors", WFE_DOCUMENT_MAX_ANCHORS);
    size_t length = 0;
    const char *text = fy_token_get_text(token, &length);
    if (!text)
        return -ENOMEM;
    const struct wfe_node *name =
        wfe_document_scalar(builder->parse.document, WFE_NODE_STRING, builder->line, text, length);
    if (!name)
        return -ENOMEM;
    builder->anchors[builder->anchor_count++] = (struct anchor){name->text, node};
    return 0;
}

static int add_reported(struct builder *builder)
{
    struct wfe_node *node =
        wfe_document_scalar(builder->parse.document, WFE_NODE_NULL, builder->line, "", 0);
    if (!node)
        return -ENOMEM;
    node->reported = true;
    return attach(builder, node);
}

static int add_alias(struct builder *builder, struct fy_event *event)
{
    size_t length = 0;
    const char *name = fy_token_get_text(event->alias.anchor, &length);
    if (!name)
        return -ENOMEM;
    for (size_t i = builder->anchor_count; i > 0; i--) {
        const struct anchor *anchor = &builder->anchors[i - 1];
        if (strncmp(anchor->name, name, length) != 0 || anchor->name[length] != '\0')
            continue;
        if (!anchor->node->open)
            return attach(builder, anchor->node);
        wfe_problems_add(builder->parse.problems, false, builder->parse.file, builder->line, "",
            "found the alias '*%.*s' inside of its own anchor", (int)length, name);
        return add_reported(builder);
    }
    wfe_problems_add(builder->parse.problems, false, builder->parse.file, builder->line, "",
        "found the alias '*%.*s' without an anchor '&%.*s' before it", (int)length, name,
        (int)length, name);
    return add_reported(builder);
}

/* The core schema's word of a tag ("str"); "" for another tag, NULL when memory ran out. */
static const char *core_tag(struct fy_token *token)
{
    static const char core[] = "tag:yaml.org,2002:";
    size_t handle_length = 0, suffix_length = 0;
    const char *handle = fy_tag_token_handle(token, &handle_length);
    const char *suffix = fy_tag_token_suffix0(token);
    if (!handle || !suffix)
        return NULL;
    suffix_length = strlen(suffix);
    if (handle_length == 2 && memcmp(handle, "!!", 2) == 0)
        return suffix;
    if (handle_length == 0 && suffix_length > strlen(core) &&
        strncmp(suffix, core, strlen(core)) == 0)
        return suffix + strlen(core);
    return handle_length == 1 && suffix_length == 0 ? "str" : "";
}

static const char *kind_tag(enum wfe_node_kind kind)
{
    static const char *const names[] = {"null", "bool", "int", "float", "str", "seq", "map"};
    return names[kind];
}

/* Whether a node of that kind may bear the tag; the answer "no" is said in problems. */
static int check_tag(struct builder *builder, const char *tag, enum wfe_node_kind kind)
{
    if (strcmp(tag, kind_tag(kind)) == 0)
        return 0;
    wfe_problems_add(builder->parse.problems, false, builder->parse.file, builder->line, "",
        "found a tag that does not fit its value; allowed: none, or !!str, !!int, !!float, "
        "!!bool, !!null, !!seq, !!map before a value of that kind");
    return -EINVAL;
}

/* A block scalar's mark is its first line of text: its key is where people look. */
static int scalar_line(struct builder *builder, struct fy_event *event)
{
    enum fy_scalar_style style = fy_token_scalar_style(event->scalar.value);
    const struct frame *frame = builder->depth ? &builder->frames[builder->depth - 1] : NULL;
    if ((style == FYSS_LITERAL || style == FYSS_FOLDED) && frame && frame->key)
        return frame->key->line;
    return builder->line;
}

/*
 * The token's text, a view that lives as long as both token and buffer. fy_token_get_text() loses
 * memory over a text of many doubled quotes (libfyaml 0.7.12), so such a one is iterated over.
 */
static int read_text(
    struct fy_token *token, struct wfe_buffer *buffer, const char **ret, size_t *ret_length)
{
    if (fy_token_scalar_style(token) != FYSS_SINGLE_QUOTED) {
        *ret = fy_token_get_text(token, ret_length);
        return *ret ? 0 : -ENOMEM;
    }
    struct fy_token_iter *iter = fy_token_iter_create(token);
    int r = iter ? wfe_buffer_append(buffer, "", 0) : -ENOMEM;
    int failed = 0;
    const struct fy_iter_chunk *chunk = NULL;
    while (r == 0 && (chunk = fy_token_iter_chunk_next(iter, chunk, &failed)))
        r = wfe_buffer_append(buffer, chunk->str, chunk->len);
    if (r == 0 && failed)
        r = -ENOMEM;
    fy_token_iter_destroy(iter);
    *ret = buffer->data;
    *ret_length = buffer->length;
    return r;
}

static int add_scalar(struct builder *builder, struct fy_event *event)
{
    int r = wfe_document_count_nodes(&builder->parse, 1, builder->line);
    if (r < 0)
        return r;
    size_t length = 0;
    const char *text;
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(WFE_DOCUMENT_MAX_BYTES);
    r = read_text(event->scalar.value, &buffer, &text, &length);
    if (r < 0)
        return r;
    int line = scalar_line(builder, event);
    if (length > 0 && memchr(text, '\0', length)) {
        add_problem(builder, line, "found a NUL character in text; allowed: text without it");
        return add_reported(builder);
    }
    struct wfe_node *node =
        wfe_document_scalar(builder->parse.document, WFE_NODE_STRING, line, text, length);
    if (!node)
        return -ENOMEM;
    node->quoted = fy_token_scalar_style(event->scalar.value) != FYSS_PLAIN;
    if (!node->quoted)
        node->kind = wfe_document_scalar_kind(node->text, length);
    if (event->scalar.tag) {
        const char *tag = core_tag(event->scalar.tag);
        if (!tag)
            return -ENOMEM;
        if (strcmp(tag, "str") == 0)
            node->kind = WFE_NODE_STRING;
        else if (check_tag(builder, tag, node->kind) < 0)
            return add_reported(builder);
    }
    r = attach(builder, node);
    return r < 0 ? r : add_anchor(builder, event->scalar.anchor, node);
}

static int open_collection(struct builder *builder, enum wfe_node_kind kind,
    struct fy_token *anchor, struct fy_token *tag_token)
{
    int r = wfe_document_count_nodes(&builder->parse, 1, builder->line);
    if (r < 0)
        return r;
    if (builder->depth == WFE_DOCUMENT_MAX_DEPTH)
        return limit(&builder->parse, builder->line, "found too many levels of lists and maps",
            WFE_DOCUMENT_MAX_DEPTH);
    struct wfe_node *node =
        wfe_document_collection(builder->parse.document, kind, builder->line, 0);
    if (!node)
        return -ENOMEM;
    node->open = true;
    const char *tag = tag_token ? core_tag(tag_token) : kind_tag(kind);
    if (!tag)
        return -ENOMEM;
    check_tag(builder, tag, kind);
    r = attach(builder, node);
    if (r == 0)
        r = add_anchor(builder, anchor, node);
    if (r == 0)
        builder->frames[builder->depth++] = (struct frame){.node = node};
    return r;
}

/* A collection's size with its aliases followed, checked against the limits. */
static int measure(struct builder *builder, struct wfe_node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        const struct wfe_node *child =
            node->kind == WFE_NODE_LIST ? node->items[i] : node->members[i].value;
        node->expansion += child->expansion;
        if (node->height < child->height + 1)
            node->height = child->height + 1;
    }
    if (node->expansion > WFE_DOCUMENT_MAX_EXPANSION)
        return limit(&builder->parse, node->line, "found too many values behind aliases",
            WFE_DOCUMENT_MAX_EXPANSION);
    if (builder->depth + node->height > WFE_DOCUMENT_MAX_DEPTH)
        return limit(&builder->parse, node->line,
            "found too many levels of lists and maps behind aliases", WFE_DOCUMENT_MAX_DEPTH);
    return 0;
}

static int close_collection(struct builder *builder)
{
    assert(builder->depth > 0);
    struct wfe_node *node = builder->frames[builder->depth - 1].node;
    int r = node->kind == WFE_NODE_MAP ? wfe_document_finish_map(&builder->parse, node) : 0;
    if (r == 0)
        r = measure(builder, node);
    if (r < 0)
        return r;
    node->open = false;
    builder->depth--;
    return 0;
}

static int handle_event(struct builder *builder, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    if (mark && mark->line >= 0)
        builder->line = mark->line + 1;
    switch (event->type) {
    case FYET_DOCUMENT_START:
        if (builder->document_count++ == 0)
            return 0;
        add_problem(builder, builder->line, "found a second document; allowed: one");
        return -EINVAL;
    case FYET_SCALAR:
        return add_scalar(builder, event);
    case FYET_ALIAS:
        return add_alias(builder, event);
    case FYET_SEQUENCE_START:
        return open_collection(
            builder, WFE_NODE_LIST, event->sequence_start.anchor, event->sequence_start.tag);
    case FYET_MAPPING_START:
        return open_collection(
            builder, WFE_NODE_MAP, event->mapping_start.anchor, event->mapping_start.tag);
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        return close_collection(builder);
    default:
        return 0;
    }
}

static int count_lines(const char *text, size_t length)
{
    int lines = 1;
    for (const char *end = text + length; (text = memchr(text, '\n', (size_t)(end - text))); text++)
        lines++;
    return lines;
}

/* What the parser found to be no YAML. Without a report of it, memory ran out. */
static int report_syntax(
    struct builder *builder, struct fy_diag *diag, const char *text, size_t length)
{
    void *cursor = NULL;
    const struct fy_diag_error *error = fy_diag_errors_iterate(diag, &cursor);
    if (!error || !error->msg)
        return -ENOMEM;
    int last = count_lines(text, length);
    int line = error->line < 1 ? builder->line : error->line > last ? last : error->line;
    wfe_problems_add(builder->parse.problems, false, builder->parse.file, line, "",
        "found text that is no YAML or JSON: %s", error->msg);
    return -EINVAL;
}

static int run_parser(struct builder *builder, const char *text, size_t length)
{
    struct fy_diag_cfg diag_config;
    fy_diag_cfg_default(&diag_config);
    diag_config.fp = NULL;
    diag_config.output_fn = NULL;
    diag_config.colorize = false;
    struct fy_diag *diag = fy_diag_create(&diag_config);
    if (!diag)
        return -ENOMEM;
    fy_diag_set_collect_errors(diag, true);
    struct fy_parse_cfg config = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_JSON_NONE,
        .diag = diag,
    };
    struct fy_parser *parser = fy_parser_create(&config);
    int r = parser ? 0 : -ENOMEM;
    if (r == 0 && fy_parser_set_string(parser, text, length) != 0)
        r = -ENOMEM;
    while (r == 0) {
        struct fy_event *event = fy_parser_parse(parser);
        if (!event) {
            if (fy_parser_get_stream_error(parser))
                r = report_syntax(builder, diag, text, length);
            break;
        }
        r = handle_event(builder, event);
        fy_parser_event_free(parser, event);
    }
    fy_parser_destroy(parser);
    fy_diag_destroy(diag);
    return r;
}

/* What can be judged before the YAML parser sees the text. */
static int check_text(struct builder *builder, const char *text, size_t length)
{
    if (length > WFE_DOCUMENT_MAX_BYTES)
        return limit(&builder->parse, 0, "found too many bytes of text", WFE_DOCUMENT_MAX_BYTES);
    size_t valid = wfe_utf8_span(text, length);
    if (valid < length) {
        wfe_problems_add(builder->parse.problems, false, builder->parse.file,
            count_lines(text, valid), "", "found the byte 0x%02X; allowed: UTF-8",
            (unsigned)(unsigned char)text[valid]);
        return -EINVAL;
    }
    const char *nul = length > 0 ? memchr(text, '\0', length) : NULL;
    if (nul) {
        add_problem(builder, count_lines(text, (size_t)(nul - text)),
            "found a NUL character; allowed: text without it");
        return -EINVAL;
    }
    return 0;
}

int wfe_document_parse(const char *file, const char *text, size_t length, struct wfe_document **ret,
    struct wfe_problems *problems)
{
    WFE_FREE struct builder *builder = calloc(1, sizeof *builder);
    WFE_DOCUMENT struct wfe_document *document = calloc(1, sizeof *document);
    if (!builder || !document)
        return -ENOMEM;
    builder->parse =
        (struct wfe_document_parse){.document = document, .file = file, .problems = problems};
    builder->line = 1;
    int r = check_text(builder, text, length);
    if (r == 0)
        r = run_parser(builder, text, length);
    if (r < 0)
        return r;
    if (!document->root) {
        add_problem(builder, 1, "found an empty document");
        return -EINVAL;
    }
    *ret = wfe_steal(&document);
    return 0;
}
