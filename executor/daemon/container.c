/* SPDX-License-Identifier: MIT */
#include "executor/daemon/container.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "containers.pb-c.h"
#include "executor/daemon/labels.h"
#include "executor/owner.h"
#include "executor/spec/spec.h"
#include "libcommon/cleanup.h"

#define RUNTIME "io.containerd.runc.v2"

static const ProtobufCServiceDescriptor *const CONTAINERS = &containers__containers__descriptor;

int wfe_container_create_start(const struct wfe_session *session,
    const struct wfe_container_options *options, struct wfe_rpc_call **ret_call,
    struct wfe_error *err)
{
    char owner[WFE_OWNER_TEXT_MAX];
    int r = wfe_owner_self(owner);
    if (r < 0)
        return wfe_error_system(err, -r, "identify this process");
    WFE_FREE char *spec_text = cJSON_PrintUnformatted(options->spec);
    if (!spec_text)
        return wfe_error_nomem(err);

    struct wfe_label labels[WFE_LABELS_MAX] = {
        {WFE_OWNER_LABEL, owner},
        {WFE_CONTAINER_STEP_LABEL, options->step_name},
    };
    size_t count = 2;
    assert(options->label_count <= WFE_LABELS_MAX - count);
    for (size_t i = 0; i < options->label_count; i++)
        labels[count++] = options->labels[i];
    struct wfe_label_map map;
    wfe_label_map_init(&map, &containers__container__labels_entry__descriptor, labels, count);
    Google__Protobuf__Any spec = GOOGLE__PROTOBUF__ANY__INIT;
    spec.type_url = (char *)WFE_SPEC_TYPE_URL;
    spec.value.data = (uint8_t *)spec_text;
    spec.value.len = strlen(spec_text);
    Containers__Container__Runtime runtime = CONTAINERS__CONTAINER__RUNTIME__INIT;
    runtime.name = (char *)RUNTIME;
    Containers__Container container = CONTAINERS__CONTAINER__INIT;
    container.id = (char *)options->id;
    container.image = (char *)options->image;
    container.runtime = &runtime;
    container.spec = &spec;
    container.snapshotter = (char *)session->snapshotter;
    container.snapshot_key = (char *)options->id;
    WFE_LABEL_MAP_ATTACH(&container, &map);
    Containers__CreateContainerRequest request = CONTAINERS__CREATE_CONTAINER_REQUEST__INIT;
    request.container = &container;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_start(session->rpc, &context, (struct wfe_rpc_method){CONTAINERS, "Create"},
        &request.base, ret_call, err);
}

int wfe_container_create_finish(struct wfe_rpc_call *call, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    return wfe_rpc_receive_reply(call, -1, &reply, err);
}

int wfe_container_label(const struct wfe_session *session, const char *id, const char *key,
    bool *ret_exists, char **ret, struct wfe_error *err)
{
    Containers__GetContainerRequest request = CONTAINERS__GET_CONTAINER_REQUEST__INIT;
    request.id = (char *)id;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){CONTAINERS, "Get"},
        &request.base, &reply, &failure);
    if (r < 0 && r != -ENOENT) {
        if (err)
            *err = failure;
        return r;
    }
    const Containers__Container *container =
        r == 0 ? ((Containers__GetContainerResponse *)reply)->container : NULL;
    const char *value =
        container ? wfe_label_find(container->labels, container->n_labels, key) : NULL;
    char *copy = value ? strdup(value) : NULL;
    if (value && !copy)
        return wfe_error_nomem(err);
    *ret_exists = container != NULL;
    *ret = copy;
    return 0;
}

int wfe_container_disown(const struct wfe_session *session, const char *id,
    const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    struct wfe_label_map map;
    wfe_label_map_init(&map, &containers__container__labels_entry__descriptor, labels, label_count);
    Containers__Container container = CONTAINERS__CONTAINER__INIT;
    container.id = (char *)id;
    WFE_LABEL_MAP_ATTACH(&container, &map);
    char *paths[] = {(char *)"labels"};
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    mask.paths = paths;
    mask.n_paths = 1;
    Containers__UpdateContainerRequest request = CONTAINERS__UPDATE_CONTAINER_REQUEST__INIT;
    request.container = &container;
    request.update_mask = &mask;
    struct wfe_rpc_context context = wfe_session_context(session);
    context.cancel = NULL;
    return wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){CONTAINERS, "Update"},
        &request.base, NULL, err);
}

int wfe_container_delete_start(const struct wfe_session *session, const char *id,
    int64_t timeout_ms, struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    Containers__DeleteContainerRequest request = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
    request.id = (char *)id;
    return wfe_session_undo_start(session, (struct wfe_rpc_method){CONTAINERS, "Delete"},
        &request.base, timeout_ms, ret_call, err);
}

int wfe_container_delete(
    const struct wfe_session *session, const char *id, int64_t timeout_ms, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_container_delete_start(session, id, timeout_ms, &call, err);
    return r < 0 ? r : wfe_session_undo_finish(call, err);
}
