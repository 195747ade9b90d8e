/* SPDX-License-Identifier: MIT */
#include "executor/image/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "executor/image/registry_request.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/json.h"

#define MANIFEST_TYPES                                                                             \
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "        \
    "application/vnd.docker.distribution.manifest.list.v2+json, "                                  \
    "application/vnd.docker.distribution.manifest.v2+json"

/* A manifest as it comes in: it starts anew with every answer. */
struct manifest_stream {
    struct wfe_registry_stream base;
    struct wfe_buffer json;
    char content_type[256];
    char content_digest[128];
};

static int begin_manifest(struct wfe_registry_stream *base,
    const struct wfe_http_response *response, struct wfe_error *err)
{
    (void)err;
    struct manifest_stream *stream = (struct manifest_stream *)base;
    wfe_buffer_done(&stream->json);
    snprintf(stream->content_type, sizeof stream->content_type, "%s", response->content_type);
    snprintf(stream->content_digest, sizeof stream->content_digest, "%s", response->content_digest);
    return 0;
}

static int take_manifest(
    struct wfe_registry_stream *base, const void *data, size_t length, struct wfe_error *err)
{
    struct manifest_stream *stream = (struct manifest_stream *)base;
    int r = wfe_buffer_append(&stream->json, data, length);
    if (r == -EMSGSIZE)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "the manifest is larger than the %d bytes that are allowed", WFE_IMAGE_JSON_MAX_BYTES);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

static bool is_known_type(const char *media_type)
{
    return wfe_image_is_index(media_type) || wfe_image_is_manifest(media_type);
}

/* What the answer says that it is, and what it says itself, which must not be two things. */
static int find_media_type(
    const struct manifest_stream *stream, struct wfe_descriptor *ret, struct wfe_error *err)
{
    char stated[sizeof ret->media_type] = "";
    snprintf(stated, sizeof stated, "%.*s", (int)strcspn(stream->content_type, "; \t"),
        stream->content_type);
    WFE_JSON cJSON *object = NULL;
    if (wfe_json_parse(stream->json.data, stream->json.length, NULL, &object) == -ENOMEM)
        return wfe_error_nomem(err);
    if (!cJSON_IsObject(object))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "the answer is no manifest but %s (is a registry there?)",
            stated[0] ? stated : "something else");
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(object, "mediaType");
    const char *own_type = cJSON_IsString(own) ? own->valuestring : NULL;
    if (own_type && is_known_type(own_type) && is_known_type(stated) &&
        strcmp(own_type, stated) != 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "the manifest is sent as %s, and says that it is %s", stated, own_type);
    const char *type = is_known_type(stated) || !own_type ? stated : own_type;
    if (!is_known_type(type))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "found the type '%.100s', expected an image manifest or index (images of docker's old "
            "schema 1 must be converted)",
            type);
    snprintf(ret->media_type, sizeof ret->media_type, "%s", type);
    return 0;
}

static int check_digest(const struct manifest_stream *stream, const char *tag_or_digest,
    struct wfe_descriptor *ret, struct wfe_error *err)
{
    wfe_digest_of(stream->json.data, stream->json.length, &ret->digest);
    ret->size_bytes = (int64_t)stream->json.length;
    struct wfe_digest expected;
    if (wfe_digest_parse(tag_or_digest, &expected) < 0 &&
        wfe_digest_parse(stream->content_digest, &expected) < 0)
        return 0;
    if (!wfe_digest_equal(&expected, &ret->digest))
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "the manifest has the digest %s, not %s", ret->digest.text, expected.text);
    return 0;
}

static int read_manifest(struct manifest_stream *stream, const char *tag_or_digest,
    struct wfe_descriptor *ret, char **ret_json, struct wfe_error *err)
{
    struct wfe_descriptor descriptor;
    if (stream->json.length == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "the manifest is empty");
    int r = check_digest(stream, tag_or_digest, &descriptor, err);
    if (r == 0)
        r = find_media_type(stream, &descriptor, err);
    if (r < 0)
        return r;
    char *json = wfe_buffer_steal(&stream->json);
    if (!json)
        return wfe_error_nomem(err);
    *ret = descriptor;
    *ret_json = json;
    return 0;
}

int wfe_registry_manifest(struct wfe_registry *registry, const char *tag_or_digest,
    struct wfe_cancel *cancel, struct wfe_descriptor *ret, char **ret_json, struct wfe_error *err)
{
    struct wfe_digest digest;
    struct manifest_stream stream = {
        .base = {.begin = begin_manifest, .take = take_manifest},
        .json = WFE_BUFFER_INIT(WFE_IMAGE_JSON_MAX_BYTES),
    };
    struct wfe_registry_request request = {
        .kind = "manifests",
        .name = tag_or_digest,
        .accept = MANIFEST_TYPES,
        .resolves = wfe_digest_parse(tag_or_digest, &digest) < 0,
        .stream = &stream.base,
        .cancel = cancel,
    };
    int r = wfe_registry_get(registry, &request, err);
    if (r == 0) {
        r = read_manifest(&stream, tag_or_digest, ret, ret_json, err);
        if (r < 0)
            wfe_error_prefix(err, "manifest %.80s", tag_or_digest);
    }
    wfe_buffer_done(&stream.json);
    return r;
}

/* A blob as it comes in, possibly in several pieces. */
struct blob_stream {
    struct wfe_registry_stream base;
    const struct wfe_descriptor *blob;
    struct wfe_sink sink;
    struct wfe_hasher *hasher;
    uint64_t skip_bytes; /* of this answer: they are here already */
};

/* A server that knows no ranges sends all of it again (RFC 9110, section 14.2). */
static int begin_blob(struct wfe_registry_stream *base, const struct wfe_http_response *response,
    struct wfe_error *err)
{
    struct blob_stream *stream = (struct blob_stream *)base;
    if (response->status != 206) {
        stream->skip_bytes = base->done_bytes;
        return 0;
    }
    stream->skip_bytes = 0;
    if (response->range_start < 0 || (uint64_t)response->range_start != base->done_bytes)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EPROTO,
            "the answer starts at byte %lld, asked for was byte %llu",
            (long long)response->range_start, (unsigned long long)base->done_bytes);
    return 0;
}

static int take_blob(
    struct wfe_registry_stream *base, const void *data, size_t length, struct wfe_error *err)
{
    struct blob_stream *stream = (struct blob_stream *)base;
    size_t skipped = length < stream->skip_bytes ? length : (size_t)stream->skip_bytes;
    stream->skip_bytes -= skipped;
    const char *from = (const char *)data + skipped;
    length -= skipped;
    if (length > (uint64_t)stream->blob->size_bytes - base->done_bytes)
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "it has more than the %lld bytes that the manifest says",
            (long long)stream->blob->size_bytes);
    if (length == 0)
        return 0;
    wfe_hasher_update(stream->hasher, from, length);
    base->done_bytes += length;
    return stream->sink.write(stream->sink.context, from, length, err);
}

static int check_blob(struct blob_stream *stream, struct wfe_error *err)
{
    const struct wfe_descriptor *blob = stream->blob;
    if (stream->base.done_bytes != (uint64_t)blob->size_bytes)
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG,
            "it has %llu bytes, not the %lld that the manifest says",
            (unsigned long long)stream->base.done_bytes, (long long)blob->size_bytes);
    struct wfe_digest actual;
    wfe_hasher_final(stream->hasher, &actual);
    if (!wfe_digest_equal(&actual, &blob->digest))
        return wfe_error_set(
            err, WFE_ERROR_INTEGRITY, EBADMSG, "it has the digest %s", actual.text);
    return 0;
}

int wfe_registry_blob(struct wfe_registry *registry, const struct wfe_descriptor *blob,
    struct wfe_sink sink, struct wfe_cancel *cancel, struct wfe_error *err)
{
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    if (wfe_hasher_new(&hasher) < 0)
        return wfe_error_nomem(err);
    struct blob_stream stream = {
        .base = {.begin = begin_blob, .take = take_blob, .wanted_bytes = blob->size_bytes},
        .blob = blob,
        .sink = sink,
        .hasher = hasher,
    };
    struct wfe_registry_request request = {
        .kind = "blobs",
        .name = blob->digest.text,
        .stream = &stream.base,
        .cancel = cancel,
    };
    int r = blob->size_bytes > 0 ? wfe_registry_get(registry, &request, err) : 0;
    if (r == 0)
        r = check_blob(&stream, err);
    if (r < 0 && r != -ECANCELED)
        wfe_error_prefix(err, "blob %s", blob->digest.text);
    return r;
}
