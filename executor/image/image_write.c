/* SPDX-License-Identifier: MIT */
#include "executor/image/image_write.h"

#include <errno.h>
#include <stdio.h>

#include "executor/daemon/content.h"

#define LABEL_KEY_BYTES 160
#define FORGET_TIMEOUT_MS 30000

static int write_text(const struct wfe_session *session, const struct wfe_descriptor *descriptor,
    const char *text, const struct wfe_label *labels, size_t label_count, struct wfe_error *err)
{
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(session, &descriptor->digest, &writer, &known, err);
    if (r == 0 && !known) {
        struct wfe_sink sink = wfe_content_writer_sink(writer);
        r = sink.write(sink.context, text, (size_t)descriptor->size_bytes, err);
    }
    if (r == 0)
        r = wfe_content_writer_commit(
            writer, &descriptor->digest, descriptor->size_bytes, labels, label_count, err);
    return r;
}

/* The label comes before the chain is looked for: if that is unpacked already, the collector
 * can't take it in between. */
int wfe_image_write_config(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json,
    const struct wfe_image_config *config, struct wfe_error *err)
{
    struct wfe_digest chain_id;
    wfe_image_chain(config, &chain_id);
    char key[LABEL_KEY_BYTES];
    snprintf(key, sizeof key, "containerd.io/gc.ref.snapshot.%s", session->snapshotter);
    const struct wfe_label label = {key, chain_id.text};
    return write_text(session, descriptor, json, &label, 1, err);
}

/* The collector keeps what a kept manifest refers to by labels; so many labels as an image may
 * have layers do not go into one request. */
static int label_manifest(const struct wfe_session *session, const struct wfe_digest *digest,
    const struct wfe_image_manifest *manifest, struct wfe_error *err)
{
    char keys[WFE_LABELS_MAX][LABEL_KEY_BYTES];
    struct wfe_label labels[WFE_LABELS_MAX];
    size_t count = 0;
    labels[count++] =
        (struct wfe_label){"containerd.io/gc.ref.content.config", manifest->config.digest.text};
    for (size_t i = 0; i < manifest->layer_count; i++) {
        snprintf(keys[count], sizeof keys[count], "containerd.io/gc.ref.content.l.%zu", i);
        labels[count] = (struct wfe_label){keys[count], manifest->layers[i].digest.text};
        count++;
        if (count == WFE_LABELS_MAX) {
            int r = wfe_content_label(session, digest, labels, count, err);
            if (r < 0)
                return r;
            count = 0;
        }
    }
    return count > 0 ? wfe_content_label(session, digest, labels, count, err) : 0;
}

int wfe_image_write_manifest(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json,
    const struct wfe_image_manifest *manifest, struct wfe_error *err)
{
    int r = write_text(session, descriptor, json, NULL, 0, err);
    return r < 0 ? r : label_manifest(session, &descriptor->digest, manifest, err);
}

int wfe_image_write_index(const struct wfe_session *session,
    const struct wfe_descriptor *descriptor, const char *json, const struct wfe_digest *manifest,
    struct wfe_error *err)
{
    /* A key of its own: what others keep of the index stays kept. */
    char key[LABEL_KEY_BYTES];
    snprintf(key, sizeof key, "containerd.io/gc.ref.content.m.%.12s", wfe_digest_hex(manifest));
    const struct wfe_label label = {key, manifest->text};
    return write_text(session, descriptor, json, &label, 1, err);
}

int wfe_image_record(const struct wfe_session *session, const char *name,
    const struct wfe_descriptor *target, struct wfe_error *err)
{
    Types__Descriptor descriptor = TYPES__DESCRIPTOR__INIT;
    descriptor.media_type = (char *)target->media_type;
    descriptor.digest = (char *)target->digest.text;
    descriptor.size = target->size_bytes;
    Images__Image image = IMAGES__IMAGE__INIT;
    image.name = (char *)name;
    image.target = &descriptor;
    Images__CreateImageRequest create = IMAGES__CREATE_IMAGE_REQUEST__INIT;
    create.image = &image;
    struct wfe_rpc_context context = wfe_session_context(session);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&images__images__descriptor, "Create"}, &create.base, NULL,
        &failure);
    if (r < 0 && r != -EEXIST && err)
        *err = failure;
    if (r != -EEXIST)
        return r;
    char *path = (char *)"target";
    Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
    mask.paths = &path;
    mask.n_paths = 1;
    Images__UpdateImageRequest update = IMAGES__UPDATE_IMAGE_REQUEST__INIT;
    update.image = &image;
    update.update_mask = &mask;
    return wfe_rpc_unary(session->rpc, &context,
        (struct wfe_rpc_method){&images__images__descriptor, "Update"}, &update.base, NULL, err);
}

int wfe_image_get_record_start(const struct wfe_session *session, const char *name,
    struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    Images__GetImageRequest request = IMAGES__GET_IMAGE_REQUEST__INIT;
    request.name = (char *)name;
    struct wfe_rpc_context context = wfe_session_context(session);
    int r = wfe_rpc_start(session->rpc, &context,
        (struct wfe_rpc_method){&images__images__descriptor, "Get"}, &request.base, ret_call, err);
    if (r < 0)
        wfe_error_prefix(err, "image '%s'", name);
    return r;
}

int wfe_image_get_record_finish(const char *name, struct wfe_rpc_call *call,
    Images__GetImageResponse **ret, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    ProtobufCMessage *reply = NULL;
    int r = wfe_rpc_receive_reply(call, -1, &reply, &failure);
    if (r < 0 && r != -ENOENT) {
        wfe_error_prefix(&failure, "image '%s'", name);
        if (err)
            *err = failure;
        return r;
    }
    *ret = (Images__GetImageResponse *)reply;
    return 0;
}

int wfe_image_get_record(const struct wfe_session *session, const char *name,
    Images__GetImageResponse **ret, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_image_get_record_start(session, name, &call, err);
    return r < 0 ? r : wfe_image_get_record_finish(name, call, ret, err);
}

int wfe_image_forget(const struct wfe_session *session, const char *name, struct wfe_error *err)
{
    Images__DeleteImageRequest request = IMAGES__DELETE_IMAGE_REQUEST__INIT;
    request.name = (char *)name;
    return wfe_session_undo(session, (struct wfe_rpc_method){&images__images__descriptor, "Delete"},
        &request.base, FORGET_TIMEOUT_MS, err);
}
