/* SPDX-License-Identifier: MIT */
#include "executor/image/image.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "executor/daemon/platform.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/json.h"

#define SIZE_MAX_BYTES 9007199254740992.0 /* 2^53: the integers that JSON carries everywhere */

/* NULL-terminated lists: what OCI and docker call one thing. */
static const char *const CONFIG_TYPES[] = {"application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json", NULL};
static const char *const MANIFEST_TYPES[] = {"application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json", NULL};
static const char *const INDEX_TYPES[] = {"application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json", NULL};
static const char *const LAYER_TYPES[] = {"application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", NULL};

static bool is_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(text, *list) == 0)
            return true;
    return false;
}

bool wfe_image_is_index(const char *media_type)
{
    return is_one_of(media_type, INDEX_TYPES);
}

bool wfe_image_is_manifest(const char *media_type)
{
    return is_one_of(media_type, MANIFEST_TYPES);
}

static int parse_object(const char *json, size_t length, cJSON **ret, struct wfe_error *err)
{
    if (length > WFE_IMAGE_JSON_MAX_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "JSON of %zu bytes, at most %d are read",
            length, WFE_IMAGE_JSON_MAX_BYTES);
    const char *end = json;
    WFE_JSON cJSON *object = NULL;
    int r = wfe_json_parse(json, length, &end, &object);
    if (r == -ENOMEM)
        return wfe_error_nomem(err);
    if (r < 0)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "malformed JSON at byte %zu", (size_t)(end - json));
    while (end < json + length && isspace((unsigned char)*end))
        end++;
    if (end < json + length)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "more than one JSON value (byte %zu)",
            (size_t)(end - json));
    if (!cJSON_IsObject(object))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "found no JSON object");
    *ret = wfe_steal(&object);
    return 0;
}

/* The member, or NULL when it is absent or null. */
static const cJSON *member(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNull(item) ? NULL : item;
}

static int wrong_type(const char *name, const char *expected, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: expected %s", name, expected);
}

/* *ret is a view, NULL when the text is absent or empty. */
static int get_text(const cJSON *object, const char *name, const char **ret, struct wfe_error *err)
{
    const cJSON *item = member(object, name);
    if (item && !cJSON_IsString(item))
        return wrong_type(name, "a string", err);
    *ret = item && item->valuestring[0] ? item->valuestring : NULL;
    return 0;
}

/* An allocated copy; NULL stays NULL. */
static int copy_text(
    const cJSON *object, const char *name, bool required, char **ret, struct wfe_error *err)
{
    const char *text;
    int r = get_text(object, name, &text, err);
    if (r < 0)
        return r;
    if (!text && required)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: is missing", name);
    char *copy = text ? strdup(text) : NULL;
    if (text && !copy)
        return wfe_error_nomem(err);
    *ret = copy;
    return 0;
}

static void free_list(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

static int copy_list(const cJSON *object, const char *name, char ***ret, struct wfe_error *err)
{
    const cJSON *array = member(object, name);
    if (array && !cJSON_IsArray(array))
        return wrong_type(name, "a list of strings", err);
    char **list = calloc((size_t)cJSON_GetArraySize(array) + 1, sizeof *list);
    if (!list)
        return wfe_error_nomem(err);
    size_t count = 0;
    int r = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        if (!cJSON_IsString(item)) {
            r = wrong_type(name, "a list of strings", err);
            break;
        }
        list[count] = strdup(item->valuestring);
        if (!list[count++]) {
            r = wfe_error_nomem(err);
            break;
        }
    }
    if (r < 0) {
        free_list(list);
        return r;
    }
    *ret = list;
    return 0;
}

static int parse_digest(const cJSON *item, struct wfe_digest *ret, struct wfe_error *err)
{
    const char *text = cJSON_GetStringValue(item);
    if (text && wfe_digest_parse(text, ret) == 0)
        return 0;
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "found %s%.80s%s, expected sha256: and 64 hexadecimal digits", text ? "'" : "",
        text ? text : "no digest", text ? "'" : "");
}

/* OCI image spec, "Content Descriptors". */
static int parse_descriptor(const cJSON *object, struct wfe_descriptor *ret, struct wfe_error *err)
{
    if (!cJSON_IsObject(object))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "found no descriptor");
    struct wfe_descriptor descriptor = {.size_bytes = 0};
    const char *media_type;
    int r = get_text(object, "mediaType", &media_type, err);
    if (r < 0)
        return r;
    if (!media_type || strlen(media_type) >= sizeof descriptor.media_type)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "mediaType: is missing or longer than %zu bytes", sizeof descriptor.media_type - 1);
    memcpy(descriptor.media_type, media_type, strlen(media_type) + 1);
    r = parse_digest(member(object, "digest"), &descriptor.digest, err);
    if (r < 0) {
        wfe_error_prefix(err, "digest");
        return r;
    }
    double size = cJSON_GetNumberValue(member(object, "size"));
    if (!(size >= 0) || size > SIZE_MAX_BYTES || size != (double)(int64_t)size)
        return wrong_type("size", "a whole number of bytes, not negative", err);
    descriptor.size_bytes = (int64_t)size;
    *ret = descriptor;
    return 0;
}

/* rootfs.diff_ids or layers: an array of 1 to WFE_IMAGE_MAX_LAYERS items. */
static int check_layer_count(
    const cJSON *array, const char *name, size_t *ret_count, struct wfe_error *err)
{
    int count = cJSON_GetArraySize(array);
    if (!cJSON_IsArray(array) || count == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: the image has no layers", name);
    if (count > WFE_IMAGE_MAX_LAYERS)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "%s: %d layers, at most %d are allowed",
            name, count, WFE_IMAGE_MAX_LAYERS);
    *ret_count = (size_t)count;
    return 0;
}

static int parse_diff_ids(
    const cJSON *object, struct wfe_image_config *config, struct wfe_error *err)
{
    const cJSON *rootfs = member(object, "rootfs");
    if (!cJSON_IsObject(rootfs))
        return wrong_type("rootfs", "an object with the layers' diff_ids", err);
    const cJSON *array = member(rootfs, "diff_ids");
    size_t count = 0;
    int r = check_layer_count(array, "rootfs.diff_ids", &count, err);
    if (r < 0)
        return r;
    config->diff_ids = calloc(count, sizeof *config->diff_ids);
    if (!config->diff_ids)
        return wfe_error_nomem(err);
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        r = parse_digest(item, &config->diff_ids[config->layer_count], err);
        if (r < 0) {
            wfe_error_prefix(err, "rootfs.diff_ids[%zu]", config->layer_count);
            return r;
        }
        config->layer_count++;
    }
    return 0;
}

/* OCI image spec, "OCI Image Configuration", the object "config"; docker's is the same. */
static int parse_execution(
    const cJSON *object, struct wfe_image_config *config, struct wfe_error *err)
{
    const cJSON *execution = member(object, "config");
    if (execution && !cJSON_IsObject(execution))
        return wrong_type("config", "an object", err);
    int r = copy_list(execution, "Env", &config->env, err);
    if (r == 0)
        r = copy_list(execution, "Entrypoint", &config->entrypoint, err);
    if (r == 0)
        r = copy_list(execution, "Cmd", &config->cmd, err);
    if (r == 0)
        r = copy_text(execution, "WorkingDir", false, &config->working_dir, err);
    if (r == 0)
        r = copy_text(execution, "User", false, &config->user, err);
    if (r < 0)
        wfe_error_prefix(err, "config");
    return r;
}

int wfe_image_config_parse(
    const char *json, size_t length, struct wfe_image_config *ret, struct wfe_error *err)
{
    assert(json && ret);
    WFE_JSON cJSON *object = NULL;
    struct wfe_image_config config = {.env = NULL};
    int r = parse_object(json, length, &object, err);
    if (r == 0)
        r = parse_execution(object, &config, err);
    if (r == 0)
        r = copy_text(object, "os", true, &config.os, err);
    if (r == 0)
        r = copy_text(object, "architecture", true, &config.architecture, err);
    if (r == 0)
        r = copy_text(object, "variant", false, &config.variant, err);
    if (r == 0)
        r = parse_diff_ids(object, &config, err);
    if (r < 0) {
        wfe_error_prefix(err, "image configuration");
        wfe_image_config_done(&config);
        return r;
    }
    *ret = config;
    return 0;
}

static int parse_layers(
    const cJSON *object, struct wfe_image_manifest *manifest, struct wfe_error *err)
{
    const cJSON *array = member(object, "layers");
    size_t count = 0;
    int r = check_layer_count(array, "layers", &count, err);
    if (r < 0)
        return r;
    manifest->layers = calloc(count, sizeof *manifest->layers);
    if (!manifest->layers)
        return wfe_error_nomem(err);
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        struct wfe_descriptor *layer = &manifest->layers[manifest->layer_count];
        r = parse_descriptor(item, layer, err);
        if (r == 0 && !is_one_of(layer->media_type, LAYER_TYPES))
            r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "mediaType: '%s' is not an image layer",
                layer->media_type);
        if (r < 0) {
            wfe_error_prefix(err, "layers[%zu]", manifest->layer_count);
            return r;
        }
        manifest->layer_count++;
    }
    return 0;
}

static int parse_manifest(
    const cJSON *object, struct wfe_image_manifest *manifest, struct wfe_error *err)
{
    const char *media_type;
    int r = get_text(object, "mediaType", &media_type, err);
    if (r < 0)
        return r;
    const cJSON *version = member(object, "schemaVersion");
    if (!cJSON_IsNumber(version) || version->valuedouble != 2)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "schemaVersion: expected 2 (images of docker's old schema 1 must be converted)");
    if (media_type && !wfe_image_is_manifest(media_type))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "mediaType: '%.200s' is not an image manifest", media_type);
    /* One document that reads as both kinds could be two different images to two readers. */
    if (member(object, "manifests"))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "manifests: found where layers are expected");
    r = parse_descriptor(member(object, "config"), &manifest->config, err);
    if (r == 0 && !is_one_of(manifest->config.media_type, CONFIG_TYPES))
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "mediaType: '%s' is not an image's configuration (is this an artifact, not an image?)",
            manifest->config.media_type);
    if (r < 0) {
        wfe_error_prefix(err, "config");
        return r;
    }
    return parse_layers(object, manifest, err);
}

int wfe_image_manifest_parse(
    const char *json, size_t length, struct wfe_image_manifest *ret, struct wfe_error *err)
{
    assert(json && ret);
    WFE_JSON cJSON *object = NULL;
    struct wfe_image_manifest manifest = {.layers = NULL};
    int r = parse_object(json, length, &object, err);
    if (r == 0)
        r = parse_manifest(object, &manifest, err);
    if (r < 0) {
        wfe_error_prefix(err, "image manifest");
        wfe_image_manifest_done(&manifest);
        return r;
    }
    *ret = manifest;
    return 0;
}

/* What the candidates were, for the message when none fits. */
static void list_platform(
    struct wfe_buffer *list, const char *os, const char *architecture, const char *variant)
{
    wfe_buffer_printf(list, "%s%s/%s%s%s", list->length > 0 ? ", " : "", os, architecture,
        variant ? "/" : "", variant ? variant : "");
}

/*
 * How well an index's item suits; an item without platform, such as an index in an index, is
 * the last resort. Attestations, which buildkit files under unknown/unknown, suit nobody.
 */
static int rank_item(const cJSON *item, const struct wfe_platform *platform, unsigned *ret_rank,
    struct wfe_buffer *list, struct wfe_error *err)
{
    const cJSON *object = member(item, "platform");
    if (!object) {
        *ret_rank = 1;
        return 0;
    }
    if (!cJSON_IsObject(object))
        return wrong_type("platform", "an object", err);
    const char *os = NULL, *architecture = NULL, *variant = NULL;
    int r = get_text(object, "os", &os, err);
    if (r == 0)
        r = get_text(object, "architecture", &architecture, err);
    if (r == 0)
        r = get_text(object, "variant", &variant, err);
    if (r < 0) {
        wfe_error_prefix(err, "platform");
        return r;
    }
    *ret_rank = 0;
    if (!os || !architecture || strcmp(os, "unknown") == 0)
        return 0;
    list_platform(list, os, architecture, variant);
    unsigned rank = wfe_platform_rank(platform, os, architecture, variant);
    *ret_rank = rank > 0 ? rank + 1 : 0;
    return 0;
}

static int select_item(const cJSON *array, const struct wfe_platform *platform,
    struct wfe_descriptor *ret, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer list = WFE_BUFFER_INIT(256);
    struct wfe_descriptor best;
    unsigned best_rank = 0;
    size_t at = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, array)
    {
        struct wfe_descriptor descriptor;
        unsigned rank = 0;
        int r = parse_descriptor(item, &descriptor, err);
        if (r == 0)
            r = rank_item(item, platform, &rank, &list, err);
        if (r < 0) {
            wfe_error_prefix(err, "manifests[%zu]", at);
            return r;
        }
        bool image = wfe_image_is_manifest(descriptor.media_type) ||
                     wfe_image_is_index(descriptor.media_type);
        if (image && rank > best_rank) {
            best_rank = rank;
            best = descriptor;
        }
        at++;
    }
    if (best_rank == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "there is no image for %s/%s%s%s, only for: %s", platform->os, platform->architecture,
            platform->variant[0] ? "/" : "", platform->variant,
            list.length > 0 ? list.data : "nothing");
    *ret = best;
    return 0;
}

int wfe_image_index_select(const char *json, size_t length, const struct wfe_platform *platform,
    struct wfe_descriptor *ret, struct wfe_error *err)
{
    assert(json && platform && ret);
    WFE_JSON cJSON *object = NULL;
    int r = parse_object(json, length, &object, err);
    if (r == 0) {
        const cJSON *array = member(object, "manifests");
        if (!cJSON_IsArray(array))
            r = wrong_type("manifests", "a list of descriptors", err);
        else if (member(object, "layers"))
            r = wfe_error_set(
                err, WFE_ERROR_INPUT, EINVAL, "layers: found where manifests are expected");
        else
            r = select_item(array, platform, ret, err);
    }
    if (r < 0)
        wfe_error_prefix(err, "image index");
    return r;
}

int wfe_image_check(const struct wfe_image_manifest *manifest,
    const struct wfe_image_config *config, const struct wfe_platform *platform,
    struct wfe_error *err)
{
    if (manifest->layer_count != config->layer_count)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "the manifest has %zu layers, the configuration has %zu", manifest->layer_count,
            config->layer_count);
    if (wfe_platform_rank(platform, config->os, config->architecture, config->variant) == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "the image is for %.60s/%.60s%s%.60s, the daemon runs on %s/%s%s%s", config->os,
            config->architecture, config->variant ? "/" : "",
            config->variant ? config->variant : "", platform->os, platform->architecture,
            platform->variant[0] ? "/" : "", platform->variant);
    return 0;
}

void wfe_image_config_done(struct wfe_image_config *config)
{
    free_list(config->env);
    free_list(config->entrypoint);
    free_list(config->cmd);
    free(config->working_dir);
    free(config->user);
    free(config->os);
    free(config->architecture);
    free(config->variant);
    free(config->diff_ids);
    *config = (struct wfe_image_config){.env = NULL};
}

void wfe_image_manifest_done(struct wfe_image_manifest *manifest)
{
    free(manifest->layers);
    *manifest = (struct wfe_image_manifest){.layers = NULL};
}

void wfe_image_done(struct wfe_image *image)
{
    free(image->name);
    wfe_image_manifest_done(&image->manifest);
    wfe_image_config_done(&image->config);
    *image = (struct wfe_image){.name = NULL};
}
