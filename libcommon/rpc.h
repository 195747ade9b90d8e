/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_RPC_H
#define WFE_LIBCOMMON_RPC_H

/*
 * A gRPC client for protobuf-c messages, on gRPC C core: unary, server-streaming and
 * bidirectional calls over one connection.
 *
 * A stream is read one message at a time and a send returns when the transport has
 * taken the message, so HTTP/2 flow control bounds the memory of a stream of any length.
 *
 * Threads: a connection may be shared, with any number of calls in flight. A call
 * belongs to one thread, except wfe_rpc_call_cancel() and its cancel token, which may come from
 * any; sending and receiving may be two threads. C core reads its sockets on whichever
 * thread waits in one of these functions; while none does, it looks every five seconds.
 *
 * The first connection initialises C core, for the rest of the process's life. C core's own
 * log is silent unless $GRPC_VERBOSITY is set.
 *
 * Limits: a message is at most WFE_RPC_MESSAGE_MAX_BYTES (containerd's own limit), in either
 * direction; a larger one is WFE_ERROR_LIMIT (EMSGSIZE).
 *
 * Errors: the daemon's status becomes WFE_ERROR_CONTAINERD with grpc_status and the
 * daemon's text; DEADLINE_EXCEEDED is WFE_ERROR_TIMEOUT (ETIMEDOUT), a call ended by its token
 * WFE_ERROR_CANCELLED (ECANCELED). errnum is the nearest errno: NOT_FOUND ENOENT,
 * ALREADY_EXISTS EEXIST, UNAVAILABLE EAGAIN, UNIMPLEMENTED ENOSYS, FAILED_PRECONDITION
 * EBUSY, PERMISSION_DENIED EACCES, INVALID_ARGUMENT EINVAL, otherwise EIO. A reply that is
 * missing or cannot be decoded is WFE_ERROR_CONTAINERD (EPROTO), a namespace or lease that
 * no header can carry WFE_ERROR_INPUT (EINVAL).
 *
 * A daemon that was waited for in vain is away: it is not waited for again before it has answered
 * something.
 */

#include <stdbool.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

#include "libcommon/cancel.h"
#include "libcommon/error.h"

#define WFE_RPC_MESSAGE_MAX_BYTES (16 * 1024 * 1024)

struct wfe_rpc;
struct wfe_rpc_call;

/* What goes with each call. Strings are borrowed for the duration of the call that gets them. */
struct wfe_rpc_context {
    const char *namespace_;    /* header containerd-namespace; NULL for none */
    const char *lease;         /* header containerd-lease; NULL for none */
    int64_t timeout_ms;        /* deadline of the whole call; 0 for none */
    struct wfe_cancel *cancel; /* NULL for none */
    bool wait_for_ready;       /* a daemon that nobody can connect to is waited for */
};

/* A method: the service's protobuf-c descriptor and the method's name in the .proto file. */
struct wfe_rpc_method {
    const ProtobufCServiceDescriptor *service;
    const char *name;
};

/* Called once after each call that went out, on the thread that saw its end: "Service/Method",
 * its status, its duration. */
typedef void wfe_rpc_observer(
    void *context, const char *method, int grpc_status, int64_t duration_ns);

/* TLS: PEM texts, whole and valid. */
struct wfe_rpc_tls {
    char *ca_pem;             /* certificates that are trusted; NULL: the system's */
    char *cert_pem, *key_pem; /* our own, for a daemon that asks; NULL: none */
};

struct wfe_rpc_options {
    const struct wfe_rpc_tls *tls; /* NULL: plain; borrowed for the call alone */
    wfe_rpc_observer *observer;    /* may be NULL */
    void *observer_context;
};

/*
 * A connection to target, a gRPC name: "unix:/path", "ipv4:1.2.3.4:5", "dns:///host:port".
 * It is made lazily: a call that does not wait_for_ready fails with UNAVAILABLE when nobody
 * listens.
 * options may be NULL.
 */
int wfe_rpc_connect(const char *target, const struct wfe_rpc_options *options, struct wfe_rpc **ret,
    struct wfe_error *err);
/* Whether a call failed with UNAVAILABLE: the daemon, or the way to it, was lost, and what was
 * asked for may have been done. */
bool wfe_rpc_is_lost(const struct wfe_error *err);
bool wfe_rpc_is_away(const struct wfe_rpc *rpc);
/* Begin to make the connection, for a call that comes later. */
void wfe_rpc_wake(struct wfe_rpc *rpc);
/* All calls must have been freed. NULL is fine. */
void wfe_rpc_free(struct wfe_rpc *rpc);

/*
 * One request, one reply. ret_reply is the method's output message, freed with
 * protobuf_c_message_free_unpacked(reply, NULL); it may be NULL when the reply
 * does not matter.
 */
int wfe_rpc_unary(struct wfe_rpc *rpc, const struct wfe_rpc_context *context,
    struct wfe_rpc_method method, const ProtobufCMessage *request, ProtobufCMessage **ret_reply,
    struct wfe_error *err);

/*
 * Start a call and return while it is in flight. With a request: it is sent and the
 * sending side closed (unary in the background, server streaming). Without: a
 * bidirectional stream. Returns when the transport has taken the request (else the headers),
 * so a connection that cannot be made fails here.
 */
int wfe_rpc_start(struct wfe_rpc *rpc, const struct wfe_rpc_context *context,
    struct wfe_rpc_method method, const ProtobufCMessage *request, struct wfe_rpc_call **ret,
    struct wfe_error *err);

/* Send one message; returns when the transport took it. A call that the daemon has ended
 * fails with the daemon's status, or, when it ended well, with WFE_ERROR_CONTAINERD (EPIPE);
 * what it had sent before can still be received. */
int wfe_rpc_send(struct wfe_rpc_call *call, const ProtobufCMessage *message, struct wfe_error *err);
/* No more messages will be sent. Fails only with the bad status of a call that has ended. */
int wfe_rpc_close_send(struct wfe_rpc_call *call, struct wfe_error *err);

/*
 * The next message into *ret_message; 0 with *ret_message NULL at the stream's good end.
 * After wait_ms without a message (negative: no limit) returns -ETIMEDOUT with err
 * untouched and the call still in flight: call again.
 */
int wfe_rpc_receive(struct wfe_rpc_call *call, int64_t wait_ms, ProtobufCMessage **ret_message,
    struct wfe_error *err);
/* The only reply of a call that was started with a request, as wfe_rpc_unary() returns it. Its end
 * without one is WFE_ERROR_CONTAINERD (EPROTO); for wait_ms see wfe_rpc_receive(). */
int wfe_rpc_receive_reply(struct wfe_rpc_call *call, int64_t wait_ms, ProtobufCMessage **ret_reply,
    struct wfe_error *err);

/* Ends the call from any thread: whoever waits gets WFE_ERROR_CANCELLED. */
void wfe_rpc_call_cancel(struct wfe_rpc_call *call);
/* Cancels what is still in flight, and waits for its end. NULL is fine. */
void wfe_rpc_call_free(struct wfe_rpc_call *call);

static inline void wfe_cleanup_rpc_call(struct wfe_rpc_call **call)
{
    wfe_rpc_call_free(*call);
}
#define WFE_RPC_CALL __attribute__((cleanup(wfe_cleanup_rpc_call)))

/* Frees any unpacked reply at the end of its scope. */
static inline void wfe_cleanup_message(void *pointer)
{
    ProtobufCMessage *message = *(ProtobufCMessage **)pointer;
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}
#define WFE_MESSAGE __attribute__((cleanup(wfe_cleanup_message)))

#endif
