/* SPDX-License-Identifier: MIT */
#include "executor/step/step_reader.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/units.h"

#define NEAREST_NAME_MAX 32
#define NEAREST_DISTANCE_MAX 2
#define ALLOWED_KEYS_MAX_BYTES 1024
#define PROBLEM_TEXT_MAX 2048

/* A key of any length and bytes as a part of a path. */
static void append_name(char *buffer, size_t *length, const char *name)
{
    if (*length > 0 && *length < WFE_STEP_PATH_MAX - 1)
        buffer[(*length)++] = '.';
    for (; *name && *length < WFE_STEP_PATH_MAX - 1; name++) {
        unsigned char byte = (unsigned char)*name;
        buffer[(*length)++] = byte < 0x20 || byte == 0x7F ? '?' : *name;
    }
    buffer[*length] = '\0';
}

static void append_path(char *buffer, size_t *length, const struct wfe_step_path *path)
{
    if (!path)
        return;
    append_path(buffer, length, path->up);
    if (path->name) {
        append_name(buffer, length, path->name);
        return;
    }
    char index[32];
    int digits = snprintf(index, sizeof index, "[%zu]", path->index);
    if (*length + (size_t)digits >= WFE_STEP_PATH_MAX)
        return;
    memcpy(buffer + *length, index, (size_t)digits + 1);
    *length += (size_t)digits;
}

const char *wfe_step_path_text(
    const struct wfe_step_path *path, char buffer[static WFE_STEP_PATH_MAX])
{
    size_t length = 0;
    buffer[0] = '\0';
    append_path(buffer, &length, path);
    return buffer;
}

static void report(struct wfe_step_reader *reader, bool warning, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *text)
{
    char where[WFE_STEP_PATH_MAX];
    wfe_problems_add(reader->problems, warning, reader->file, node ? node->line : 0,
        wfe_step_path_text(path, where), "%s", text);
}

void wfe_step_problem(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *format, ...)
{
    char text[PROBLEM_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report(reader, false, node, path, text);
}

void wfe_step_warning(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *format, ...)
{
    char text[PROBLEM_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    report(reader, true, node, path, text);
}

void wfe_step_refuse(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *allowed)
{
    if (node->reported)
        return;
    char found[WFE_NODE_DESCRIPTION_MAX];
    wfe_step_problem(
        reader, node, path, "found %s; allowed: %s", wfe_node_describe(node, found), allowed);
}

const struct wfe_node *wfe_step_given(const struct wfe_node *map, const char *name)
{
    const struct wfe_node *node = wfe_node_get(map, name);
    return node && node->kind != WFE_NODE_NULL ? node : NULL;
}

char *wfe_step_text(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, size_t min_length, const char *allowed)
{
    if (!wfe_node_is_scalar(node) || node->kind == WFE_NODE_NULL || node->length < min_length) {
        wfe_step_refuse(reader, node, path, allowed);
        return NULL;
    }
    char *text = strdup(node->text);
    if (!text)
        reader->nomem = true;
    return text;
}

bool wfe_step_word(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *const *words, const char *allowed, int *ret)
{
    for (int i = 0; wfe_node_is_scalar(node) && words[i]; i++) {
        if (strcmp(words[i], node->text) == 0) {
            *ret = i;
            return true;
        }
    }
    wfe_step_refuse(reader, node, path, allowed);
    return false;
}

void wfe_step_bool(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, bool *ret)
{
    if (node->kind == WFE_NODE_BOOL)
        *ret = node->text[0] == 't' || node->text[0] == 'T';
    else
        wfe_step_refuse(reader, node, path, "true or false");
}

void wfe_step_size(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t *ret)
{
    uint64_t bytes;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, WFE_STEP_SIZE_WORDS);
    if (!text)
        return;
    if (wfe_size_parse(text, &bytes) < 0 || bytes == 0)
        wfe_step_refuse(reader, node, path, WFE_STEP_SIZE_WORDS);
    else
        *ret = bytes;
}

void wfe_step_count(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t max, const char *allowed, uint64_t *ret)
{
    uint64_t count = 0;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (!text)
        return;
    /* A number without a unit is a size as well; there is no other with digits alone. */
    bool digits = text[strspn(text, "0123456789")] == '\0';
    if (!digits || wfe_size_parse(text, &count) < 0 || count == 0 || count > max)
        wfe_step_refuse(reader, node, path, allowed);
    else
        *ret = count;
}

void *wfe_step_allocate(struct wfe_step_reader *reader, size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory)
        reader->nomem = true;
    return memory;
}

bool wfe_step_is_map(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    if (node->kind == WFE_NODE_MAP)
        return true;
    wfe_step_refuse(reader, node, path, "a map");
    return false;
}

bool wfe_step_is_list(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    if (node->kind == WFE_NODE_LIST)
        return true;
    wfe_step_refuse(reader, node, path, "a list");
    return false;
}

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Restricted Damerau-Levenshtein distance of two names of at most NEAREST_NAME_MAX bytes. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[NEAREST_NAME_MAX + 1][NEAREST_NAME_MAX + 1];
    for (size_t i = 0; i <= a_length; i++) {
        for (size_t k = 0; k <= b_length; k++) {
            if (i == 0 || k == 0) {
                rows[i][k] = i + k;
                continue;
            }
            size_t slip = same_letter(a[i - 1], b[k - 1]) ? 0 : 1;
            size_t best = least(rows[i - 1][k], rows[i][k - 1]) + 1;
            best = least(best, rows[i - 1][k - 1] + slip);
            if (i > 1 && k > 1 && same_letter(a[i - 1], b[k - 2]) &&
                same_letter(a[i - 2], b[k - 1]))
                best = least(best, rows[i - 2][k - 2] + 1);
            rows[i][k] = best;
        }
    }
    return rows[a_length][b_length];
}

const char *wfe_step_nearest(const char *name, const char *const *known)
{
    size_t length = strlen(name);
    if (length == 0 || length > NEAREST_NAME_MAX)
        return NULL;
    const char *nearest = NULL;
    size_t least_distance = NEAREST_DISTANCE_MAX + 1;
    for (; *known; known++) {
        size_t known_length = strlen(*known);
        if (known_length > NEAREST_NAME_MAX)
            continue;
        size_t slips = distance(name, length, *known, known_length);
        if (slips < least_distance && slips < length && slips < known_length) {
            least_distance = slips;
            nearest = *known;
        }
    }
    return nearest;
}

static void refuse_key(struct wfe_step_reader *reader, const struct wfe_node *key,
    const struct wfe_step_path *path, const char *const *known)
{
    const char *nearest = wfe_step_nearest(key->text, known);
    if (nearest) {
        wfe_step_problem(reader, key, path, "found an unknown key; did you mean '%s'?", nearest);
        return;
    }
    WFE_BUFFER struct wfe_buffer allowed = WFE_BUFFER_INIT(ALLOWED_KEYS_MAX_BYTES);
    for (const char *const *name = known; *name; name++) {
        if (wfe_buffer_printf(&allowed, "%s%s", name == known ? "" : ", ", *name) < 0)
            break;
    }
    wfe_step_problem(reader, key, path, "found an unknown key; allowed: %s",
        allowed.data ? allowed.data : "other keys");
}

void wfe_step_check_keys(struct wfe_step_reader *reader, const struct wfe_node *map,
    const struct wfe_step_path *path, const char *const *known)
{
    for (size_t i = 0; i < map->count; i++) {
        const struct wfe_node *key = map->members[i].key;
        const char *const *name = known;
        while (*name && strcmp(*name, key->text) != 0)
            name++;
        struct wfe_step_path where = {.up = path, .name = key->text};
        if (!*name)
            refuse_key(reader, key, &where, known);
    }
}
