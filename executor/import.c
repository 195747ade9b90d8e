/* SPDX-License-Identifier: MIT */
#include "executor/import.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor/content.h"
#include "executor/import_plan.h"
#include "images.pb-c.h"
#include "libcommon/cleanup.h"

#define READ_BYTES (256 * 1024)
#define LABEL_KEY_BYTES 160

static int upload_text(const struct wfe_session *session, const struct wfe_descriptor *descriptor,
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

/* All of the member into the sink, compared with what the manifest says of it. */
static int stream_layer(struct wfe_import_member *member, const struct wfe_descriptor *layer,
    struct wfe_sink sink, struct wfe_error *err)
{
    WFE_FREE char *data = malloc(READ_BYTES);
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    if (!data || wfe_hasher_new(&hasher) < 0)
        return wfe_error_nomem(err);
    int64_t total_bytes = 0;
    for (;;) {
        ssize_t n = wfe_import_member_read(member, data, READ_BYTES, err);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        total_bytes += n;
        if (total_bytes > layer->size_bytes)
            break;
        wfe_hasher_update(hasher, data, (size_t)n);
        int r = sink.write(sink.context, data, (size_t)n, err);
        if (r < 0)
            return r;
    }
    struct wfe_digest actual;
    wfe_hasher_final(hasher, &actual);
    if (total_bytes != layer->size_bytes)
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "it does not have the %lld bytes that the manifest says", (long long)layer->size_bytes);
    if (!wfe_digest_equal(&actual, &layer->digest))
        return wfe_error_set(
            err, WFE_ERROR_INTEGRITY, EBADMSG, "it has the digest %s", actual.text);
    return 0;
}

/* Layers that occur more than once in an image are visited once: firsts[i] is the place in
 * the manifest of the i-th layer to visit. */
struct layer_upload {
    const struct wfe_session *session;
    const struct wfe_import_plan *plan;
    size_t *firsts;
};

static int upload_layer(
    void *context, size_t index, struct wfe_import_member *member, struct wfe_error *err)
{
    const struct layer_upload *upload = context;
    size_t at = upload->firsts[index];
    const struct wfe_descriptor *layer = &upload->plan->manifest.layers[at];
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(upload->session, &layer->digest, &writer, &known, err);
    if (r == 0 && !known)
        r = stream_layer(member, layer, wfe_content_writer_sink(writer), err);
    if (r == 0) {
        const struct wfe_label label = {
            "containerd.io/uncompressed", upload->plan->config.diff_ids[at].text};
        r = wfe_content_writer_commit(writer, &layer->digest, layer->size_bytes, &label, 1, err);
    }
    if (r < 0)
        wfe_error_prefix(err, "layer %s", layer->digest.text);
    return r;
}

static bool occurs_before(const struct wfe_image_manifest *manifest, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (wfe_digest_equal(&manifest->layers[i].digest, &manifest->layers[at].digest))
            return true;
    return false;
}

static int upload_layers(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    size_t count = plan->manifest.layer_count;
    WFE_FREE size_t *firsts = calloc(count, sizeof *firsts);
    WFE_FREE const char **members = calloc(count, sizeof *members);
    if (!firsts || !members)
        return wfe_error_nomem(err);
    size_t member_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (occurs_before(&plan->manifest, i))
            continue;
        firsts[member_count] = i;
        members[member_count++] = plan->layer_members[i];
    }
    struct layer_upload upload = {.session = session, .plan = plan, .firsts = firsts};
    return wfe_import_source_visit(plan->source, members, member_count, upload_layer, &upload, err);
}

/* The collector keeps what a kept manifest refers to by labels; so many labels as an image may
 * have layers do not go into one request. */
static int label_manifest(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    const struct wfe_digest *digest = &plan->manifest_descriptor.digest;
    char keys[WFE_LABELS_MAX][LABEL_KEY_BYTES];
    struct wfe_label labels[WFE_LABELS_MAX];
    size_t count = 0;
    labels[count++] = (struct wfe_label){
        "containerd.io/gc.ref.content.config", plan->manifest.config.digest.text};
    for (size_t i = 0; i < plan->manifest.layer_count; i++) {
        snprintf(keys[count], sizeof keys[count], "containerd.io/gc.ref.content.l.%zu", i);
        labels[count] = (struct wfe_label){keys[count], plan->manifest.layers[i].digest.text};
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

/* The label comes before the chain is looked for: if that is unpacked already, the collector
 * can't take it in between. */
static int upload_config(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    struct wfe_digest chain_id = plan->config.diff_ids[0];
    for (size_t i = 1; i < plan->config.layer_count; i++) {
        struct wfe_digest parent = chain_id;
        wfe_digest_chain(&parent, &plan->config.diff_ids[i], &chain_id);
    }
    char key[LABEL_KEY_BYTES];
    snprintf(key, sizeof key, "containerd.io/gc.ref.snapshot.%s", session->snapshotter);
    const struct wfe_label label = {key, chain_id.text};
    return upload_text(session, &plan->manifest.config, plan->config_json, &label, 1, err);
}

/* The record makes all of it permanent, so it comes last. */
static int record_image(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    Types__Descriptor target = TYPES__DESCRIPTOR__INIT;
    target.media_type = (char *)plan->manifest_descriptor.media_type;
    target.digest = (char *)plan->manifest_descriptor.digest.text;
    target.size = plan->manifest_descriptor.size_bytes;
    Images__Image image = IMAGES__IMAGE__INIT;
    image.name = plan->name;
    image.target = &target;
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

static int import_plan(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    struct wfe_digest chain_id;
    int r = upload_config(session, plan, err);
    if (r == 0)
        r = upload_layers(session, plan, err);
    if (r == 0)
        r = upload_text(session, &plan->manifest_descriptor, plan->manifest_json, NULL, 0, err);
    if (r == 0)
        r = label_manifest(session, plan, err);
    if (r == 0)
        r = wfe_image_unpack(session, &plan->manifest, &plan->config, &chain_id, err);
    if (r == 0)
        r = record_image(session, plan, err);
    return r;
}

int wfe_import(const struct wfe_session *session, const char *source, const char *name,
    char **ret_name, struct wfe_error *err)
{
    assert(session && session->lease && source && ret_name);
    struct wfe_import_plan plan;
    int r = wfe_import_plan_make(source, name, &session->platform, &plan, err);
    if (r < 0)
        return r;
    r = import_plan(session, &plan, err);
    if (r < 0)
        wfe_error_prefix(err, "%.100s", source);
    else
        *ret_name = wfe_steal(&plan.name);
    wfe_import_plan_done(&plan);
    return r;
}
