/* SPDX-License-Identifier: MIT */
#include "executor/run/run_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "libcommon/cleanup.h"
#include "libcommon/log.h"

enum wfe_outcome_kind wfe_step_run_judge_failure(
    const struct step_run *run, const struct wfe_error *err)
{
    if (err->kind == WFE_ERROR_CANCELLED)
        return WFE_OUTCOME_CANCELLED;
    if (run->task_made && !run->ended) {
        switch (wfe_task_judge(err)) {
        case WFE_TASK_NOT_RUNNABLE:
            return WFE_OUTCOME_NOT_RUNNABLE;
        case WFE_TASK_NOT_FOUND:
            return WFE_OUTCOME_NOT_FOUND;
        case WFE_TASK_REFUSED_OTHERWISE:
            break;
        }
    }
    return WFE_OUTCOME_FAILED;
}

static void judge_oom(const struct step_run *run, struct wfe_outcome *outcome)
{
    uint64_t limit = run->step->config.memory_bytes;
    char why[64] = "memory ran out";
    if (limit > 0)
        snprintf(why, sizeof why, "it reached its limit of %" PRIu64 " bytes of memory", limit);
    outcome->kind = WFE_OUTCOME_OOM;
    wfe_error_set(&outcome->error, WFE_ERROR_SYSTEM, ENOMEM,
        "container exited with code %u: the kernel killed %" PRIu64 " of its processes, since %s",
        (unsigned)run->end.exit_status, run->oom_kills, why);
}

/* How the step ended, when its task ran. */
void wfe_step_run_judge_end(const struct step_run *run, struct wfe_outcome *outcome)
{
    const struct wfe_task_end *end = &run->end;
    struct wfe_error *err = &outcome->error;
    if (run->mount_broke && !end->cancelled) {
        *err = run->mount_error;
        outcome->kind = WFE_OUTCOME_FAILED;
    } else if (run->artifacts_failed) {
        *err = run->artifacts_error;
        outcome->kind = wfe_step_run_judge_failure(run, err);
    } else if (end->cancelled) {
        outcome->kind = WFE_OUTCOME_CANCELLED;
        wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped on request");
    } else if (end->timed_out) {
        outcome->kind = WFE_OUTCOME_TIMED_OUT;
        wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT,
            "container execution timed out after %" PRIu64 "ms", run->step->config.timeout_ms);
    } else if (end->exit_status != 0) {
        outcome->kind = WFE_OUTCOME_EXITED;
        outcome->exit_code = (int)end->exit_status;
        if (run->oom_kills > 0)
            judge_oom(run, outcome);
        else
            wfe_error_set(err, WFE_ERROR_SYSTEM, ECHILD, "container exited with code %u",
                (unsigned)end->exit_status);
    }
}

int wfe_step_run_collect_output(struct step_run *run, cJSON **ret, struct wfe_error *err)
{
    struct wfe_task_output output;
    struct wfe_error failure = WFE_ERROR_INIT;
    if (wfe_task_io_finish(run->io, &output, &failure) < 0)
        wfe_log(WFE_LOG_WARN, "output", "%s", failure.message);
    const struct wfe_stream_output *streams[] = {&output.stdout_output, &output.stderr_output};
    static const char *const names[] = {"stdout", "stderr"};
    for (int i = 0; i < 2; i++)
        if (streams[i]->total_bytes > streams[i]->length)
            wfe_log(WFE_LOG_WARN, "output",
                "%s was cut in the result: %zu of %" PRIu64 " bytes (output_limit)", names[i],
                streams[i]->length, streams[i]->total_bytes);
    if (output.dropped_directives > 0)
        wfe_log(WFE_LOG_WARN, "output", "%" PRIu64 " output directives beyond the limit dropped",
            output.dropped_directives);
    *ret = wfe_result_step_data(run->name, output.directives, &output.stdout_output,
        &output.stderr_output, (int)run->end.exit_status);
    cJSON_Delete(output.directives);
    if (*ret && run->artifacts && wfe_result_merge(*ret, run->artifacts) < 0) {
        cJSON_Delete(wfe_steal(ret));
        return wfe_error_nomem(err);
    }
    if (*ret && output.is_incomplete) {
        if (err)
            *err = failure;
        return -failure.errnum;
    }
    return *ret ? 0 : wfe_error_nomem(err);
}
