/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STREAM_H
#define WFE_EXECUTOR_STREAM_H

/*
 * containerd's streams (its Streaming service): a request that is in flight may name one, and the
 * daemon sends messages over it, or asks.
 *
 * A message travels as an Any whose type_url is the bare name of its type, without a host in front.
 */

#include "executor/daemon/connect.h"
#include "streaming.pb-c.h"

/* Open the stream `id`, which no other client may use; what refers to it may go out when this has
 * returned. The daemon forgets it with the session's lease. Errors: WFE_ERROR_CONTAINERD (ENOSYS:
 * it has no streams), WFE_ERROR_TIMEOUT, WFE_ERROR_CANCELLED. */
int wfe_stream_open(const struct wfe_session *session, const char *id, struct wfe_rpc_call **ret,
    struct wfe_error *err);

/* Errors: as wfe_rpc_send(). */
int wfe_stream_send(
    struct wfe_rpc_call *stream, const ProtobufCMessage *message, struct wfe_error *err);

/* The next message when there is one of the type (caller frees), else NULL: those of other types
 * are dropped. Never waits. Errors: the stream has ended, well (-EPIPE) or not. */
int wfe_stream_poll(struct wfe_rpc_call *stream, const ProtobufCMessageDescriptor *type,
    ProtobufCMessage **ret, struct wfe_error *err);

/* The message in an Any; value.data is allocated. Returns 0 or -ENOMEM. */
int wfe_stream_pack(const ProtobufCMessage *message, Google__Protobuf__Any *ret);

#endif
