/* SPDX-License-Identifier: MIT */
#include "executor/daemon/diff.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include <archive.h>
#include <archive_entry.h>

#include "content.pb-c.h"
#include "diff.pb-c.h"
#include "leases.pb-c.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"

/* Compressing is for our side, which has the time and the better library for it. */
#define MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"

/* A file that is written to now and then is caught in a quiet moment. */
#define MAKE_TRIES 5
#define MAKE_PAUSE_MS 20

#define DROP_TIMEOUT_MS 10000

static const ProtobufCServiceDescriptor *const CONTENT = &content__content__descriptor;

Types__Mount wfe_diff_bind(const char *directory)
{
    static char *options[] = {(char *)"rbind", (char *)"ro"};
    Types__Mount mount = TYPES__MOUNT__INIT;
    mount.type = (char *)"bind";
    mount.source = (char *)directory;
    mount.options = options;
    mount.n_options = sizeof options / sizeof *options;
    return mount;
}

static int take_descriptor(
    const Types__Descriptor *descriptor, struct wfe_diff *ret, struct wfe_error *err)
{
    struct wfe_diff diff = {0};
    if (!descriptor || wfe_digest_parse(descriptor->digest, &diff.digest) < 0 ||
        descriptor->size < 0)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EPROTO,
            "the daemon answered Diff without a digest of a blob");
    diff.size_bytes = (uint64_t)descriptor->size;
    *ret = diff;
    return 0;
}

static int try_to_make(const struct wfe_session *session, Types__Mount *const *before,
    size_t before_count, Types__Mount *const *mounts, size_t mount_count, struct wfe_diff *ret,
    struct wfe_error *err)
{
    Diff__DiffRequest request = DIFF__DIFF_REQUEST__INIT;
    request.left = (Types__Mount **)before;
    request.n_left = before_count;
    request.right = (Types__Mount **)mounts;
    request.n_right = mount_count;
    request.media_type = (char *)MEDIA_TYPE;
    struct wfe_rpc_context context = wfe_session_context(session);
    WFE_MESSAGE ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&diff__diff__descriptor, "Diff"}, &request.base, &reply, err);
    return r < 0 ? r : take_descriptor(((Diff__DiffResponse *)reply)->diff, ret, err);
}

/* The daemon's words for a file that is not what it was a moment before. */
static bool has_changed(const struct wfe_error *failure)
{
    static const char *const words[] = {
        "write too long", "short write", "missed writing", "no such file or directory"};
    if (failure->kind != WFE_ERROR_CONTAINERD || strstr(failure->message, "failed to mount"))
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(failure->message, words[i]))
            return true;
    return false;
}

int wfe_diff_compare(const struct wfe_session *session, Types__Mount *const *before,
    size_t before_count, Types__Mount *const *mounts, size_t mount_count, struct wfe_diff *ret,
    struct wfe_error *err)
{
    assert(session->lease && mount_count > 0);
    for (int tries = 1;; tries++) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = try_to_make(session, before, before_count, mounts, mount_count, ret, &failure);
        if (r == 0)
            return 0;
        bool changed = has_changed(&failure);
        if (tries == MAKE_TRIES || !changed) {
            if (changed)
                failure.errnum = EBUSY;
            if (err)
                *err = failure;
            return changed ? -EBUSY : r;
        }
        struct timespec pause = {.tv_nsec = MAKE_PAUSE_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
}

int wfe_diff_make(const struct wfe_session *session, Types__Mount *const *mounts,
    size_t mount_count, struct wfe_diff *ret, struct wfe_error *err)
{
    return wfe_diff_compare(session, NULL, 0, mounts, mount_count, ret, err);
}

static int start_read(const struct wfe_session *session, const struct wfe_diff *diff,
    uint64_t offset, uint64_t length, struct wfe_rpc_call **ret, struct wfe_error *err)
{
    Content__ReadContentRequest request = CONTENT__READ_CONTENT_REQUEST__INIT;
    request.digest = (char *)diff->digest.text;
    request.offset = (int64_t)offset;
    request.size = (int64_t)length;
    struct wfe_rpc_context context = wfe_session_context(session);
    return wfe_rpc_start(
        session->rpc, &context, (struct wfe_rpc_method){CONTENT, "Read"}, &request.base, ret, err);
}

int wfe_diff_read(const struct wfe_session *session, const struct wfe_diff *diff, uint64_t offset,
    uint64_t length, struct wfe_sink sink, struct wfe_error *err)
{
    if (offset >= diff->size_bytes || length == 0)
        return 0;
    uint64_t left = diff->size_bytes - offset;
    if (left > length)
        left = length;
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = start_read(session, diff, offset, left, &call, err);
    while (r == 0) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (r < 0 || !message)
            break;
        const ProtobufCBinaryData *data = &((Content__ReadContentResponse *)message)->data;
        if (data->len > left)
            return wfe_error_set(
                err, WFE_ERROR_CONTAINERD, EPROTO, "the daemon sent more than was asked for");
        left -= data->len;
        r = sink.write(sink.context, data->data, data->len, err);
    }
    if (r == 0 && left > 0)
        return wfe_error_set(err, WFE_ERROR_CONTAINERD, EIO,
            "content %s ended %" PRIu64 " bytes before its time", diff->digest.text, left);
    return r;
}

/* The tar as libarchive reads it: one message is held at a time. */
struct source {
    const struct wfe_session *session;
    const struct wfe_diff *diff;
    struct wfe_rpc_call *call; /* NULL: to be started at offset */
    uint64_t offset;
    ProtobufCMessage *message;
    struct wfe_error failure;
};

static void drop_message(struct source *source)
{
    if (source->message)
        protobuf_c_message_free_unpacked(wfe_steal(&source->message), NULL);
}

static la_ssize_t read_source(struct archive *reader, void *context, const void **ret)
{
    struct source *source = context;
    drop_message(source);
    if (source->offset >= source->diff->size_bytes)
        return 0;
    int r = 0;
    if (!source->call)
        r = start_read(
            source->session, source->diff, source->offset, 0, &source->call, &source->failure);
    if (r == 0)
        r = wfe_rpc_receive(source->call, -1, &source->message, &source->failure);
    if (r < 0) {
        archive_set_error(reader, -r, "%s", source->failure.message);
        return ARCHIVE_FATAL;
    }
    if (!source->message)
        return 0;
    const ProtobufCBinaryData *data = &((Content__ReadContentResponse *)source->message)->data;
    source->offset += data->len;
    *ret = data->data;
    return (la_ssize_t)data->len;
}

/* A long file that nobody wants is not sent. */
static la_int64_t skip_source(struct archive *reader, void *context, la_int64_t request)
{
    (void)reader;
    struct source *source = context;
    if (request < WFE_RPC_MESSAGE_MAX_BYTES)
        return 0;
    wfe_rpc_call_free(wfe_steal(&source->call));
    source->offset += (uint64_t)request;
    return request;
}

static int visit_all(
    struct archive *reader, wfe_diff_visitor *visitor, void *context, struct wfe_error *err)
{
    for (;;) {
        struct archive_entry *entry;
        int status = archive_read_next_header(reader, &entry);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
            return wfe_archive_reader_failed(reader, err);
        int r = visitor(context, reader, entry, err);
        if (r != 0)
            return r < 0 ? r : 0;
    }
}

int wfe_diff_visit(const struct wfe_session *session, const struct wfe_diff *diff,
    wfe_diff_visitor *visitor, void *context, struct wfe_error *err)
{
    struct source source = {.session = session, .diff = diff};
    WFE_ARCHIVE_READER struct archive *reader = archive_read_new();
    if (!reader)
        return wfe_error_nomem(err);
    archive_read_support_format_tar(reader);
    archive_read_set_read_callback(reader, read_source);
    archive_read_set_skip_callback(reader, skip_source);
    archive_read_set_callback_data(reader, &source);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = archive_read_open1(reader) == ARCHIVE_OK ? visit_all(reader, visitor, context, &failure)
                                                     : wfe_archive_reader_failed(reader, &failure);
    drop_message(&source);
    wfe_rpc_call_free(source.call);
    if (r < 0 && err)
        *err = source.failure.kind != WFE_ERROR_NONE ? source.failure : failure;
    return r;
}

static void let_go(const struct wfe_session *session, const struct wfe_diff *diff)
{
    Leases__Resource resource = LEASES__RESOURCE__INIT;
    resource.id = (char *)diff->digest.text;
    resource.type = (char *)"content";
    Leases__DeleteResourceRequest request = LEASES__DELETE_RESOURCE_REQUEST__INIT;
    request.id = (char *)session->lease;
    request.resource = &resource;
    wfe_session_undo(session,
        (struct wfe_rpc_method){&leases__leases__descriptor, "DeleteResource"}, &request.base,
        DROP_TIMEOUT_MS, NULL);
}

static Content__DeleteContentRequest deletion(const struct wfe_diff *diff)
{
    Content__DeleteContentRequest request = CONTENT__DELETE_CONTENT_REQUEST__INIT;
    request.digest = (char *)diff->digest.text;
    return request;
}

void wfe_diff_drop(const struct wfe_session *session, const struct wfe_diff *diff, bool is_ours)
{
    if (!is_ours) {
        let_go(session, diff);
        return;
    }
    Content__DeleteContentRequest request = deletion(diff);
    wfe_session_undo(
        session, (struct wfe_rpc_method){CONTENT, "Delete"}, &request.base, DROP_TIMEOUT_MS, NULL);
}

void wfe_diff_drop_start(
    const struct wfe_session *session, const struct wfe_diff *diff, struct wfe_rpc_call **ret_call)
{
    Content__DeleteContentRequest request = deletion(diff);
    wfe_session_undo_start(session, (struct wfe_rpc_method){CONTENT, "Delete"}, &request.base,
        DROP_TIMEOUT_MS, ret_call, NULL);
}

void wfe_diff_drop_finish(
    const struct wfe_session *session, const struct wfe_diff *diff, struct wfe_rpc_call *call)
{
    int r = call ? wfe_session_undo_finish(call, NULL) : -EAGAIN;
    wfe_rpc_call_free(call);
    if (r < 0)
        wfe_diff_drop(session, diff, true);
}
