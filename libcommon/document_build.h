/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_DOCUMENT_BUILD_H
#define WFE_LIBCOMMON_DOCUMENT_BUILD_H

/* What the parts of the document module share; for no one else. */

#include "libcommon/document.h"

/* A node and its place in the list by which the document frees it. */
struct wfe_document_entry {
    struct wfe_node node;
    struct wfe_document_entry *next;
};

struct wfe_document {
    struct wfe_document_entry *entries;
    const struct wfe_node *root;
};

/* What a parse knows; problems are told about file. */
struct wfe_document_parse {
    struct wfe_document *document;
    const char *file;
    struct wfe_problems *problems;
    size_t node_count;
};

/* Type a scalar without quotes by the core schema. */
enum wfe_node_kind wfe_document_scalar_kind(const char *text, size_t length);

/*
 * A map whose last member was read: refuse duplicates, resolve merge keys, drop members whose key
 * is no scalar. Returns 0, -EINVAL for a limit (said in problems) or -ENOMEM.
 */
int wfe_document_finish_map(struct wfe_document_parse *parse, struct wfe_node *map);

/* One node more. Returns 0, or -EINVAL past the limit (said in problems). */
int wfe_document_count_nodes(struct wfe_document_parse *parse, size_t count, int line);

#endif
