/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/cleanup.h"

/* How an item stands at one moment. */
struct standing {
    const char *state;
    char reason[512];
    uint64_t entries;
    uint64_t problem_count;
};

static bool add_text(cJSON *object, const char *key, const char *text)
{
    return text ? cJSON_AddStringToObject(object, key, text) : cJSON_AddNullToObject(object, key);
}

static const char *state_name(enum wfe_artifact_state state)
{
    switch (state) {
    case WFE_ARTIFACT_SCANNING:
        return "scanning";
    case WFE_ARTIFACT_GOOD:
        return "good";
    default:
        return "broken";
    }
}

/* With the index's lock held. */
static bool add_problems(const struct wfe_index *index, cJSON *problems)
{
    for (uint64_t i = 0; i < index->problem_count && i < WFE_MAX_PROBLEMS; i++) {
        if (index->problems[i] &&
            !cJSON_AddItemToArray(problems, cJSON_CreateString(index->problems[i])))
            return false;
    }
    return true;
}

/* An entry of that name in the root can't be seen. */
static bool hides_entry(const struct wfe_volume *volume, struct wfe_index *index)
{
    uint32_t inode;
    return volume->is_single && wfe_index_is_complete(index) &&
           wfe_index_lookup(index, WFE_INDEX_ROOT, WFE_VOLUME_CONTROL_NAME, NULL, &inode) == 0;
}

static bool describe_opened(struct wfe_volume_item *item, struct wfe_artifact *artifact,
    struct standing *ret, cJSON *problems)
{
    struct wfe_index *index = wfe_artifact_index(artifact);
    ret->state = state_name(wfe_artifact_state(artifact, ret->reason, sizeof ret->reason));
    pthread_rwlock_rdlock(&index->lock);
    ret->entries = index->item_count;
    ret->problem_count = index->problem_count;
    bool ok = add_problems(index, problems);
    pthread_rwlock_unlock(&index->lock);
    if (ok && hides_entry(item->volume, index)) {
        ret->problem_count++;
        ok = cJSON_AddItemToArray(
            problems, cJSON_CreateString(WFE_VOLUME_CONTROL_NAME
                          ": left out, since the mount has a directory of that name itself"));
    }
    return ok;
}

static bool describe_item(struct wfe_volume_item *item, struct standing *ret, cJSON *problems)
{
    struct wfe_artifact *artifact = atomic_load(&item->artifact);
    if (artifact)
        return describe_opened(item, artifact, ret, problems);
    pthread_mutex_lock(&item->lock);
    ret->state = item->has_failed ? "broken" : "unopened";
    memcpy(ret->reason, item->fault, sizeof ret->reason);
    pthread_mutex_unlock(&item->lock);
    return true;
}

static cJSON *item_to_json(struct wfe_volume *volume, size_t number)
{
    struct wfe_volume_item *item = volume->items[number];
    struct wfe_artifact *artifact = atomic_load(&item->artifact);
    WFE_JSON cJSON *object = cJSON_CreateObject();
    WFE_JSON cJSON *problems = cJSON_CreateArray();
    struct standing standing = {.state = NULL};
    if (!object || !problems || !describe_item(item, &standing, problems))
        return NULL;
    struct wfe_digest digest = item->digest;
    bool has_digest = artifact ? wfe_artifact_digest(artifact, &digest) : item->has_digest;
    bool ok = add_text(object, "name", item->name) &&
              add_text(object, "digest", has_digest ? digest.text : NULL) &&
              cJSON_AddNumberToObject(object, "size", (double)item->size_bytes) &&
              add_text(object, "media_type", wfe_volume_media_type(volume, number)) &&
              add_text(object, "state", standing.state) &&
              add_text(object, "reason", standing.reason[0] ? standing.reason : NULL) &&
              cJSON_AddNumberToObject(object, "entries", (double)standing.entries) &&
              cJSON_AddNumberToObject(object, "problem_count", (double)standing.problem_count);
    if (!ok || !cJSON_AddItemToObject(object, "problems", problems))
        return NULL;
    problems = NULL;
    if (item->stored_as) {
        cJSON *names = cJSON_Duplicate(item->stored_as, true);
        if (!cJSON_AddItemToObject(object, "stored_as", names)) {
            cJSON_Delete(names);
            return NULL;
        }
    }
    return wfe_steal(&object);
}

char *wfe_volume_describe(struct wfe_volume *volume)
{
    WFE_JSON cJSON *root = cJSON_CreateObject();
    cJSON *artifacts = root ? cJSON_AddArrayToObject(root, "artifacts") : NULL;
    if (!artifacts)
        return NULL;
    for (size_t i = 0; i < volume->count; i++) {
        cJSON *object = item_to_json(volume, i);
        if (!object || !cJSON_AddItemToArray(artifacts, object)) {
            cJSON_Delete(object);
            return NULL;
        }
    }
    return cJSON_Print(root);
}
