/* SPDX-License-Identifier: MIT */
#include "executor/image/pull.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/image/image.h"
#include "executor/image/image_write.h"
#include "executor/image/pull_layers.h"
#include "executor/image/transfer.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

/* An index may hold indexes: each is narrowed to the daemon's platform. */
#define DOCUMENTS_MAX 5

/* A manifest or index as it stands in the registry. */
struct document {
    struct wfe_descriptor descriptor;
    char *json;
};

struct pull {
    const struct wfe_session *session;
    const struct wfe_pull_options *options;
    struct wfe_reference reference;
    struct wfe_registry *registry;
    struct document documents[DOCUMENTS_MAX]; /* indexes from the outside in, then the manifest */
    size_t document_count;
    struct wfe_image_manifest manifest;
    char *config_json;
    struct wfe_image_config config;
};

static void pull_done(struct pull *pull)
{
    wfe_registry_free(pull->registry);
    for (size_t i = 0; i < pull->document_count; i++)
        free(pull->documents[i].json);
    free(pull->config_json);
    wfe_image_manifest_done(&pull->manifest);
    wfe_image_config_done(&pull->config);
}

/* What the daemon has got already. *ret_json stays NULL when it has not. */
static int read_known(const struct pull *pull, const struct wfe_digest *digest, char **ret_json,
    size_t *ret_length, struct wfe_error *err)
{
    int64_t size_bytes;
    int r = wfe_content_size(pull->session, digest, &size_bytes, err);
    if (r < 0 || size_bytes < 0)
        return r;
    return wfe_content_read(
        pull->session, digest, WFE_IMAGE_JSON_MAX_BYTES, ret_json, ret_length, err);
}

/* The document that another one, or the reference, points to. `expected` is NULL for the reference.
 */
static int fetch_document(struct pull *pull, const char *tag_or_digest,
    const struct wfe_descriptor *expected, struct document *ret, struct wfe_error *err)
{
    struct document document = {.json = NULL};
    if (expected) {
        size_t length = 0;
        int r = read_known(pull, &expected->digest, &document.json, &length, err);
        if (r < 0)
            return r;
        document.descriptor = *expected;
        document.descriptor.size_bytes = (int64_t)length;
    }
    if (!document.json) {
        int r = wfe_registry_manifest(pull->registry, tag_or_digest, pull->session->cancel,
            &document.descriptor, &document.json, err);
        if (r < 0)
            return r;
    }
    if (expected && (expected->size_bytes != document.descriptor.size_bytes ||
                        strcmp(expected->media_type, document.descriptor.media_type) != 0)) {
        int r = wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "manifest %s is a %.80s of %lld bytes, the index says %.80s of %lld bytes",
            tag_or_digest, document.descriptor.media_type,
            (long long)document.descriptor.size_bytes, expected->media_type,
            (long long)expected->size_bytes);
        free(document.json);
        return r;
    }
    *ret = document;
    return 0;
}

/* The reference's manifest, by way of the indexes before it. */
static int resolve(struct pull *pull, struct wfe_error *err)
{
    const struct wfe_reference *reference = &pull->reference;
    struct wfe_descriptor next;
    const struct wfe_descriptor *expected = NULL;
    const char *name = reference->digest[0] ? reference->digest : reference->tag;
    while (pull->document_count < DOCUMENTS_MAX) {
        struct document *document = &pull->documents[pull->document_count];
        int r = fetch_document(pull, name, expected, document, err);
        if (r < 0)
            return r;
        pull->document_count++;
        size_t length = (size_t)document->descriptor.size_bytes;
        if (!wfe_image_is_index(document->descriptor.media_type))
            return wfe_image_manifest_parse(document->json, length, &pull->manifest, err);
        r = wfe_image_index_select(document->json, length, &pull->session->platform, &next, err);
        if (r < 0)
            return r;
        expected = &next;
        name = next.digest.text;
    }
    return wfe_error_set(
        err, WFE_ERROR_LIMIT, ELOOP, "more than %d indexes inside each other", DOCUMENTS_MAX - 1);
}

static int take_text(void *context, const void *data, size_t length, struct wfe_error *err)
{
    /* The descriptor's size, which the registry's client keeps to, is within the buffer's cap. */
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

static int fetch_config(
    struct pull *pull, char **ret_json, size_t *ret_length, struct wfe_error *err)
{
    const struct wfe_descriptor *descriptor = &pull->manifest.config;
    if (descriptor->size_bytes > WFE_IMAGE_JSON_MAX_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "the configuration has %lld bytes, at most %d are allowed",
            (long long)descriptor->size_bytes, WFE_IMAGE_JSON_MAX_BYTES);
    int r = read_known(pull, &descriptor->digest, ret_json, ret_length, err);
    if (r < 0 || *ret_json)
        return r;
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_IMAGE_JSON_MAX_BYTES);
    struct wfe_sink sink = {.write = take_text, .context = &text};
    r = wfe_registry_blob(pull->registry, descriptor, sink, pull->session->cancel, err);
    if (r < 0)
        return r;
    size_t length = text.length;
    char *json = wfe_buffer_steal(&text);
    if (!json)
        return wfe_error_nomem(err);
    *ret_json = json;
    *ret_length = length;
    return 0;
}

static int read_config(struct pull *pull, struct wfe_error *err)
{
    size_t length = 0;
    int r = fetch_config(pull, &pull->config_json, &length, err);
    if (r == 0 && (int64_t)length != pull->manifest.config.size_bytes)
        r = wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "the configuration has %zu bytes, the manifest says %lld", length,
            (long long)pull->manifest.config.size_bytes);
    if (r == 0)
        r = wfe_image_config_parse(pull->config_json, length, &pull->config, err);
    if (r == 0)
        r = wfe_image_check(&pull->manifest, &pull->config, &pull->session->platform, err);
    return r;
}

static int bring_layers(struct pull *pull, const char *name, struct wfe_error *err)
{
    const struct wfe_pull_options *options = pull->options;
    struct wfe_pull_layers layers = {
        .session = pull->session,
        .registry = pull->registry,
        .reference = &pull->reference,
        .manifest = &pull->manifest,
        .config = &pull->config,
        .max_downloads =
            options->max_downloads > 0 ? options->max_downloads : WFE_PULL_DEFAULT_DOWNLOADS,
        .name = name,
        .progress = options->progress,
    };
    return wfe_pull_layers(&layers, err);
}

/* From the inside out: what refers to something comes after it. */
static int write_documents(const struct pull *pull, struct wfe_error *err)
{
    size_t last = pull->document_count - 1;
    const struct document *manifest = &pull->documents[last];
    int r = wfe_image_write_manifest(
        pull->session, &manifest->descriptor, manifest->json, &pull->manifest, err);
    for (size_t i = last; r == 0 && i > 0; i--)
        r = wfe_image_write_index(pull->session, &pull->documents[i - 1].descriptor,
            pull->documents[i - 1].json, &pull->documents[i].descriptor.digest, err);
    return r;
}

static int bring_image(struct pull *pull, const char *name, struct wfe_error *err)
{
    int r = wfe_registry_open(&pull->reference, &pull->options->registry, &pull->registry, err);
    if (r == 0)
        r = resolve(pull, err);
    if (r == 0)
        r = read_config(pull, err);
    if (r == 0)
        r = wfe_image_write_config(
            pull->session, &pull->manifest.config, pull->config_json, &pull->config, err);
    if (r == 0)
        r = bring_layers(pull, name, err);
    if (r == 0)
        r = write_documents(pull, err);
    if (r == 0)
        r = wfe_image_record(pull->session, name, &pull->documents[0].descriptor, err);
    return r;
}

/*
 * By the daemon itself. *ret_pulled false: our own client has to do it, with the daemon's failure
 * in *daemons when it has tried. That is also so when the registry has refused: Transfer tells that
 * in words and with codes that differ from version to version, so the answer that counts is the one
 * to our own request.
 */
static int let_daemon_pull(const struct wfe_transfer_pull *transfer, bool *ret_pulled,
    struct wfe_error *daemons, struct wfe_error *err)
{
    enum wfe_transfer_use use;
    int r = wfe_transfer_use(&use, err);
    if (r < 0 || use == WFE_TRANSFER_NEVER)
        return r;
    const char *obstacle = NULL;
    r = wfe_transfer_obstacle(transfer, &obstacle, err);
    if (r < 0)
        return r;
    if (obstacle && use == WFE_TRANSFER_ALWAYS)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOTSUP,
            "WFE_TRANSFER=always: the daemon can't pull it: %s", obstacle);
    if (obstacle) {
        wfe_log(WFE_LOG_DEBUG, "image", "not pulled by the daemon: %s", obstacle);
        return 0;
    }
    r = wfe_transfer_pull(transfer, daemons);
    *ret_pulled = r == 0;
    if (r < 0 && r != -ECANCELED && use != WFE_TRANSFER_ALWAYS) {
        wfe_log(WFE_LOG_INFO, "image", "the daemon did not pull it: %s", daemons->message);
        return 0;
    }
    if (r < 0 && err)
        *err = *daemons;
    return r;
}

/* The daemon may reach, or trust, a registry that this process does not: then what it was told
 * counts. */
static int choose_failure(const struct pull *pull, const struct wfe_error *own,
    const struct wfe_error *daemons, struct wfe_error *err)
{
    struct wfe_error failure = *own;
    bool is_refusal = daemons->errnum == ENOENT || daemons->errnum == EACCES;
    if (own->kind == WFE_ERROR_SYSTEM && daemons->kind != WFE_ERROR_NONE &&
        (is_refusal || !pull->session->local)) {
        failure = *daemons;
        if (is_refusal)
            failure.kind = WFE_ERROR_INPUT;
    }
    if (err)
        *err = failure;
    return -failure.errnum;
}

static int bring_somehow(
    struct pull *pull, const char *name, const char *reference, struct wfe_error *err)
{
    WFE_FREE char *source = NULL;
    int r = wfe_image_normalize(reference, &source, err);
    if (r < 0)
        return r;
    const struct wfe_transfer_pull transfer = {
        .session = pull->session,
        .reference = &pull->reference,
        .source = source,
        .name = name,
        .registry = &pull->options->registry,
        .limits_downloads = pull->options->max_downloads > 0,
        .progress = pull->options->progress,
    };
    bool pulled = false;
    struct wfe_error daemons = WFE_ERROR_INIT, own = WFE_ERROR_INIT;
    r = let_daemon_pull(&transfer, &pulled, &daemons, err);
    if (r < 0 || pulled)
        return r;
    r = bring_image(pull, name, &own);
    return r < 0 ? choose_failure(pull, &own, &daemons, err) : 0;
}

int wfe_pull(const struct wfe_session *session, const char *reference,
    const struct wfe_pull_options *options, char **ret_name, struct wfe_error *err)
{
    assert(session && session->lease && reference && options);
    struct pull pull = {.session = session, .options = options};
    WFE_FREE char *name = NULL;
    int r = wfe_image_split(reference, &pull.reference, err);
    if (r == 0)
        r = wfe_image_normalize(options->name ? options->name : reference, &name, err);
    if (r < 0)
        return r;
    wfe_progress_stage(options->progress, "pulling %s", name);
    r = bring_somehow(&pull, name, reference, err);
    if (r < 0)
        wfe_error_prefix(err, "image '%.200s'", reference);
    else if (ret_name)
        *ret_name = wfe_steal(&name);
    pull_done(&pull);
    return r;
}

static int unpack(const struct wfe_session *session, const struct wfe_image *image,
    struct wfe_digest *ret, struct wfe_error *err)
{
    int r = wfe_image_unpack(session, &image->manifest, &image->config, NULL, NULL, ret, err);
    if (r < 0)
        wfe_error_prefix(err, "image '%.200s'", image->name);
    return r;
}

static int pull_and_unpack(struct wfe_session *session, const struct wfe_step_config *config,
    const struct wfe_pull_options *options, struct wfe_image *ret, struct wfe_digest *ret_chain,
    struct wfe_error *err)
{
    struct wfe_pull_options own = *options;
    own.registry.logins = config->registry_auth;
    own.registry.login_count = config->registry_auth_count;
    WFE_FREE char *name = NULL;
    int r = wfe_pull(session, config->image, &own, &name, err);
    if (r == 0)
        r = wfe_image_find(session, name, ret, err);
    return r < 0 ? r : unpack(session, ret, ret_chain, err);
}

/* It is there: *ret_due when it has to be pulled all the same, since a blob of it is gone. */
static int unpack_found(const struct wfe_session *session, const struct wfe_step_config *config,
    struct wfe_image *image, struct wfe_digest *ret_chain, bool *ret_due, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = unpack(session, image, ret_chain, &failure);
    *ret_due = r == -ENOENT && config->pull != WFE_PULL_NEVER;
    if (*ret_due) {
        wfe_log(WFE_LOG_WARN, "image", "it is not whole, and pulled again: %s", failure.message);
        wfe_image_done(image);
        *image = (struct wfe_image){.name = NULL};
        return 0;
    }
    if (r < 0 && err)
        *err = failure;
    return r;
}

int wfe_pull_by_policy(struct wfe_session *session, const struct wfe_step_config *config,
    const struct wfe_pull_options *options, int (*hold)(void *context, struct wfe_error *err),
    void *context, struct wfe_image *ret, struct wfe_digest *ret_chain, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = -ENOENT;
    if (config->pull != WFE_PULL_ALWAYS) {
        wfe_progress_stage(options->progress, "image %s", config->image);
        r = options->found
                ? wfe_image_find_finish(session, config->image, options->found, ret, &failure)
                : wfe_image_find(session, config->image, ret, &failure);
    }
    bool is_due = r == -ENOENT && config->pull != WFE_PULL_NEVER;
    if (r < 0 && !is_due) {
        if (err)
            *err = failure;
        return r;
    }
    r = hold(context, err);
    if (r == 0 && !is_due)
        r = unpack_found(session, config, ret, ret_chain, &is_due, err);
    return r < 0 || !is_due ? r : pull_and_unpack(session, config, options, ret, ret_chain, err);
}
