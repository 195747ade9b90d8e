/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TASK_IO_H
#define WFE_EXECUTOR_TASK_IO_H

/*
 * A task's stdout and stderr, read by a thread from before the task is made until after
 * it is deleted, so that the task never waits for us and nothing of its output is lost:
 *
 *     FIFO      two FIFOs in BASE/wfe-io-ID/
 *     FILE      two regular files there, where the daemon sees that directory through a mount
 *     SNAPSHOT  two regular files in a volume on the daemon's machine (executor/daemon/volume.h),
 *               where nothing is shared with it
 *
 * What was made is removed at the end. What comes is shown live, searched for output directives,
 * kept up to a limit, and written to raw files on request; memory is bounded by twice the limit.
 *
 * A volume is looked at every 100 ms to 1 s, the less often the less comes, and the less often the
 * more there is, since each look makes the daemon copy all of it: after N bytes, N/512 KiB times
 * less often. Only what is new is sent.
 *
 * Threads: a handle belongs to one thread; the reading thread is its own affair.
 */

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "executor/daemon/volume.h"
#include "executor/run/progress.h"
#include "executor/run/result.h"
#include "libcommon/error.h"

enum wfe_task_io_kind {
    WFE_TASK_IO_FIFO,     /* the daemon runs on this kernel */
    WFE_TASK_IO_FILE,     /* it shares the directory, but maybe not the kernel */
    WFE_TASK_IO_SNAPSHOT, /* it shares nothing */
};

struct wfe_task_io_options {
    enum wfe_task_io_kind kind;
    const char *base_directory;        /* of FIFOs and files */
    const struct wfe_session *session; /* of a volume: holds a lease; copied */
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
    bool is_incomplete; /* the end could not be read */
};

/* Begin. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL; nothing is left behind then. */
int wfe_task_io_open(
    const struct wfe_task_io_options *options, struct wfe_task_io **ret, struct wfe_error *err);
/* Wait until a task can be made: a volume is made beside other work. Errors: as wfe_volume_make().
 */
int wfe_task_io_await(struct wfe_task_io *io, struct wfe_error *err);

/* The task is made: a volume is followed from now on. Errors: WFE_ERROR_SYSTEM. */
int wfe_task_io_follow(struct wfe_task_io *io, struct wfe_error *err);

/* Paths for Tasks.Create, after wfe_task_io_await(); views. */
const char *wfe_task_io_stdout(const struct wfe_task_io *io);
const char *wfe_task_io_stderr(const struct wfe_task_io *io);

/* Take the rest and stop the thread: after Tasks.Delete, or when there never was a task. */
void wfe_task_io_drain(struct wfe_task_io *io);

/* Remove what the daemon holds of it, drained; one that holds nothing is success. In two halves, so
 * that other requests can go out meanwhile; the first one's handle must see the second. Errors: as
 * wfe_volume_remove(). */
void wfe_task_io_remove_start(struct wfe_task_io *io, int64_t timeout_ms);
int wfe_task_io_remove_finish(struct wfe_task_io *io, int64_t timeout_ms, struct wfe_error *err);

/* The volume's key, by which others keep or remove it. */
#define WFE_TASK_IO_KEY_MAX WFE_VOLUME_KEY_MAX
void wfe_task_io_key(const char *container_id, char key[static WFE_TASK_IO_KEY_MAX]);

/* Remove the volume that a dead executor has left for the container; none is success. Errors: as
 * wfe_volume_remove(). */
int wfe_task_io_reclaim(const struct wfe_session *session, const char *container_id,
    int64_t timeout_ms, struct wfe_error *err);

/*
 * Drained, when that was not done: what the task has said. The caller deletes ret->directives.
 * Errors: what went wrong while reading or writing raw files; ret is filled in all the same, so
 * that a step's output is never lost for that.
 */
int wfe_task_io_finish(struct wfe_task_io *io, struct wfe_task_output *ret, struct wfe_error *err);

/* Remove the directory, when the task is gone; what was written to it can still be finished. */
void wfe_task_io_unlink(struct wfe_task_io *io);

/* Removes the directory; finishes first when that was not done. NULL is fine. */
void wfe_task_io_free(struct wfe_task_io *io);

#endif
