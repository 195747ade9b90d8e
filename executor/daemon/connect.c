/* SPDX-License-Identifier: MIT */
#include "executor/daemon/connect.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

#include "introspection.pb-c.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "version.pb-c.h"

/* The next one waits for the daemon by itself. */
#define UNDO_TRIES 5
#define UNDO_PAUSE_MS 100

#define DEFAULT_SNAPSHOTTER "overlayfs"
#define SNAPSHOTTER_TYPE "io.containerd.snapshotter.v1"
#define TRANSFER_TYPE "io.containerd.transfer.v1"
#define STREAMING_TYPE "io.containerd.streaming.v1"

static int check_socket(const char *path, struct stat *ret, struct wfe_error *err)
{
    if (stat(path, ret) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return wfe_error_set(
                err, WFE_ERROR_INPUT, ENOENT, "containerd socket not found: %s", path);
        return wfe_error_system(err, errno, "containerd socket %s", path);
    }
    return 0;
}

static bool has_native(const Introspection__PluginsResponse *reply)
{
    for (size_t i = 0; i < reply->n_plugins; i++)
        if (strcmp(reply->plugins[i]->id, WFE_NATIVE_SNAPSHOTTER) == 0)
            return !reply->plugins[i]->init_err;
    return false;
}

/* The snapshotter's plugin knows for which platform the daemon unpacks. */
static int read_platform(
    struct wfe_session *session, const Introspection__PluginsResponse *reply, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer names = WFE_BUFFER_INIT(256);
    for (size_t i = 0; i < reply->n_plugins; i++) {
        const Introspection__Plugin *plugin = reply->plugins[i];
        if (strcmp(plugin->type, SNAPSHOTTER_TYPE) != 0)
            continue;
        if (strcmp(plugin->id, session->snapshotter) != 0) {
            if (!plugin->init_err)
                wfe_buffer_printf(&names, "%s%s", names.length > 0 ? ", " : "", plugin->id);
            continue;
        }
        if (plugin->init_err)
            return wfe_error_set(err, WFE_ERROR_CONTAINERD, ENOSYS,
                "snapshotter '%s' does not work on this daemon: %s", plugin->id,
                plugin->init_err->message);
        if (plugin->n_platforms > 0) {
            const Types__Platform *platform = plugin->platforms[0];
            struct wfe_platform *to = &session->platform;
            snprintf(to->os, sizeof to->os, "%s", platform->os);
            snprintf(to->architecture, sizeof to->architecture, "%s", platform->architecture);
            snprintf(to->variant, sizeof to->variant, "%s", platform->variant);
        }
        return 0;
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
        "snapshotter '%s' is not on this daemon; it has: %s", session->snapshotter,
        names.length > 0 ? names.data : "none");
}

static bool has_plugin(const Introspection__PluginsResponse *reply, const char *type)
{
    for (size_t i = 0; i < reply->n_plugins; i++)
        if (strcmp(reply->plugins[i]->type, type) == 0 && !reply->plugins[i]->init_err)
            return true;
    return false;
}

/* All questions go out before any answer is awaited. */
static int ask_daemon(struct wfe_session *session, struct wfe_error *err)
{
    struct wfe_rpc_context context = {
        .timeout_ms = session->connect_timeout_ms,
        .cancel = session->cancel,
        .namespace_ = session->namespace_,
    };
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    int r = wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&version__version__descriptor, "Version"}, &empty.base,
        &session->version_call, err);
    if (r == 0)
        r = wfe_rpc_start(session->rpc, &context,
            (struct wfe_rpc_method){&introspection__introspection__descriptor, "Server"},
            &empty.base, &session->server_call, err);
    if (r < 0)
        return r;
    Introspection__PluginsRequest request = INTROSPECTION__PLUGINS_REQUEST__INIT;
    char *filters[] = {(char *)"type==" SNAPSHOTTER_TYPE, (char *)"type==" TRANSFER_TYPE,
        (char *)"type==" STREAMING_TYPE};
    request.filters = filters;
    request.n_filters = sizeof filters / sizeof *filters;
    return wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&introspection__introspection__descriptor, "Plugins"},
        &request.base, &session->plugins_call, err);
}

/* A daemon that does not tell is none the worse for it. */
static void take_uuid(struct wfe_session *session)
{
    WFE_MESSAGE ProtobufCMessage *server = NULL;
    if (wfe_rpc_receive_reply(session->server_call, -1, &server, NULL) < 0)
        return;
    const char *uuid = ((Introspection__ServerResponse *)server)->uuid;
    if (strlen(uuid) < sizeof session->uuid && !strpbrk(uuid, " \n"))
        snprintf(session->uuid, sizeof session->uuid, "%s", uuid);
}

static int take_answers(struct wfe_session *session, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *version = NULL;
    int r = wfe_rpc_receive_reply(session->version_call, -1, &version, err);
    if (r == -ENOSYS)
        wfe_error_prefix(err,
            "what answers at %s has not got containerd's API (containerd's own tcp_address has "
            "CRI alone)",
            session->address);
    if (r < 0)
        return r;
    snprintf(session->version, sizeof session->version, "%s",
        ((Version__VersionResponse *)version)->version);
    WFE_MESSAGE ProtobufCMessage *plugins = NULL;
    r = wfe_rpc_receive_reply(session->plugins_call, -1, &plugins, err);
    if (r < 0)
        return r;
    const Introspection__PluginsResponse *reply = (Introspection__PluginsResponse *)plugins;
    take_uuid(session);
    session->has_native = has_native(reply);
    session->transfers = has_plugin(reply, TRANSFER_TYPE) && has_plugin(reply, STREAMING_TYPE);
    return read_platform(session, reply, err);
}

/* Put the address in front of the words of a daemon that can't be reached, and the reason behind
 * it when that is TLS. */
static int name_address(struct wfe_session *session, int r, struct wfe_error *err)
{
    bool unreachable = r == -EAGAIN && err && err->kind == WFE_ERROR_CONTAINERD;
    if (!unreachable && r != -ETIMEDOUT)
        return r;
    char why[256];
    const struct wfe_rpc_tls *tls = session->target.kind == WFE_ADDRESS_TLS ? &session->tls : NULL;
    if (unreachable && wfe_tls_explain(&session->target, tls, why, sizeof why)) {
        *err = (struct wfe_error)WFE_ERROR_INIT;
        r = wfe_error_set(err, WFE_ERROR_INPUT, EPROTO, "%s", why);
    }
    wfe_error_prefix(err, "failed to connect to containerd at %s", session->address);
    return r;
}

static int open_connections(
    struct wfe_session *session, const struct wfe_connect_options *options, struct wfe_error *err)
{
    const struct wfe_address *target = &session->target;
    if (target->kind == WFE_ADDRESS_TLS) {
        int r = wfe_tls_load(&options->tls, &session->tls, err);
        if (r < 0)
            return r;
    }
    struct wfe_rpc_options rpc_options = {
        .tls = target->kind == WFE_ADDRESS_TLS ? &session->tls : NULL,
        .observer = options->observer,
        .observer_context = options->observer_context,
    };
    int r = wfe_rpc_connect(target->target, &rpc_options, &session->rpc, err);
    if (r < 0 || target->kind == WFE_ADDRESS_UNIX)
        return r;
    r = wfe_rpc_connect(target->target, &rpc_options, &session->own_wait_rpc, err);
    if (r == 0)
        wfe_rpc_wake(session->own_wait_rpc);
    return r;
}

static int start(
    struct wfe_session *session, const struct wfe_connect_options *options, struct wfe_error *err)
{
    int r = wfe_address_parse(options->address, &session->target, err);
    if (r < 0)
        return r;
    if (session->target.kind == WFE_ADDRESS_UNIX)
        r = check_socket(session->target.path, &session->socket, err);
    if (r < 0)
        return r;
    session->address = strdup(options->address);
    if (!session->address)
        return wfe_error_nomem(err);
    r = open_connections(session, options, err);
    if (r == 0)
        r = name_address(session, ask_daemon(session, err), err);
    session->reached = r == 0;
    return r;
}

int wfe_connect_start(
    const struct wfe_connect_options *options, struct wfe_session *ret, struct wfe_error *err)
{
    assert(options->address && options->namespace_);
    struct wfe_session session = {
        .namespace_ = options->namespace_,
        .snapshotter = options->snapshotter ? options->snapshotter : DEFAULT_SNAPSHOTTER,
        .cancel = options->cancel,
        .connect_timeout_ms =
            options->timeout_ms > 0 ? options->timeout_ms : WFE_CONNECT_DEFAULT_TIMEOUT_MS,
    };
    int r = start(&session, options, err);
    if (r < 0)
        wfe_session_done(&session);
    else
        *ret = session;
    return r;
}

int wfe_connect_finish(struct wfe_session *session, struct wfe_error *err)
{
    int r = name_address(session, take_answers(session, err), err);
    wfe_rpc_call_free(wfe_steal(&session->version_call));
    wfe_rpc_call_free(wfe_steal(&session->plugins_call));
    wfe_rpc_call_free(wfe_steal(&session->server_call));
    return r;
}

int wfe_connect(
    const struct wfe_connect_options *options, struct wfe_session *ret, struct wfe_error *err)
{
    struct wfe_session session;
    int r = wfe_connect_start(options, &session, err);
    if (r < 0)
        return r;
    r = wfe_connect_finish(&session, err);
    if (r < 0) {
        wfe_session_done(&session);
        return r;
    }
    *ret = session;
    return 0;
}

void wfe_session_done(struct wfe_session *session)
{
    wfe_rpc_call_free(wfe_steal(&session->version_call));
    wfe_rpc_call_free(wfe_steal(&session->plugins_call));
    wfe_rpc_call_free(wfe_steal(&session->server_call));
    wfe_rpc_free(wfe_steal(&session->rpc));
    wfe_rpc_free(wfe_steal(&session->own_wait_rpc));
    wfe_address_done(&session->target);
    wfe_tls_done(&session->tls);
    free(wfe_steal(&session->address));
}

struct wfe_rpc *wfe_session_wait_rpc(const struct wfe_session *session)
{
    return session->own_wait_rpc ? session->own_wait_rpc : session->rpc;
}

struct wfe_rpc_context wfe_session_context(const struct wfe_session *session)
{
    return (struct wfe_rpc_context){
        .namespace_ = session->namespace_,
        .lease = session->lease,
        .cancel = session->cancel,
    };
}

int wfe_session_undo_start(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_rpc_call **ret_call,
    struct wfe_error *err)
{
    struct wfe_rpc_context context = {
        .namespace_ = session->namespace_,
        .timeout_ms = timeout_ms,
        .wait_for_ready = session->reached,
    };
    return wfe_rpc_start(session->rpc, &context, method, request, ret_call, err);
}

int wfe_session_undo_finish(struct wfe_rpc_call *call, struct wfe_error *err)
{
    if (!call)
        return 0;
    struct wfe_error failure = WFE_ERROR_INIT;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_receive_reply(call, -1, &reply, &failure);
    if (r == -ENOENT)
        return 0;
    if (r < 0 && err)
        *err = failure;
    return r;
}

int wfe_session_undo(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_error *err)
{
    for (int tries = 1;; tries++) {
        WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_session_undo_start(session, method, request, timeout_ms, &call, &failure);
        if (r == 0)
            r = wfe_session_undo_finish(call, &failure);
        if (r == 0 || !session->reached || !wfe_rpc_is_lost(&failure) || tries == UNDO_TRIES) {
            if (r < 0 && err)
                *err = failure;
            return r;
        }
        struct timespec pause = {.tv_nsec = UNDO_PAUSE_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

int wfe_unique_name(char name[WFE_UNIQUE_NAME_MAX], struct wfe_error *err)
{
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return wfe_error_system(err, errno, "random name");
    snprintf(name, WFE_UNIQUE_NAME_MAX, "wfe-%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    return 0;
}
