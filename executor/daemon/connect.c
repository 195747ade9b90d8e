/* SPDX-License-Identifier: MIT */
#include "executor/daemon/connect.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "introspection.pb-c.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "version.pb-c.h"

#define CONNECT_TIMEOUT_MS 10000
#define DEFAULT_SNAPSHOTTER "overlayfs"
#define SNAPSHOTTER_TYPE "io.containerd.snapshotter.v1"
#define TRANSFER_TYPE "io.containerd.transfer.v1"
#define STREAMING_TYPE "io.containerd.streaming.v1"

static const char *after_prefix(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* The path of a Unix socket's address, a view; NULL when it is another kind of address. */
static const char *socket_path(const char *address)
{
    return address[0] == '/' ? address : after_prefix(address, "unix://");
}

/* gRPC takes the target for a URI and decodes it. */
static int unix_target(const char *path, char **ret, struct wfe_error *err)
{
    if (path[0] != '/')
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "containerd address 'unix://%s': the socket's path must be absolute", path);
    WFE_BUFFER struct wfe_buffer target = WFE_BUFFER_INIT(SIZE_MAX / 2);
    int r = wfe_buffer_puts(&target, "unix:");
    for (; r == 0 && *path; path++) {
        bool plain = isalnum((unsigned char)*path) || strchr("/-._~", *path);
        r = wfe_buffer_printf(&target, plain ? "%c" : "%%%02X", (unsigned char)*path);
    }
    char *text = r == 0 ? wfe_buffer_steal(&target) : NULL;
    if (!text)
        return wfe_error_nomem(err);
    *ret = text;
    return 0;
}

/* "host:port", "1.2.3.4:port", "[::1]:port", each with an optional "/" at the end. */
static int tcp_target(const char *address, const char *authority, char **ret, struct wfe_error *err)
{
    size_t length = strlen(authority);
    if (length > 0 && authority[length - 1] == '/')
        length--;
    const char *colon = memrchr(authority, ':', length);
    bool has_port = colon && colon > authority && colon + 1 < authority + length &&
                    strspn(colon + 1, "0123456789") == (size_t)(authority + length - colon - 1);
    if (!has_port || memchr(authority, '/', length))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "containerd address '%s': expected HOST:PORT after the scheme", address);
    char *target = NULL;
    if (asprintf(&target, "dns:///%.*s", (int)length, authority) < 0)
        return wfe_error_nomem(err);
    *ret = target;
    return 0;
}

int wfe_connect_target(
    const char *address, char **ret_target, bool *ret_local, struct wfe_error *err)
{
    const char *path = socket_path(address);
    if (path) {
        int r = unix_target(path, ret_target, err);
        if (r == 0)
            *ret_local = true;
        return r;
    }
    const char *authority = after_prefix(address, "tcp://");
    if (!authority)
        authority = after_prefix(address, "http://");
    if (authority) {
        int r = tcp_target(address, authority, ret_target, err);
        if (r == 0)
            *ret_local = false;
        return r;
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "containerd address '%s': expected /PATH, unix:///PATH, tcp://HOST:PORT or "
        "http://HOST:PORT",
        address);
}

static int check_socket(const char *path, struct wfe_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return wfe_error_set(
                err, WFE_ERROR_INPUT, ENOENT, "containerd socket not found: %s", path);
        return wfe_error_system(err, errno, "containerd socket %s", path);
    }
    return 0;
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

/* Both questions go out before either answer is awaited. */
static int ask_daemon(struct wfe_session *session, struct wfe_error *err)
{
    struct wfe_rpc_context context = {
        .timeout_ms = CONNECT_TIMEOUT_MS,
        .cancel = session->cancel,
        .namespace_ = session->namespace_,
    };
    Google__Protobuf__Empty empty = GOOGLE__PROTOBUF__EMPTY__INIT;
    int r = wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&version__version__descriptor, "Version"}, &empty.base,
        &session->version_call, err);
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

static int take_answers(struct wfe_session *session, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *version = NULL;
    int r = wfe_rpc_receive(session->version_call, -1, &version, err);
    if (r < 0)
        return r;
    snprintf(session->version, sizeof session->version, "%s",
        ((Version__VersionResponse *)version)->version);
    WFE_MESSAGE ProtobufCMessage *plugins = NULL;
    r = wfe_rpc_receive(session->plugins_call, -1, &plugins, err);
    if (r < 0)
        return r;
    const Introspection__PluginsResponse *reply = (Introspection__PluginsResponse *)plugins;
    session->transfers = has_plugin(reply, TRANSFER_TYPE) && has_plugin(reply, STREAMING_TYPE);
    return read_platform(session, reply, err);
}

/* Put the address in front of the words of a daemon that can't be reached. */
static int name_address(const struct wfe_session *session, int r, struct wfe_error *err)
{
    bool unreachable = r == -EAGAIN && err && err->kind == WFE_ERROR_CONTAINERD;
    if (unreachable || r == -ETIMEDOUT)
        wfe_error_prefix(err, "failed to connect to containerd at %s", session->address);
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
    };
    WFE_FREE char *target = NULL;
    int r = wfe_connect_target(options->address, &target, &session.local, err);
    if (r < 0)
        return r;
    if (session.local) {
        r = check_socket(socket_path(options->address), err);
        if (r < 0)
            return r;
    }
    session.address = strdup(options->address);
    if (!session.address)
        return wfe_error_nomem(err);
    struct wfe_rpc_options rpc_options = {
        .observer = options->observer, .observer_context = options->observer_context};
    r = wfe_rpc_connect(target, &rpc_options, &session.rpc, err);
    if (r == 0)
        r = name_address(&session, ask_daemon(&session, err), err);
    if (r < 0) {
        wfe_session_done(&session);
        return r;
    }
    *ret = session;
    return 0;
}

int wfe_connect_finish(struct wfe_session *session, struct wfe_error *err)
{
    int r = name_address(session, take_answers(session, err), err);
    wfe_rpc_call_free(wfe_steal(&session->version_call));
    wfe_rpc_call_free(wfe_steal(&session->plugins_call));
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
    wfe_rpc_free(session->rpc);
    session->rpc = NULL;
    free(session->address);
    session->address = NULL;
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
        /* One that never answered has nothing to unmake. */
        .wait_for_ready = session->version[0] != '\0',
    };
    return wfe_rpc_start(session->rpc, &context, method, request, ret_call, err);
}

int wfe_session_undo_finish(struct wfe_rpc_call *call, struct wfe_error *err)
{
    if (!call)
        return 0;
    struct wfe_error failure = WFE_ERROR_INIT;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_receive(call, -1, &reply, &failure);
    if (r == -ENOENT)
        return 0;
    if (r < 0 && err)
        *err = failure;
    return r;
}

int wfe_session_undo(const struct wfe_session *session, struct wfe_rpc_method method,
    const ProtobufCMessage *request, int64_t timeout_ms, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_session_undo_start(session, method, request, timeout_ms, &call, err);
    return r < 0 ? r : wfe_session_undo_finish(call, err);
}

int wfe_unique_name(char name[WFE_UNIQUE_NAME_MAX], struct wfe_error *err)
{
    uint64_t random[2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return wfe_error_system(err, errno, "random name");
    snprintf(name, WFE_UNIQUE_NAME_MAX, "wfe-%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    return 0;
}
