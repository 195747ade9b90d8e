/* SPDX-License-Identifier: MIT */
#include "libcommon/tests/rpc_peer.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>

#include "content.pb-c.h"
#include "namespaces.pb-c.h"
#include "tasks.pb-c.h"

#define WORKERS 20

/* One thread serves one call at a time on its own queue. */
struct worker {
    pthread_t thread;
    grpc_server *server;
    grpc_completion_queue *queue;
    struct rpc_peer_state *state;
    grpc_call *call;
    grpc_metadata_array headers;
    bool closed; /* the call's end has been seen */
    int cancelled;
};

#define CLOSE_TAG ((void *)1)
#define OP_TAG ((void *)2)
#define CALL_TAG ((void *)3)
#define SHUTDOWN_TAG ((void *)4)

static bool wait_for(struct worker *w, void *tag)
{
    for (;;) {
        if (tag == CLOSE_TAG && w->closed)
            return true;
        grpc_event event =
            grpc_completion_queue_next(w->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        assert(event.type == GRPC_OP_COMPLETE);
        if (event.tag == CLOSE_TAG)
            w->closed = true;
        if (event.tag == tag)
            return event.success != 0;
    }
}

static bool run_op(struct worker *w, grpc_op op)
{
    grpc_call_error error = grpc_call_start_batch(w->call, &op, 1, OP_TAG, NULL);
    assert(error == GRPC_CALL_OK);
    return wait_for(w, OP_TAG);
}

/* The next request, NULL at the end. */
static ProtobufCMessage *receive(struct worker *w, const ProtobufCMessageDescriptor *descriptor)
{
    grpc_byte_buffer *buffer = NULL;
    run_op(w, (grpc_op){.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &buffer});
    if (!buffer)
        return NULL;
    grpc_byte_buffer_reader reader;
    int ok = grpc_byte_buffer_reader_init(&reader, buffer);
    assert(ok);
    grpc_slice slice = grpc_byte_buffer_reader_readall(&reader);
    ProtobufCMessage *message = protobuf_c_message_unpack(
        descriptor, NULL, GRPC_SLICE_LENGTH(slice), GRPC_SLICE_START_PTR(slice));
    assert(message);
    grpc_slice_unref(slice);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(buffer);
    return message;
}

static bool send_slice(struct worker *w, grpc_slice slice)
{
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    bool sent =
        run_op(w, (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = buffer});
    grpc_byte_buffer_destroy(buffer);
    return sent;
}

static bool send_message(struct worker *w, const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return send_slice(w, slice);
}

static void send_status(struct worker *w, grpc_status_code status, const char *text)
{
    grpc_slice details = grpc_slice_from_copied_string(text);
    run_op(w, (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                  .data.send_status_from_server = {.status = status, .status_details = &details}});
    grpc_slice_unref(details);
}

static void echo_name(struct worker *w, char *name)
{
    Namespaces__Namespace namespace_ = NAMESPACES__NAMESPACE__INIT;
    Namespaces__GetNamespaceResponse reply = NAMESPACES__GET_NAMESPACE_RESPONSE__INIT;
    Namespaces__Namespace__LabelsEntry entries[16];
    Namespaces__Namespace__LabelsEntry *labels[16];
    size_t count = w->headers.count < 16 ? w->headers.count : 16;
    for (size_t i = 0; i < count; i++) {
        namespaces__namespace__labels_entry__init(&entries[i]);
        entries[i].key = grpc_slice_to_c_string(w->headers.metadata[i].key);
        entries[i].value = grpc_slice_to_c_string(w->headers.metadata[i].value);
        labels[i] = &entries[i];
    }
    namespace_.name = name;
    namespace_.n_labels = count;
    namespace_.labels = labels;
    reply.namespace_ = &namespace_;
    send_message(w, &reply.base);
    for (size_t i = 0; i < count; i++) {
        gpr_free(entries[i].key);
        gpr_free(entries[i].value);
    }
    send_status(w, GRPC_STATUS_OK, "");
}

static void send_name_of_length(struct worker *w, size_t length)
{
    Namespaces__Namespace namespace_ = NAMESPACES__NAMESPACE__INIT;
    Namespaces__GetNamespaceResponse reply = NAMESPACES__GET_NAMESPACE_RESPONSE__INIT;
    namespace_.name = malloc(length + 1);
    assert(namespace_.name);
    memset(namespace_.name, 'x', length);
    namespace_.name[length] = '\0';
    reply.namespace_ = &namespace_;
    send_message(w, &reply.base);
    free(namespace_.name);
    send_status(w, GRPC_STATUS_OK, "");
}

static void serve_get(struct worker *w)
{
    ProtobufCMessage *request = receive(w, &namespaces__get_namespace_request__descriptor);
    if (!request)
        return;
    char *name = ((Namespaces__GetNamespaceRequest *)request)->name;
    if (strncmp(name, "status:", 7) == 0) {
        char *text;
        long code = strtol(name + 7, &text, 10);
        send_status(w, (grpc_status_code)code, *text ? text + 1 : "");
    } else if (strncmp(name, "bytes:", 6) == 0) {
        send_name_of_length(w, strtoul(name + 6, NULL, 10));
    } else if (strcmp(name, "hang") == 0) {
        atomic_fetch_add(&w->state->hanging, 1);
    } else if (strcmp(name, "garbage") == 0) {
        send_slice(w, grpc_slice_from_copied_string("\xff\xff\xff"));
        send_status(w, GRPC_STATUS_OK, "");
    } else if (strcmp(name, "nothing") == 0) {
        send_status(w, GRPC_STATUS_OK, "");
    } else {
        echo_name(w, name);
    }
    protobuf_c_message_free_unpacked(request, NULL);
}

static void serve_read(struct worker *w)
{
    ProtobufCMessage *message = receive(w, &content__read_content_request__descriptor);
    if (!message)
        return;
    Content__ReadContentRequest *request = (Content__ReadContentRequest *)message;
    Content__ReadContentResponse reply = CONTENT__READ_CONTENT_RESPONSE__INIT;
    reply.data.len = (size_t)request->size;
    reply.data.data = calloc(1, reply.data.len + 1);
    assert(reply.data.data);
    for (int64_t i = 0; i < request->offset; i++) {
        reply.offset = i;
        if (!send_message(w, &reply.base))
            break;
        atomic_fetch_add(&w->state->streamed_bytes, reply.data.len);
    }
    free(reply.data.data);
    if (*request->digest)
        send_status(w, GRPC_STATUS_DATA_LOSS, "the blob is torn");
    else
        send_status(w, GRPC_STATUS_OK, "");
    protobuf_c_message_free_unpacked(message, NULL);
}

static void serve_write(struct worker *w)
{
    ProtobufCMessage *message;
    while ((message = receive(w, &content__write_content_request__descriptor))) {
        Content__WriteContentRequest *request = (Content__WriteContentRequest *)message;
        bool exists = strcmp(request->ref, "exists") == 0;
        bool enough = strcmp(request->ref, "enough") == 0;
        Content__WriteContentResponse reply = CONTENT__WRITE_CONTENT_RESPONSE__INIT;
        reply.action = request->action;
        reply.offset = request->offset + (int64_t)request->data.len;
        protobuf_c_message_free_unpacked(message, NULL);
        if (exists) {
            send_status(w, GRPC_STATUS_ALREADY_EXISTS, "content sha256:0 already exists");
            return;
        }
        if (!send_message(w, &reply.base))
            return;
        if (enough)
            break;
    }
    send_status(w, GRPC_STATUS_OK, "");
}

static void serve_wait(struct worker *w)
{
    ProtobufCMessage *request = receive(w, &tasks__wait_request__descriptor);
    if (!request)
        return;
    protobuf_c_message_free_unpacked(request, NULL);
    atomic_fetch_add(&w->state->waiting, 1);
    while (!atomic_load(&w->state->released))
        usleep(1000);
    Tasks__WaitResponse reply = TASKS__WAIT_RESPONSE__INIT;
    reply.exit_status = 137;
    send_message(w, &reply.base);
    send_status(w, GRPC_STATUS_OK, "");
}

static void serve(struct worker *w, const grpc_slice *method)
{
    w->closed = false;
    grpc_op ops[2] = {
        {.op = GRPC_OP_RECV_CLOSE_ON_SERVER, .data.recv_close_on_server.cancelled = &w->cancelled},
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
    };
    grpc_call_error error = grpc_call_start_batch(w->call, ops, 1, CLOSE_TAG, NULL);
    assert(error == GRPC_CALL_OK);
    run_op(w, ops[1]);
    if (grpc_slice_str_cmp(*method, "/containerd.services.namespaces.v1.Namespaces/Get") == 0)
        serve_get(w);
    else if (grpc_slice_str_cmp(*method, "/containerd.services.content.v1.Content/Read") == 0)
        serve_read(w);
    else if (grpc_slice_str_cmp(*method, "/containerd.services.content.v1.Content/Write") == 0)
        serve_write(w);
    else if (grpc_slice_str_cmp(*method, "/containerd.services.tasks.v1.Tasks/Wait") == 0)
        serve_wait(w);
    else
        send_status(w, GRPC_STATUS_UNIMPLEMENTED, "unknown method");
    wait_for(w, CLOSE_TAG);
    if (w->cancelled)
        atomic_fetch_add(&w->state->cancelled, 1);
}

static void *work(void *context)
{
    struct worker *w = context;
    for (;;) {
        grpc_call_details details;
        grpc_call_details_init(&details);
        grpc_metadata_array_init(&w->headers);
        grpc_call_error error = grpc_server_request_call(
            w->server, &w->call, &details, &w->headers, w->queue, w->queue, CALL_TAG);
        assert(error == GRPC_CALL_OK);
        bool running = wait_for(w, CALL_TAG);
        if (running) {
            serve(w, &details.method);
            grpc_call_unref(w->call);
        }
        grpc_metadata_array_destroy(&w->headers);
        grpc_call_details_destroy(&details);
        if (!running)
            return NULL;
    }
}

static void run_server(const char *address, struct rpc_peer_state *state, int control)
{
    static struct worker workers[WORKERS];
    grpc_init();
    grpc_arg limit = {.type = GRPC_ARG_INTEGER,
        .key = (char *)GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
        .value.integer = -1};
    grpc_channel_args args = {.num_args = 1, .args = &limit};
    grpc_server *server = grpc_server_create(&args, NULL);
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){
            .server = server, .queue = grpc_completion_queue_create_for_next(NULL), .state = state};
        grpc_server_register_completion_queue(server, workers[i].queue, NULL);
    }
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    int bound = grpc_server_add_http2_port(server, address, credentials);
    assert(bound);
    grpc_server_credentials_release(credentials);
    grpc_server_start(server);
    for (size_t i = 0; i < WORKERS; i++)
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    atomic_store(&state->ready, 1);
    char byte;
    while (read(control, &byte, 1) > 0)
        ;
}

int rpc_peer_start(struct rpc_peer *peer, const char *address)
{
    struct rpc_peer_state *state =
        mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ends[2];
    if (state == MAP_FAILED || pipe(ends) < 0)
        return -1;
    pid_t pid = fork();
    if (pid < 0)
        return -1;
    if (pid == 0) {
        close(ends[1]);
        run_server(address, state, ends[0]);
        _exit(0);
    }
    close(ends[0]);
    *peer = (struct rpc_peer){.state = state, .pid = pid, .control = ends[1]};
    while (!atomic_load(&state->ready)) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return -1;
        usleep(1000);
    }
    return 0;
}

void rpc_peer_stop(struct rpc_peer *peer)
{
    close(peer->control);
    waitpid(peer->pid, NULL, 0);
    munmap(peer->state, sizeof *peer->state);
}
