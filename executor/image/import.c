/* SPDX-License-Identifier: MIT */
#include "executor/image/import.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/image/image_write.h"
#include "executor/image/import_plan.h"
#include "libcommon/cleanup.h"

#define READ_BYTES (256 * 1024)

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

static int import_plan(
    const struct wfe_session *session, const struct wfe_import_plan *plan, struct wfe_error *err)
{
    struct wfe_digest chain_id;
    int r = wfe_image_write_config(
        session, &plan->manifest.config, plan->config_json, &plan->config, err);
    if (r == 0)
        r = upload_layers(session, plan, err);
    if (r == 0)
        r = wfe_image_write_manifest(
            session, &plan->manifest_descriptor, plan->manifest_json, &plan->manifest, err);
    if (r == 0)
        r = wfe_image_unpack(session, &plan->manifest, &plan->config, NULL, NULL, &chain_id, err);
    if (r == 0)
        r = wfe_image_record(session, plan->name, &plan->manifest_descriptor, err);
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
