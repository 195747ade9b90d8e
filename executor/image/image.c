/* SPDX-License-Identifier: MIT */
#include "executor/image/image.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/daemon/snapshot.h"
#include "executor/image/image_write.h"
#include "images.pb-c.h"
#include "libcommon/cleanup.h"

static int find_record(const struct wfe_session *session, const char *reference,
    struct wfe_rpc_call *call, Images__GetImageResponse **ret, struct wfe_error *err)
{
    int r = wfe_image_get_record_finish(reference, call, ret, err);
    if (r == 0 && !*ret) {
        WFE_FREE char *full_name = NULL;
        r = wfe_image_normalize(reference, &full_name, err);
        if (r == 0)
            r = wfe_image_get_record(session, full_name, ret, err);
    }
    if (r == 0 && !*ret)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "image '%s' is not in containerd (namespace '%s'): bring it in with "
            "`wfe-containerd pull %s`",
            reference, session->namespace_, reference);
    return r;
}

/* An index may hold indexes: each is narrowed to the daemon's platform. */
#define INDEX_DEPTH_MAX 4

static int read_manifest(const struct wfe_session *session, const Types__Descriptor *target,
    struct wfe_image_manifest *ret, struct wfe_error *err)
{
    struct wfe_descriptor at = {.size_bytes = 0};
    if (!target || wfe_digest_parse(target->digest, &at.digest) < 0)
        return wfe_error_set(
            err, WFE_ERROR_CONTAINERD, EINVAL, "the image's record has no usable digest");
    snprintf(at.media_type, sizeof at.media_type, "%s", target->media_type);
    for (int depth = 0; depth <= INDEX_DEPTH_MAX; depth++) {
        WFE_FREE char *json = NULL;
        size_t length;
        int r =
            wfe_content_read(session, &at.digest, WFE_IMAGE_JSON_MAX_BYTES, &json, &length, err);
        if (r < 0)
            return r;
        if (!wfe_image_is_index(at.media_type))
            return wfe_image_manifest_parse(json, length, ret, err);
        r = wfe_image_index_select(json, length, &session->platform, &at, err);
        if (r < 0)
            return r;
    }
    return wfe_error_set(
        err, WFE_ERROR_LIMIT, ELOOP, "more than %d indexes inside each other", INDEX_DEPTH_MAX);
}

static int read_config(const struct wfe_session *session, const struct wfe_digest *digest,
    struct wfe_image_config *ret, struct wfe_error *err)
{
    WFE_FREE char *json = NULL;
    size_t length;
    int r = wfe_content_read(session, digest, WFE_IMAGE_JSON_MAX_BYTES, &json, &length, err);
    if (r < 0)
        return r;
    return wfe_image_config_parse(json, length, ret, err);
}

void wfe_image_chain(const struct wfe_image_config *config, struct wfe_digest *ret)
{
    *ret = config->diff_ids[0];
    for (size_t i = 1; i < config->layer_count; i++) {
        struct wfe_digest parent = *ret;
        wfe_digest_chain(&parent, &config->diff_ids[i], ret);
    }
}

static int label_unpacked(const struct wfe_session *session,
    const struct wfe_image_manifest *manifest, const struct wfe_digest *chain_id,
    struct wfe_error *err)
{
    char key[160];
    snprintf(key, sizeof key, "containerd.io/gc.ref.snapshot.%s", session->snapshotter);
    const struct wfe_label label = {key, chain_id->text};
    return wfe_content_label(session, &manifest->config.digest, &label, 1, err);
}

static int unpack_layer(const struct wfe_session *session, const struct wfe_descriptor *layer,
    const struct wfe_digest *diff_id, const struct wfe_digest *parent,
    const struct wfe_digest *chain, struct wfe_error *err)
{
    int r = wfe_snapshot_apply(session, parent, layer, diff_id, chain, NULL, err);
    if (r < 0)
        return r;
    const struct wfe_label uncompressed = {"containerd.io/uncompressed", diff_id->text};
    return wfe_content_label(session, &layer->digest, &uncompressed, 1, err);
}

int wfe_image_unpack(const struct wfe_session *session, const struct wfe_image_manifest *manifest,
    const struct wfe_image_config *config, wfe_image_awaiter *await, void *await_context,
    struct wfe_digest *ret_chain_id, struct wfe_error *err)
{
    if (config->layer_count == 0 || manifest->layer_count != config->layer_count)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "the image has %zu layers, its configuration lists %zu", manifest->layer_count,
            config->layer_count);
    struct wfe_digest chain_id;
    wfe_image_chain(config, &chain_id);
    bool exists;
    int r = wfe_snapshot_exists(session, chain_id.text, &exists, err);
    if (r < 0)
        return r;
    if (!exists) {
        struct wfe_digest parent, chain;
        for (size_t i = 0; i < config->layer_count; i++) {
            wfe_digest_chain(i > 0 ? &parent : NULL, &config->diff_ids[i], &chain);
            r = await ? await(await_context, i, err) : 0;
            if (r == 0)
                r = unpack_layer(session, &manifest->layers[i], &config->diff_ids[i],
                    i > 0 ? &parent : NULL, &chain, err);
            if (r < 0)
                return r;
            parent = chain;
        }
        r = label_unpacked(session, manifest, &chain_id, err);
        if (r < 0)
            return r;
    }
    *ret_chain_id = chain_id;
    return 0;
}

static int read_image(const struct wfe_session *session, const Images__Image *record,
    struct wfe_image *image, struct wfe_error *err)
{
    int r = read_manifest(session, record->target, &image->manifest, err);
    if (r < 0)
        return r;
    return read_config(session, &image->manifest.config.digest, &image->config, err);
}

int wfe_image_find_start(const struct wfe_session *session, const char *reference,
    struct wfe_rpc_call **ret_call, struct wfe_error *err)
{
    return wfe_image_get_record_start(session, reference, ret_call, err);
}

int wfe_image_find_finish(const struct wfe_session *session, const char *reference,
    struct wfe_rpc_call *call, struct wfe_image *ret, struct wfe_error *err)
{
    WFE_MESSAGE Images__GetImageResponse *reply = NULL;
    int r = find_record(session, reference, call, &reply, err);
    if (r < 0)
        return r;
    if (!reply->image)
        return wfe_error_set(
            err, WFE_ERROR_CONTAINERD, EIO, "image '%s': the daemon sent no record", reference);
    struct wfe_image image = {.name = strdup(reply->image->name)};
    if (!image.name)
        return wfe_error_nomem(err);
    r = read_image(session, reply->image, &image, err);
    if (r < 0) {
        wfe_error_prefix(err, "image '%s'", reference);
        wfe_image_done(&image);
        return r;
    }
    *ret = image;
    return 0;
}

int wfe_image_find(const struct wfe_session *session, const char *reference, struct wfe_image *ret,
    struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_image_find_start(session, reference, &call, err);
    return r < 0 ? r : wfe_image_find_finish(session, reference, call, ret, err);
}
