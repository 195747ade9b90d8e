/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "executor/commands.h"
#include "executor/run.h"
#include "libcommon/cleanup.h"
#include "libcommon/store.h"

static void report_daemon(const struct wfe_session *session, cJSON *report)
{
    cJSON_AddStringToObject(report, "version", session->version);
    char platform[128];
    snprintf(platform, sizeof platform, "%s/%s%s%s", session->platform.os,
        session->platform.architecture, session->platform.variant[0] ? "/" : "",
        session->platform.variant);
    cJSON_AddStringToObject(report, "platform", platform);
    cJSON_AddStringToObject(report, "snapshotter", session->snapshotter);
    cJSON_AddStringToObject(report, "namespace", session->namespace_);
    const char *io_directory = getenv("WFE_IO_DIR");
    bool files = io_directory && *io_directory;
    cJSON_AddStringToObject(report, "io", files ? "file" : session->local ? "fifo" : "none");
}

static int main_check(const struct wfe_globals *globals, const char *operand)
{
    (void)operand;
    WFE_JSON cJSON *report = cJSON_CreateObject();
    cJSON_AddStringToObject(report, "address", wfe_run_address(globals->address, NULL));
    struct wfe_session session;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_command_connect(globals, &session, &err);
    cJSON_AddBoolToObject(report, "ok", r == 0);
    if (r == 0) {
        report_daemon(&session, report);
        wfe_session_done(&session);
    } else {
        cJSON_AddStringToObject(report, "error", err.message);
    }
    WFE_FREE char *store = wfe_store_default_path();
    if (store)
        cJSON_AddStringToObject(report, "store", store);
    WFE_FREE char *text = cJSON_Print(report);
    if (!text)
        return WFE_EXIT_FAILURE;
    printf("%s\n", text);
    return r == 0 ? 0 : WFE_EXIT_FAILURE;
}

const struct wfe_command wfe_command_check = {
    .name = "check",
    .summary = "Tell which daemon answers, its version, platform and snapshotter",
    .options = (const struct wfe_option[]){WFE_OPTIONS_END},
    .main = main_check,
};
