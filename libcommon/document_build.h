/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_DOCUMENT_BUILD_H
#define WFE_LIBCOMMON_DOCUMENT_BUILD_H

/*
 * How the readers (YAML, JSON) make a document: nodes are attached in the order of the text,
 * and checked against the limits while it is read. For the document module alone.
 *
 * Where nothing else is said, a function returns 0, -EINVAL for a limit (said in problems) or
 * -ENOMEM.
 */

#include "libcommon/document.h"

/* A node and its place in the list by which the document frees it. */
struct wfe_document_entry {
    struct wfe_node node;
    struct wfe_document_entry *next;
};

struct wfe_document {
    struct wfe_document_entry *entries;
    const struct wfe_node *root; /* NULL until it was attached */
};

/* A list or map whose end was not read yet. */
struct wfe_document_frame {
    struct wfe_node *node;
    const struct wfe_node *key; /* of a map: the key that waits for its value */
    size_t capacity;
};

struct wfe_document_builder {
    struct wfe_document *document;
    const char *file;
    struct wfe_problems *problems;
    int line; /* where the reader is */
    size_t node_count;
    struct wfe_document_frame frames[WFE_DOCUMENT_MAX_DEPTH];
    size_t depth;
};

/* One more error, at the builder's line. */
void wfe_document_problem(struct wfe_document_builder *builder, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The error of a limit that was passed. Returns -EINVAL. */
int wfe_document_limit(
    struct wfe_document_builder *builder, int line, const char *found, int allowed);
int wfe_document_count_nodes(struct wfe_document_builder *builder, size_t count, int line);

/* A scalar, not attached yet, typed by the core schema unless it is quoted. A text with a NUL
 * inside is told, and becomes a reported null. */
int wfe_document_read_scalar(struct wfe_document_builder *builder, const char *text, size_t length,
    bool quoted, struct wfe_node **ret);
/* A reported null where a value could not be read. */
int wfe_document_attach_reported(struct wfe_document_builder *builder);
/* Put the node where the text stands: root, list item, key or value. */
int wfe_document_attach(struct wfe_document_builder *builder, const struct wfe_node *node);
/* Begin a list or map, attached; what follows goes into it until it is closed. */
int wfe_document_open(
    struct wfe_document_builder *builder, enum wfe_node_kind kind, struct wfe_node **ret);
int wfe_document_close(struct wfe_document_builder *builder);

/* Type a scalar without quotes by the core schema. */
enum wfe_node_kind wfe_document_scalar_kind(const char *text, size_t length);

/* A map whose last member was read: refuse duplicates, resolve merge keys, drop members whose key
 * is no scalar. */
int wfe_document_finish_map(struct wfe_document_builder *builder, struct wfe_node *map);

/* Read the whole text. -EINVAL also for its syntax, which is said in problems. */
int wfe_document_read_yaml(struct wfe_document_builder *builder, const char *text, size_t length);
/* The same for strict JSON (RFC 8259); its syntax is not told, but -EILSEQ, so that the text can
 * be tried as YAML. */
int wfe_document_read_json(struct wfe_document_builder *builder, const char *text, size_t length);

/* The line on which the byte at `offset` stands. */
int wfe_document_line_at(const char *text, size_t offset);

#endif
