/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "executor/commands.h"
#include "executor/daemon/sharing.h"
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
    static const char *const kinds[] = {
        [WFE_TASK_IO_FIFO] = "fifo",
        [WFE_TASK_IO_FILE] = "file",
        [WFE_TASK_IO_SNAPSHOT] = "snapshot",
    };
    const char *io_directory = wfe_sharing_io_directory();
    cJSON_AddStringToObject(report, "shares",
        session->local            ? "machine"
        : session->sees_directory ? "directory"
                                  : "nothing");
    cJSON_AddStringToObject(report, "directory", wfe_sharing_directory(io_directory));
    cJSON_AddStringToObject(report, "io", kinds[wfe_run_io_kind(session, io_directory)]);
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
    cJSON_AddStringToObject(report, "address", wfe_run_daemon(&globals->daemon, NULL).address);
    struct wfe_session session;
    struct wfe_error err = WFE_ERROR_INIT;
    bool connected = wfe_command_connect(globals, &session, &err) == 0;
    int r = connected
                ? wfe_sharing_find(&session, wfe_sharing_io_directory(), WFE_SHARING_TRIED, &err)
                : -1;
    cJSON_AddBoolToObject(report, "ok", r == 0);
    if (r == 0) {
        report_daemon(&session, report);
        report_machine(&session, report);
    } else {
        cJSON_AddStringToObject(report, "error", err.message);
    }
    if (connected)
        wfe_session_done(&session);
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
