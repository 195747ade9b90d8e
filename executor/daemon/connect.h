/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CONNECT_H
#define WFE_EXECUTOR_CONNECT_H

/*
 * A connection to containerd, and what stands at its other end.
 */

#include <stdbool.h>
#include <sys/stat.h>

#include "executor/daemon/address.h"
#include "executor/daemon/tls.h"
#include "libcommon/rpc.h"

/* The daemon's platform in OCI terms; variant "" when it has none. */
struct wfe_platform {
    char os[32];
    char architecture[32];
    char variant[32];
};

/* containerd's own snapshotter of plain directories. */
#define WFE_NATIVE_SNAPSHOTTER "native"

struct wfe_session {
    struct wfe_rpc *rpc;
    /* Of a remote daemon, else NULL: see wfe_session_wait_rpc(). */
    struct wfe_rpc *own_wait_rpc;
    char *address; /* as the user gave it */
    struct wfe_address target;
    struct wfe_rpc_tls tls;
    int64_t connect_timeout_ms;
    struct stat socket;  /* all zeros when it is none */
    bool local;          /* it is on this machine and sees our files: wfe_sharing_find() */
    bool sees_directory; /* it sees the directory of temporary files: the same */
    char version[64];    /* the daemon's, for people */
    char uuid[64];       /* "" when it does not tell */
    bool transfers;      /* it pulls images itself: it has the Transfer service */
    struct wfe_platform platform;
    const char *namespace_; /* borrowed from the options */
    const char *snapshotter;
    bool has_native;   /* the daemon has WFE_NATIVE_SNAPSHOTTER as well */
    bool reached;      /* the connection stood once: there may be something to unmake */
    const char *lease; /* borrowed; NULL outside of a lease */
    struct wfe_cancel *cancel;
    struct wfe_rpc_call *version_call, *plugins_call,
        *server_call; /* in flight until wfe_connect_finish() */
};

#define WFE_CONNECT_DEFAULT_TIMEOUT_MS 10000

struct wfe_connect_options {
    const char *address;        /* see executor/daemon/address.h */
    struct wfe_tls_files tls;   /* of a https address */
    int64_t timeout_ms;         /* until the daemon has answered; 0: the default */
    const char *namespace_;     /* borrowed, must outlive the session */
    const char *snapshotter;    /* borrowed, must outlive the session; NULL: overlayfs */
    struct wfe_cancel *cancel;  /* borrowed, may be NULL */
    wfe_rpc_observer *observer; /* see libcommon/rpc.h; may be NULL */
    void *observer_context;
};

/*
 * Connect, and ask the daemon for its version, its UUID, its snapshotters and
 * whether it pulls images. Errors: WFE_ERROR_INPUT (address; TLS files; ENOENT: "containerd socket
 * not found: PATH"; EPROTO: what is wrong with TLS), WFE_ERROR_CONTAINERD ("failed to connect to
 * containerd at ADDRESS: …"), WFE_ERROR_CANCELLED.
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
 * for, and asked again when it went meanwhile. The reply is dropped. err may be NULL. Errors:
 * WFE_ERROR_CONTAINERD, WFE_ERROR_TIMEOUT.
 */
int wfe_session_undo(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_error *err);
/* The same in two halves, without asking again. The first leaves *ret_call (caller frees) alone
 * when it fails; the second takes NULL for what never went out, and does nothing then. */
int wfe_session_undo_start(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_rpc_call **ret_call,
    struct wfe_error *err);
int wfe_session_undo_finish(struct wfe_rpc_call *call, struct wfe_error *err);

/* "wfe-" and 32 random hexadecimal digits: a name that no other executor chooses. */
#define WFE_UNIQUE_NAME_MAX 40
int wfe_unique_name(char name[WFE_UNIQUE_NAME_MAX], struct wfe_error *err);

/* The connection for Tasks.Wait. Through a forward of TCP its answer would wait for the
 * acknowledgement of the answer before it, 40 ms, so that it has one of its own. */
struct wfe_rpc *wfe_session_wait_rpc(const struct wfe_session *session);

/* The RPC context of the session: namespace, lease, cancel token, no deadline. */
struct wfe_rpc_context wfe_session_context(const struct wfe_session *session);

#endif
