/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"

/* A member on its way into the finished map. */
struct candidate {
    struct wfe_member member;
    size_t rank; /* 0: the map's own, then the merged maps' in their order: the lowest wins */
    size_t position;
    bool dropped;
};

struct candidates {
    struct candidate *items;
    size_t count;
    size_t ranks;
};

static bool is_merge_key(const struct wfe_node *key)
{
    return wfe_node_is_scalar(key) && !key->quoted && !key->reported &&
           strcmp(key->text, "<<") == 0;
}

static size_t merged_count(const struct wfe_node *value)
{
    if (value->kind == WFE_NODE_MAP)
        return value->count;
    size_t count = 0;
    for (size_t i = 0; value->kind == WFE_NODE_LIST && i < value->count; i++) {
        if (value->items[i]->kind == WFE_NODE_MAP)
            count += value->items[i]->count;
    }
    return count;
}

static void add_candidate(
    struct candidates *candidates, const struct wfe_member *member, size_t rank)
{
    candidates->items[candidates->count] =
        (struct candidate){.member = *member, .rank = rank, .position = candidates->count};
    candidates->count++;
}

static void merge_map(struct wfe_document_builder *builder, struct candidates *candidates,
    const struct wfe_node *value)
{
    if (value->reported)
        return;
    if (value->kind != WFE_NODE_MAP) {
        char found[WFE_NODE_DESCRIPTION_MAX];
        wfe_problems_add(builder->problems, false, builder->file, value->line, "",
            "merge key '<<': found %s; allowed: a map or a list of maps",
            wfe_node_describe(value, found));
        return;
    }
    candidates->ranks++;
    for (size_t i = 0; i < value->count; i++)
        add_candidate(candidates, &value->members[i], candidates->ranks);
}

static void merge_value(struct wfe_document_builder *builder, struct candidates *candidates,
    const struct wfe_node *value)
{
    if (value->kind != WFE_NODE_LIST) {
        merge_map(builder, candidates, value);
        return;
    }
    for (size_t i = 0; i < value->count; i++)
        merge_map(builder, candidates, value->items[i]);
}

static int compare_candidates(const void *left, const void *right)
{
    const struct candidate *a = *(const struct candidate *const *)left;
    const struct candidate *b = *(const struct candidate *const *)right;
    int order = strcmp(a->member.key->text, b->member.key->text);
    if (order != 0)
        return order;
    if (a->rank != b->rank)
        return a->rank < b->rank ? -1 : 1;
    return a->position < b->position ? -1 : 1;
}

/* Of each key only the best candidate stays. */
static int drop_losers(struct wfe_document_builder *builder, struct candidates *candidates)
{
    WFE_FREE struct candidate **sorted = calloc(candidates->count, sizeof(struct candidate *));
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < candidates->count; i++)
        sorted[i] = &candidates->items[i];
    qsort(sorted, candidates->count, sizeof(struct candidate *), compare_candidates);
    const struct candidate *winner = sorted[0];
    for (size_t i = 1; i < candidates->count; i++) {
        if (strcmp(sorted[i]->member.key->text, winner->member.key->text) != 0) {
            winner = sorted[i];
            continue;
        }
        sorted[i]->dropped = true;
        if (sorted[i]->rank != 0)
            continue;
        char found[WFE_NODE_DESCRIPTION_MAX];
        wfe_problems_add(builder->problems, false, builder->file, sorted[i]->member.key->line, "",
            "found the key %s twice in one map; the first is in line %d",
            wfe_node_describe(sorted[i]->member.key, found), winner->member.key->line);
    }
    return 0;
}

/* Room for each member that could end up in the map: `extra` of them come by merge keys. */
static int collect(struct wfe_document_builder *builder, const struct wfe_node *map, size_t extra,
    struct candidates *candidates)
{
    candidates->items = calloc(map->count + extra, sizeof *candidates->items);
    if (!candidates->items)
        return -ENOMEM;
    const struct wfe_node *first_merge = NULL;
    for (size_t i = 0; i < map->count; i++) {
        const struct wfe_node *key = map->members[i].key;
        if (!is_merge_key(key))
            continue;
        if (first_merge) {
            wfe_problems_add(builder->problems, false, builder->file, key->line, "",
                "found the key '<<' twice in one map; allowed: one, with a list of maps");
            continue;
        }
        first_merge = key;
        merge_value(builder, candidates, map->members[i].value);
    }
    for (size_t i = 0; i < map->count; i++) {
        const struct wfe_node *key = map->members[i].key;
        if (wfe_node_is_scalar(key) && !key->reported && !is_merge_key(key))
            add_candidate(candidates, &map->members[i], 0);
    }
    return 0;
}

int wfe_document_finish_map(struct wfe_document_builder *builder, struct wfe_node *map)
{
    size_t extra = 0;
    for (size_t i = 0; i < map->count; i++) {
        if (is_merge_key(map->members[i].key))
            extra += merged_count(map->members[i].value);
    }
    int r = wfe_document_count_nodes(builder, extra, map->line);
    if (r < 0 || map->count == 0)
        return r;
    struct candidates candidates = {.items = NULL};
    r = collect(builder, map, extra, &candidates);
    WFE_FREE struct candidate *owned = candidates.items;
    if (r == 0 && candidates.count > 0)
        r = drop_losers(builder, &candidates);
    if (r < 0)
        return r;
    struct wfe_member *members = calloc(map->count + extra, sizeof *members);
    if (!members)
        return -ENOMEM;
    size_t count = 0;
    for (size_t i = 0; i < candidates.count; i++) {
        if (!owned[i].dropped)
            members[count++] = owned[i].member;
    }
    free(map->members);
    map->members = members;
    map->count = count;
    return 0;
}
