/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_DOCUMENT_H
#define WFE_LIBCOMMON_DOCUMENT_H

/*
 * YAML and JSON text → a tree of nodes that know their line, and a list of everything that is
 * wrong with a document.
 *
 * A text that starts with "{" or "[" and is JSON (RFC 8259) to its end is read as JSON, any other
 * one as YAML. Aliases share their anchor's node, so that a bomb of aliases costs no memory. Merge
 * keys (`<<`, YAML 1.1) are resolved: a map or a list of maps, an earlier map of the list wins over
 * a later one, a key of the map itself wins over both; merged members stand before the map's own
 * ones. Only a `<<` without quotes is one, so JSON has none. A duplicate key is an error, as is a
 * key that is no scalar, a tag beyond the core schema's, and a second document in the text.
 *
 * Scalars without quotes are typed by YAML 1.2's core schema with two exceptions: a decimal
 * number with a leading zero and .inf and .nan are strings, since no two readers agree about
 * the one and JSON lacks the others. Each scalar keeps its text: `version: 1.10` can be read
 * as "1.10".
 *
 * Limits: WFE_DOCUMENT_MAX_BYTES of text, WFE_DOCUMENT_MAX_DEPTH levels (aliases followed),
 * WFE_DOCUMENT_MAX_NODES nodes (merged members included), WFE_DOCUMENT_MAX_EXPANSION nodes when
 * the aliases are followed, WFE_DOCUMENT_MAX_ANCHORS anchors.
 *
 * Threads: a document belongs to one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

#define WFE_DOCUMENT_MAX_BYTES (4 * 1024 * 1024)
#define WFE_DOCUMENT_MAX_DEPTH 64
#define WFE_DOCUMENT_MAX_NODES 100000
#define WFE_DOCUMENT_MAX_EXPANSION 200000
#define WFE_DOCUMENT_MAX_ANCHORS 1000
#define WFE_PROBLEMS_MAX 100

/* What is wrong with a document, in the order in which it was found; after WFE_PROBLEMS_MAX only
 * counted. */
struct wfe_problem {
    bool warning;
    char *text; /* "FILE:LINE: FIELD.PATH: found …; allowed: …" */
};

struct wfe_problems {
    struct wfe_problem *items;
    size_t count;
    size_t errors; /* how many are no warnings, those beyond the limit included */
};

#define WFE_PROBLEMS_INIT                                                                          \
    {                                                                                              \
        .items = NULL                                                                              \
    }

void wfe_problems_done(struct wfe_problems *problems);
/* line 0: unknown. path "": the document itself. When memory runs out the problem is still
 * counted. */
void wfe_problems_add(struct wfe_problems *problems, bool warning, const char *file, int line,
    const char *path, const char *format, ...) __attribute__((format(printf, 6, 7)));

enum wfe_node_kind {
    WFE_NODE_NULL,
    WFE_NODE_BOOL,
    WFE_NODE_INT,
    WFE_NODE_FLOAT,
    WFE_NODE_STRING,
    WFE_NODE_LIST,
    WFE_NODE_MAP,
};

struct wfe_member;

struct wfe_node {
    enum wfe_node_kind kind;
    int line;      /* from 1 */
    bool quoted;   /* a scalar with quotes or a block scalar */
    bool reported; /* what is wrong with it stands in the problems already; kind is NULL then */
    bool open;     /* the parser's own: its end was not read yet */

    const char *text; /* a scalar as it stands in the document, unescaped; NUL-terminated */
    size_t length;    /* of text, which holds no other NUL */

    size_t count;                  /* of items or members */
    const struct wfe_node **items; /* of a list */
    struct wfe_member *members;    /* of a map, no key twice */

    size_t height;    /* levels below this one, aliases followed */
    size_t expansion; /* nodes with this one, aliases followed */
};

struct wfe_member {
    const struct wfe_node *key; /* a scalar */
    const struct wfe_node *value;
};

struct wfe_document;

/*
 * Parse text (borrowed until the return). `file` is what problems call it. Returns
 *   0        *ret is a whole tree; problems may have got errors all the same (a duplicate key, of
 * which the first stays; an unknown alias or tag, in whose place a reported null stands), so that
 * what is wrong with the rest can be found too; -EINVAL  the text could not be read to its end
 * (syntax, UTF-8, a limit): said in problems; -ENOMEM  memory ran out.
 */
int wfe_document_parse(const char *file, const char *text, size_t length, struct wfe_document **ret,
    struct wfe_problems *problems);
void wfe_document_free(struct wfe_document *document);

static inline void wfe_cleanup_document(struct wfe_document **document)
{
    wfe_document_free(*document);
}
#define WFE_DOCUMENT __attribute__((cleanup(wfe_cleanup_document)))

/* Never NULL; lives as long as the document, like each node below it. */
const struct wfe_node *wfe_document_root(const struct wfe_document *document);

/*
 * New nodes that live as long as the document, for trees derived from it: a scalar (text is
 * copied, and must hold no NUL), or a list or map of count empty places that the caller fills.
 * NULL when memory ran out.
 */
struct wfe_node *wfe_document_scalar(struct wfe_document *document, enum wfe_node_kind kind,
    int line, const char *text, size_t length);
struct wfe_node *wfe_document_collection(
    struct wfe_document *document, enum wfe_node_kind kind, int line, size_t count);

/* The map's value under that key, NULL when there is none or map is no map. */
const struct wfe_node *wfe_node_get(const struct wfe_node *map, const char *key);

static inline bool wfe_node_is_scalar(const struct wfe_node *node)
{
    return node->kind < WFE_NODE_LIST;
}

/* What a message calls the node: "'text'" (shortened, without control characters), "12", "a list",
 * "a map", "nothing". Returns buffer. */
#define WFE_NODE_DESCRIPTION_MAX 96
const char *wfe_node_describe(
    const struct wfe_node *node, char buffer[static WFE_NODE_DESCRIPTION_MAX]);

/* The node as JSON. Integers of more digits than cJSON prints (15) become raw items. NULL when
 * memory ran out; the caller deletes. */
cJSON *wfe_node_to_json(const struct wfe_node *node);

/* Workflow data: the JSON object in the file at path ("-": stdin), of WFE_DOCUMENT_MAX_BYTES at
 * most. The caller deletes *ret. Errors: WFE_ERROR_INPUT (not JSON, no object), those of
 * wfe_read_file(). */
int wfe_data_read(const char *path, cJSON **ret, struct wfe_error *err);

#endif
