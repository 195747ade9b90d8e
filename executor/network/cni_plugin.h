/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CNI_PLUGIN_H
#define WFE_EXECUTOR_CNI_PLUGIN_H

/*
 * One run of a CNI plugin (CNI spec, section 2): a program that takes its configuration from stdin
 * and its parameters from the environment, and answers with JSON on stdout.
 *
 * A plugin runs in a process group of its own, so that a terminal's Ctrl-C does not hit it
 * half-way. Limits: WFE_CNI_ANSWER_MAX_BYTES of an answer, WFE_CNI_PLUGIN_TIMEOUT_MS of time.
 */

#include <cjson/cJSON.h>

#include "libcommon/cancel.h"
#include "libcommon/error.h"

#define WFE_CNI_ANSWER_MAX_BYTES (1024 * 1024)
#define WFE_CNI_PLUGIN_TIMEOUT_MS 60000

struct wfe_cni_plugin {
    const char *program; /* a path */
    char *const *env;    /* all of its environment, NULL-terminated */
    const char *config;  /* what it reads from stdin */
    /* Stays open in the plugin, and in whatever it starts, so that a lock on it tells whether they
     * have ended. -1: none. */
    int lock_fd;
    struct wfe_cancel *cancel; /* may be NULL */
};

/*
 * Run it to its end. *ret_answer (caller deletes) is its result, NULL when it said nothing.
 * Errors: WFE_ERROR_SYSTEM (it can't be run, it failed: its own message and details),
 * WFE_ERROR_LIMIT, WFE_ERROR_TIMEOUT, WFE_ERROR_CANCELLED (it was killed then),
 * WFE_ERROR_INTERNAL.
 */
int wfe_cni_plugin_run(
    const struct wfe_cni_plugin *plugin, cJSON **ret_answer, struct wfe_error *err);

#endif
