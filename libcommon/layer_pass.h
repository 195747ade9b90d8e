/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_PASS_H
#define WFE_LIBCOMMON_LAYER_PASS_H

/*
 * The two passes over a source that make a layer.
 *
 * The second one may be made as often as is wanted and, once it was made from the beginning to the
 * end, any part of it: what an entry of the source writes depends on the plan and on where in the
 * tar it begins, on nothing else.
 *
 * Threads: after a second pass from the beginning to the end the plan is only read, and passes with
 * sources of their own may go over it at the same time.
 */

#include <stdint.h>

#include "libcommon/buffer.h"
#include "libcommon/error.h"
#include "libcommon/layer.h"
#include "libcommon/layer_plan.h"
#include "libcommon/layer_source.h"
#include "libcommon/layer_tar.h"
#include "libcommon/sink.h"

/*
 * First pass: a plan for what comes from the source, which is at its first entry.
 * wfe_layer_plan_done() is due on failure too. Errors: those of wfe_layer_plan_init() and
 * wfe_layer_plan_add(), what the source returns, WFE_ERROR_CANCELLED.
 */
int wfe_layer_pass_plan(struct wfe_layer_source *source, const struct wfe_layer_options *options,
    struct wfe_layer_plan *plan, struct wfe_error *err);

struct wfe_layer_pass {
    struct wfe_layer_source *source;
    struct wfe_layer_plan *plan;
    struct wfe_tar_writer writer;
    struct wfe_buffer records; /* xattrs of the entry in hand */
};

/* Source and plan are borrowed. wfe_layer_pass_done() is due on failure too. Errors:
 * WFE_ERROR_INTERNAL. */
int wfe_layer_pass_init(struct wfe_layer_pass *pass, struct wfe_layer_source *source,
    struct wfe_layer_plan *plan, struct wfe_sink sink, struct wfe_error *err);
/* A pass for parts of the tar: see wfe_tar_writer_init_part(). */
void wfe_layer_pass_init_part(struct wfe_layer_pass *pass, struct wfe_layer_source *source,
    struct wfe_layer_plan *plan, struct wfe_sink sink);
void wfe_layer_pass_done(struct wfe_layer_pass *pass);

/*
 * The steps of the second pass, in this order. Each may write nothing.
 * Errors: what the sink and the source return, WFE_ERROR_ARCHIVE (its data are not what was
 * planned), WFE_ERROR_SYSTEM (EBUSY: it was changed), WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL.
 */

/* The prefix's directories. */
int wfe_layer_pass_begin(struct wfe_layer_pass *pass, struct wfe_error *err);
/* What the source's next entry, which is number index, writes. Returns 1, or 0 when there is none
 * and there should be none. */
int wfe_layer_pass_entry(struct wfe_layer_pass *pass, uint32_t index, struct wfe_error *err);
/* The end of the tar. */
int wfe_layer_pass_finish(struct wfe_layer_pass *pass, struct wfe_error *err);

#endif
