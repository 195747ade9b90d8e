/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define SHORT_DIGITS 12
/* The name of an artifact whose source has none that can be used. */
#define NAMELESS "artifact"

static int compare_entries(const void *a, const void *b)
{
    const struct wfe_store_entry *left = a, *right = b;
    return strcmp(left->digest.text, right->digest.text);
}

static size_t shared_digits(const struct wfe_digest *a, const struct wfe_digest *b)
{
    const char *left = wfe_digest_hex(a), *right = wfe_digest_hex(b);
    size_t count = 0;
    while (left[count] && left[count] == right[count])
        count++;
    return count;
}

/* How many digits tell the artifact at `at` from its neighbours, which have other digests. */
static int digits_needed(
    const struct wfe_store_entry *entries, size_t count, size_t from, size_t to)
{
    size_t digits = SHORT_DIGITS;
    size_t before = from > 0 ? shared_digits(&entries[from - 1].digest, &entries[from].digest) : 0;
    size_t after = to < count ? shared_digits(&entries[to].digest, &entries[from].digest) : 0;
    if (before >= digits)
        digits = before + 1;
    if (after >= digits)
        digits = after + 1;
    return (int)digits;
}

/* One artifact: the entries from `from` to before `to` are its names. */
static int add_stored(struct wfe_volume *volume, const struct wfe_store_entry *entries,
    size_t count, size_t from, size_t to, struct wfe_error *err)
{
    const struct wfe_store_entry *entry = &entries[from];
    char name[WFE_DIGEST_HEX_LENGTH + 1];
    snprintf(name, sizeof name, "%.*s", digits_needed(entries, count, from, to),
        wfe_digest_hex(&entry->digest));
    struct wfe_volume_item *item;
    int r = wfe_volume_add(volume, name, &item, err);
    if (r < 0)
        return r;
    item->stored_as = cJSON_CreateArray();
    if (!item->stored_as)
        return wfe_error_nomem(err);
    for (size_t i = from; i < to; i++) {
        if (entries[i].name[0] &&
            !cJSON_AddItemToArray(item->stored_as, cJSON_CreateString(entries[i].name)))
            return wfe_error_nomem(err);
    }
    item->digest = entry->digest;
    item->has_digest = true;
    item->media_type = entry->media_type;
    item->size_bytes = entry->size_bytes;
    item->mtime_s = entry->created_s;
    if (asprintf(&item->path, "%s/blobs/sha256/%s", volume->store_path,
            wfe_digest_hex(&entry->digest)) < 0) {
        item->path = NULL;
        return wfe_error_nomem(err);
    }
    return 0;
}

static int fill_store(struct wfe_volume *volume, const char *path, struct wfe_error *err)
{
    WFE_FREE char *resolved = realpath(path, NULL);
    if (!resolved)
        return wfe_error_system(err, errno, "%s", path);
    volume->is_store = true;
    volume->store_path = resolved;
    WFE_FREE struct wfe_store_entry *entries = NULL;
    size_t count = 0;
    int r = wfe_store_open(path, false, &volume->store, err);
    if (r == 0)
        r = wfe_store_list(volume->store, &entries, &count, err);
    if (r < 0)
        return r;
    size_t live = 0;
    int64_t now = time(NULL);
    for (size_t i = 0; i < count; i++) {
        if (entries[i].expires_s > now)
            entries[live++] = entries[i];
    }
    if (live > 0)
        qsort(entries, live, sizeof *entries, compare_entries);
    for (size_t from = 0, to; from < live && r == 0; from = to) {
        to = from + 1;
        while (to < live && wfe_digest_equal(&entries[to].digest, &entries[from].digest))
            to++;
        r = add_stored(volume, entries, live, from, to, err);
    }
    volume->store_path = NULL;
    return r;
}

static bool is_store(const char *path)
{
    WFE_FREE char *layout = wfe_path_join(path, "oci-layout");
    WFE_FREE char *blobs = wfe_path_join(path, "blobs");
    struct stat st;
    return layout && blobs && stat(layout, &st) == 0 && S_ISREG(st.st_mode) &&
           stat(blobs, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The only artifact's name is seen in .wfe/layers alone. */
static int fill_single(struct wfe_volume *volume, const char *source, struct wfe_error *err)
{
    char name[256];
    bool is_stored = strncmp(source, "sha256:", 7) == 0;
    if (is_stored || wfe_store_suggest_name(source, name) < 0) {
        WFE_FREE char *resolved = is_stored ? NULL : realpath(source, NULL);
        if (!resolved || wfe_store_suggest_name(resolved, name) < 0)
            snprintf(name, sizeof name, NAMELESS);
    }
    if (wfe_volume_check_name(name, NULL) < 0)
        snprintf(name, sizeof name, NAMELESS);
    volume->is_single = true;
    struct wfe_volume_item *item;
    int r = wfe_volume_add(volume, name, &item, err);
    return r < 0 ? r : wfe_volume_set_source(volume, item, source, err);
}

int wfe_volume_fill_source(struct wfe_volume *volume, const char *source, struct wfe_error *err)
{
    if (strcmp(source, "-") == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "a source is read at any place, so it can't be standard input");
    if (strncmp(source, "sha256:", 7) == 0)
        return fill_single(volume, source, err);
    struct stat st;
    if (stat(source, &st) < 0)
        return wfe_error_system(err, errno, "%s", source);
    if (S_ISDIR(st.st_mode) && is_store(source))
        return fill_store(volume, source, err);
    if (S_ISREG(st.st_mode)) {
        int r = wfe_volume_fill_package(volume, source, err);
        if (r != -ENOTSUP)
            return r;
    }
    return fill_single(volume, source, err);
}
