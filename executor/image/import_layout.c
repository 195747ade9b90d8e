/* SPDX-License-Identifier: MIT */
#include "executor/image/import_plan.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor/daemon/platform.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/json.h"

/* OCI image spec, "Image Layout": index.json, and blobs/sha256/HEX. */

#define MAX_NESTED_INDEXES 4

#define ANNOTATION_NAME "io.containerd.image.name"
#define ANNOTATION_REF "org.opencontainers.image.ref.name"

static char *blob_path(const struct wfe_digest *digest)
{
    char *path = NULL;
    return asprintf(&path, "blobs/sha256/%s", wfe_digest_hex(digest)) < 0 ? NULL : path;
}

/* A small blob, verified. */
static int read_blob(struct wfe_import_source *source, const struct wfe_descriptor *descriptor,
    char **ret, struct wfe_error *err)
{
    WFE_FREE char *path = blob_path(&descriptor->digest);
    if (!path)
        return wfe_error_nomem(err);
    WFE_FREE char *data = NULL;
    size_t length;
    int r = wfe_import_source_read(source, path, WFE_IMAGE_JSON_MAX_BYTES, &data, &length, err);
    if (r < 0)
        return r;
    struct wfe_digest actual;
    wfe_digest_of(data, length, &actual);
    if ((int64_t)length != descriptor->size_bytes ||
        !wfe_digest_equal(&actual, &descriptor->digest))
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "%s: it has %zu bytes with the digest %s, expected %lld bytes", path, length,
            actual.text, (long long)descriptor->size_bytes);
    *ret = wfe_steal(&data);
    return 0;
}

static const char *annotation(const cJSON *item, const char *name)
{
    const cJSON *annotations = cJSON_GetObjectItemCaseSensitive(item, "annotations");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(annotations, name));
    return text && *text ? text : NULL;
}

static bool same_reference(const char *a, const char *b)
{
    WFE_FREE char *full_a = NULL, *full_b = NULL;
    return wfe_image_normalize(a, &full_a, NULL) == 0 &&
           wfe_image_normalize(b, &full_b, NULL) == 0 && strcmp(full_a, full_b) == 0;
}

static bool is_called(const cJSON *item, const char *tag)
{
    const char *const names[] = {
        annotation(item, ANNOTATION_REF), annotation(item, ANNOTATION_NAME)};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i] && (strcmp(names[i], tag) == 0 || same_reference(names[i], tag)))
            return true;
    return false;
}

static const char *item_name(const cJSON *item)
{
    const char *name = annotation(item, ANNOTATION_NAME);
    return name ? name : annotation(item, ANNOTATION_REF);
}

static int several_images(const cJSON *items, const char *tag, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer names = WFE_BUFFER_INIT(300);
    const cJSON *item;
    cJSON_ArrayForEach(item, items)
    {
        const char *name = item_name(item);
        wfe_buffer_printf(
            &names, "%s%.100s", names.length > 0 ? ", " : "", name ? name : "(one without a name)");
    }
    if (names.length == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "index.json: it lists no image");
    if (tag)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "there is no image '%.100s' in it, only: %s", tag, names.data);
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "it holds several images, name one of them after a ':': %s", names.data);
}

/*
 * The items of index.json that may be meant, as an index of their own (caller deletes); several
 * are left only when they are one image for several platforms.
 */
static int filter_items(const cJSON *items, const char *tag, cJSON **ret, struct wfe_error *err)
{
    WFE_JSON cJSON *index = cJSON_CreateObject();
    cJSON *kept = cJSON_AddArrayToObject(index, "manifests");
    if (!kept)
        return wfe_error_nomem(err);
    const cJSON *item;
    cJSON_ArrayForEach(item, items) if ((!tag || is_called(item, tag)) &&
                                        !cJSON_AddItemReferenceToArray(kept,
                                            (cJSON *)(uintptr_t)item)) return wfe_error_nomem(err);
    const cJSON *first = cJSON_GetArrayItem(kept, 0);
    if (!first)
        return several_images(items, tag, err);
    const char *name = item_name(first);
    cJSON_ArrayForEach(item, kept)
    {
        const char *other = item_name(item);
        bool same = name && other ? strcmp(name, other) == 0 : name == other;
        if (!tag && !same)
            return several_images(items, NULL, err);
    }
    *ret = wfe_steal(&index);
    return 0;
}

/* The descriptor of the image in index.json, and its name there. */
static int select_in_layout(struct wfe_import_source *source, const char *tag,
    const struct wfe_platform *platform, struct wfe_descriptor *ret, char **ret_name,
    struct wfe_error *err)
{
    WFE_FREE char *json = NULL;
    size_t length;
    int r =
        wfe_import_source_read(source, "index.json", WFE_IMAGE_JSON_MAX_BYTES, &json, &length, err);
    if (r < 0) {
        wfe_error_prefix(err, "not an OCI image layout");
        return r;
    }
    WFE_JSON cJSON *document = NULL;
    if (wfe_json_parse(json, length, NULL, &document) == -ENOMEM)
        return wfe_error_nomem(err);
    const cJSON *items = cJSON_GetObjectItemCaseSensitive(document, "manifests");
    if (!cJSON_IsArray(items))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "index.json: found no JSON object with manifests");
    WFE_JSON cJSON *index = NULL;
    r = filter_items(items, tag, &index, err);
    if (r < 0)
        return r;
    const cJSON *kept = cJSON_GetObjectItemCaseSensitive(index, "manifests");
    const char *name = item_name(cJSON_GetArrayItem(kept, 0));
    WFE_FREE char *copy = name ? strdup(name) : NULL;
    WFE_FREE char *text = cJSON_PrintUnformatted(index);
    if (!text || (name && !copy))
        return wfe_error_nomem(err);
    r = wfe_image_index_select(text, strlen(text), platform, ret, err);
    if (r == 0)
        *ret_name = wfe_steal(&copy);
    return r;
}

/* From index to index until a manifest is there. */
static int read_manifest(struct wfe_import_plan *plan, struct wfe_descriptor descriptor,
    const struct wfe_platform *platform, struct wfe_error *err)
{
    for (int depth = 0; depth <= MAX_NESTED_INDEXES; depth++) {
        WFE_FREE char *json = NULL;
        int r = read_blob(plan->source, &descriptor, &json, err);
        if (r < 0)
            return r;
        size_t length = (size_t)descriptor.size_bytes;
        if (!wfe_image_is_index(descriptor.media_type)) {
            r = wfe_image_manifest_parse(json, length, &plan->manifest, err);
            if (r < 0)
                return r;
            plan->manifest_descriptor = descriptor;
            plan->manifest_json = wfe_steal(&json);
            return 0;
        }
        r = wfe_image_index_select(json, length, platform, &descriptor, err);
        if (r < 0)
            return r;
    }
    return wfe_error_set(
        err, WFE_ERROR_INPUT, ELOOP, "more than %d indexes in one another", MAX_NESTED_INDEXES);
}

static int name_layers(struct wfe_import_plan *plan, struct wfe_error *err)
{
    plan->layer_members = calloc(plan->manifest.layer_count, sizeof *plan->layer_members);
    if (!plan->layer_members)
        return wfe_error_nomem(err);
    for (size_t i = 0; i < plan->manifest.layer_count; i++) {
        plan->layer_members[i] = blob_path(&plan->manifest.layers[i].digest);
        if (!plan->layer_members[i])
            return wfe_error_nomem(err);
    }
    return 0;
}

int wfe_import_plan_layout(struct wfe_import_plan *plan, const char *tag,
    const struct wfe_platform *platform, char **ret_stated_name, struct wfe_error *err)
{
    struct wfe_descriptor descriptor;
    WFE_FREE char *name = NULL;
    int r = select_in_layout(plan->source, tag, platform, &descriptor, &name, err);
    if (r == 0)
        r = read_manifest(plan, descriptor, platform, err);
    if (r == 0)
        r = read_blob(plan->source, &plan->manifest.config, &plan->config_json, err);
    if (r == 0)
        r = wfe_image_config_parse(
            plan->config_json, (size_t)plan->manifest.config.size_bytes, &plan->config, err);
    if (r == 0)
        r = name_layers(plan, err);
    if (r < 0)
        return r;
    *ret_stated_name = wfe_steal(&name);
    return 0;
}
