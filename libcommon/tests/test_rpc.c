/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <grpc/status.h>

#include "content.pb-c.h"
#include "libcommon/cleanup.h"
#include "libcommon/rpc.h"
#include "libcommon/tests/rpc_peer.h"
#include "namespaces.pb-c.h"
#include "tasks.pb-c.h"

/* How far a server may run ahead of a client that does not read: the window and a message. */
#define AHEAD_MAX_BYTES (6 * 1024 * 1024)

static const struct wfe_rpc_method GET = {&namespaces__namespaces__descriptor, "Get"};
static const struct wfe_rpc_method READ = {&content__content__descriptor, "Read"};
static const struct wfe_rpc_method WRITE = {&content__content__descriptor, "Write"};
static const struct wfe_rpc_method WAIT = {&tasks__tasks__descriptor, "Wait"};
static const struct wfe_rpc_method LIST = {&namespaces__namespaces__descriptor, "List"};

static struct rpc_peer peer;
static char directory[] = "/tmp/wfe-test-rpc-XXXXXX";
static char target[64];
static struct wfe_rpc *rpc;

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int start_peer(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(target, sizeof target, "unix:%s/socket", directory);
    return rpc_peer_start(&peer, target);
}

static int stop_peer(void **state)
{
    (void)state;
    rpc_peer_stop(&peer);
    unlink(target + strlen("unix:"));
    return rmdir(directory);
}

static int connect_peer(void **state)
{
    (void)state;
    atomic_store(&peer.state->waiting, 0);
    atomic_store(&peer.state->hanging, 0);
    atomic_store(&peer.state->cancelled, 0);
    atomic_store(&peer.state->released, 0);
    atomic_store(&peer.state->streamed_bytes, 0);
    return wfe_rpc_connect(target, NULL, &rpc, NULL);
}

static int disconnect_peer(void **state)
{
    (void)state;
    atomic_store(&peer.state->released, 1);
    wfe_rpc_free(rpc);
    return 0;
}

/* Waits up to 5 seconds, without a gRPC call that would do the connection's work. */
static void await_count(atomic_uint *count, unsigned expected)
{
    for (int i = 0; i < 5000 && atomic_load(count) < expected; i++)
        usleep(1000);
    assert_true(atomic_load(count) >= expected);
}

static int get(const struct wfe_rpc_context *context, const char *name,
    Namespaces__GetNamespaceResponse **ret, struct wfe_error *err)
{
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    request.name = (char *)name;
    ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(rpc, context, GET, &request.base, ret ? &reply : NULL, err);
    if (r == 0 && ret)
        *ret = (Namespaces__GetNamespaceResponse *)reply;
    return r;
}

static const char *label(const Namespaces__GetNamespaceResponse *reply, const char *key)
{
    for (size_t i = 0; i < reply->namespace_->n_labels; i++) {
        if (strcmp(reply->namespace_->labels[i]->key, key) == 0)
            return reply->namespace_->labels[i]->value;
    }
    return NULL;
}

static struct wfe_rpc_call *start_read(int64_t count, int64_t size, const char *digest)
{
    Content__ReadContentRequest request = CONTENT__READ_CONTENT_REQUEST__INIT;
    request.offset = count;
    request.size = size;
    request.digest = (char *)digest;
    struct wfe_rpc_call *call = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_rpc_start(rpc, NULL, READ, &request.base, &call, &err);
    assert_int_equal(r, 0);
    return call;
}

static struct wfe_rpc_call *start_write(const struct wfe_rpc_context *context)
{
    struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, context, WRITE, NULL, &call, NULL), 0);
    return call;
}

static int write_chunk(struct wfe_rpc_call *call, const char *ref, int64_t offset, void *data,
    size_t length, struct wfe_error *err)
{
    Content__WriteContentRequest request = CONTENT__WRITE_CONTENT_REQUEST__INIT;
    request.action = CONTENT__WRITE_ACTION__WRITE;
    request.ref = (char *)ref;
    request.offset = offset;
    request.data.data = data;
    request.data.len = length;
    return wfe_rpc_send(call, &request.base, err);
}

static void a_unary_call_returns_the_reply(void **state)
{
    (void)state;
    WFE_MESSAGE Namespaces__GetNamespaceResponse *reply = NULL;
    assert_int_equal(get(NULL, "build", &reply, NULL), 0);
    assert_string_equal(reply->namespace_->name, "build");
    assert_null(label(reply, "containerd-namespace"));
    assert_int_equal(get(NULL, "build", NULL, NULL), 0);
}

static void headers_of_the_context_reach_the_daemon(void **state)
{
    (void)state;
    struct wfe_rpc_context context = {
        .namespace_ = "a-namespace-whose-name-is-longer-than-an-inlined-slice", .lease = "l1"};
    WFE_MESSAGE Namespaces__GetNamespaceResponse *reply = NULL;
    assert_int_equal(get(&context, "x", &reply, NULL), 0);
    assert_string_equal(label(reply, "containerd-namespace"), context.namespace_);
    assert_string_equal(label(reply, "containerd-lease"), "l1");
}

static void a_header_value_with_a_newline_is_refused(void **state)
{
    (void)state;
    struct wfe_rpc_context context = {.namespace_ = "a\nb"};
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(&context, "x", NULL, &err), -EINVAL);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
}

static void a_status_becomes_an_error_with_the_daemons_text(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int status;
        int errnum;
    } cases[] = {
        {"status:5:namespace \"x\": not found", GRPC_STATUS_NOT_FOUND, ENOENT},
        {"status:6:t", GRPC_STATUS_ALREADY_EXISTS, EEXIST},
        {"status:14:t", GRPC_STATUS_UNAVAILABLE, EAGAIN},
        {"status:12:t", GRPC_STATUS_UNIMPLEMENTED, ENOSYS},
        {"status:9:t", GRPC_STATUS_FAILED_PRECONDITION, EBUSY},
        {"status:7:t", GRPC_STATUS_PERMISSION_DENIED, EACCES},
        {"status:3:t", GRPC_STATUS_INVALID_ARGUMENT, EINVAL},
        {"status:2:t", GRPC_STATUS_UNKNOWN, EIO},
        {"status:1:t", GRPC_STATUS_CANCELLED, EIO},
        {"status:8:t", GRPC_STATUS_RESOURCE_EXHAUSTED, EIO},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wfe_error err = WFE_ERROR_INIT;
        Namespaces__GetNamespaceResponse *reply = NULL;
        assert_int_equal(get(NULL, cases[i].name, &reply, &err), -cases[i].errnum);
        assert_null(reply);
        assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
        assert_int_equal(err.grpc_status, cases[i].status);
        if (i == 0)
            assert_string_equal(err.message, "Namespaces/Get: namespace \"x\": not found");
    }
}

static void a_status_without_a_text_still_says_something(void **state)
{
    (void)state;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(NULL, "status:13:", NULL, &err), -EIO);
    assert_string_equal(err.message, "Namespaces/Get: gRPC status 13 without a text");
}

static void a_very_long_status_text_is_cut(void **state)
{
    (void)state;
    char name[2048];
    int n = snprintf(name, sizeof name, "status:13:");
    memset(name + n, 'e', sizeof name - 1 - (size_t)n);
    name[sizeof name - 1] = '\0';
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(NULL, name, NULL, &err), -EIO);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void a_method_that_the_daemon_lacks_is_enosys(void **state)
{
    (void)state;
    Namespaces__ListNamespacesRequest request = NAMESPACES__LIST_NAMESPACES_REQUEST__INIT;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_unary(rpc, NULL, LIST, &request.base, NULL, &err), -ENOSYS);
}

static void a_reply_that_is_no_message_is_refused(void **state)
{
    (void)state;
    Namespaces__GetNamespaceResponse *reply = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(NULL, "garbage", &reply, &err), -EPROTO);
    assert_null(reply);
    assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
}

static void success_without_a_reply_is_an_error(void **state)
{
    (void)state;
    Namespaces__GetNamespaceResponse *reply = NULL;
    assert_int_not_equal(get(NULL, "nothing", &reply, NULL), 0);
    assert_null(reply);
}

static void a_started_call_that_ends_without_a_reply_is_an_error(void **state)
{
    (void)state;
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    request.name = (char *)"nothing";
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, NULL, GET, &request.base, &call, NULL), 0);
    ProtobufCMessage *reply = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_receive_reply(call, -1, &reply, &err), -EPROTO);
    assert_null(reply);
    assert_string_equal(err.message, "Namespaces/Get: success with no reply");
}

static void a_reply_above_the_limit_is_a_limit_error(void **state)
{
    (void)state;
    WFE_MESSAGE Namespaces__GetNamespaceResponse *reply = NULL;
    assert_int_equal(get(NULL, "bytes:16777000", &reply, NULL), 0);
    assert_int_equal(strlen(reply->namespace_->name), 16777000);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(NULL, "bytes:16777217", NULL, &err), -EMSGSIZE);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    /* The connection is still good. */
    assert_int_equal(get(NULL, "x", NULL, NULL), 0);
}

static void a_request_above_the_limit_is_not_sent(void **state)
{
    (void)state;
    WFE_FREE char *name = malloc(WFE_RPC_MESSAGE_MAX_BYTES + 1);
    assert_non_null(name);
    memset(name, 'x', WFE_RPC_MESSAGE_MAX_BYTES);
    name[WFE_RPC_MESSAGE_MAX_BYTES] = '\0';
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(NULL, name, NULL, &err), -EMSGSIZE);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_non_null(strstr(err.message, "the request has"));
}

static void a_deadline_ends_a_call(void **state)
{
    (void)state;
    struct wfe_rpc_context context = {.timeout_ms = 100};
    struct wfe_error err = WFE_ERROR_INIT;
    int64_t before = now_ms();
    assert_int_equal(get(&context, "hang", NULL, &err), -ETIMEDOUT);
    int64_t took = now_ms() - before;
    assert_true(took >= 90 && took < 20000);
    assert_int_equal(err.kind, WFE_ERROR_TIMEOUT);
    assert_string_equal(err.message, "Namespaces/Get: not done within 100 ms");
}

static void *trigger_when_hanging(void *context)
{
    await_count(&peer.state->hanging, 1);
    wfe_cancel_trigger(context);
    return NULL;
}

static void a_token_ends_a_call_from_another_thread(void **state)
{
    (void)state;
    struct wfe_cancel *cancel = NULL;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    struct wfe_rpc_context context = {.cancel = cancel};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, trigger_when_hanging, cancel), 0);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(&context, "hang", NULL, &err), -ECANCELED);
    pthread_join(thread, NULL);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    assert_string_equal(err.message, "Namespaces/Get: cancelled");
    await_count(&peer.state->cancelled, 1);
    wfe_cancel_free(cancel);
}

static void a_call_with_a_triggered_token_never_starts(void **state)
{
    (void)state;
    struct wfe_cancel *cancel = NULL;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    wfe_cancel_trigger(cancel);
    struct wfe_rpc_context context = {.cancel = cancel};
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(get(&context, "hang", NULL, &err), -ECANCELED);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, &context, WRITE, NULL, &call, NULL), -ECANCELED);
    assert_null(call);
    assert_int_equal(atomic_load(&peer.state->hanging), 0);
    wfe_cancel_free(cancel);
}

static void nobody_listening_is_unavailable_in_plain_words(void **state)
{
    (void)state;
    struct wfe_rpc *lonely = NULL;
    assert_int_equal(wfe_rpc_connect("unix:/nonexistent/wfe.sock", NULL, &lonely, NULL), 0);
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_unary(lonely, NULL, GET, &request.base, NULL, &err), -EAGAIN);
    assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
    assert_int_equal(err.grpc_status, GRPC_STATUS_UNAVAILABLE);
    assert_string_equal(err.message, "Namespaces/Get: cannot connect to "
                                     "unix:/nonexistent/wfe.sock: No such file or directory");
    struct wfe_rpc_call *call = NULL;
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_start(lonely, NULL, WRITE, NULL, &call, &err), -EAGAIN);
    assert_null(call);
    wfe_rpc_free(lonely);
}

static void a_refused_tcp_connection_is_unavailable_in_plain_words(void **state)
{
    (void)state;
    struct wfe_rpc *lonely = NULL;
    assert_int_equal(wfe_rpc_connect("ipv4:127.0.0.1:1", NULL, &lonely, NULL), 0);
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_unary(lonely, NULL, GET, &request.base, NULL, &err), -EAGAIN);
    assert_string_equal(
        err.message, "Namespaces/Get: cannot connect to ipv4:127.0.0.1:1: Connection refused");
    wfe_rpc_free(lonely);
}

static void a_server_stream_is_read_to_its_good_end(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_read(3, 1000, "");
    for (int64_t i = 0; i < 3; i++) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
        assert_int_equal(((Content__ReadContentResponse *)message)->offset, i);
        assert_int_equal(((Content__ReadContentResponse *)message)->data.len, 1000);
    }
    for (int i = 0; i < 2; i++) {
        ProtobufCMessage *end = (void *)&i;
        assert_int_equal(wfe_rpc_receive(call, -1, &end, NULL), 0);
        assert_null(end);
    }
}

static void a_server_stream_that_fails_gives_messages_first_then_the_status(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_read(1, 10, "sha256:0");
    ProtobufCMessage *message = NULL;
    assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    for (int i = 0; i < 2; i++) {
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(wfe_rpc_receive(call, -1, &message, &err), -EIO);
        assert_int_equal(err.grpc_status, GRPC_STATUS_DATA_LOSS);
        assert_string_equal(err.message, "Content/Read: the blob is torn");
    }
}

static void a_long_stream_cannot_run_ahead_of_its_reader(void **state)
{
    (void)state;
    enum { MESSAGES = 128, SIZE = 1024 * 1024 };
    WFE_RPC_CALL struct wfe_rpc_call *call = start_read(MESSAGES, SIZE, "");
    usleep(300 * 1000);
    assert_in_range(atomic_load(&peer.state->streamed_bytes), 0, AHEAD_MAX_BYTES);
    uint64_t read_bytes = 0;
    for (int i = 0; i < MESSAGES; i++) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
        assert_non_null(message);
        read_bytes += ((Content__ReadContentResponse *)message)->data.len;
        if (i == 40)
            usleep(300 * 1000);
        uint64_t streamed = atomic_load(&peer.state->streamed_bytes);
        assert_true(streamed <= read_bytes + AHEAD_MAX_BYTES);
    }
    assert_int_equal(read_bytes, (uint64_t)MESSAGES * SIZE);
}

static void a_receive_that_times_out_can_be_repeated(void **state)
{
    (void)state;
    Tasks__WaitRequest request = TASKS__WAIT_REQUEST__INIT;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, NULL, WAIT, &request.base, &call, NULL), 0);
    ProtobufCMessage *reply = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_receive(call, 0, &reply, &err), -ETIMEDOUT);
    assert_int_equal(wfe_rpc_receive(call, 20, &reply, &err), -ETIMEDOUT);
    assert_int_equal(err.kind, WFE_ERROR_NONE);
    assert_null(reply);
    atomic_store(&peer.state->released, 1);
    assert_int_equal(wfe_rpc_receive(call, 5000, &reply, &err), 0);
    assert_int_equal(((Tasks__WaitResponse *)reply)->exit_status, 137);
    protobuf_c_message_free_unpacked(reply, NULL);
    assert_int_equal(wfe_rpc_receive(call, -1, &reply, &err), 0);
    assert_null(reply);
}

static void a_started_call_reaches_the_daemon_though_nobody_waits_for_it(void **state)
{
    (void)state;
    Tasks__WaitRequest request = TASKS__WAIT_REQUEST__INIT;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, NULL, WAIT, &request.base, &call, NULL), 0);
    await_count(&peer.state->waiting, 1);
}

static void other_calls_go_on_beside_a_background_call(void **state)
{
    (void)state;
    Tasks__WaitRequest request = TASKS__WAIT_REQUEST__INIT;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, NULL, WAIT, &request.base, &call, NULL), 0);
    for (int i = 0; i < 100; i++)
        assert_int_equal(get(NULL, "x", NULL, NULL), 0);
}

static void freeing_a_call_in_flight_cancels_it(void **state)
{
    (void)state;
    Namespaces__GetNamespaceRequest request = NAMESPACES__GET_NAMESPACE_REQUEST__INIT;
    request.name = (char *)"hang";
    struct wfe_rpc_call *call = NULL;
    assert_int_equal(wfe_rpc_start(rpc, NULL, GET, &request.base, &call, NULL), 0);
    await_count(&peer.state->hanging, 1);
    ProtobufCMessage *reply = NULL;
    assert_int_equal(wfe_rpc_receive(call, 0, &reply, NULL), -ETIMEDOUT);
    wfe_rpc_call_free(call);
    await_count(&peer.state->cancelled, 1);
}

static void freeing_an_unread_stream_does_not_hang(void **state)
{
    (void)state;
    struct wfe_rpc_call *call = start_read(1000000, 1024 * 1024, "");
    usleep(20 * 1000);
    wfe_rpc_call_free(call);
    /* What had filled the socket is drained by whoever waits next. */
    assert_int_equal(get(NULL, "x", NULL, NULL), 0);
    await_count(&peer.state->cancelled, 1);
    call = start_read(2, 10, "");
    wfe_rpc_call_free(call);
}

static void a_bidirectional_stream_echoes(void **state)
{
    (void)state;
    static char data[1024 * 1024];
    WFE_RPC_CALL struct wfe_rpc_call *call = start_write(NULL);
    for (int64_t i = 0; i < 8; i++) {
        assert_int_equal(
            write_chunk(call, "r", i * (int64_t)sizeof data, data, sizeof data, NULL), 0);
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
        assert_int_equal(
            ((Content__WriteContentResponse *)message)->offset, (i + 1) * (int64_t)sizeof data);
    }
    assert_int_equal(wfe_rpc_close_send(call, NULL), 0);
    ProtobufCMessage *end = NULL;
    assert_int_equal(wfe_rpc_receive(call, -1, &end, NULL), 0);
    assert_null(end);
}

static void *send_chunks(void *context)
{
    static char data[256 * 1024];
    for (int64_t i = 0; i < 200; i++)
        assert_int_equal(write_chunk(context, "r", i, data, sizeof data, NULL), 0);
    assert_int_equal(wfe_rpc_close_send(context, NULL), 0);
    return NULL;
}

static void sending_and_receiving_may_be_two_threads(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_write(NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, send_chunks, call), 0);
    int received = 0;
    for (;;) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
        if (!message)
            break;
        received++;
    }
    assert_int_equal(received, 200);
    pthread_join(thread, NULL);
}

/* Sends until it fails: an ended stream's window is used up in the end. */
static int send_until_failure(struct wfe_rpc_call *call, const char *ref, struct wfe_error *err)
{
    static char data[64 * 1024];
    int r = 0;
    for (int i = 0; i < 10000 && r == 0; i++)
        r = write_chunk(call, ref, 0, data, sizeof data, err);
    return r;
}

static void sending_to_an_ended_call_fails_with_the_daemons_status(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_write(NULL);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(send_until_failure(call, "exists", &err), -EEXIST);
    assert_string_equal(err.message, "Content/Write: content sha256:0 already exists");
    ProtobufCMessage *message = NULL;
    assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), -EEXIST);
}

static void sending_to_a_well_ended_call_fails_and_its_replies_stay_readable(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_write(NULL);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(send_until_failure(call, "enough", &err), -EPIPE);
    assert_int_equal(err.kind, WFE_ERROR_CONTAINERD);
    WFE_MESSAGE ProtobufCMessage *message = NULL;
    assert_int_equal(wfe_rpc_receive(call, -1, &message, NULL), 0);
    assert_non_null(message);
    ProtobufCMessage *end = message;
    assert_int_equal(wfe_rpc_receive(call, -1, &end, NULL), 0);
    assert_null(end);
}

static void *cancel_soon(void *context)
{
    usleep(30 * 1000);
    wfe_rpc_call_cancel(context);
    return NULL;
}

static void a_call_can_be_cancelled_while_another_thread_waits(void **state)
{
    (void)state;
    WFE_RPC_CALL struct wfe_rpc_call *call = start_write(NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, call), 0);
    ProtobufCMessage *message = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_rpc_receive(call, -1, &message, &err), -ECANCELED);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    pthread_join(thread, NULL);
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(send_until_failure(call, "r", &err), -ECANCELED);
}

static void a_deadline_ends_a_stream(void **state)
{
    (void)state;
    struct wfe_rpc_context context = {.timeout_ms = 50};
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    ProtobufCMessage *message = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    /* On a busy machine it passes while the connection is being made. */
    int r = wfe_rpc_start(rpc, &context, WRITE, NULL, &call, &err);
    if (r == 0)
        r = wfe_rpc_receive(call, -1, &message, &err);
    assert_int_equal(r, -ETIMEDOUT);
    assert_int_equal(err.kind, WFE_ERROR_TIMEOUT);
}

static void *many_gets(void *context)
{
    for (int i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "%p-%d", context, i);
        Namespaces__GetNamespaceResponse *reply = NULL;
        if (get(NULL, name, &reply, NULL) < 0 || strcmp(reply->namespace_->name, name) != 0)
            return (void *)"failed";
        protobuf_c_message_free_unpacked(&reply->base, NULL);
    }
    return NULL;
}

static void sixteen_threads_share_a_connection(void **state)
{
    (void)state;
    pthread_t threads[16];
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, many_gets, (void *)i), 0);
    for (size_t i = 0; i < 16; i++) {
        void *failure = NULL;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
}

struct observed {
    unsigned calls;
    char method[64];
    int status;
    int64_t duration_ns;
};

static void observe(void *context, const char *method, int grpc_status, int64_t duration_ns)
{
    struct observed *observed = context;
    observed->calls++;
    snprintf(observed->method, sizeof observed->method, "%s", method);
    observed->status = grpc_status;
    observed->duration_ns = duration_ns;
}

static void the_observer_hears_of_each_call_once(void **state)
{
    (void)state;
    struct observed observed = {.calls = 0};
    struct wfe_rpc_options options = {.observer = observe, .observer_context = &observed};
    wfe_rpc_free(rpc);
    assert_int_equal(wfe_rpc_connect(target, &options, &rpc, NULL), 0);
    assert_int_equal(get(NULL, "x", NULL, NULL), 0);
    assert_int_equal(observed.calls, 1);
    assert_string_equal(observed.method, "Namespaces/Get");
    assert_int_equal(observed.status, GRPC_STATUS_OK);
    assert_true(observed.duration_ns > 0);
    get(NULL, "status:5:t", NULL, NULL);
    assert_int_equal(observed.calls, 2);
    assert_int_equal(observed.status, GRPC_STATUS_NOT_FOUND);
    wfe_rpc_call_free(start_write(NULL));
    assert_int_equal(observed.calls, 3);
    assert_string_equal(observed.method, "Content/Write");
    assert_int_equal(observed.status, GRPC_STATUS_CANCELLED);
    struct wfe_cancel *cancel = NULL;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    wfe_cancel_trigger(cancel);
    struct wfe_rpc_context context = {.cancel = cancel};
    assert_int_equal(get(&context, "x", NULL, NULL), -ECANCELED);
    assert_int_equal(observed.calls, 3);
    wfe_cancel_free(cancel);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, connect_peer, disconnect_peer)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_unary_call_returns_the_reply),
        TEST(headers_of_the_context_reach_the_daemon),
        TEST(a_header_value_with_a_newline_is_refused),
        TEST(a_status_becomes_an_error_with_the_daemons_text),
        TEST(a_status_without_a_text_still_says_something),
        TEST(a_very_long_status_text_is_cut),
        TEST(a_method_that_the_daemon_lacks_is_enosys),
        TEST(a_reply_that_is_no_message_is_refused),
        TEST(success_without_a_reply_is_an_error),
        TEST(a_started_call_that_ends_without_a_reply_is_an_error),
        TEST(a_reply_above_the_limit_is_a_limit_error),
        TEST(a_request_above_the_limit_is_not_sent),
        TEST(a_deadline_ends_a_call),
        TEST(a_token_ends_a_call_from_another_thread),
        TEST(a_call_with_a_triggered_token_never_starts),
        TEST(nobody_listening_is_unavailable_in_plain_words),
        TEST(a_refused_tcp_connection_is_unavailable_in_plain_words),
        TEST(a_server_stream_is_read_to_its_good_end),
        TEST(a_server_stream_that_fails_gives_messages_first_then_the_status),
        TEST(a_long_stream_cannot_run_ahead_of_its_reader),
        TEST(a_receive_that_times_out_can_be_repeated),
        TEST(a_started_call_reaches_the_daemon_though_nobody_waits_for_it),
        TEST(other_calls_go_on_beside_a_background_call),
        TEST(freeing_a_call_in_flight_cancels_it),
        TEST(freeing_an_unread_stream_does_not_hang),
        TEST(a_bidirectional_stream_echoes),
        TEST(sending_and_receiving_may_be_two_threads),
        TEST(sending_to_an_ended_call_fails_with_the_daemons_status),
        TEST(sending_to_a_well_ended_call_fails_and_its_replies_stay_readable),
        TEST(a_call_can_be_cancelled_while_another_thread_waits),
        TEST(a_deadline_ends_a_stream),
        TEST(sixteen_threads_share_a_connection),
        TEST(the_observer_hears_of_each_call_once),
    };
    return cmocka_run_group_tests(tests, start_peer, stop_peer);
}
