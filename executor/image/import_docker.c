/* SPDX-License-Identifier: MIT */
#include "executor/image/import_plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/json.h"
#include "libcommon/layer.h"

/*
 * The archive of `docker save`: manifest.json is a list of
 * {"Config": MEMBER, "RepoTags": [REFERENCE, …] or null, "Layers": [MEMBER, …]}.
 */

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define CONFIG_TYPE "application/vnd.oci.image.config.v1+json"
#define READ_BYTES (256 * 1024)

static bool has_tag(const cJSON *image, const char *full_name)
{
    const cJSON *tag;
    cJSON_ArrayForEach(tag, cJSON_GetObjectItemCaseSensitive(image, "RepoTags"))
    {
        WFE_FREE char *full = NULL;
        if (cJSON_IsString(tag) && wfe_image_normalize(tag->valuestring, &full, NULL) == 0 &&
            strcmp(full, full_name) == 0)
            return true;
    }
    return false;
}

static const char *first_tag(const cJSON *image)
{
    const cJSON *tags = cJSON_GetObjectItemCaseSensitive(image, "RepoTags");
    return cJSON_GetStringValue(cJSON_GetArrayItem(tags, 0));
}

static int no_single_image(const cJSON *images, const char *tag, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer names = WFE_BUFFER_INIT(300);
    int index = 0;
    const cJSON *image = NULL;
    cJSON_ArrayForEach(image, images)
    {
        const char *name = first_tag(image);
        wfe_buffer_puts(&names, index > 0 ? ", " : "");
        if (name)
            wfe_buffer_puts(&names, name);
        else
            wfe_buffer_printf(&names, "@%d", index);
        index++;
    }
    const char *list = names.length > 0 ? names.data : "none";
    if (tag)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, ENOENT, "there is no image '%.100s' in it, only: %s", tag, list);
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "it does not hold one image, name one of them after a ':': %s", list);
}

/* "@INDEX" → *ret, NULL when there are not as many. */
static int select_by_index(
    const cJSON *images, const char *tag, const cJSON **ret, struct wfe_error *err)
{
    size_t digits = strspn(tag + 1, "0123456789");
    if (digits == 0 || digits > 6 || tag[1 + digits] != '\0')
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "'%.100s' is no place in the archive", tag);
    *ret = cJSON_GetArrayItem(images, atoi(tag + 1));
    return *ret ? 0 : no_single_image(images, tag, err);
}

/* The image that tag means, and the name that it was asked for by (allocated; NULL: none). */
static int select_image(
    const cJSON *images, const char *tag, const cJSON **ret, char **ret_name, struct wfe_error *err)
{
    const cJSON *selected = NULL;
    WFE_FREE char *full_name = NULL;
    int r = 0;
    if (!tag) {
        if (cJSON_GetArraySize(images) != 1)
            return no_single_image(images, NULL, err);
        selected = cJSON_GetArrayItem(images, 0);
    } else if (tag[0] == '@') {
        r = select_by_index(images, tag, &selected, err);
    } else {
        r = wfe_image_normalize(tag, &full_name, err);
        if (r == 0) {
            cJSON_ArrayForEach(selected, images) if (has_tag(selected, full_name)) break;
            if (!selected)
                r = no_single_image(images, tag, err);
        }
    }
    if (r < 0)
        return r;
    const char *name = full_name ? full_name : first_tag(selected);
    char *copy = name ? strdup(name) : NULL;
    if (name && !copy)
        return wfe_error_nomem(err);
    *ret = selected;
    *ret_name = copy;
    return 0;
}

static int read_config(struct wfe_import_plan *plan, const cJSON *image, struct wfe_error *err)
{
    const char *member = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(image, "Config"));
    if (!member)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "manifest.json: Config: expected a string");
    size_t length;
    int r = wfe_import_source_read(
        plan->source, member, WFE_IMAGE_JSON_MAX_BYTES, &plan->config_json, &length, err);
    if (r < 0)
        return r;
    struct wfe_descriptor *descriptor = &plan->manifest.config;
    *descriptor = (struct wfe_descriptor){CONFIG_TYPE, {""}, (int64_t)length};
    wfe_digest_of(plan->config_json, length, &descriptor->digest);
    return wfe_image_config_parse(plan->config_json, length, &plan->config, err);
}

static int name_layers(struct wfe_import_plan *plan, const cJSON *image, struct wfe_error *err)
{
    const cJSON *members = cJSON_GetObjectItemCaseSensitive(image, "Layers");
    size_t count = plan->config.layer_count;
    if (!cJSON_IsArray(members) || (size_t)cJSON_GetArraySize(members) != count)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "manifest.json: Layers: found %d layers, the configuration has %zu",
            cJSON_GetArraySize(members), count);
    plan->manifest.layers = calloc(count, sizeof *plan->manifest.layers);
    plan->manifest.layer_count = count;
    plan->layer_members = calloc(count, sizeof *plan->layer_members);
    if (!plan->manifest.layers || !plan->layer_members)
        return wfe_error_nomem(err);
    size_t at = 0;
    const cJSON *member;
    cJSON_ArrayForEach(member, members)
    {
        if (!cJSON_IsString(member))
            return wfe_error_set(
                err, WFE_ERROR_INPUT, EINVAL, "manifest.json: Layers[%zu]: expected a string", at);
        plan->layer_members[at] = strdup(member->valuestring);
        if (!plan->layer_members[at++])
            return wfe_error_nomem(err);
    }
    return 0;
}

static int hash_rest(struct wfe_import_member *member, unsigned char *data, size_t length,
    struct wfe_descriptor *layer, struct wfe_error *err)
{
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    if (wfe_hasher_new(&hasher) < 0)
        return wfe_error_nomem(err);
    while (length > 0) {
        wfe_hasher_update(hasher, data, length);
        ssize_t n = wfe_import_member_read(member, data, READ_BYTES, err);
        if (n < 0)
            return (int)n;
        length = (size_t)n;
    }
    wfe_hasher_final(hasher, &layer->digest);
    return 0;
}

/* docker itself writes plain tars, other makers of such archives compress them. */
static int describe_layer(
    void *context, size_t index, struct wfe_import_member *member, struct wfe_error *err)
{
    static const unsigned char gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    struct wfe_import_plan *plan = context;
    struct wfe_descriptor *layer = &plan->manifest.layers[index];
    WFE_FREE unsigned char *data = malloc(READ_BYTES);
    if (!data)
        return wfe_error_nomem(err);
    ssize_t n = wfe_import_member_read(member, data, READ_BYTES, err);
    if (n < 0)
        return (int)n;
    const char *media_type = NULL;
    if ((size_t)n >= sizeof gzip && memcmp(data, gzip, sizeof gzip) == 0)
        media_type = WFE_LAYER_MEDIA_TYPE_GZIP;
    else if ((size_t)n >= sizeof zstd && memcmp(data, zstd, sizeof zstd) == 0)
        media_type = WFE_LAYER_MEDIA_TYPE_ZSTD;
    layer->size_bytes = wfe_import_member_size(member);
    layer->digest = plan->config.diff_ids[index];
    int r = media_type ? hash_rest(member, data, (size_t)n, layer, err) : 0;
    if (!media_type)
        media_type = WFE_LAYER_MEDIA_TYPE_TAR;
    memcpy(layer->media_type, media_type, strlen(media_type) + 1);
    return r;
}

/* Appends a descriptor; its strings need no escapes. */
static int append_descriptor(struct wfe_buffer *json, const struct wfe_descriptor *descriptor)
{
    return wfe_buffer_printf(json, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%" PRId64 "}",
        descriptor->media_type, descriptor->digest.text, descriptor->size_bytes);
}

/* The manifest's text depends on the archive alone: importing it twice makes one blob. */
static int write_manifest(struct wfe_import_plan *plan, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer json = WFE_BUFFER_INIT(WFE_IMAGE_JSON_MAX_BYTES);
    int r = wfe_buffer_puts(
        &json, "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST_TYPE "\",\"config\":");
    if (r == 0)
        r = append_descriptor(&json, &plan->manifest.config);
    for (size_t i = 0; i < plan->manifest.layer_count && r == 0; i++) {
        r = wfe_buffer_puts(&json, i > 0 ? "," : ",\"layers\":[");
        if (r == 0)
            r = append_descriptor(&json, &plan->manifest.layers[i]);
    }
    if (r == 0)
        r = wfe_buffer_puts(&json, "]}");
    if (r < 0)
        return wfe_error_nomem(err);
    plan->manifest_descriptor = (struct wfe_descriptor){MANIFEST_TYPE, {""}, (int64_t)json.length};
    wfe_digest_of(json.data, json.length, &plan->manifest_descriptor.digest);
    plan->manifest_json = wfe_buffer_steal(&json);
    return plan->manifest_json ? 0 : wfe_error_nomem(err);
}

int wfe_import_plan_docker(
    struct wfe_import_plan *plan, const char *tag, char **ret_stated_name, struct wfe_error *err)
{
    WFE_FREE char *json = NULL;
    size_t length;
    int r = wfe_import_source_read(
        plan->source, "manifest.json", WFE_IMAGE_JSON_MAX_BYTES, &json, &length, err);
    if (r < 0) {
        wfe_error_prefix(err, "not an archive of `docker save`");
        return r;
    }
    WFE_JSON cJSON *images = NULL;
    if (wfe_json_parse(json, length, NULL, &images) == -ENOMEM)
        return wfe_error_nomem(err);
    if (!cJSON_IsArray(images))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "manifest.json: found no JSON list of images");
    const cJSON *image = NULL;
    WFE_FREE char *name = NULL;
    r = select_image(images, tag, &image, &name, err);
    if (r == 0)
        r = read_config(plan, image, err);
    if (r == 0)
        r = name_layers(plan, image, err);
    if (r == 0)
        r = wfe_import_source_visit(plan->source, (const char *const *)plan->layer_members,
            plan->manifest.layer_count, describe_layer, plan, err);
    if (r == 0)
        r = write_manifest(plan, err);
    if (r < 0)
        return r;
    *ret_stated_name = wfe_steal(&name);
    return 0;
}
