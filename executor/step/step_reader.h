/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_READER_H
#define WFE_EXECUTOR_STEP_READER_H

/*
 * What the readers of a step document share: where they are, how they report, and how they take
 * text out of a node. For the step module's own files.
 *
 * Readers don't stop at a problem, nor when memory runs out: both are remembered, and judged once
 * at the end of the document. A null value is one that is not given.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "executor/step/step.h"
#include "libcommon/document.h"

#define WFE_STEP_PATH_MAX 512
#define WFE_STEP_SIZE_WORDS "a size such as 512m, 1g or 64Ki"

struct wfe_step_reader {
    const char *file;
    struct wfe_document *document;
    struct wfe_problems *problems;
    const cJSON *data;         /* what ((a.b)) refers to */
    size_t interpolated_bytes; /* that interpolation added so far */
    size_t interpolated_nodes;
    bool nomem;
};

/* A field's place, as a chain on the readers' stack; NULL is the document itself. */
struct wfe_step_path {
    const struct wfe_step_path *up;
    const char *name; /* NULL: the item `index` of a list */
    size_t index;
};

/* "steps[0].config.memory". Returns buffer. */
const char *wfe_step_path_text(
    const struct wfe_step_path *path, char buffer[static WFE_STEP_PATH_MAX]);

void wfe_step_problem(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void wfe_step_warning(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The problem "found NODE; allowed: ALLOWED", unless the node was reported already. */
void wfe_step_refuse(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *allowed);

/* The member that is given (present and not null), else NULL. */
const struct wfe_node *wfe_step_given(const struct wfe_node *map, const char *name);

/*
 * A copy of a scalar's text, the caller frees. NULL when it is no scalar, is null, or is shorter
 * than min_length: then `allowed` is told; NULL as well when memory ran out.
 */
char *wfe_step_text(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, size_t min_length, const char *allowed);

/* The index of the node's text in words (NULL-terminated) into *ret; false, with `allowed` told,
 * when it is none of them. */
bool wfe_step_word(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *const *words, const char *allowed, int *ret);

/* true or false into *ret; anything else is told. */
void wfe_step_bool(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, bool *ret);

/* A size of at least one byte into *ret; anything else is told. */
void wfe_step_size(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t *ret);

/* A whole number from 1 to max into *ret; anything else is told with `allowed`. */
void wfe_step_count(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t max, const char *allowed, uint64_t *ret);

/* calloc that remembers a failure. */
void *wfe_step_allocate(struct wfe_step_reader *reader, size_t count, size_t size);

/* Whether node is a map (or list); if not, that is told. */
bool wfe_step_is_map(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path);
bool wfe_step_is_list(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path);

/* Each key of map must be one of known (NULL-terminated); others are told with the nearest
 * known name. */
void wfe_step_check_keys(struct wfe_step_reader *reader, const struct wfe_node *map,
    const struct wfe_step_path *path, const char *const *known);

/* The known name that is at most two slips (a letter too many, missing, wrong, or swapped with
 * its neighbour; case does not count) away; NULL when there is none. */
const char *wfe_step_nearest(const char *name, const char *const *known);

#endif
