/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CONNECT_H
#define WFE_EXECUTOR_CONNECT_H

/*
 * A connection to containerd, and what stands at its other end.
 */

#include <stdbool.h>

#include "libcommon/rpc.h"

/* The daemon's platform in OCI terms; variant "" when it has none. */
struct wfe_platform {
    char os[32];
    char architecture[32];
    char variant[32];
};

struct wfe_session {
    struct wfe_rpc *rpc;
    char *address;    /* as the user gave it */
    bool local;       /* a Unix socket: the daemon may share our file system */
    bool transfers;   /* the daemon pulls images itself: it has the Transfer service */
    char version[64]; /* the daemon's, for people */
    struct wfe_platform platform;
    const char *namespace_; /* borrowed from the options */
    const char *snapshotter;
    const char *lease; /* borrowed; NULL outside of a lease */
    struct wfe_cancel *cancel;
    struct wfe_rpc_call *version_call, *plugins_call; /* in flight until wfe_connect_finish() */
};

struct wfe_connect_options {
    const char *address;        /* see wfe_connect_target; borrowed */
    const char *namespace_;     /* borrowed, must outlive the session */
    const char *snapshotter;    /* borrowed, must outlive the session; NULL: overlayfs */
    struct wfe_cancel *cancel;  /* borrowed, may be NULL */
    wfe_rpc_observer *observer; /* see libcommon/rpc.h; may be NULL */
    void *observer_context;
};

/*
 * An address as users write it → a gRPC target (allocated): "/path", "unix:///path",
 * "tcp://host:port", "http://host:port". Errors: WFE_ERROR_INPUT.
 */
int wfe_connect_target(
    const char *address, char **ret_target, bool *ret_local, struct wfe_error *err);

/*
 * Connect, and ask the daemon for its version, its snapshotters and whether it pulls images.
 * Errors: WFE_ERROR_INPUT (address; ENOENT: "containerd socket not found: PATH"),
 * WFE_ERROR_CONTAINERD
 * ("failed to connect to containerd at ADDRESS: …"), WFE_ERROR_CANCELLED.
 */
int wfe_connect(
    const struct wfe_connect_options *options, struct wfe_session *ret, struct wfe_error *err);
/* The same in two halves: after the first the connection stands and the questions are on their way,
 * so that others can go out before their answers are awaited. What they tell is set by the
 * second; when it fails, wfe_session_done() is still the caller's. */
int wfe_connect_start(
    const struct wfe_connect_options *options, struct wfe_session *ret, struct wfe_error *err);
int wfe_connect_finish(struct wfe_session *session, struct wfe_error *err);
void wfe_session_done(struct wfe_session *session);

/*
 * A request that unmakes something: what is gone already (NOT_FOUND) is success, the session's
 * token does not cancel it, and it goes out without the lease. A daemon that went away is waited
 * for. The reply is dropped. err may be NULL. Errors: WFE_ERROR_CONTAINERD, WFE_ERROR_TIMEOUT.
 */
int wfe_session_undo(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_error *err);
/* The same in two halves. The first leaves *ret_call (caller frees) alone when it fails; the second
 * takes NULL for what never went out, and does nothing then. */
int wfe_session_undo_start(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_rpc_call **ret_call,
    struct wfe_error *err);
int wfe_session_undo_finish(struct wfe_rpc_call *call, struct wfe_error *err);

/* "wfe-" and 32 random hexadecimal digits: a name that no other executor chooses. */
#define WFE_UNIQUE_NAME_MAX 40
int wfe_unique_name(char name[WFE_UNIQUE_NAME_MAX], struct wfe_error *err);

/* The RPC context of the session: namespace, lease, cancel token, no deadline. */
struct wfe_rpc_context wfe_session_context(const struct wfe_session *session);

#endif
