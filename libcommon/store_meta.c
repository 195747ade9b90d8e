/* SPDX-License-Identifier: MIT */
#include "libcommon/store_meta.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/json.h"
#include "libcommon/layer.h"

/* The last second of the year 9999. */
#define MAX_SECONDS INT64_C(253402300799)

struct timespec wfe_store_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now;
}

bool wfe_meta_expired(const struct wfe_meta *meta, struct timespec now)
{
    if (meta->expires.tv_sec != now.tv_sec)
        return meta->expires.tv_sec < now.tv_sec;
    return meta->expires.tv_nsec <= now.tv_nsec;
}

static struct timespec later(struct timespec from, int64_t seconds)
{
    if (from.tv_sec > MAX_SECONDS)
        from.tv_sec = MAX_SECONDS;
    if (seconds > MAX_SECONDS - from.tv_sec)
        seconds = MAX_SECONDS - from.tv_sec;
    if (seconds < 0)
        seconds = 0;
    from.tv_sec += seconds;
    return from;
}

void wfe_meta_begin(int64_t expiry_s, struct wfe_meta *ret)
{
    struct timespec now = wfe_store_now();
    *ret = (struct wfe_meta){.created = now, .expires = later(now, expiry_s)};
}

static bool read_number(const cJSON *object, const char *key, double max, double *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item))
        return false;
    double value = item->valuedouble;
    if (!isfinite(value) || value < 0 || value > max)
        return false;
    *ret = value;
    return true;
}

static bool read_time(const cJSON *document, const char *key, struct timespec *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(document, key);
    double seconds;
    double nanos;
    if (!read_number(item, "secs_since_epoch", (double)MAX_SECONDS, &seconds))
        return false;
    if (!read_number(item, "nanos_since_epoch", 999999999, &nanos))
        return false;
    *ret = (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)nanos};
    return true;
}

int wfe_meta_read(struct wfe_store *store, const struct wfe_digest *digest,
    const struct timespec *modified, struct wfe_meta *ret)
{
    struct wfe_store_path path = wfe_store_meta_path(digest);
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_store_read(store, path.text, WFE_STORE_DOCUMENT_MAX_BYTES, &text, &length);
    if (r < 0 && r != -ENOENT && r != -EFBIG)
        return r;
    WFE_JSON cJSON *document = NULL;
    if (r == 0 && wfe_json_parse(text, length, NULL, &document) == -ENOMEM)
        return -ENOMEM;
    struct wfe_meta read = {.recorded = true};
    const cJSON *diff_id = cJSON_GetObjectItemCaseSensitive(document, "diff_id");
    if (cJSON_IsString(diff_id) && wfe_digest_parse(diff_id->valuestring, &read.diff_id) < 0)
        read.diff_id.text[0] = '\0';
    if (read_time(document, "created_at", &read.created) &&
        read_time(document, "expires_at", &read.expires))
        *ret = read;
    else
        *ret = (struct wfe_meta){
            .created = *modified, .expires = later(*modified, WFE_STORE_DEFAULT_EXPIRY_S)};
    return 0;
}

int wfe_meta_write(struct wfe_store *store, const struct wfe_digest *digest,
    const struct wfe_meta *meta, struct wfe_error *err)
{
    char diff_id[sizeof meta->diff_id.text + 16] = "";
    if (meta->diff_id.text[0])
        snprintf(diff_id, sizeof diff_id, ",\"diff_id\":\"%s\"", meta->diff_id.text);
    char text[512];
    int length = snprintf(text, sizeof text,
        "{\"created_at\":{\"secs_since_epoch\":%lld,\"nanos_since_epoch\":%ld},"
        "\"expires_at\":{\"secs_since_epoch\":%lld,\"nanos_since_epoch\":%ld}%s}\n",
        (long long)meta->created.tv_sec, meta->created.tv_nsec, (long long)meta->expires.tv_sec,
        meta->expires.tv_nsec, diff_id);
    char name[WFE_DIGEST_HEX_LENGTH + sizeof ".json"];
    snprintf(name, sizeof name, "%s.json", wfe_digest_hex(digest));
    return wfe_store_replace(store, WFE_STORE_META, name, text, (size_t)length, err);
}

/* Where a POSIX tar has "ustar" in its first header. */
#define TAR_MAGIC_OFFSET 257

static const char *media_type_of(const unsigned char *head, size_t length)
{
    if (length >= 2 && memcmp(head, "\x1f\x8b", 2) == 0)
        return WFE_LAYER_MEDIA_TYPE_GZIP;
    if (length >= 4 && memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0)
        return WFE_LAYER_MEDIA_TYPE_ZSTD;
    return WFE_LAYER_MEDIA_TYPE_TAR;
}

static bool looks_like_document(const unsigned char *head, size_t length, uint64_t size_bytes)
{
    if (length == 0 || head[0] != '{' || size_bytes > WFE_STORE_DOCUMENT_MAX_BYTES)
        return false;
    return length < TAR_MAGIC_OFFSET + 5 || memcmp(head + TAR_MAGIC_OFFSET, "ustar", 5) != 0;
}

int wfe_blob_examine(struct wfe_store *store, const struct wfe_digest *digest, struct wfe_blob *ret)
{
    struct stat st;
    WFE_CLOSE int fd = wfe_store_open_blob(store, digest, &st);
    if (fd < 0)
        return fd;
    unsigned char head[512];
    ssize_t length = wfe_read_full(fd, head, sizeof head);
    if (length < 0)
        return (int)length;
    struct wfe_blob blob = {
        .size_bytes = (uint64_t)st.st_size,
        .modified = st.st_mtim,
        .media_type = media_type_of(head, (size_t)length),
    };
    int r = wfe_meta_read(store, digest, &blob.modified, &blob.meta);
    if (r < 0)
        return r;
    blob.is_document =
        !blob.meta.recorded && looks_like_document(head, (size_t)length, blob.size_bytes);
    *ret = blob;
    return 0;
}
