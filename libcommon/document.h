/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_DOCUMENT_H
#define WFE_LIBCOMMON_DOCUMENT_H

/*
 * YAML and JSON text → an immutable tree of nodes that know their line, and a list
 * of everything that is wrong with a document.
 *
 * JSON is read by the same parser (YAML 1.2 contains it). Aliases share their anchor's
 * node, merge keys (`<<`, YAML 1.1) are resolved, so a bomb of aliases costs no memory.
 *
 * Limits: WFE_DOCUMENT_MAX_BYTES of text, WFE_DOCUMENT_MAX_DEPTH levels (aliases
 * followed), WFE_DOCUMENT_MAX_NODES nodes, WFE_DOCUMENT_MAX_EXPANSION nodes when the aliases
 * are followed.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

#define WFE_DOCUMENT_MAX_BYTES (4 * 1024 * 1024)
#define WFE_DOCUMENT_MAX_DEPTH 64
#define WFE_DOCUMENT_MAX_NODES 100000
#define WFE_DOCUMENT_MAX_EXPANSION 200000
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
/* line 0: unknown. path "" : the document itself. */
void wfe_problems_add(struct wfe_problems *problems, bool warning, const char *file, int line,
    const char *path, const char *format, ...) __attribute__((format(printf, 6, 7)));

#endif
