/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_OUTPUTS_H
#define WFE_EXECUTOR_OUTPUTS_H

/*
 * Output directives in a step's stdout, found while the bytes go by: a line that starts
 * at column 0 with "##wfe[output ", holds KEY=VALUE split at the first '=', and ends
 * in "]". The key is trimmed, the value verbatim, the last one of a key wins; an empty key or
 * a line without '=' is no directive. A final "\r" is no part of the line.
 *
 * Limits: a directive's line of WFE_OUTPUTS_MAX_LINE_BYTES; longer lines are passed
 * over. WFE_OUTPUTS_MAX_BYTES of keys and values together, WFE_OUTPUTS_MAX_KEYS keys: past
 * either, further keys are dropped and wfe_outputs_dropped() says how many.
 *
 * Threads: one thread at a time.
 */

#include <stddef.h>

#include <cjson/cJSON.h>

#define WFE_OUTPUTS_MAX_LINE_BYTES (1024 * 1024)
#define WFE_OUTPUTS_MAX_BYTES (8 * 1024 * 1024)
#define WFE_OUTPUTS_MAX_KEYS 10000

struct wfe_outputs;

/* Returns 0 or -ENOMEM (ret untouched). */
int wfe_outputs_new(struct wfe_outputs **ret);
void wfe_outputs_free(struct wfe_outputs *outputs);

/* The next bytes of stdout, cut anywhere. Returns 0 or -ENOMEM. */
int wfe_outputs_feed(struct wfe_outputs *outputs, const void *data, size_t length);

/* Ends the last line, and hands over an object of strings (caller deletes), keys in the order of
 * their first appearance, bytes that are not UTF-8 replaced by U+FFFD. NULL when
 * memory ran out. */
cJSON *wfe_outputs_finish(struct wfe_outputs *outputs);

/* How many directives were dropped for the limits; a line that is too long counts as one. Where a
 * new value was dropped, the key keeps its old one. */
size_t wfe_outputs_dropped(const struct wfe_outputs *outputs);

#endif
