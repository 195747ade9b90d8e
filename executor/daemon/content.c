/* SPDX-License-Identifier: MIT */
#include "executor/daemon/content.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "content.pb-c.h"
#include "executor/daemon/lease.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

/* Measured on Unix and TCP sockets: larger chunks are no faster. Those in flight are what a line of
 * 500 MB/s holds at a round trip of 30 ms; ours is the memory of one. */
#define CHUNK_BYTES (512 * 1024)
#define CHUNKS_IN_FLIGHT 32

#define ABORT_TIMEOUT_MS 10000

static const ProtobufCServiceDescriptor *const CONTENT = &content__content__descriptor;

struct wfe_content_writer {
    const struct wfe_session *session;
    char ref[WFE_UNIQUE_NAME_MAX];
    struct wfe_rpc_call *call; /* NULL when the blob was known: nothing is written */
    unsigned char *chunk;
    size_t chunk_length;
    uint64_t sent_bytes;
    _Atomic uint64_t taken_bytes;
    unsigned unanswered;
    bool committed;
};

int wfe_content_read(const struct wfe_session *session, const struct wfe_digest *digest,
    size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err)
{
    Content__ReadContentRequest request = CONTENT__READ_CONTENT_REQUEST__INIT;
    request.digest = (char *)digest->text;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_rpc_start(session->rpc, &context, (struct wfe_rpc_method){CONTENT, "Read"},
        &request.base, &call, err);
    if (r < 0)
        return r;
    WFE_BUFFER struct wfe_buffer data = WFE_BUFFER_INIT(max_bytes);
    for (;;) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (r < 0) {
            wfe_error_prefix(err, "content %s", digest->text);
            return r;
        }
        if (!message)
            break;
        const Content__ReadContentResponse *part = (Content__ReadContentResponse *)message;
        r = wfe_buffer_append(&data, part->data.data, part->data.len);
        if (r == -EMSGSIZE)
            return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "content %s is larger than %zu bytes",
                digest->text, max_bytes);
        if (r < 0)
            return wfe_error_nomem(err);
    }
    struct wfe_digest actual;
    wfe_digest_of(data.data ? data.data : "", data.length, &actual);
    if (!wfe_digest_equal(&actual, digest))
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "the daemon's content %s has the digest %s", digest->text, actual.text);
    size_t length = data.length;
    char *text = wfe_buffer_steal(&data);
    if (!text)
        return wfe_error_nomem(err);
    *ret = text;
    *ret_length = length;
    return 0;
}

int wfe_content_size(const struct wfe_session *session, const struct wfe_digest *digest,
    int64_t *ret_size, struct wfe_error *err)
{
    Content__InfoRequest request = CONTENT__INFO_REQUEST__INIT;
    request.digest = (char *)digest->text;
    struct wfe_rpc_context context = wfe_session_context(session);
    struct wfe_error failure = WFE_ERROR_INIT;
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){CONTENT, "Info"},
        &request.base, &reply, &failure);
    if (r == -ENOENT) {
        *ret_size = -1;
        return 0;
    }
    if (r < 0) {
        if (err)
            *err = failure;
        return r;
    }
    const Content__Info *info = ((Content__InfoResponse *)reply)->info;
    *ret_size = info ? info->size : -1;
    return 0;
}

static void pick_labelled(
    const Content__ListContentResponse *message, const char *key, struct wfe_content_found *found)
{
    for (size_t i = 0; i < message->n_info && !found->value[0]; i++) {
        const Content__Info *info = message->info[i];
        const char *value = wfe_label_find(info->labels, info->n_labels, key);
        if (!value || wfe_digest_parse(info->digest, &found->digest) < 0)
            continue;
        found->size_bytes = info->size;
        snprintf(found->value, sizeof found->value, "%s", value);
    }
}

int wfe_content_find(const struct wfe_session *session, const char *key,
    struct wfe_content_found *ret, struct wfe_error *err)
{
    WFE_FREE char *filter = NULL;
    if (asprintf(&filter, "labels.\"%s\"", key) < 0) {
        filter = NULL;
        return wfe_error_nomem(err);
    }
    Content__ListContentRequest request = CONTENT__LIST_CONTENT_REQUEST__INIT;
    request.filters = &filter;
    request.n_filters = 1;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_rpc_start(session->rpc, &context, (struct wfe_rpc_method){CONTENT, "List"},
        &request.base, &call, err);
    ret->value[0] = '\0';
    while (r == 0) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (!message)
            break;
        pick_labelled((Content__ListContentResponse *)message, key, ret);
    }
    return r;
}

/* Leased before it is looked at again, so that the collector can't take it in between. */
static int hold_known(const struct wfe_session *session, const struct wfe_digest *digest,
    bool *ret_known, struct wfe_error *err)
{
    int64_t size;
    int r = wfe_content_size(session, digest, &size, err);
    if (r < 0)
        return r;
    if (size >= 0 && session->lease) {
        r = wfe_lease_add(session, "content", digest->text, err);
        if (r < 0)
            return r;
        r = wfe_content_size(session, digest, &size, err);
        if (r < 0)
            return r;
    }
    *ret_known = size >= 0;
    return 0;
}

static int start_write(struct wfe_content_writer *writer, struct wfe_error *err)
{
    int r = wfe_unique_name(writer->ref, err);
    if (r < 0)
        return r;
    writer->chunk = malloc(CHUNK_BYTES);
    if (!writer->chunk)
        return wfe_error_nomem(err);
    struct wfe_rpc_context context = wfe_session_context(writer->session);
    return wfe_rpc_start(writer->session->rpc, &context, (struct wfe_rpc_method){CONTENT, "Write"},
        NULL, &writer->call, err);
}

int wfe_content_writer_open(const struct wfe_session *session, const struct wfe_digest *digest,
    struct wfe_content_writer **ret, bool *ret_known, struct wfe_error *err)
{
    bool known = false;
    if (digest) {
        int r = hold_known(session, digest, &known, err);
        if (r < 0)
            return r;
    }
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return wfe_error_nomem(err);
    writer->session = session;
    if (!known) {
        int r = start_write(writer, err);
        if (r < 0)
            return r;
    }
    *ret_known = known;
    *ret = wfe_steal(&writer);
    return 0;
}

/* Await answers until at most `limit` are outstanding. */
static int take_answers(struct wfe_content_writer *writer, unsigned limit, struct wfe_error *err)
{
    while (writer->unanswered > limit) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        int r = wfe_rpc_receive(writer->call, -1, &message, err);
        if (r < 0)
            return r;
        if (!message)
            return wfe_error_set(err, WFE_ERROR_CONTAINERD, EIO,
                "the daemon ended an upload before it was complete");
        writer->unanswered--;
        const Content__WriteContentResponse *answer = (Content__WriteContentResponse *)message;
        writer->taken_bytes = (uint64_t)answer->offset;
    }
    return 0;
}

static int send_request(
    struct wfe_content_writer *writer, Content__WriteContentRequest *request, struct wfe_error *err)
{
    request->ref = writer->ref;
    request->offset = (int64_t)writer->sent_bytes;
    request->data.data = writer->chunk;
    request->data.len = writer->chunk_length;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_send(writer->call, &request->base, &failure);
    writer->unanswered++;
    /* Why the daemon has ended the stream stands behind its answers. */
    if (r == -EPIPE)
        return take_answers(writer, 0, err);
    if (r < 0) {
        if (err)
            *err = failure;
        return r;
    }
    writer->sent_bytes += writer->chunk_length;
    writer->chunk_length = 0;
    return 0;
}

static int send_chunk(struct wfe_content_writer *writer, struct wfe_error *err)
{
    Content__WriteContentRequest request = CONTENT__WRITE_CONTENT_REQUEST__INIT;
    request.action = CONTENT__WRITE_ACTION__WRITE;
    int r = send_request(writer, &request, err);
    if (r < 0)
        return r;
    return take_answers(writer, CHUNKS_IN_FLIGHT - 1, err);
}

static int write_content(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct wfe_content_writer *writer = context;
    assert(writer->call && !writer->committed);
    const unsigned char *at = data;
    while (length > 0) {
        size_t room = CHUNK_BYTES - writer->chunk_length;
        size_t n = length < room ? length : room;
        memcpy(writer->chunk + writer->chunk_length, at, n);
        writer->chunk_length += n;
        at += n;
        length -= n;
        if (writer->chunk_length == CHUNK_BYTES) {
            int r = send_chunk(writer, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

struct wfe_sink wfe_content_writer_sink(struct wfe_content_writer *writer)
{
    return (struct wfe_sink){.write = write_content, .context = writer};
}

uint64_t wfe_content_writer_bytes(const struct wfe_content_writer *writer)
{
    return writer->taken_bytes;
}

/* Someone else's blob of the same digest: hold it, and give it our labels. */
static int adopt_existing(const struct wfe_session *session, const struct wfe_digest *digest,
    const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    bool known;
    int r = hold_known(session, digest, &known, err);
    if (r < 0)
        return r;
    if (!known)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EAGAIN,
            "content %s was there and is gone: try again", digest->text);
    return label_count > 0 ? wfe_content_label(session, digest, labels, label_count, err) : 0;
}

static int commit_written(struct wfe_content_writer *writer, const struct wfe_digest *digest,
    int64_t size_bytes, const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    struct wfe_label_map map;
    wfe_label_map_init(
        &map, &content__write_content_request__labels_entry__descriptor, labels, label_count);
    Content__WriteContentRequest request = CONTENT__WRITE_CONTENT_REQUEST__INIT;
    request.action = CONTENT__WRITE_ACTION__COMMIT;
    request.total = size_bytes;
    request.expected = (char *)digest->text;
    WFE_LABEL_MAP_ATTACH(&request, &map);
    int r = send_request(writer, &request, err);
    if (r < 0)
        return r;
    return take_answers(writer, 0, err);
}

int wfe_content_writer_commit(struct wfe_content_writer *writer, const struct wfe_digest *digest,
    int64_t size_bytes, const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    assert(!writer->committed);
    if (!writer->call) {
        writer->committed = true;
        return label_count > 0
                   ? wfe_content_label(writer->session, digest, labels, label_count, err)
                   : 0;
    }
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = commit_written(writer, digest, size_bytes, labels, label_count, &failure);
    if (r == -EEXIST) {
        writer->committed = true;
        return adopt_existing(writer->session, digest, labels, label_count, err);
    }
    if (r < 0) {
        if (r == -EBUSY)
            failure.kind = WFE_ERROR_INTEGRITY;
        if (err)
            *err = failure;
        return r;
    }
    writer->committed = true;
    return 0;
}

void wfe_content_writer_free(struct wfe_content_writer *writer)
{
    if (!writer)
        return;
    bool abort_write = writer->call && !writer->committed;
    wfe_rpc_call_free(writer->call);
    if (abort_write) {
        Content__AbortRequest request = CONTENT__ABORT_REQUEST__INIT;
        request.ref = writer->ref;
        /* An upload that can't be aborted now is collected with its lease. */
        wfe_session_undo(writer->session, (struct wfe_rpc_method){CONTENT, "Abort"}, &request.base,
            ABORT_TIMEOUT_MS, NULL);
    }
    free(writer->chunk);
    free(writer);
}

int wfe_content_put(const struct wfe_session *session, const void *data, size_t length,
    struct wfe_digest *ret, struct wfe_error *err)
{
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(session, NULL, &writer, &known, err);
    if (r < 0)
        return r;
    struct wfe_sink sink = wfe_content_writer_sink(writer);
    r = sink.write(sink.context, data, length, err);
    wfe_digest_of(data, length, ret);
    return r < 0 ? r : wfe_content_writer_commit(writer, ret, (int64_t)length, NULL, 0, err);
}

int wfe_content_label(const struct wfe_session *session, const struct wfe_digest *digest,
    const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    assert(label_count > 0 && label_count <= WFE_LABELS_MAX);
    struct wfe_label_map map;
    wfe_label_map_init(&map, &content__info__labels_entry__descriptor, labels, label_count);
    Content__Info info = CONTENT__INFO__INIT;
    info.digest = (char *)digest->text;
    WFE_LABEL_MAP_ATTACH(&info, &map);

    /* One path a label: the others stay as they are. */
    char *paths[WFE_LABELS_MAX] = {NULL};
    int r = 0;
    for (size_t i = 0; i < label_count && r == 0; i++)
        if (asprintf(&paths[i], "labels.%s", labels[i].key) < 0) {
            paths[i] = NULL;
            r = wfe_error_nomem(err);
        }
    if (r == 0) {
        Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
        mask.paths = paths;
        mask.n_paths = label_count;
        Content__UpdateRequest request = CONTENT__UPDATE_REQUEST__INIT;
        request.info = &info;
        request.update_mask = &mask;
        struct wfe_rpc_context context = wfe_session_context(session);
        r = wfe_rpc_unary(session->rpc, &context, (struct wfe_rpc_method){CONTENT, "Update"},
            &request.base, NULL, err);
    }
    for (size_t i = 0; i < label_count; i++)
        free(paths[i]);
    return r;
}
