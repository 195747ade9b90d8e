/* SPDX-License-Identifier: MIT */
#include "libcommon/store_index.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/json.h"

#define MEDIA_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define ANNOTATION_TAG "org.opencontainers.image.ref.name"
#define ANNOTATION_TITLE "org.opencontainers.image.title"

#define INDEX_MAX_BYTES (64 * 1024 * 1024)
#define TAG_MAX_LENGTH 128
#define TITLE_TAG_PREFIX "name-"
#define ANONYMOUS_TAG_PREFIX "sha256-"

/* A file tree belongs to no architecture. The times are what umoci needs, and constant. */
#define CONFIG_FORMAT                                                                              \
    "{\"created\":\"1970-01-01T00:00:00Z\",\"architecture\":\"unknown\",\"os\":\"linux\","         \
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]},"                                      \
    "\"history\":[{\"created\":\"1970-01-01T00:00:00Z\","                                          \
    "\"created_by\":\"wfe-artifactfs put\"}]}"
#define MANIFEST_FORMAT                                                                            \
    "{\"schemaVersion\":2,\"mediaType\":\"" MEDIA_TYPE_MANIFEST "\","                              \
    "\"config\":{\"mediaType\":\"" MEDIA_TYPE_CONFIG "\",\"digest\":\"%s\",\"size\":%zu},"         \
    "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}]}"

static void finish_document(struct wfe_image_document *document, int length)
{
    assert(length > 0 && (size_t)length < sizeof document->text);
    document->length = (size_t)length;
    wfe_digest_of(document->text, document->length, &document->digest);
}

void wfe_image_make(
    const struct wfe_scan_result *layer, const char *media_type, struct wfe_image *ret)
{
    struct wfe_image_document *config = &ret->config;
    finish_document(
        config, snprintf(config->text, sizeof config->text, CONFIG_FORMAT, layer->diff_id.text));
    struct wfe_image_document *manifest = &ret->manifest;
    finish_document(manifest,
        snprintf(manifest->text, sizeof manifest->text, MANIFEST_FORMAT, config->digest.text,
            config->length, media_type, layer->digest.text, (unsigned long long)layer->size_bytes));
}

static int read_digest(const cJSON *descriptor, struct wfe_digest *ret)
{
    const cJSON *digest = cJSON_GetObjectItemCaseSensitive(descriptor, "digest");
    return wfe_digest_parse(cJSON_GetStringValue(digest), ret);
}

int wfe_store_index_resolve(
    struct wfe_store *store, const cJSON *descriptor, struct wfe_store_index_target *ret)
{
    *ret = (struct wfe_store_index_target){.has_config = false};
    if (read_digest(descriptor, &ret->manifest) < 0)
        return 0;
    struct wfe_store_path path = wfe_store_blob_path(&ret->manifest);
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_store_read(store, path.text, WFE_STORE_DOCUMENT_MAX_BYTES, &text, &length);
    if (r < 0)
        return r == -ENOENT || r == -EFBIG ? 0 : r;
    WFE_JSON cJSON *manifest = NULL;
    if (wfe_json_parse(text, length, NULL, &manifest) == -ENOMEM)
        return -ENOMEM;
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(manifest, "config");
    ret->has_config = read_digest(config, &ret->config) == 0;
    const cJSON *layers = cJSON_GetObjectItemCaseSensitive(manifest, "layers");
    if (ret->has_config && cJSON_IsArray(layers) && cJSON_GetArraySize(layers) == 1)
        ret->is_artifact = read_digest(cJSON_GetArrayItem(layers, 0), &ret->artifact) == 0;
    return 0;
}

static const char *read_annotation(const cJSON *descriptor, const char *key)
{
    const cJSON *annotations = cJSON_GetObjectItemCaseSensitive(descriptor, "annotations");
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(annotations, key));
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/*
 * The grammar of org.opencontainers.image.ref.name (OCI image spec, "Annotations") without
 * what tools read as part of an image's address: '/', ':' and '@'.
 */
static bool is_tag(const char *name)
{
    size_t length = strlen(name);
    if (length > TAG_MAX_LENGTH || strncmp(name, TITLE_TAG_PREFIX, strlen(TITLE_TAG_PREFIX)) == 0)
        return false;
    if (!is_alphanumeric(name[0]) || !is_alphanumeric(name[length - 1]))
        return false;
    for (size_t i = 1; i < length; i++) {
        if (is_alphanumeric(name[i]))
            continue;
        if (!strchr("-._+", name[i]))
            return false;
        bool follows_separator = !is_alphanumeric(name[i - 1]);
        if (follows_separator && (name[i] != '-' || name[i - 1] != '-' || name[i - 2] == '-'))
            return false;
    }
    return true;
}

struct tag {
    char text[WFE_NAME_BYTES];
};

static struct tag tag_of(const char *name, const struct wfe_digest *artifact)
{
    struct tag tag;
    if (!name[0]) {
        snprintf(tag.text, sizeof tag.text, ANONYMOUS_TAG_PREFIX "%s", wfe_digest_hex(artifact));
    } else if (is_tag(name)) {
        snprintf(tag.text, sizeof tag.text, "%s", name);
    } else {
        struct wfe_digest hash;
        wfe_digest_of(name, strlen(name), &hash);
        snprintf(tag.text, sizeof tag.text, TITLE_TAG_PREFIX "%.16s", wfe_digest_hex(&hash));
    }
    return tag;
}

static bool is_anonymous(const cJSON *descriptor)
{
    const char *tag = read_annotation(descriptor, ANNOTATION_TAG);
    return !tag || strncmp(tag, ANONYMOUS_TAG_PREFIX, strlen(ANONYMOUS_TAG_PREFIX)) == 0;
}

void wfe_store_index_name(const cJSON *descriptor, char ret[WFE_NAME_BYTES])
{
    ret[0] = '\0';
    if (is_anonymous(descriptor))
        return;
    const char *tag = read_annotation(descriptor, ANNOTATION_TAG);
    /* A tool that copies the descriptor to a new tag leaves the title: the new tag counts. */
    const char *title = read_annotation(descriptor, ANNOTATION_TITLE);
    if (title && wfe_store_check_name(title, NULL) == 0 && !is_tag(title) &&
        strcmp(tag_of(title, NULL).text, tag) == 0)
        tag = title;
    if (wfe_store_check_name(tag, NULL) == 0)
        snprintf(ret, WFE_NAME_BYTES, "%s", tag);
}

cJSON *wfe_store_index_descriptors(const cJSON *index)
{
    return cJSON_GetObjectItemCaseSensitive(index, "manifests");
}

static int parse_index(const char *text, size_t length, cJSON **ret)
{
    WFE_JSON cJSON *index = length > 0 ? NULL : cJSON_CreateObject();
    if (length == 0 && !index)
        return -ENOMEM;
    int r = length > 0 ? wfe_json_parse(text, length, NULL, &index) : 0;
    if (r < 0)
        return r;
    if (!cJSON_IsObject(index))
        return -EINVAL;
    cJSON *descriptors = wfe_store_index_descriptors(index);
    if (cJSON_IsNull(descriptors)) {
        cJSON_DeleteItemFromObjectCaseSensitive(index, "manifests");
        descriptors = NULL;
    }
    if (!descriptors) {
        if (!cJSON_HasObjectItem(index, "schemaVersion") &&
            (!cJSON_AddNumberToObject(index, "schemaVersion", 2) ||
                !cJSON_AddStringToObject(index, "mediaType", MEDIA_TYPE_INDEX)))
            return -ENOMEM;
        descriptors = cJSON_AddArrayToObject(index, "manifests");
        if (!descriptors)
            return -ENOMEM;
    }
    if (!cJSON_IsArray(descriptors))
        return -EINVAL;
    *ret = wfe_steal(&index);
    return 0;
}

int wfe_store_index_load(struct wfe_store *store, cJSON **ret, struct wfe_error *err)
{
    WFE_FREE char *text = NULL;
    size_t length = 0;
    int r = wfe_store_read(store, WFE_STORE_INDEX, INDEX_MAX_BYTES, &text, &length);
    if (r == -EFBIG)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "%s/" WFE_STORE_INDEX ": larger than %d bytes", store->path, INDEX_MAX_BYTES);
    if (r < 0 && r != -ENOENT)
        return wfe_error_system(err, -r, "%s/" WFE_STORE_INDEX, store->path);
    r = parse_index(text, length, ret);
    if (r == -ENOMEM)
        return wfe_error_nomem(err);
    if (r < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s/" WFE_STORE_INDEX ": not an OCI image index", store->path);
    return 0;
}

int wfe_store_index_save(struct wfe_store *store, const cJSON *index, struct wfe_error *err)
{
    WFE_FREE char *text = cJSON_PrintUnformatted(index);
    if (!text)
        return wfe_error_nomem(err);
    return wfe_store_replace(store, ".", WFE_STORE_INDEX, text, strlen(text), err);
}

static int annotate(cJSON *descriptor, const char *name, const struct wfe_digest *artifact)
{
    cJSON_DeleteItemFromObjectCaseSensitive(descriptor, "annotations");
    cJSON *annotations = cJSON_AddObjectToObject(descriptor, "annotations");
    if (!annotations ||
        !cJSON_AddStringToObject(annotations, ANNOTATION_TAG, tag_of(name, artifact).text))
        return -ENOMEM;
    if (name[0] && !is_tag(name) && !cJSON_AddStringToObject(annotations, ANNOTATION_TITLE, name))
        return -ENOMEM;
    return 0;
}

static bool is_listed_beside(const cJSON *index, const cJSON *descriptor)
{
    struct wfe_digest digest;
    if (read_digest(descriptor, &digest) < 0)
        return false;
    const cJSON *other;
    cJSON_ArrayForEach(other, wfe_store_index_descriptors(index))
    {
        struct wfe_digest other_digest;
        if (other != descriptor && read_digest(other, &other_digest) == 0 &&
            wfe_digest_equal(&digest, &other_digest))
            return true;
    }
    return false;
}

/* Take its name from a descriptor, and the descriptor too unless its artifact needs it. */
static int retire_name(struct wfe_store *store, cJSON *index, cJSON *descriptor)
{
    struct wfe_store_index_target target;
    int r = wfe_store_index_resolve(store, descriptor, &target);
    if (r < 0)
        return r;
    if (target.is_artifact && !is_listed_beside(index, descriptor))
        return annotate(descriptor, "", &target.artifact);
    cJSON_Delete(cJSON_DetachItemViaPointer(wfe_store_index_descriptors(index), descriptor));
    return 0;
}

static int append_descriptor(cJSON *index, const struct wfe_image *image,
    const struct wfe_digest *artifact, const char *name)
{
    WFE_JSON cJSON *descriptor = cJSON_CreateObject();
    if (!descriptor || !cJSON_AddStringToObject(descriptor, "mediaType", MEDIA_TYPE_MANIFEST) ||
        !cJSON_AddStringToObject(descriptor, "digest", image->manifest.digest.text) ||
        !cJSON_AddNumberToObject(descriptor, "size", (double)image->manifest.length) ||
        annotate(descriptor, name, artifact) < 0)
        return -ENOMEM;
    if (!cJSON_AddItemToArray(wfe_store_index_descriptors(index), descriptor))
        return -ENOMEM;
    descriptor = NULL;
    return 0;
}

int wfe_store_index_add(struct wfe_store *store, cJSON *index, const struct wfe_image *image,
    const struct wfe_digest *artifact, const char *name, bool *ret_changed)
{
    bool changed = false;
    bool listed = false;
    cJSON *next;
    for (cJSON *descriptor = wfe_store_index_descriptors(index)->child; descriptor;
         descriptor = next) {
        next = descriptor->next;
        struct wfe_digest digest;
        bool ours = read_digest(descriptor, &digest) == 0 &&
                    wfe_digest_equal(&digest, &image->manifest.digest);
        char has[WFE_NAME_BYTES];
        wfe_store_index_name(descriptor, has);
        if (ours && (!name[0] || strcmp(has, name) == 0)) {
            listed = true;
            continue;
        }
        if (ours && is_anonymous(descriptor)) {
            cJSON_Delete(
                cJSON_DetachItemViaPointer(wfe_store_index_descriptors(index), descriptor));
            changed = true;
        } else if (!ours && name[0] && strcmp(has, name) == 0) {
            int r = retire_name(store, index, descriptor);
            if (r < 0)
                return r;
            changed = true;
        }
    }
    if (!listed) {
        if (append_descriptor(index, image, artifact, name) < 0)
            return -ENOMEM;
        changed = true;
    }
    *ret_changed = changed;
    return 0;
}
