/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TASK_H
#define WFE_EXECUTOR_TASK_H

/*
 * The task of a container: created, started, awaited, stopped in order (SIGTERM, grace,
 * SIGKILL), deleted.
 */

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "snapshots.pb-c.h"

/* How a task ended. */
struct wfe_task_end {
    uint32_t exit_status; /* the container's own; 128+n when a signal killed it */
    bool timed_out;       /* we stopped it for its time limit */
    bool cancelled;       /* we stopped it because the session's token asked */
};

/* Why a command can't be run, as far as the daemon's words tell. */
enum wfe_task_refusal {
    WFE_TASK_REFUSED_OTHERWISE,
    WFE_TASK_NOT_RUNNABLE, /* 126: there, but not executable */
    WFE_TASK_NOT_FOUND,    /* 127 */
};

/* Judge a failure of wfe_task_create() or wfe_task_run(). */
enum wfe_task_refusal wfe_task_judge(const struct wfe_error *err);

/* Create the task of container `id` on the mounts of its snapshot. Its output goes to the paths,
 * both "" for nowhere. Errors: WFE_ERROR_CONTAINERD. */
int wfe_task_create(const struct wfe_session *session, const char *id,
    const Snapshots__PrepareSnapshotResponse *root, const char *stdout_path,
    const char *stderr_path, struct wfe_error *err);

/* Ask for the task's end, before its start: a task that ends at once must find its waiter. The
 * session's token cancels the call. Errors: WFE_ERROR_CONTAINERD. */
int wfe_task_wait_start(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call **ret_wait, struct wfe_error *err);
/* Its status, once it has ended; -ETIMEDOUT with err untouched after wait_ms (negative: no limit).
 * Errors: WFE_ERROR_CONTAINERD, WFE_ERROR_CANCELLED. */
int wfe_task_wait_finish(
    struct wfe_rpc_call *wait, int64_t wait_ms, uint32_t *ret_status, struct wfe_error *err);
int wfe_task_start(const struct wfe_session *session, const char *id, struct wfe_error *err);

/* Wait for the end of a task that runs, also when the connection is lost meanwhile. The session's
 * token cancels that: -ECANCELED, without err. Errors: WFE_ERROR_CONTAINERD. */
int wfe_task_await(
    const struct wfe_session *session, const char *id, uint32_t *ret_status, struct wfe_error *err);

/* End it: SIGTERM, grace_ms, SIGKILL. One that is gone, or has ended, is success. Never cancelled
 * by the session's token, but a second request through it cuts the grace short. Errors:
 * WFE_ERROR_CONTAINERD. */
int wfe_task_stop(
    const struct wfe_session *session, const char *id, uint64_t grace_ms, struct wfe_error *err);

/*
 * Run one more process in the task, without output. `process` is its part of a runtime spec.
 * *ret_status: how it ended within timeout_ms; -ETIMEDOUT with err set when it was killed for that.
 * Errors: WFE_ERROR_CONTAINERD (also a program that can't be run), WFE_ERROR_TIMEOUT,
 * WFE_ERROR_CANCELLED, WFE_ERROR_INTERNAL.
 */
int wfe_task_exec(const struct wfe_session *session, const char *id, const char *exec_id,
    const cJSON *process, int64_t timeout_ms, uint32_t *ret_status, struct wfe_error *err);

struct wfe_task_limits {
    uint64_t timeout_ms; /* from its start; 0: none */
    uint64_t grace_ms;   /* between SIGTERM and SIGKILL */
};

/*
 * Start the task and wait for its end: by itself, by its time limit, or because the
 * session's token asked; the latter two stop it first. A second request through the token cuts
 * the grace short. A connection that is lost meanwhile is taken up again.
 * Errors: WFE_ERROR_CONTAINERD (it may still run then: wfe_task_delete ends it).
 */
int wfe_task_run(const struct wfe_session *session, const char *id,
    const struct wfe_task_limits *limits, struct wfe_task_end *ret, struct wfe_error *err);

/* How many of the task's processes the kernel killed for want of memory. Asked after its end,
 * before its deletion. Errors: WFE_ERROR_CONTAINERD. */
int wfe_task_oom_kills(
    const struct wfe_session *session, const char *id, uint64_t *ret, struct wfe_error *err);

/* Delete it, killing it first when it still runs; one that is gone already is success
 * (*ret_existed says so; it may be NULL). Never cancelled by the session's token. */
int wfe_task_delete(
    const struct wfe_session *session, const char *id, bool *ret_existed, struct wfe_error *err);

#endif
