/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "executor/commands.h"
#include "executor/import.h"
#include "executor/lease.h"
#include "libcommon/cleanup.h"

#define LEASE_DELETE_TIMEOUT_MS 30000

enum { NAME = 1 };

static const struct wfe_option OPTIONS[] = {
    {"name", 0, "NAME", "the image's name in containerd (default: what the source says)", NAME},
    WFE_OPTIONS_END,
};

static struct {
    const char *name;
} given;

static int take_option(void *state, int id, const char *value, struct wfe_error *err)
{
    (void)state;
    (void)id;
    (void)err;
    given.name = value;
    return 0;
}

/* Everything is made under a lease, so that a pull that dies leaves nothing for long. */
static int pull_leased(struct wfe_session *session, const char *lease, const char *source,
    const char *name, char **ret_name, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_lease_create_start(session, lease, &call, err);
    if (r == 0)
        r = wfe_lease_create_finish(call, err);
    if (r < 0)
        return r;
    session->lease = lease;
    r = wfe_import(session, source, name, ret_name, err);
    session->lease = NULL;
    return r;
}

static int main_pull(const struct wfe_globals *globals, const char *source)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (!wfe_import_is_source(source)) {
        wfe_error_set(&err, WFE_ERROR_INPUT, EINVAL,
            "'%s': expected oci:DIR[:TAG], oci-archive:FILE[:TAG] or docker-archive:FILE[:TAG]; "
            "an image of a registry comes in with `skopeo copy docker://%s oci:DIR:TAG` first",
            source, source);
        return wfe_command_fail(&wfe_command_pull, &err);
    }
    char lease[WFE_UNIQUE_NAME_MAX];
    if (wfe_unique_name(lease, &err) < 0)
        return wfe_command_fail(&wfe_command_pull, &err);
    struct wfe_session session;
    if (wfe_command_connect(globals, &session, &err) < 0)
        return wfe_command_fail(&wfe_command_pull, &err);
    WFE_FREE char *pulled = NULL;
    int r = pull_leased(&session, lease, source, given.name, &pulled, &err);
    /* What it held is referred to by the image now, or is to go. */
    wfe_lease_delete(&session, lease, r < 0, LEASE_DELETE_TIMEOUT_MS, NULL);
    wfe_session_done(&session);
    if (r < 0) {
        wfe_command_fail(&wfe_command_pull, &err);
        return wfe_stop_signal() != 0 ? 128 + wfe_stop_signal() : WFE_EXIT_FAILURE;
    }
    printf("%s\n", pulled);
    return 0;
}

const struct wfe_command wfe_command_pull = {
    .name = "pull",
    .operand = "IMAGE",
    .summary = "Bring an image in: oci:DIR[:TAG], oci-archive:FILE or docker-archive:FILE",
    .options = OPTIONS,
    .take = take_option,
    .main = main_pull,
};
