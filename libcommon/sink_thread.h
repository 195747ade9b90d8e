/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_SINK_THREAD_H
#define WFE_LIBCOMMON_SINK_THREAD_H

/*
 * A sink whose bytes go to another sink on a thread of its own, so that what makes them and what
 * takes them work at the same time. Holds at most 1 MiB.
 *
 * Threads: one writes, finishes and frees. The other sink is called on the thread, one call at a
 * time, and never again after finish or free.
 */

#include "libcommon/sink.h"

struct wfe_sink_thread;

/* Errors: WFE_ERROR_INTERNAL (memory), WFE_ERROR_SYSTEM (no thread). */
int wfe_sink_thread_start(struct wfe_sink to, struct wfe_sink_thread **ret, struct wfe_error *err);

/* Where to write. Errors of a write are those of the other sink, also of an earlier write's bytes.
 */
struct wfe_sink wfe_sink_thread_sink(struct wfe_sink_thread *thread);

/* Waits until the other sink has everything. Errors: those of the other sink. */
int wfe_sink_thread_finish(struct wfe_sink_thread *thread, struct wfe_error *err);

/* What was not finished is dropped. NULL is fine. */
void wfe_sink_thread_free(struct wfe_sink_thread *thread);

static inline void wfe_cleanup_sink_thread(struct wfe_sink_thread **thread)
{
    wfe_sink_thread_free(*thread);
}
#define WFE_SINK_THREAD __attribute__((cleanup(wfe_cleanup_sink_thread)))

#endif
