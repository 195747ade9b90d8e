/* SPDX-License-Identifier: MIT */
#include "libcommon/rpc.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>

#include "libcommon/cleanup.h"
#include "libcommon/rpc_status.h"

/* A call that ended badly has its status at once; only the good end of a stream with unread
 * messages has not, and then a sender must not wait for the reader. */
#define ENDED_STATUS_WAIT_MS 200

/* What a peer may send ahead of the reader. */
#define STREAM_WINDOW_BYTES (4 * 1024 * 1024)

struct wfe_rpc {
    grpc_channel *channel;
    char *target;
    struct wfe_rpc_options options;
    atomic_uint calls;
    atomic_bool is_away; /* it was waited for in vain */
};

/*
 * The completion queue is the call's own and of the plucking kind, so that the sending and
 * the receiving thread each wait for their own operation: the addresses of `sent`,
 * `received` and `status` are the operations' tags.
 */
struct wfe_rpc_call {
    struct wfe_rpc *rpc;
    const ProtobufCMessageDescriptor *input;
    const ProtobufCMessageDescriptor *output;
    char name[96];
    grpc_call *core;
    grpc_completion_queue *queue;
    int64_t timeout_ms;
    int64_t started_ns;
    bool begun;
    bool waits; /* for the daemon */
    grpc_metadata_array initial_metadata;
    grpc_metadata_array trailing_metadata;

    struct wfe_cancel *cancel;
    struct wfe_cancel_entry cancel_entry;
    atomic_bool cancelled;

    /* The sending thread's. */
    char sent;
    bool send_closed;

    /* The receiving thread's. */
    grpc_byte_buffer *received;
    bool receiving;
    bool read_ended;

    /* Under the lock until `finished`, immutable afterwards. */
    pthread_mutex_t lock;
    bool finished;
    grpc_status_code status;
    grpc_slice details;
};

static int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Negative is for ever. */
static gpr_timespec deadline_after(int64_t ms)
{
    if (ms < 0)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

static void discard_log(gpr_log_func_args *args)
{
    (void)args;
}

/*
 * Never undone: after a write that had to wait, C core's thread for such writes sleeps for up
 * to ten seconds, and grpc_shutdown() would wait for it.
 */
static void initialise_core(void)
{
    if (!getenv("GRPC_VERBOSITY"))
        gpr_set_log_function(discard_log);
    grpc_init();
}

static grpc_arg integer_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static grpc_channel_credentials *create_credentials(const struct wfe_rpc_tls *tls)
{
    if (!tls)
        return grpc_insecure_credentials_create();
    grpc_ssl_pem_key_cert_pair pair = {.private_key = tls->key_pem, .cert_chain = tls->cert_pem};
    return grpc_ssl_credentials_create_ex(tls->ca_pem, tls->cert_pem ? &pair : NULL, NULL, NULL);
}

static grpc_channel *create_channel(const char *target, const struct wfe_rpc_tls *tls)
{
    grpc_arg args[16];
    size_t count = 0;
    args[count++] = integer_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, WFE_RPC_MESSAGE_MAX_BYTES);
    /* A fixed window: the probe takes the time that a reader thinks for the line's delay, and
     * lets a stream run tens of megabytes ahead of it. */
    args[count++] = integer_arg(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    args[count++] = integer_arg(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, STREAM_WINDOW_BYTES);
    args[count++] = integer_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args[count++] = integer_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    args[count++] = integer_arg(GRPC_ARG_ENABLE_RETRIES, 0);
    args[count++] = integer_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    args[count++] = integer_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    args[count++] = integer_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    /* In spite of its name, how long one attempt to connect may take. */
    args[count++] = integer_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
    if (strncmp(target, "unix", 4) != 0) {
        /* grpc-go's servers close a connection that pings more often than every five
         * minutes. Lost peers are found sooner: the timeout is TCP_USER_TIMEOUT, too. */
        args[count++] = integer_arg(GRPC_ARG_KEEPALIVE_TIME_MS, 330 * 1000);
        args[count++] = integer_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 30 * 1000);
        args[count++] = integer_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    }
    assert(count <= sizeof args / sizeof *args);
    grpc_channel_args channel_args = {.num_args = count, .args = args};
    grpc_channel_credentials *credentials = create_credentials(tls);
    grpc_channel *channel = grpc_channel_create(target, credentials, &channel_args);
    grpc_channel_credentials_release(credentials);
    return channel;
}

int wfe_rpc_connect(const char *target, const struct wfe_rpc_options *options, struct wfe_rpc **ret,
    struct wfe_error *err)
{
    struct wfe_rpc *rpc = calloc(1, sizeof *rpc);
    if (!rpc)
        return wfe_error_nomem(err);
    rpc->target = strdup(target);
    if (!rpc->target) {
        free(rpc);
        return wfe_error_nomem(err);
    }
    if (options) {
        rpc->options = *options;
        rpc->options.tls = NULL;
    }
    static pthread_once_t initialised = PTHREAD_ONCE_INIT;
    pthread_once(&initialised, initialise_core);
    rpc->channel = create_channel(target, options ? options->tls : NULL);
    *ret = rpc;
    return 0;
}

bool wfe_rpc_is_lost(const struct wfe_error *err)
{
    return err->kind == WFE_ERROR_CONTAINERD && err->errnum == EAGAIN;
}

bool wfe_rpc_is_away(const struct wfe_rpc *rpc)
{
    return atomic_load(&rpc->is_away);
}

void wfe_rpc_wake(struct wfe_rpc *rpc)
{
    grpc_channel_check_connectivity_state(rpc->channel, 1);
}

void wfe_rpc_free(struct wfe_rpc *rpc)
{
    if (!rpc)
        return;
    assert(atomic_load(&rpc->calls) == 0);
    grpc_channel_destroy(rpc->channel);
    free(rpc->target);
    free(rpc);
}

/* The finished call's bad status as an error. */
static int status_error(const struct wfe_rpc_call *call, struct wfe_error *err)
{
    assert(call->finished);
    struct wfe_rpc_outcome outcome = {
        .method = call->name,
        .target = call->rpc->target,
        .status = (int)call->status,
        .text = (const char *)GRPC_SLICE_START_PTR(call->details),
        .text_length = GRPC_SLICE_LENGTH(call->details),
        .timeout_ms = call->timeout_ms,
        .cancelled = atomic_load(&call->cancelled),
    };
    return wfe_rpc_status_error(&outcome, err);
}

static void cancel_from_token(void *context)
{
    wfe_rpc_call_cancel(context);
}

static int open_call(struct wfe_rpc *rpc, const struct wfe_rpc_context *context,
    struct wfe_rpc_method method, struct wfe_rpc_call **ret, struct wfe_error *err)
{
    const ProtobufCMethodDescriptor *descriptor =
        protobuf_c_service_descriptor_get_method_by_name(method.service, method.name);
    assert(descriptor);
    char path[192];
    int length = snprintf(path, sizeof path, "/%s/%s", method.service->name, method.name);
    assert(length > 0 && (size_t)length < sizeof path);
    struct wfe_rpc_call *call = calloc(1, sizeof *call);
    if (!call)
        return wfe_error_nomem(err);
    snprintf(call->name, sizeof call->name, "%s/%s", method.service->short_name, method.name);
    if (context && wfe_cancel_requested(context->cancel)) {
        int r = wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "%s: cancelled", call->name);
        free(call);
        return r;
    }
    call->rpc = rpc;
    call->input = descriptor->input;
    call->output = descriptor->output;
    call->started_ns = monotonic_ns();
    call->timeout_ms = context ? context->timeout_ms : 0;
    call->details = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial_metadata);
    grpc_metadata_array_init(&call->trailing_metadata);
    pthread_mutex_init(&call->lock, NULL);
    call->queue = grpc_completion_queue_create_for_pluck(NULL);
    grpc_slice path_slice = grpc_slice_from_copied_string(path);
    call->core = grpc_channel_create_call(rpc->channel, NULL, GRPC_PROPAGATE_DEFAULTS, call->queue,
        path_slice, NULL, deadline_after(call->timeout_ms > 0 ? call->timeout_ms : -1), NULL);
    grpc_slice_unref(path_slice);
    atomic_fetch_add(&rpc->calls, 1);
    call->cancel = context ? context->cancel : NULL;
    call->cancel_entry.callback = cancel_from_token;
    call->cancel_entry.context = call;
    wfe_cancel_add(call->cancel, &call->cancel_entry);
    *ret = call;
    return 0;
}

/* What a call's end says of the daemon. */
static void note_presence(const struct wfe_rpc_call *call)
{
    struct wfe_rpc *rpc = call->rpc;
    if (call->status == GRPC_STATUS_OK)
        atomic_store(&rpc->is_away, false);
    else if (call->status == GRPC_STATUS_DEADLINE_EXCEEDED && call->waits &&
             grpc_channel_check_connectivity_state(rpc->channel, 0) != GRPC_CHANNEL_READY)
        atomic_store(&rpc->is_away, true);
}

/* Waits for the call's end until deadline; true once its status is known. */
static bool await_status(struct wfe_rpc_call *call, gpr_timespec deadline)
{
    pthread_mutex_lock(&call->lock);
    if (!call->finished) {
        grpc_event event = grpc_completion_queue_pluck(call->queue, &call->status, deadline, NULL);
        if (event.type == GRPC_OP_COMPLETE) {
            call->finished = true;
            note_presence(call);
            const struct wfe_rpc_options *options = &call->rpc->options;
            if (options->observer)
                options->observer(options->observer_context, call->name, (int)call->status,
                    monotonic_ns() - call->started_ns);
        }
    }
    bool finished = call->finished;
    pthread_mutex_unlock(&call->lock);
    return finished;
}

static void start_batch(struct wfe_rpc_call *call, const grpc_op *ops, size_t count, void *tag)
{
    grpc_call_error error = grpc_call_start_batch(call->core, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK);
    (void)error;
}

/* Waits for a batch of the sending side; false when the call has ended before it. */
static bool await_sent(struct wfe_rpc_call *call)
{
    grpc_event event = grpc_completion_queue_pluck(
        call->queue, &call->sent, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return event.success != 0;
}

/* The headers of a call. Values are copied, as C core may keep them until the call's end. */
struct headers {
    grpc_metadata items[2];
    size_t count;
    uint32_t flags; /* of the operation that sends them */
};

static void headers_done(struct headers *headers)
{
    for (size_t i = 0; i < headers->count; i++)
        grpc_slice_unref(headers->items[i].value);
}
#define HEADERS WFE_CLEANUP(headers_done)

static int headers_add(struct headers *headers, const struct wfe_rpc_call *call, const char *key,
    const char *value, struct wfe_error *err)
{
    if (!value)
        return 0;
    grpc_slice slice = grpc_slice_from_copied_string(value);
    if (!grpc_header_nonbin_value_is_legal(slice)) {
        grpc_slice_unref(slice);
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: %s '%s' has characters that a header cannot carry", call->name, key, value);
    }
    headers->items[headers->count++] =
        (grpc_metadata){.key = grpc_slice_from_static_string(key), .value = slice};
    return 0;
}

static int headers_from_context(struct headers *headers, struct wfe_rpc_call *call,
    const struct wfe_rpc_context *context, struct wfe_error *err)
{
    if (!context)
        return 0;
    call->waits = context->wait_for_ready && !wfe_rpc_is_away(call->rpc);
    if (call->waits)
        headers->flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                         GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    int r = headers_add(headers, call, "containerd-namespace", context->namespace_, err);
    if (r < 0)
        return r;
    return headers_add(headers, call, "containerd-lease", context->lease, err);
}

static void cleanup_byte_buffer(grpc_byte_buffer **buffer)
{
    if (*buffer)
        grpc_byte_buffer_destroy(*buffer);
}
#define BYTE_BUFFER WFE_CLEANUP(cleanup_byte_buffer)

static int pack(const struct wfe_rpc_call *call, const ProtobufCMessage *message,
    grpc_byte_buffer **ret, struct wfe_error *err)
{
    assert(message->descriptor == call->input);
    size_t length = protobuf_c_message_get_packed_size(message);
    if (length > WFE_RPC_MESSAGE_MAX_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EMSGSIZE,
            "%s: the request has %zu bytes, more than %d", call->name, length,
            WFE_RPC_MESSAGE_MAX_BYTES);
    grpc_slice slice = grpc_slice_malloc(length);
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    *ret = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return 0;
}

/* As the default one, but that it tells when memory has run out. */
static void *allocate(void *ran_out, size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        *(bool *)ran_out = true;
    return memory;
}

static void release(void *ran_out, void *memory)
{
    (void)ran_out;
    free(memory);
}

static int unpack(const struct wfe_rpc_call *call, grpc_byte_buffer *buffer, ProtobufCMessage **ret,
    struct wfe_error *err)
{
    ProtobufCMessage *message = NULL;
    bool ran_out = false;
    ProtobufCAllocator allocator = {.alloc = allocate, .free = release, .allocator_data = &ran_out};
    grpc_byte_buffer_reader reader;
    if (grpc_byte_buffer_reader_init(&reader, buffer)) {
        grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
        message = protobuf_c_message_unpack(
            call->output, &allocator, GRPC_SLICE_LENGTH(slice), GRPC_SLICE_START_PTR(slice));
        grpc_slice_unref(slice);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    if (!message && ran_out)
        return wfe_error_nomem(err);
    if (!message)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EPROTO, "%s: the reply is no valid %s",
            call->name, call->output->short_name);
    *ret = message;
    return 0;
}

/* The operations that open a call: headers, and with payload the only request. */
static size_t opening_ops(grpc_op *ops, struct headers *headers, grpc_byte_buffer *payload)
{
    size_t count = 0;
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA,
        .flags = headers->flags,
        .data.send_initial_metadata = {.count = headers->count, .metadata = headers->items}};
    if (!payload)
        return count;
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = payload};
    ops[count++] = (grpc_op){.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    return count;
}

/* The operations that are done when the call is. */
static size_t ending_ops(grpc_op *ops, struct wfe_rpc_call *call)
{
    ops[0] = (grpc_op){.op = GRPC_OP_RECV_INITIAL_METADATA,
        .data.recv_initial_metadata.recv_initial_metadata = &call->initial_metadata};
    ops[1] = (grpc_op){.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
        .data.recv_status_on_client = {.trailing_metadata = &call->trailing_metadata,
            .status = &call->status,
            .status_details = &call->details}};
    call->begun = true;
    return 2;
}

static grpc_op receive_op(struct wfe_rpc_call *call)
{
    return (grpc_op){.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &call->received};
}

int wfe_rpc_start(struct wfe_rpc *rpc, const struct wfe_rpc_context *context,
    struct wfe_rpc_method method, const ProtobufCMessage *request, struct wfe_rpc_call **ret,
    struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    HEADERS struct headers headers = {.count = 0};
    BYTE_BUFFER grpc_byte_buffer *payload = NULL;
    int r = open_call(rpc, context, method, &call, err);
    if (r < 0)
        return r;
    r = headers_from_context(&headers, call, context, err);
    if (r < 0)
        return r;
    if (request) {
        r = pack(call, request, &payload, err);
        if (r < 0)
            return r;
        call->send_closed = true;
    }
    grpc_op ops[3];
    start_batch(call, ops, ending_ops(ops, call), &call->status);
    start_batch(call, ops, opening_ops(ops, &headers, payload), &call->sent);
    /* C core does its work on the threads that wait for something, so a call is sure to be
     * on its way only once its sending was waited for. */
    if (!await_sent(call) && await_status(call, deadline_after(ENDED_STATUS_WAIT_MS)) &&
        call->status != GRPC_STATUS_OK)
        return status_error(call, err);
    *ret = wfe_steal(&call);
    return 0;
}

int wfe_rpc_send(struct wfe_rpc_call *call, const ProtobufCMessage *message, struct wfe_error *err)
{
    assert(!call->send_closed);
    BYTE_BUFFER grpc_byte_buffer *payload = NULL;
    int r = pack(call, message, &payload, err);
    if (r < 0)
        return r;
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = payload};
    start_batch(call, &op, 1, &call->sent);
    if (await_sent(call))
        return 0;
    if (await_status(call, deadline_after(ENDED_STATUS_WAIT_MS)) && call->status != GRPC_STATUS_OK)
        return status_error(call, err);
    return wfe_error_set(
        err, WFE_ERROR_CONTAINERD, EPIPE, "%s: the daemon has ended the stream", call->name);
}

int wfe_rpc_close_send(struct wfe_rpc_call *call, struct wfe_error *err)
{
    assert(!call->send_closed);
    call->send_closed = true;
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};
    start_batch(call, &op, 1, &call->sent);
    if (!await_sent(call) && await_status(call, deadline_after(ENDED_STATUS_WAIT_MS)) &&
        call->status != GRPC_STATUS_OK)
        return status_error(call, err);
    return 0;
}

int wfe_rpc_receive(struct wfe_rpc_call *call, int64_t wait_ms, ProtobufCMessage **ret_message,
    struct wfe_error *err)
{
    gpr_timespec deadline = deadline_after(wait_ms);
    if (!call->read_ended) {
        if (!call->receiving) {
            grpc_op op = receive_op(call);
            start_batch(call, &op, 1, &call->received);
            call->receiving = true;
        }
        grpc_event event =
            grpc_completion_queue_pluck(call->queue, &call->received, deadline, NULL);
        if (event.type != GRPC_OP_COMPLETE)
            return -ETIMEDOUT;
        call->receiving = false;
        if (call->received) {
            BYTE_BUFFER grpc_byte_buffer *buffer = wfe_steal(&call->received);
            return unpack(call, buffer, ret_message, err);
        }
        call->read_ended = true;
    }
    if (!await_status(call, deadline))
        return -ETIMEDOUT;
    if (call->status != GRPC_STATUS_OK)
        return status_error(call, err);
    *ret_message = NULL;
    return 0;
}

int wfe_rpc_receive_reply(
    struct wfe_rpc_call *call, int64_t wait_ms, ProtobufCMessage **ret_reply, struct wfe_error *err)
{
    WFE_MESSAGE ProtobufCMessage *reply = NULL, *further = NULL;
    int r = wfe_rpc_receive(call, wait_ms, &reply, err);
    /* The status comes with the reply. */
    if (r == 0 && reply)
        r = wfe_rpc_receive(call, -1, &further, err);
    if (r < 0)
        return r;
    if (!reply || further)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EPROTO, "%s: success with %s", call->name,
            further ? "more than one reply" : "no reply");
    *ret_reply = wfe_steal(&reply);
    return 0;
}

int wfe_rpc_unary(struct wfe_rpc *rpc, const struct wfe_rpc_context *context,
    struct wfe_rpc_method method, const ProtobufCMessage *request, ProtobufCMessage **ret_reply,
    struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_start(rpc, context, method, request, &call, err);
    if (r == 0)
        r = wfe_rpc_receive_reply(call, -1, &reply, err);
    if (r == 0 && ret_reply)
        *ret_reply = wfe_steal(&reply);
    return r;
}

void wfe_rpc_call_cancel(struct wfe_rpc_call *call)
{
    atomic_store(&call->cancelled, true);
    grpc_call_cancel(call->core, NULL);
}

void wfe_rpc_call_free(struct wfe_rpc_call *call)
{
    if (!call)
        return;
    wfe_cancel_remove(call->cancel, &call->cancel_entry);
    /* A call whose end has already come in is not reported as cancelled. */
    if (call->begun && !await_status(call, deadline_after(0))) {
        grpc_call_cancel(call->core, NULL);
        await_status(call, deadline_after(-1));
    }
    if (call->receiving)
        grpc_completion_queue_pluck(
            call->queue, &call->received, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    grpc_call_unref(call->core);
    grpc_completion_queue_shutdown(call->queue);
    grpc_completion_queue_destroy(call->queue);
    if (call->received)
        grpc_byte_buffer_destroy(call->received);
    grpc_metadata_array_destroy(&call->initial_metadata);
    grpc_metadata_array_destroy(&call->trailing_metadata);
    grpc_slice_unref(call->details);
    pthread_mutex_destroy(&call->lock);
    atomic_fetch_sub(&call->rpc->calls, 1);
    free(call);
}
