/* SPDX-License-Identifier: MIT */
#include "executor/daemon/lease.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "executor/daemon/labels.h"
#include "executor/owner.h"
#include "executor/step/step.h"
#include "leases.pb-c.h"
#include "libcommon/cleanup.h"
#include "libcommon/units.h"

#define CREATE_TIMEOUT_MS 30000
#define EXPIRE_LABEL "containerd.io/gc.expire"
#define DURATION_VARIABLE "WFE_LEASE_DURATION"
#define MIN_DURATION_MS 1000

static const ProtobufCServiceDescriptor *const LEASES = &leases__leases__descriptor;

int wfe_lease_duration(int64_t *ret_ms, struct wfe_error *err)
{
    const char *text = getenv(DURATION_VARIABLE);
    uint64_t ms = WFE_LEASE_DURATION_MS;
    if (text && *text && (wfe_duration_parse(text, &ms) < 0 || ms < MIN_DURATION_MS))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            DURATION_VARIABLE " '%.60s': expected a duration of at least 1s, such as 30m", text);
    *ret_ms = (int64_t)ms;
    return 0;
}

char *wfe_lease_renewed_id(const char *id)
{
    char *renewed_id;
    return asprintf(&renewed_id, "%s-renewed", id) < 0 ? NULL : renewed_id;
}

int wfe_lease_create_start(const struct wfe_session *session, const char *id,
    struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    char owner[WFE_OWNER_TEXT_MAX];
    int r = wfe_owner_self(owner);
    if (r < 0)
        return wfe_error_system(err, -r, "identify this process");
    int64_t duration_ms;
    r = wfe_lease_duration(&duration_ms, err);
    if (r < 0)
        return r;
    time_t expiry = time(NULL) + (time_t)((duration_ms + 999) / 1000);
    struct tm utc;
    gmtime_r(&expiry, &utc);
    char expiry_text[32];
    strftime(expiry_text, sizeof expiry_text, "%Y-%m-%dT%H:%M:%SZ", &utc);

    const struct wfe_label labels[] = {
        {EXPIRE_LABEL, expiry_text},
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
    int r = wfe_rpc_receive_reply(call, -1, &reply, &failure);
    if (r == -EEXIST)
        return 0;
    if (r < 0 && err) {
        *err = failure;
        wfe_error_prefix(err, "lease");
    }
    return r;
}

bool wfe_lease_has_run_out(void *labels, size_t count)
{
    const char *text = wfe_label_find(labels, count, EXPIRE_LABEL);
    struct tm utc = {0};
    return text && strptime(text, "%Y-%m-%dT%H:%M:%SZ", &utc) && timegm(&utc) < time(NULL);
}

int wfe_lease_is_alive(
    const struct wfe_session *session, const char *id, bool *ret, struct wfe_error *err)
{
    WFE_FREE char *filter = NULL;
    WFE_FREE char *renewed_filter = NULL;
    WFE_FREE char *renewed_id = wfe_lease_renewed_id(id);
    if (asprintf(&filter, "id==\"%s\"", id) < 0)
        filter = NULL;
    if (!renewed_id || asprintf(&renewed_filter, "id==\"%s\"", renewed_id) < 0)
        renewed_filter = NULL;
    if (!filter || !renewed_filter)
        return wfe_error_nomem(err);
    char *filters[] = {filter, renewed_filter};
    Leases__ListRequest request = LEASES__LIST_REQUEST__INIT;
    request.filters = filters;
    request.n_filters = 2;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){LEASES, "List"},
        &request.base, &reply, err);
    if (r < 0)
        return r;
    const Leases__ListResponse *leases = (const Leases__ListResponse *)reply;
    bool alive = false;
    for (size_t i = 0; i < leases->n_leases; i++)
        alive =
            alive || !wfe_lease_has_run_out(leases->leases[i]->labels, leases->leases[i]->n_labels);
    *ret = alive;
    return 0;
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

int wfe_lease_delete_all(
    const struct wfe_session *session, const char *id, int64_t timeout_ms, struct wfe_error *err)
{
    WFE_FREE char *renewed_id = wfe_lease_renewed_id(id);
    if (!renewed_id)
        return wfe_error_nomem(err);
    int r = wfe_lease_delete(session, renewed_id, false, timeout_ms, err);
    return r < 0 ? r : wfe_lease_delete(session, id, true, timeout_ms, err);
}
