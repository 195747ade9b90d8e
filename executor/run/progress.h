/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_PROGRESS_H
#define WFE_EXECUTOR_PROGRESS_H

/*
 * What the user sees on stderr while a step runs: on a terminal one live line for the stage
 * at hand, elsewhere a plain line a stage; and the step's own output, as it comes.
 *
 * Threads: all functions may be called from any thread. A NULL progress shows nothing
 * (the output of the step included).
 */

#include <stddef.h>
#include <stdint.h>

enum wfe_progress_mode {
    WFE_PROGRESS_AUTO, /* live on a terminal, else plain */
    WFE_PROGRESS_PLAIN,
    WFE_PROGRESS_NONE, /* the step's output alone */
};

struct wfe_progress;

/* "auto", "plain" or "none". Returns 0 or -EINVAL. */
int wfe_progress_mode_parse(const char *text, enum wfe_progress_mode *ret);

/* Returns 0, or -errno with ret untouched. The log's lines and the live line keep out of each
 * other's way from here on. At most one at a time. */
int wfe_progress_new(enum wfe_progress_mode mode, struct wfe_progress **ret);
/* Clears the live line. NULL is fine. */
void wfe_progress_free(struct wfe_progress *progress);

/* The step that the next stages belong to; NULL for none. Copied. */
void wfe_progress_step(struct wfe_progress *progress, const char *name);

/* A stage begins, the one before it has ended: "connecting", "uploading input 'src'". */
void wfe_progress_stage(struct wfe_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes that the stage has moved so far. */
void wfe_progress_bytes(struct wfe_progress *progress, uint64_t bytes);

/* Output of the step, any bytes. Returns 0, or -errno when stderr does not take them. */
int wfe_progress_output(struct wfe_progress *progress, const void *data, size_t length);

#endif
