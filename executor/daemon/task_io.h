/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TASK_IO_H
#define WFE_EXECUTOR_TASK_IO_H

/*
 * A task's stdout and stderr: two FIFOs, or two regular files where the daemon sees our
 * directory through a mount, read by a thread from before the task is made until after
 * it is deleted, so that the task never waits for us and nothing of its output is lost.
 *
 * Both lie in BASE/wfe-io-ID/, which is removed at the end. What comes is shown live,
 * searched for output directives, kept up to a limit, and written to raw files on
 * request; memory is bounded by twice the limit.
 *
 * Threads: a handle belongs to one thread; the reading thread is its own affair.
 */

#include <stdint.h>

#include <cjson/cJSON.h>

#include "executor/run/progress.h"
#include "executor/run/result.h"
#include "libcommon/error.h"

enum wfe_task_io_kind {
    WFE_TASK_IO_FIFO, /* the daemon runs on this kernel */
    WFE_TASK_IO_FILE, /* it shares the directory, but maybe not the kernel */
};

struct wfe_task_io_options {
    enum wfe_task_io_kind kind;
    const char *base_directory;
    const char *container_id;
    uint64_t limit_bytes;          /* kept of each stream */
    struct wfe_progress *progress; /* shows the output; may be NULL */
    /* Raw bytes go to RAW_DIRECTORY/STEP.stdout and .stderr; NULL for none. */
    const char *raw_directory;
    const char *step_name;
};

struct wfe_task_io;

/* What a finished task has said. */
struct wfe_task_output {
    cJSON *directives;                                     /* an object of strings */
    struct wfe_stream_output stdout_output, stderr_output; /* views: valid until the handle's end */
    uint64_t dropped_directives;
};

/* Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL; nothing is left behind then. */
int wfe_task_io_open(
    const struct wfe_task_io_options *options, struct wfe_task_io **ret, struct wfe_error *err);

/* Paths for Tasks.Create; views. */
const char *wfe_task_io_stdout(const struct wfe_task_io *io);
const char *wfe_task_io_stderr(const struct wfe_task_io *io);

/*
 * After Tasks.Delete, or when there never was a task: take the rest and stop the thread.
 * The caller deletes ret->directives. Errors: what went wrong while reading or writing raw
 * files; ret is filled in all the same, so that a step's output is never lost for that.
 */
int wfe_task_io_finish(struct wfe_task_io *io, struct wfe_task_output *ret, struct wfe_error *err);

/* Removes the directory; finishes first when that was not done. NULL is fine. */
void wfe_task_io_free(struct wfe_task_io *io);

#endif
