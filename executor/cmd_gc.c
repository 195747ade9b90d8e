/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "executor/commands.h"
#include "executor/reclaim.h"

static int main_gc(const struct wfe_globals *globals, const char *operand)
{
    (void)operand;
    struct wfe_session session;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_command_connect(globals, &session, &err) < 0)
        return wfe_command_fail(&wfe_command_gc, &err);
    struct wfe_reclaim_report report;
    int r = wfe_reclaim(&session, &report, &err);
    wfe_session_done(&session);
    if (r < 0)
        return wfe_command_fail(&wfe_command_gc, &err);
    printf("{\"steps\":%zu,\"leases\":%zu,\"networks\":%zu,\"failed\":%zu}\n", report.steps,
        report.leases, report.networks, report.failed);
    return report.failed > 0 ? WFE_EXIT_FAILURE : 0;
}

const struct wfe_command wfe_command_gc = {
    .name = "gc",
    .summary = "Reclaim what executors that died have left in the daemon",
    .options = (const struct wfe_option[]){WFE_OPTIONS_END},
    .main = main_gc,
};
