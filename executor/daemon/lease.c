/* SPDX-License-Identifier: MIT */
#include "executor/daemon/lease.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "executor/daemon/labels.h"
#include "executor/owner.h"
#include "leases.pb-c.h"

#define CREATE_TIMEOUT_MS 30000

static const ProtobufCServiceDescriptor *const LEASES = &leases__leases__descriptor;

int wfe_lease_create_start(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    char owner[WFE_OWNER_TEXT_MAX];
    int r = wfe_owner_self(owner);
    if (r < 0)
        return wfe_error_system(err, -r, "identify this process");
    time_t expiry = time(NULL) + WFE_LEASE_EXPIRY_S;
    struct tm utc;
    gmtime_r(&expiry, &utc);
    char expiry_text[32];
    strftime(expiry_text, sizeof expiry_text, "%Y-%m-%dT%H:%M:%SZ", &utc);

    const struct wfe_label labels[] = {
        {"containerd.io/gc.expire", expiry_text},
        {WFE_OWNER_LABEL, owner},
    };
    struct wfe_label_map map;
    wfe_label_map_init(&map, &leases__create_request__labels_entry__descriptor, labels,
        sizeof labels / sizeof *labels);
    Leases__CreateRequest request = LEASES__CREATE_REQUEST__INIT;
    request.id = (char *)id;
    WFE_LABEL_MAP_ATTACH(&request, &map);
    struct wfe_rpc_context context = wfe_session_context(session);
    context.lease = NULL;
    /* Cancelled half-way, a lease could appear after its deletion. */
    context.cancel = NULL;
    context.timeout_ms = CREATE_TIMEOUT_MS;
    return wfe_rpc_start(session->rpc, &context, (struct wfe_rpc_method){LEASES, "Create"},
        &request.base, ret_call, err);
}

int wfe_lease_create_finish(struct wfe_rpc_call *call, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_receive(call, -1, &reply, &failure);
    if (r == -EEXIST)
        return 0;
    if (r < 0 && err) {
        *err = failure;
        wfe_error_prefix(err, "lease");
    }
    return r;
}

int wfe_lease_add(
    const struct wfe_session *session, const char *type, const char *id, struct wfe_error *err)
{
    if (!session->lease)
        return 0;
    Leases__Resource resource = LEASES__RESOURCE__INIT;
    resource.id = (char *)id;
    resource.type = (char *)type;
    Leases__AddResourceRequest request = LEASES__ADD_RESOURCE_REQUEST__INIT;
    request.id = (char *)session->lease;
    request.resource = &resource;
    struct wfe_rpc_context context = wfe_session_context(session);
    return wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){LEASES, "AddResource"},
        &request.base, NULL, err);
}

int wfe_lease_delete_start(const struct wfe_session *session, const char *id, bool sync,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    Leases__DeleteRequest request = LEASES__DELETE_REQUEST__INIT;
    request.id = (char *)id;
    request.sync = sync;
    return wfe_session_undo_start(session, (struct wfe_rpc_method){LEASES, "Delete"}, &request.base,
        timeout_ms, ret_call, err);
}

int wfe_lease_delete(const struct wfe_session *session, const char *id, bool sync,
    int64_t timeout_ms, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_lease_delete_start(session, id, sync, timeout_ms, &call, err);
    return r < 0 ? r : wfe_session_undo_finish(call, err);
}
