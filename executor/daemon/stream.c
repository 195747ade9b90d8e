/* SPDX-License-Identifier: MIT */
#include "executor/daemon/stream.h"

#include <errno.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define OPEN_TIMEOUT_MS 10000

int wfe_stream_pack(const ProtobufCMessage *message, Google__Protobuf__Any *ret)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *data = malloc(length > 0 ? length : 1);
    if (!data)
        return -ENOMEM;
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)message->descriptor->name;
    any.value.data = data;
    any.value.len = protobuf_c_message_pack(message, data);
    *ret = any;
    return 0;
}

int wfe_stream_send(
    struct wfe_rpc_call *stream, const ProtobufCMessage *message, struct wfe_error *err)
{
    Google__Protobuf__Any any;
    if (wfe_stream_pack(message, &any) < 0)
        return wfe_error_nomem(err);
    int r = wfe_rpc_send(stream, &any.base, err);
    free(any.value.data);
    return r;
}

/* The daemon answers with an empty message when it knows the stream. */
static int await_open(struct wfe_rpc_call *stream, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_receive(stream, OPEN_TIMEOUT_MS, &reply, &failure);
    if (r == 0 && reply)
        return 0;
    if (r == 0)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EPIPE, "the daemon closed a new stream");
    if (r == -ETIMEDOUT && failure.kind == WFE_ERROR_NONE)
        return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT,
            "the daemon opened no stream within %d s", OPEN_TIMEOUT_MS / 1000);
    if (err)
        *err = failure;
    return r;
}

int wfe_stream_open(const struct wfe_session *session, const char *id, struct wfe_rpc_call **ret,
    struct wfe_error *err)
{
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_RPC_CALL struct wfe_rpc_call *stream = NULL;
    int r = wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&streaming__streaming__descriptor, "Stream"}, NULL, &stream, err);
    if (r < 0)
        return r;
    Streaming__StreamInit init = STREAMING__STREAM_INIT__INIT;
    init.id = (char *)id;
    r = wfe_stream_send(stream, &init.base, err);
    if (r == 0)
        r = await_open(stream, err);
    if (r < 0)
        return r;
    *ret = wfe_steal(&stream);
    return 0;
}

int wfe_stream_poll(struct wfe_rpc_call *stream, const ProtobufCMessageDescriptor *type,
    ProtobufCMessage **ret, struct wfe_error *err)
{
    for (;;) {
        WFE_MESSAGE ProtobufCMessage *reply = NULL;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_rpc_receive(stream, 0, &reply, &failure);
        if (r == -ETIMEDOUT && failure.kind == WFE_ERROR_NONE) {
            *ret = NULL;
            return 0;
        }
        if (r == 0 && !reply)
            return wfe_error_set(err, WFE_ERROR_CONTAINERD, EPIPE, "the stream has ended");
        if (r < 0) {
            if (err)
                *err = failure;
            return r;
        }
        const Google__Protobuf__Any *any = (Google__Protobuf__Any *)reply;
        if (strcmp(any->type_url, type->name) != 0)
            continue;
        ProtobufCMessage *message =
            protobuf_c_message_unpack(type, NULL, any->value.len, any->value.data);
        if (!message)
            return wfe_error_set(
                err, WFE_ERROR_CONTAINERD, EPROTO, "the stream brought a malformed %s", type->name);
        *ret = message;
        return 0;
    }
}
