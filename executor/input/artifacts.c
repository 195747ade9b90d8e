/* SPDX-License-Identifier: MIT */
#include "executor/input/artifacts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "executor/daemon/labels.h"
#include "executor/input/input_layer.h"
#include "libcommon/cleanup.h"
#include "snapshots.pb-c.h"

#define REFERENCE_KEY "__wfe_artifact"

/* The label "wfe.input.<32 digits of the key>" holds the whole key: a chain may answer to several
 * keys, since different artifacts can unpack to the same layer. */
#define INPUT_LABEL "wfe.input."
#define INPUT_LABEL_MAX 64

/* A change of what the layer writer makes of an artifact must change the keys. */
#define KEY_VERSION "wfe-input-1"

void wfe_inputs_done(struct wfe_inputs *inputs)
{
    for (size_t i = 0; i < inputs->count; i++) {
        free(inputs->items[i].name);
        free(inputs->items[i].target);
        free(inputs->items[i].path);
    }
    free(inputs->items);
    wfe_store_free(inputs->store);
    *inputs = (struct wfe_inputs){0};
}

/* What the volume says of a name: the text of a binding, or of a reference in the data. */
static int find_source(const char *name, const cJSON *data,
    const struct wfe_artifact_binding *bindings, size_t binding_count, const char **ret,
    struct wfe_error *err)
{
    for (size_t i = 0; i < binding_count; i++)
        if (strcmp(bindings[i].name, name) == 0) {
            *ret = bindings[i].source;
            return 0;
        }
    if (data && !cJSON_IsObject(data))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': the workflow data is not a JSON object", name);
    const cJSON *value = data ? cJSON_GetObjectItemCaseSensitive(data, name) : NULL;
    if (!value)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "input '%s': no such artifact in the workflow data; bind it with --artifact %s=SOURCE",
            name, name);
    const cJSON *reference = cJSON_GetObjectItemCaseSensitive(value, REFERENCE_KEY);
    if (!cJSON_IsString(reference))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': its value in the workflow data is no artifact reference; expected "
            "{\"" REFERENCE_KEY "\":\"sha256:…\"}",
            name);
    if (strncmp(reference->valuestring, "sha256:", 7) != 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': '%.100s' is no digest; expected sha256: and 64 hexadecimal digits", name,
            reference->valuestring);
    *ret = reference->valuestring;
    return 0;
}

static int resolve_stored(struct wfe_inputs *inputs, struct wfe_input *input, const char *text,
    const char *store_path, struct wfe_error *err)
{
    if (wfe_digest_parse(text, &input->digest) < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': '%.100s' is no digest; expected sha256: and 64 hexadecimal digits",
            input->name, text);
    if (!inputs->store) {
        int r = wfe_store_open(store_path, false, &inputs->store, err);
        if (r < 0) {
            wfe_error_prefix(err, "input '%s'", input->name);
            return r;
        }
    }
    if (!wfe_store_exists(inputs->store, &input->digest))
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "input '%s': artifact %s is not in the store %s, or has expired", input->name, text,
            store_path);
    input->stored = true;
    return 0;
}

static int resolve_input(struct wfe_inputs *inputs, struct wfe_input *input, const char *source,
    const char *store_path, struct wfe_error *err)
{
    if (strncmp(source, "sha256:", 7) == 0)
        return resolve_stored(inputs, input, source, store_path, err);
    struct stat st;
    if (stat(source, &st) < 0) {
        int r = wfe_error_set(err, WFE_ERROR_INPUT, errno, "input '%s': %s: %s", input->name,
            source, strerror(errno));
        return r;
    }
    input->path = strdup(source);
    return input->path ? 0 : wfe_error_nomem(err);
}

int wfe_inputs_resolve(const struct wfe_step_config *config, const cJSON *data,
    const struct wfe_artifact_binding *bindings, size_t binding_count, const char *store_path,
    struct wfe_inputs *ret, struct wfe_error *err)
{
    if (config->input_count == 0) {
        *ret = (struct wfe_inputs){0};
        return 0;
    }
    struct wfe_inputs inputs = {
        .items = calloc(config->input_count, sizeof *inputs.items),
    };
    if (!inputs.items)
        return wfe_error_nomem(err);
    int r = 0;
    for (size_t i = 0; i < config->input_count && r == 0; i++) {
        struct wfe_input *input = &inputs.items[inputs.count++];
        input->name = strdup(config->inputs[i].name);
        input->target = strdup(config->inputs[i].value);
        if (!input->name || !input->target) {
            r = wfe_error_nomem(err);
            break;
        }
        const char *source = NULL;
        r = find_source(input->name, data, bindings, binding_count, &source, err);
        if (r == 0)
            r = resolve_input(&inputs, input, source, store_path, err);
    }
    if (r < 0) {
        wfe_inputs_done(&inputs);
        return r;
    }
    *ret = inputs;
    return 0;
}

/* The key of an input on top of `below` (a key, or the image's chainID). */
static int input_key(const char *below, const struct wfe_input *input, struct wfe_digest *ret)
{
    WFE_FREE char *text = NULL;
    int length =
        asprintf(&text, KEY_VERSION "\n%s\n%s\n%s", below, input->digest.text, input->target);
    if (length < 0) {
        text = NULL;
        return -ENOMEM;
    }
    wfe_digest_of(text, (size_t)length, ret);
    return 0;
}

static void input_label(const struct wfe_digest *key, char label[INPUT_LABEL_MAX])
{
    snprintf(label, INPUT_LABEL_MAX, INPUT_LABEL "%.32s", wfe_digest_hex(key));
}

/* The keys of the leading inputs that have a digest; the others can't be known beforehand. */
static int input_keys(const struct wfe_digest *image_chain, const struct wfe_inputs *inputs,
    struct wfe_digest *keys, size_t *ret_count)
{
    size_t count = 0;
    const char *below = image_chain->text;
    while (count < inputs->count && inputs->items[count].stored) {
        int r = input_key(below, &inputs->items[count], &keys[count]);
        if (r < 0)
            return r;
        below = keys[count].text;
        count++;
    }
    *ret_count = count;
    return 0;
}

/* Of the snapshots in one message of the answer, the one with the most inputs in it. */
static void pick_deepest(const Snapshots__ListSnapshotsResponse *message,
    const struct wfe_digest *keys, size_t key_count, size_t *depth, struct wfe_digest *chain)
{
    for (size_t i = 0; i < message->n_info; i++) {
        const Snapshots__Info *info = message->info[i];
        for (size_t k = *depth; k < key_count; k++) {
            char label[INPUT_LABEL_MAX];
            input_label(&keys[k], label);
            const char *key = wfe_label_find(info->labels, info->n_labels, label);
            if (key && strcmp(key, keys[k].text) == 0 && wfe_digest_parse(info->name, chain) == 0)
                *depth = k + 1;
        }
    }
}

/* How many of the inputs the daemon has already, on which chain. */
static int find_chain(const struct wfe_session *session, const struct wfe_digest *keys,
    size_t key_count, size_t *depth, struct wfe_digest *chain, struct wfe_error *err)
{
    WFE_FREE char **filters = calloc(key_count, sizeof *filters);
    if (!filters)
        return wfe_error_nomem(err);
    int r = 0;
    for (size_t i = 0; i < key_count && r == 0; i++) {
        char label[INPUT_LABEL_MAX];
        input_label(&keys[i], label);
        if (asprintf(&filters[i], "labels.\"%s\"==\"%s\"", label, keys[i].text) < 0) {
            filters[i] = NULL;
            r = wfe_error_nomem(err);
        }
    }
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    if (r == 0) {
        Snapshots__ListSnapshotsRequest request = SNAPSHOTS__LIST_SNAPSHOTS_REQUEST__INIT;
        request.snapshotter = (char *)session->snapshotter;
        request.filters = filters;
        request.n_filters = key_count;
        struct wfe_rpc_context context = wfe_session_context(session);
        r = wfe_rpc_start(session->rpc, &context,
            (struct wfe_rpc_method){&snapshots__snapshots__descriptor, "List"}, &request.base,
            &call, err);
    }
    for (size_t i = 0; i < key_count; i++)
        free(filters[i]);
    while (r == 0) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        r = wfe_rpc_receive(call, -1, &message, err);
        if (!message)
            break;
        pick_deepest((Snapshots__ListSnapshotsResponse *)message, keys, key_count, depth, chain);
    }
    return r;
}

static int apply_one(const struct wfe_inputs *inputs, const struct wfe_input *input,
    struct wfe_input_layer *layer, struct wfe_digest *ret_chain, struct wfe_error *err)
{
    WFE_FREE char *blob_path = NULL;
    layer->path = input->path;
    if (input->stored) {
        layer->digest = &input->digest;
        int r = wfe_store_get(inputs->store, &input->digest, &blob_path, err);
        if (r == 0)
            r = wfe_store_stat(inputs->store, &input->digest, &layer->status, err);
        if (r < 0)
            return r;
        layer->path = blob_path;
    }
    return wfe_input_layer_apply(layer, ret_chain, err);
}

/* The keys that can be known, and how many of the leading inputs the daemon has, on which chain.
 * Caller frees *ret_keys. */
static int find_inputs(const struct wfe_session *session, const struct wfe_inputs *inputs,
    struct wfe_digest **ret_keys, size_t *ret_key_count, size_t *ret_done, struct wfe_digest *chain,
    struct wfe_error *err)
{
    WFE_FREE struct wfe_digest *keys = calloc(inputs->count, sizeof *keys);
    size_t key_count, done = 0;
    if (!keys || input_keys(chain, inputs, keys, &key_count) < 0)
        return wfe_error_nomem(err);
    if (key_count > 0) {
        int r = find_chain(session, keys, key_count, &done, chain, err);
        if (r < 0)
            return r;
    }
    *ret_keys = wfe_steal(&keys);
    *ret_key_count = key_count;
    *ret_done = done;
    return 0;
}

int wfe_inputs_missing_bytes(const struct wfe_session *session,
    const struct wfe_digest *image_chain, const struct wfe_inputs *inputs, uint64_t *ret,
    struct wfe_error *err)
{
    struct wfe_digest chain = *image_chain;
    WFE_FREE struct wfe_digest *keys = NULL;
    size_t key_count = 0, done = 0;
    int r = find_inputs(session, inputs, &keys, &key_count, &done, &chain, err);
    uint64_t total = 0;
    for (size_t i = done; r == 0 && i < inputs->count; i++) {
        struct wfe_store_status status = {.size_bytes = 0};
        if (inputs->items[i].stored)
            r = wfe_store_stat(inputs->store, &inputs->items[i].digest, &status, err);
        total += status.size_bytes;
    }
    if (r == 0)
        *ret = total;
    return r;
}

int wfe_inputs_apply(const struct wfe_session *session, const struct wfe_image *image,
    const struct wfe_digest *image_chain, const struct wfe_inputs *inputs,
    struct wfe_progress *progress, struct wfe_digest *ret, struct wfe_error *err)
{
    struct wfe_digest chain = *image_chain;
    if (inputs->count == 0) {
        *ret = chain;
        return 0;
    }
    WFE_FREE struct wfe_digest *keys = NULL;
    size_t key_count, done;
    int r = find_inputs(session, inputs, &keys, &key_count, &done, &chain, err);
    if (r < 0)
        return r;
    for (size_t i = done; i < inputs->count; i++) {
        char name[INPUT_LABEL_MAX];
        struct wfe_label label = {.key = name};
        if (i < key_count) {
            input_label(&keys[i], name);
            label.value = keys[i].text;
        }
        struct wfe_input_layer layer = {
            .session = session,
            .image = image,
            .progress = progress,
            .name = inputs->items[i].name,
            .target = inputs->items[i].target,
            .limits = &inputs->limits,
            .parent = chain,
            .label = i < key_count ? &label : NULL,
        };
        r = apply_one(inputs, &inputs->items[i], &layer, &chain, err);
        if (r < 0) {
            wfe_error_prefix(err, "input '%s'", inputs->items[i].name);
            return r;
        }
    }
    *ret = chain;
    return 0;
}
