/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_RESULT_H
#define WFE_EXECUTOR_RESULT_H

/*
 * The result of a run, and the program's exit status:
 *
 *     {"proceed":true,"output_data":{…}}
 *     {"proceed":false,"error":{"kind","message","exit_code","retryable"},"output_data":{…}}
 *
 * output_data holds a step's directives, then NAME.stdout, NAME.stderr and
 * NAME.exit_code, which win over a directive of the same name; NAME.stdout_truncated
 * (the stream's true length in bytes) stands there only when the stream was cut.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

/* What a stream left behind: its first bytes, and how long it was. */
struct wfe_stream_output {
    const char *data; /* borrowed, any bytes, length of them */
    size_t length;
    uint64_t total_bytes; /* >= length */
};

/* text as a JSON string: bytes that are not UTF-8, and NUL, become U+FFFD. Allocated;
 * NULL when memory ran out. */
char *wfe_utf8_lossy(const char *data, size_t length);

/*
 * output_data of one finished step. `directives` (borrowed) is an object of strings, step_name
 * NULL is "unknown". NULL when memory ran out; the caller deletes.
 */
cJSON *wfe_result_step_data(const char *step_name, const cJSON *directives,
    const struct wfe_stream_output *stdout_output, const struct wfe_stream_output *stderr_output,
    int exit_code);

/* Shallow merge: each member of from (borrowed) replaces to's member of that name.
 * Returns 0 or -ENOMEM. */
int wfe_result_merge(cJSON *to, const cJSON *from);

/* How a run ended. */
enum wfe_outcome_kind {
    WFE_OUTCOME_DONE,         /* every step exited with 0 */
    WFE_OUTCOME_EXITED,       /* a step exited with exit_code != 0 */
    WFE_OUTCOME_OOM,          /* the same, and it was killed for want of memory */
    WFE_OUTCOME_TIMED_OUT,    /* error.message says after how long */
    WFE_OUTCOME_CANCELLED,    /* stopped by signal_number */
    WFE_OUTCOME_NOT_RUNNABLE, /* the command can't be executed: 126 */
    WFE_OUTCOME_NOT_FOUND,    /* the command isn't there: 127 */
    WFE_OUTCOME_FAILED,       /* ours or the daemon's failure: 125 */
};

struct wfe_outcome {
    enum wfe_outcome_kind kind;
    int exit_code;          /* the container's; valid for EXITED and OOM */
    int signal_number;      /* valid for CANCELLED */
    struct wfe_error error; /* valid unless DONE */
};

/* The process's exit status: 0; the container's code; 124; 125; 126; 127; 128+n. */
int wfe_outcome_exit_status(const struct wfe_outcome *outcome);

/* Whether the same run may succeed when it is tried again: daemon unavailable, timeout,
 * cancelled; never a wrong document, a missing image or the step's own exit code. */
bool wfe_outcome_retryable(const struct wfe_outcome *outcome);

/* The result object. Takes nothing; output_data is borrowed and copied. NULL when memory
 * ran out. error.kind is "exit" for EXITED, "oom" for OOM, else the error kind's name;
 * error.exit_code is the container's exit code or null. */
cJSON *wfe_result_object(const struct wfe_outcome *outcome, const cJSON *output_data);

#endif
