/* SPDX-License-Identifier: MIT */
#include "executor/spec/spec.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

static const char DEFAULT_PATH[] =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/*
 * An environment under construction. `slots` is an open-addressed table of indexes into
 * `entries`, plus one, so that an environment made of foreign data grows in linear time.
 * Invariants: slot_count is a power of two and more than twice the room of `entries`;
 * entries[count] is NULL.
 */
struct environment {
    char **entries;
    size_t count;
    size_t *slots;
    size_t slot_count;
};

static bool environment_init(struct environment *environment, size_t room)
{
    size_t slot_count = 16;
    while (slot_count <= 2 * room)
        slot_count *= 2;
    environment->entries = calloc(room + 1, sizeof *environment->entries);
    environment->slots = calloc(slot_count, sizeof *environment->slots);
    environment->slot_count = slot_count;
    return environment->entries && environment->slots;
}

static void environment_done(struct environment *environment)
{
    wfe_spec_env_free(environment->entries);
    free(environment->slots);
}

static size_t hash_name(const char *name, size_t length)
{
    /* FNV-1a. */
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * UINT64_C(1099511628211);
    return (size_t)hash;
}

static bool has_name(const char *entry, const char *name, size_t length)
{
    return strncmp(entry, name, length) == 0 && (entry[length] == '=' || entry[length] == '\0');
}

/* Add "NAME=VALUE", or "NAME" for none (takes it), in the place of an earlier entry of that name.
 */
static void put_entry(struct environment *environment, char *entry, size_t name_length)
{
    size_t at = hash_name(entry, name_length);
    for (;; at++) {
        size_t *slot = &environment->slots[at & (environment->slot_count - 1)];
        if (*slot == 0) {
            environment->entries[environment->count++] = entry;
            *slot = environment->count;
            return;
        }
        char **existing = &environment->entries[*slot - 1];
        if (has_name(*existing, entry, name_length)) {
            free(*existing);
            *existing = entry;
            return;
        }
    }
}

/* Without a value the name is taken away. */
static bool put(struct environment *environment, const char *name, const char *value, bool upper)
{
    size_t name_length = strlen(name);
    size_t value_size = value ? strlen(value) + 1 : 0;
    char *entry = malloc(name_length + 1 + value_size);
    if (!entry)
        return false;
    for (size_t i = 0; i < name_length; i++) {
        bool lower_letter = name[i] >= 'a' && name[i] <= 'z';
        entry[i] = upper && lower_letter ? (char)(name[i] - 'a' + 'A') : name[i];
    }
    entry[name_length] = value ? '=' : '\0';
    if (value)
        memcpy(entry + name_length + 1, value, value_size);
    put_entry(environment, entry, name_length);
    return true;
}

static bool put_image(struct environment *environment, const struct wfe_image_config *image)
{
    bool has_environment = image && image->env[0];
    if (!has_environment) {
        char *path = strdup(DEFAULT_PATH);
        if (!path)
            return false;
        put_entry(environment, path, strlen("PATH"));
        return true;
    }
    for (char **entry = image->env; *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        /* A name without a value sets nothing, and newer runtimes refuse it. */
        if (!equals || equals == *entry)
            continue;
        char *copy = strdup(*entry);
        if (!copy)
            return false;
        put_entry(environment, copy, (size_t)(equals - *entry));
    }
    return true;
}

static bool put_data(struct environment *environment, const cJSON *data)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, data)
    {
        if (!member->string || !*member->string || strchr(member->string, '='))
            continue;
        if (cJSON_IsString(member)) {
            if (!put(environment, member->string, member->valuestring, true))
                return false;
            continue;
        }
        char *text = cJSON_PrintUnformatted(member);
        bool done = text && put(environment, member->string, text, true);
        cJSON_free(text);
        if (!done)
            return false;
    }
    return true;
}

static bool put_config(struct environment *environment, const struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->env_count; i++)
        if (!put(environment, config->env[i].name, config->env[i].value, false))
            return false;
    return true;
}

/* Names that were taken away have no '='. */
static void sweep(char **entries)
{
    char **kept = entries;
    for (char **entry = entries; *entry; entry++) {
        if (strchr(*entry, '='))
            *kept++ = *entry;
        else
            free(*entry);
    }
    *kept = NULL;
}

char **wfe_spec_env(
    const struct wfe_image_config *image, const cJSON *data, const struct wfe_step_config *config)
{
    assert(config);
    assert(!data || cJSON_IsObject(data));
    size_t room = 1 + (size_t)cJSON_GetArraySize(data) + config->env_count;
    for (size_t i = 0; image && image->env[i]; i++)
        room++;
    struct environment environment = {.entries = NULL};
    if (!environment_init(&environment, room) || !put_image(&environment, image) ||
        !put_data(&environment, data) || !put_config(&environment, config)) {
        environment_done(&environment);
        return NULL;
    }
    char **entries = wfe_steal(&environment.entries);
    environment_done(&environment);
    sweep(entries);
    return entries;
}

void wfe_spec_env_free(char **env)
{
    for (char **entry = env; entry && *entry; entry++)
        free(*entry);
    free(env);
}
