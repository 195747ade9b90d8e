/* SPDX-License-Identifier: MIT */
#include "libcommon/store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/store_directory.h"
#include "libcommon/store_index.h"
#include "libcommon/store_layout.h"
#include "libcommon/store_meta.h"

/* So many digits tell artifacts apart by sight; fewer would be chance. */
#define ABBREVIATION_MIN_DIGITS 8

struct named {
    struct wfe_digest artifact;
    char name[WFE_NAME_BYTES];
};

struct names {
    struct named *items;
    size_t count;
};

static void names_done(struct names *names)
{
    free(names->items);
}

static int compare_named(const void *a, const void *b)
{
    const struct named *left = a;
    const struct named *right = b;
    int order = strcmp(left->artifact.text, right->artifact.text);
    return order ? order : strcmp(left->name, right->name);
}

static int read_names(struct wfe_store *store, struct names *ret, struct wfe_error *err)
{
    WFE_JSON cJSON *index = NULL;
    int r = wfe_store_index_load(store, &index, err);
    if (r < 0)
        return r;
    const cJSON *descriptors = wfe_store_index_descriptors(index);
    ret->items = calloc((size_t)cJSON_GetArraySize(descriptors) + 1, sizeof *ret->items);
    if (!ret->items)
        return wfe_error_nomem(err);
    const cJSON *descriptor;
    cJSON_ArrayForEach(descriptor, descriptors)
    {
        struct named *item = &ret->items[ret->count];
        struct wfe_store_index_target target;
        r = wfe_store_index_resolve(store, descriptor, &target);
        if (r < 0)
            return wfe_error_system(err, -r, "%s/" WFE_STORE_INDEX, store->path);
        wfe_store_index_name(descriptor, item->name);
        item->artifact = target.artifact;
        if (target.is_artifact && item->name[0])
            ret->count++;
    }
    qsort(ret->items, ret->count, sizeof *ret->items, compare_named);
    return 0;
}

static void fill_entry(struct wfe_store_entry *entry, const struct wfe_digest *digest,
    const struct wfe_blob *blob, const char *name)
{
    *entry = (struct wfe_store_entry){
        .digest = *digest,
        .size_bytes = blob->size_bytes,
        .media_type = blob->media_type,
        .created_s = blob->meta.created.tv_sec,
        .expires_s = blob->meta.expires.tv_sec,
    };
    snprintf(entry->name, sizeof entry->name, "%s", name);
}

int wfe_store_list(
    struct wfe_store *store, struct wfe_store_entry **ret, size_t *ret_count, struct wfe_error *err)
{
    WFE_DIGESTS struct wfe_digests blobs = {.count = 0};
    int r = wfe_store_read_directory(store, WFE_STORE_BLOBS, "", &blobs, err);
    if (r < 0)
        return r;
    WFE_CLEANUP(names_done) struct names names = {.count = 0};
    r = read_names(store, &names, err);
    if (r < 0)
        return r;
    WFE_FREE struct wfe_store_entry *entries =
        calloc(blobs.count + names.count + 1, sizeof *entries);
    if (!entries)
        return wfe_error_nomem(err);
    size_t count = 0;
    size_t at = 0;
    for (size_t i = 0; i < blobs.count; i++) {
        const struct wfe_digest *digest = &blobs.items[i];
        while (at < names.count && strcmp(names.items[at].artifact.text, digest->text) < 0)
            at++;
        struct wfe_blob blob;
        r = wfe_blob_examine(store, digest, &blob);
        if (r == -ENOENT || (r == 0 && blob.is_document))
            continue;
        if (r < 0)
            return wfe_error_system(err, -r, "artifact %s", digest->text);
        size_t first = count;
        for (; at < names.count && wfe_digest_equal(&names.items[at].artifact, digest); at++) {
            if (count == first || strcmp(entries[count - 1].name, names.items[at].name) != 0)
                fill_entry(&entries[count++], digest, &blob, names.items[at].name);
        }
        if (count == first)
            fill_entry(&entries[count++], digest, &blob, "");
    }
    *ret = wfe_steal(&entries);
    *ret_count = count;
    return 0;
}

static int find_name(
    struct wfe_store *store, const char *name, struct wfe_digest *ret, struct wfe_error *err)
{
    WFE_JSON cJSON *index = NULL;
    int r = wfe_store_index_load(store, &index, err);
    if (r < 0)
        return r;
    const cJSON *descriptor;
    cJSON_ArrayForEach(descriptor, wfe_store_index_descriptors(index))
    {
        char has[WFE_NAME_BYTES];
        wfe_store_index_name(descriptor, has);
        if (strcmp(has, name) != 0)
            continue;
        struct wfe_store_index_target target;
        r = wfe_store_index_resolve(store, descriptor, &target);
        if (r < 0)
            return wfe_error_system(err, -r, "%s/" WFE_STORE_INDEX, store->path);
        if (target.is_artifact) {
            *ret = target.artifact;
            return 0;
        }
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "no artifact is named '%s' in the store %s",
        name, store->path);
}

static int find_abbreviation(
    struct wfe_store *store, const char *text, struct wfe_digest *ret, struct wfe_error *err)
{
    WFE_FREE struct wfe_store_entry *entries = NULL;
    size_t count = 0;
    int r = wfe_store_list(store, &entries, &count, err);
    if (r < 0)
        return r;
    const struct wfe_digest *found = NULL;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(entries[i].digest.text, text, strlen(text)) != 0)
            continue;
        if (found && !wfe_digest_equal(found, &entries[i].digest))
            return wfe_error_set(
                err, WFE_ERROR_INPUT, EINVAL, "several artifacts begin with %s", text);
        found = &entries[i].digest;
    }
    if (!found)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "no artifact begins with %s in the store %s", text, store->path);
    *ret = *found;
    return 0;
}

int wfe_store_resolve(
    struct wfe_store *store, const char *text, struct wfe_digest *ret, struct wfe_error *err)
{
    if (wfe_digest_parse(text, ret) == 0)
        return 0;
    static const char prefix[] = "sha256:";
    if (strncmp(text, prefix, sizeof prefix - 1) != 0) {
        int r = wfe_store_check_name(text, err);
        return r < 0 ? r : find_name(store, text, ret, err);
    }
    const char *digits = text + sizeof prefix - 1;
    size_t length = strspn(digits, "0123456789abcdef");
    if (digits[length] || length < ABBREVIATION_MIN_DIGITS || length >= WFE_DIGEST_HEX_LENGTH)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "'%.100s' is not a digest: expected sha256: and 64 hexadecimal digits in lower case",
            text);
    return find_abbreviation(store, text, ret, err);
}
