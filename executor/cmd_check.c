/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "executor/commands.h"
#include "executor/spec/host.h"
#include "executor/input/input_mount.h"
#include "executor/network/network.h"
#include "executor/run/run.h"
#include "libcommon/cleanup.h"
#include "libcommon/store.h"

#define AVAILABLE "available"

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
    cJSON_AddBoolToObject(report, "transfer", session->transfers);
    const char *io_directory = getenv("WFE_IO_DIR");
    bool files = io_directory && *io_directory;
    cJSON_AddStringToObject(report, "io", files ? "file" : session->local ? "fifo" : "none");
}

/* What a step may ask of the daemon's machine, or why it can't have it. */
static void report_machine(const struct wfe_session *session, cJSON *report)
{
    const char *mount = "the daemon is remote", *bridge = mount;
    struct wfe_error err = WFE_ERROR_INIT;
    if (session->local) {
        const char *obstacle = wfe_input_mount_obstacle(&(struct wfe_inputs){.count = 0});
        mount = obstacle ? obstacle : AVAILABLE;
        struct wfe_network *network = NULL;
        struct wfe_network_options options = {.id = "check"};
        bridge = wfe_network_plan(&options, &network, &err) < 0 ? err.message : AVAILABLE;
        wfe_network_free(network);
        struct wfe_host host = wfe_host_probe();
        cJSON_AddStringToObject(
            report, "apparmor", host.apparmor_profile ? host.apparmor_profile : "none");
    }
    cJSON_AddStringToObject(report, "inputs_as_mount", mount);
    cJSON_AddStringToObject(report, "network_bridge", bridge);
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
        report_machine(&session, report);
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
    .summary = "Tell which daemon answers, and what works with it",
    .options = (const struct wfe_option[]){WFE_OPTIONS_END},
    .main = main_check,
};
