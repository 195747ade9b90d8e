/* SPDX-License-Identifier: MIT */
#include "executor/daemon/task.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "libcommon/cleanup.h"
#include "tasks.pb-c.h"

#define PROCESS_TYPE_URL "types.containerd.io/opencontainers/runtime-spec/1/Process"

/* A kill answers at once; a shim that hangs must not hang us. */
#define KILL_TIMEOUT_MS 10000
#define KILLED_TIMEOUT_MS 30000

/* Tasks.Delete drains the output, which may take the daemon ten seconds by itself. */
#define DELETE_TIMEOUT_MS 60000
#define DELETE_TRIES 5

/* How often the grace looks for a second request to stop. */
#define GRACE_SLICE_MS 100

/* How often a remote daemon gets something to acknowledge while a task runs: without it, a peer
 * that has vanished would be noticed after minutes only (libcommon/rpc.c). */
#define NUDGE_MS 20000

/* A daemon that restarts is away for seconds. */
#define RECONNECT_TIMEOUT_MS 60000
#define PAUSE_MS 200

static const ProtobufCServiceDescriptor *const TASKS = &tasks__tasks__descriptor;

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int64_t ms)
{
    struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

enum wfe_task_refusal wfe_task_judge(const struct wfe_error *err)
{
    /* runc's words: exec: "NAME": REASON */
    const char *text = err->message;
    if (strstr(text, "exec format error"))
        return WFE_TASK_NOT_RUNNABLE;
    text = strstr(text, "exec: \"");
    if (!text)
        return WFE_TASK_REFUSED_OTHERWISE;
    if (strstr(text, "permission denied") || strstr(text, "is a directory"))
        return WFE_TASK_NOT_RUNNABLE;
    if (strstr(text, "not found") || strstr(text, "no such file or directory"))
        return WFE_TASK_NOT_FOUND;
    return WFE_TASK_REFUSED_OTHERWISE;
}

int wfe_task_create(const struct wfe_session *session, const char *id,
    const Snapshots__PrepareSnapshotResponse *root, const char *stdout_path,
    const char *stderr_path, struct wfe_error *err)
{
    Tasks__CreateTaskRequest request = TASKS__CREATE_TASK_REQUEST__INIT;
    request.container_id = (char *)id;
    request.rootfs = root->mounts;
    request.n_rootfs = root->n_mounts;
    request.stdout = (char *)stdout_path;
    request.stderr = (char *)stderr_path;
    struct wfe_rpc_context context = wfe_session_context(session);
    /* Cancelled half-way, a task could appear after its clean-up. */
    context.cancel = NULL;
    return wfe_rpc_unary(
        session->rpc, &context, (struct wfe_rpc_method){TASKS, "Create"}, &request.base, NULL, err);
}

static int start_wait_on(struct wfe_rpc *rpc, const struct wfe_session *session, const char *id,
    struct wfe_cancel *cancel, struct wfe_rpc_call **ret, struct wfe_error *err)
{
    Tasks__WaitRequest request = TASKS__WAIT_REQUEST__INIT;
    request.container_id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = cancel;
    return wfe_rpc_start(
        rpc, &context, (struct wfe_rpc_method){TASKS, "Wait"}, &request.base, ret, err);
}

/* On a connection of its own, when that can be made. */
static int start_wait(const struct wfe_session *session, const char *id, struct wfe_cancel *cancel,
    struct wfe_rpc_call **ret, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = start_wait_on(wfe_session_wait_rpc(session), session, id, cancel, ret, &failure);
    if (wfe_rpc_is_lost(&failure))
        return start_wait_on(session->rpc, session, id, cancel, ret, err);
    if (r < 0 && err)
        *err = failure;
    return r;
}

int wfe_task_wait_start(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call **ret_wait, struct wfe_error *err)
{
    return start_wait(session, id, session->cancel, ret_wait, err);
}

int wfe_task_wait_finish(
    struct wfe_rpc_call *wait, int64_t wait_ms, uint32_t *ret_status, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *message = NULL;
    int r = wfe_rpc_receive_reply(wait, wait_ms, &message, err);
    if (r < 0)
        return r;
    const Tasks__WaitResponse *reply = (const Tasks__WaitResponse *)message;
    /* A status of 0 is not sent, so a reply without anything would be success. */
    if (!reply->exited_at)
        return wfe_error_set(
            err, WFE_ERROR_CONTAINERD, EPROTO, "Tasks/Wait: the reply has no time of the end");
    *ret_status = reply->exit_status;
    return 0;
}

/* The daemon was lost: wait until it is back and knows the task. */
static int find_again(const struct wfe_session *session, const char *id, struct wfe_cancel *cancel,
    TaskTypes__Status *ret_status, struct wfe_error *err)
{
    Tasks__GetRequest request = TASKS__GET_REQUEST__INIT;
    request.container_id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = cancel;
    context.wait_for_ready = true;
    int64_t until = now_ms() + (wfe_rpc_is_away(session->rpc) ? 0 : RECONNECT_TIMEOUT_MS);
    for (;;) {
        WFE_MESSAGE ProtobufCMessage *reply = NULL;
        struct wfe_error failure = WFE_ERROR_INIT;
        context.timeout_ms = until - now_ms() > 0 ? until - now_ms() : 1;
        int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){TASKS, "Get"},
            &request.base, &reply, &failure);
        if (r == 0) {
            const TaskTypes__Process *process = ((Tasks__GetResponse *)reply)->process;
            *ret_status = process ? process->status : TASK_TYPES__STATUS__UNKNOWN;
            return 0;
        }
        bool is_over = now_ms() >= until;
        if (!is_over && wfe_rpc_is_lost(&failure)) {
            pause_ms(PAUSE_MS);
            continue;
        }
        if (is_over)
            return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT,
                "the daemon did not come back within %d s: %s", RECONNECT_TIMEOUT_MS / 1000,
                failure.message);
        if (err)
            *err = failure;
        return r;
    }
}

static int request_start(const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    Tasks__StartRequest request = TASKS__START_REQUEST__INIT;
    request.container_id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_unary(
        session->rpc, &context, (struct wfe_rpc_method){TASKS, "Start"}, &request.base, NULL, err);
}

/* A start that was lost with the daemon may have been carried out. */
int wfe_task_start(const struct wfe_session *session, const char *id, struct wfe_error *err)
{
    for (;;) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = request_start(session, id, &failure);
        if (!wfe_rpc_is_lost(&failure)) {
            if (r < 0 && err)
                *err = failure;
            return r;
        }
        TaskTypes__Status status;
        r = find_again(session, id, session->cancel, &status, err);
        if (r < 0 || status != TASK_TYPES__STATUS__CREATED)
            return r;
    }
}

/* A task that has exited, or is gone, is killed enough. */
static int kill_task(
    const struct wfe_session *session, const char *id, int signal_number, struct wfe_error *err)
{
    Tasks__KillRequest request = TASKS__KILL_REQUEST__INIT;
    request.container_id = (char *)id;
    request.signal = (uint32_t)signal_number;
    return wfe_session_undo(
        session, (struct wfe_rpc_method){TASKS, "Kill"}, &request.base, KILL_TIMEOUT_MS, err);
}

/* SIGTERM has been sent: wait out the grace, unless a second request cuts it short. */
static int await_grace(const struct wfe_session *session, struct wfe_rpc_call *wait,
    uint64_t grace_ms, uint32_t *ret_status, struct wfe_error *err)
{
    int64_t until = now_ms() + (int64_t)grace_ms;
    for (;;) {
        int64_t left = until - now_ms();
        if (left <= 0 || wfe_cancel_count(session->cancel) > 1)
            return -ETIMEDOUT;
        int r = wfe_task_wait_finish(
            wait, left < GRACE_SLICE_MS ? left : GRACE_SLICE_MS, ret_status, err);
        if (r != -ETIMEDOUT)
            return r;
    }
}

static int try_to_stop(const struct wfe_session *session, const char *id, uint64_t grace_ms,
    uint32_t *ret_status, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *wait = NULL;
    int r = start_wait(session, id, NULL, &wait, err);
    if (r < 0)
        return r;
    if (grace_ms > 0) {
        r = kill_task(session, id, SIGTERM, err);
        if (r < 0)
            return r;
        r = await_grace(session, wait, grace_ms, ret_status, err);
        if (r != -ETIMEDOUT)
            return r;
    }
    r = kill_task(session, id, SIGKILL, err);
    if (r < 0)
        return r;
    r = wfe_task_wait_finish(wait, KILLED_TIMEOUT_MS, ret_status, err);
    if (r == -ETIMEDOUT)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, ETIMEDOUT,
            "the task did not end within %d s of SIGKILL", KILLED_TIMEOUT_MS / 1000);
    return r;
}

static int stop_task(const struct wfe_session *session, const char *id, uint64_t grace_ms,
    uint32_t *ret_status, struct wfe_error *err)
{
    for (;;) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = try_to_stop(session, id, grace_ms, ret_status, &failure);
        if (!wfe_rpc_is_lost(&failure)) {
            if (r < 0 && err)
                *err = failure;
            return r;
        }
        TaskTypes__Status status;
        r = find_again(session, id, NULL, &status, err);
        if (r < 0)
            return r;
    }
}

int wfe_task_stop(
    const struct wfe_session *session, const char *id, uint64_t grace_ms, struct wfe_error *err)
{
    uint32_t status;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = stop_task(session, id, grace_ms, &status, &failure);
    if (r == -ENOENT)
        return 0;
    if (r < 0 && err)
        *err = failure;
    return r;
}

/* The daemon went away while the task runs on. What failure holds is replaced. */
static int wait_again(const struct wfe_session *session, const char *id, struct wfe_rpc_call **wait,
    struct wfe_error *failure)
{
    wfe_rpc_call_free(wfe_steal(wait));
    *failure = (struct wfe_error)WFE_ERROR_INIT;
    TaskTypes__Status status;
    int r = find_again(session, id, session->cancel, &status, failure);
    /* containerd 1.7 and newer drop a task that has ended when they start, and its status with it.
     */
    if (r == -ENOENT)
        wfe_error_prefix(failure, "the step ended while the daemon was away, and how is not known");
    return r < 0 ? r : start_wait(session, id, session->cancel, wait, failure);
}

/* Ask something of which only the answer matters, on each connection, and see that the last one was
 * answered: a peer that hangs still acknowledges what it gets. */
static int nudge(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call *calls[static 2], struct wfe_error *err)
{
    struct wfe_rpc *connections[] = {session->rpc, session->own_wait_rpc};
    Tasks__GetRequest request = TASKS__GET_REQUEST__INIT;
    request.container_id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    for (int i = 0; i < 2; i++) {
        WFE_MESSAGE ProtobufCMessage *reply = NULL;
        struct wfe_error failure = WFE_ERROR_INIT;
        if (calls[i] && wfe_rpc_receive_reply(calls[i], 0, &reply, &failure) == -ETIMEDOUT &&
            failure.kind == WFE_ERROR_NONE)
            return wfe_error_set(err, WFE_ERROR_CONTAINERD, EAGAIN,
                "the daemon has not answered for %d s", NUDGE_MS / 1000);
        wfe_rpc_call_free(wfe_steal(&calls[i]));
        wfe_rpc_start(connections[i], &context, (struct wfe_rpc_method){TASKS, "Get"},
            &request.base, &calls[i], NULL);
    }
    return 0;
}

static int await_nudged(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call *wait, int64_t wait_ms, struct wfe_rpc_call *calls[static 2],
    uint32_t *ret_status, struct wfe_error *err)
{
    int64_t until = now_ms() + wait_ms;
    for (;;) {
        int64_t left = wait_ms < 0 ? NUDGE_MS : until - now_ms();
        if (left <= 0)
            return -ETIMEDOUT;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_task_wait_finish(wait, left < NUDGE_MS ? left : NUDGE_MS, ret_status, &failure);
        if (r != -ETIMEDOUT || failure.kind != WFE_ERROR_NONE) {
            if (r < 0 && err)
                *err = failure;
            return r;
        }
        r = nudge(session, id, calls, err);
        if (r < 0)
            return r;
    }
}

/* wfe_task_wait_finish() on a connection that is seen to live. */
static int await_status(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call *wait, int64_t wait_ms, uint32_t *ret_status, struct wfe_error *err)
{
    if (!session->own_wait_rpc)
        return wfe_task_wait_finish(wait, wait_ms, ret_status, err);
    struct wfe_rpc_call *calls[2] = {NULL};
    int r = await_nudged(session, id, wait, wait_ms, calls, ret_status, err);
    wfe_rpc_call_free(calls[0]);
    wfe_rpc_call_free(calls[1]);
    return r;
}

/* Until the task ends by itself: 0; its time is up: -ETIMEDOUT; we were asked to stop:
 * -ECANCELED; else an error. Only the last sets err. */
static int await_end(const struct wfe_session *session, const char *id, struct wfe_rpc_call **wait,
    uint64_t timeout_ms, uint32_t *ret_status, struct wfe_error *err)
{
    int64_t until = now_ms() + (int64_t)timeout_ms;
    for (;;) {
        int64_t left = -1;
        if (timeout_ms > 0) {
            left = until - now_ms();
            if (left <= 0)
                return -ETIMEDOUT;
        }
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = *wait ? await_status(session, id, *wait, left, ret_status, &failure) : -EAGAIN;
        if (r == 0 || (r == -ETIMEDOUT && failure.kind == WFE_ERROR_NONE) || r == -ECANCELED)
            return r;
        if (!*wait || wfe_rpc_is_lost(&failure))
            r = wait_again(session, id, wait, &failure);
        if (r == -ECANCELED)
            return r;
        if (r < 0 && !wfe_rpc_is_lost(&failure)) {
            /* The daemon's words for it. */
            if (strstr(failure.message, "ttrpc: closed"))
                wfe_error_prefix(&failure, "the container's shim died, and the step with it");
            if (err)
                *err = failure;
            return -EIO;
        }
    }
}

int wfe_task_await(
    const struct wfe_session *session, const char *id, uint32_t *ret_status, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *wait = NULL;
    int r = start_wait(session, id, session->cancel, &wait, err);
    return r < 0 ? r : await_end(session, id, &wait, 0, ret_status, err);
}

int wfe_task_run(const struct wfe_session *session, const char *id,
    const struct wfe_task_limits *limits, struct wfe_task_end *ret, struct wfe_error *err)
{
    /* In flight before the start: a task that ends at once must find its waiter. */
    WFE_RPC_CALL struct wfe_rpc_call *wait = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = start_wait(session, id, session->cancel, &wait, &failure);
    if (r < 0 && !wfe_rpc_is_lost(&failure)) {
        if (err)
            *err = failure;
        return r;
    }
    r = wfe_task_start(session, id, err);
    if (r < 0)
        return r;
    struct wfe_task_end end = {0};
    r = await_end(session, id, &wait, limits->timeout_ms, &end.exit_status, err);
    end.timed_out = r == -ETIMEDOUT;
    end.cancelled = r == -ECANCELED;
    if (end.timed_out || end.cancelled)
        r = stop_task(session, id, limits->grace_ms, &end.exit_status, err);
    if (r < 0)
        return r;
    *ret = end;
    return 0;
}

int wfe_task_delete(
    const struct wfe_session *session, const char *id, bool *ret_existed, struct wfe_error *err)
{
    Tasks__DeleteTaskRequest request = TASKS__DELETE_TASK_REQUEST__INIT;
    request.container_id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    context.timeout_ms = DELETE_TIMEOUT_MS;
    for (int tries = 1;; tries++) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){TASKS, "Delete"},
            &request.base, NULL, &failure);
        if (r == 0 || r == -ENOENT) {
            if (ret_existed)
                *ret_existed = r == 0 || tries > 1;
            return 0;
        }
        if (tries == DELETE_TRIES) {
            if (err)
                *err = failure;
            return r;
        }
        /* It still runs, which not every version of the daemon says with a status of its own, or
         * the daemon is away for a moment. */
        uint32_t status;
        struct wfe_error trouble = WFE_ERROR_INIT;
        if (stop_task(session, id, 0, &status, &trouble) == 0)
            continue;
        if (trouble.kind == WFE_ERROR_TIMEOUT) {
            if (err)
                *err = trouble;
            return -trouble.errnum;
        }
        pause_ms(PAUSE_MS);
    }
}

/* What became of a process is asked for in vain when the task is gone. */
static void delete_exec(const struct wfe_session *session, const char *id, const char *exec_id)
{
    Tasks__DeleteProcessRequest request = TASKS__DELETE_PROCESS_REQUEST__INIT;
    request.container_id = (char *)id;
    request.exec_id = (char *)exec_id;
    wfe_session_undo(session, (struct wfe_rpc_method){TASKS, "DeleteProcess"}, &request.base,
        DELETE_TIMEOUT_MS, NULL);
}

static void kill_exec(const struct wfe_session *session, const char *id, const char *exec_id)
{
    Tasks__KillRequest request = TASKS__KILL_REQUEST__INIT;
    request.container_id = (char *)id;
    request.exec_id = (char *)exec_id;
    request.signal = SIGKILL;
    wfe_session_undo(
        session, (struct wfe_rpc_method){TASKS, "Kill"}, &request.base, KILL_TIMEOUT_MS, NULL);
}

static int create_exec(const struct wfe_session *session, const char *id, const char *exec_id,
    const cJSON *process, struct wfe_error *err)
{
    WFE_FREE char *text = cJSON_PrintUnformatted(process);
    if (!text)
        return wfe_error_nomem(err);
    Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
    spec.type_url = (char *)PROCESS_TYPE_URL;
    spec.value.data = (uint8_t *)text;
    spec.value.len = strlen(text);
    Tasks__ExecProcessRequest request = TASKS__EXEC_PROCESS_REQUEST__INIT;
    request.container_id = (char *)id;
    request.exec_id = (char *)exec_id;
    request.spec = &spec;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_unary(
        session->rpc, &context, (struct wfe_rpc_method){TASKS, "Exec"}, &request.base, NULL, err);
}

static int run_exec(const struct wfe_session *session, const char *id, const char *exec_id,
    int64_t timeout_ms, uint32_t *ret_status, struct wfe_error *err)
{
    Tasks__WaitRequest request = TASKS__WAIT_REQUEST__INIT;
    request.container_id = (char *)id;
    request.exec_id = (char *)exec_id;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_RPC_CALL struct wfe_rpc_call *wait = NULL;
    int r = wfe_rpc_start(wfe_session_wait_rpc(session), &context,
        (struct wfe_rpc_method){TASKS, "Wait"}, &request.base, &wait, err);
    if (r < 0)
        return r;
    Tasks__StartRequest start = TASKS__START_REQUEST__INIT;
    start.container_id = (char *)id;
    start.exec_id = (char *)exec_id;
    context.cancel = NULL;
    r = wfe_rpc_unary(
        session->rpc, &context, (struct wfe_rpc_method){TASKS, "Start"}, &start.base, NULL, err);
    if (r < 0)
        return r;
    r = wfe_task_wait_finish(wait, timeout_ms, ret_status, err);
    if (r < 0)
        kill_exec(session, id, exec_id);
    if (r == -ETIMEDOUT)
        return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "it did not end in time");
    return r;
}

int wfe_task_exec(const struct wfe_session *session, const char *id, const char *exec_id,
    const cJSON *process, int64_t timeout_ms, uint32_t *ret_status, struct wfe_error *err)
{
    int r = create_exec(session, id, exec_id, process, err);
    if (r < 0)
        return r;
    r = run_exec(session, id, exec_id, timeout_ms, ret_status, err);
    delete_exec(session, id, exec_id);
    return r;
}
