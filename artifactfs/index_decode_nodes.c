/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_decoder.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "libcommon/cleanup.h"

/* A node's columns that come before its name. */
struct node_draft {
    uint32_t parent;
    uint32_t path_length;
    uint8_t flags;
    uint8_t shared;
    uint8_t length;
};

static bool get_drafts(
    struct wfe_index_decoder *decoder, struct node_draft **ret, uint32_t *ret_count)
{
    uint32_t count = wfe_index_decoder_count(decoder, WFE_MAX_ENTRIES);
    if (count == 0)
        return wfe_index_decoder_refuse(decoder, "there is no root");
    struct node_draft *drafts = NULL;
    uint32_t allocated = 0;
    if (!wfe_index_decoder_reserve(decoder, &drafts, &allocated, 0, count, sizeof *drafts))
        return false;
    for (uint32_t i = 0; i < count && wfe_index_decoder_is_good(decoder); i++) {
        if (!wfe_index_decoder_grow(decoder, &drafts, &allocated, i, sizeof *drafts))
            break;
        *ret = drafts;
        drafts[i] = (struct node_draft){.flags = WFE_INDEX_FORM_DIRECTORY};
        if (i == WFE_TREE_ROOT)
            continue;
        uint64_t parent = wfe_index_decoder_difference(decoder, drafts[i - 1].parent);
        if (parent >= i)
            wfe_index_decoder_refuse(decoder, "a node comes before its parent");
        drafts[i].parent = (uint32_t)parent;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 1; i < count; i++)
        drafts[i].flags = (uint8_t)wfe_index_decoder_count(
            decoder, WFE_INDEX_FORM_DIRECTORY | WFE_INDEX_FORM_DEAD);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 1; i < count; i++)
        drafts[i].shared = (uint8_t)wfe_index_decoder_count(decoder, WFE_MAX_COMPONENT_BYTES);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 1; i < count; i++)
        drafts[i].length = (uint8_t)wfe_index_decoder_count(decoder, WFE_MAX_COMPONENT_BYTES);
    *ret_count = count;
    return wfe_index_decoder_end_column(decoder);
}

static bool is_component(const char *name, size_t length)
{
    return length > 0 && !memchr(name, '/', length) && !memchr(name, '\0', length) &&
           !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* A node whose name's first bytes are in `name` already. */
static bool get_node(
    struct wfe_index_decoder *decoder, struct node_draft *drafts, uint32_t i, char *name)
{
    struct wfe_tree *tree = &decoder->index->tree;
    struct node_draft *draft = &drafts[i];
    const struct node_draft *parent = &drafts[draft->parent];
    if (draft->shared > draft->length || draft->shared > drafts[i - 1].length)
        return wfe_index_decoder_refuse(decoder, "a name shares more than there is");
    wfe_column_get_bytes(
        decoder->reader, name + draft->shared, (size_t)(draft->length - draft->shared));
    if (!wfe_index_decoder_is_good(decoder))
        return false;
    draft->path_length = parent->path_length + 1 + draft->length;
    if (!is_component(name, draft->length) || draft->path_length > WFE_MAX_NAME_BYTES + 1)
        return wfe_index_decoder_refuse(decoder, "a name is not one that a file can have");
    if (!(parent->flags & WFE_INDEX_FORM_DIRECTORY))
        return wfe_index_decoder_refuse(decoder, "a node is below one that is no directory");
    bool is_dead = draft->flags & WFE_INDEX_FORM_DEAD;
    struct wfe_layer_component component = {.text = name, .length = draft->length};
    uint32_t node;
    int r = wfe_tree_add(
        tree, draft->parent, &component, draft->flags & WFE_INDEX_FORM_DIRECTORY, &node);
    if (r == -ENOMEM)
        decoder->no_memory = true;
    if (r < 0)
        return wfe_index_decoder_refuse(decoder, "the names are too long");
    assert(node == i);
    if (is_dead)
        wfe_tree_remove(tree, node);
    return true;
}

static bool reserve_tree(
    struct wfe_index_decoder *decoder, const struct node_draft *drafts, uint32_t count)
{
    struct wfe_tree *tree = &decoder->index->tree;
    assert(count == 0 || drafts);
    uint64_t names_bytes = 1;
    for (uint32_t i = 0; i < count; i++)
        names_bytes += drafts[i].length;
    if (!wfe_index_decoder_reserve(decoder, &tree->nodes, &tree->nodes_allocated, tree->node_count,
            count, sizeof *tree->nodes) ||
        !wfe_index_decoder_reserve(
            decoder, &tree->names, &tree->names_allocated, tree->names_length, names_bytes, 1))
        return false;
    /* The root is in no bucket, so that they can be exchanged. */
    uint32_t bucket_count = tree->bucket_count;
    while (bucket_count < count)
        bucket_count *= 2;
    uint32_t allocated = 0;
    if (bucket_count == tree->bucket_count ||
        !wfe_index_decoder_reserve(
            decoder, &tree->buckets, &allocated, 0, bucket_count, sizeof *tree->buckets))
        return wfe_index_decoder_is_good(decoder);
    if (allocated >= bucket_count) {
        memset(tree->buckets, 0xff, bucket_count * sizeof *tree->buckets);
        tree->bucket_count = bucket_count;
    }
    return true;
}

bool wfe_index_decoder_nodes(struct wfe_index_decoder *decoder)
{
    WFE_FREE struct node_draft *drafts = NULL;
    uint32_t count = 0;
    if (!get_drafts(decoder, &drafts, &count) || !reserve_tree(decoder, drafts, count))
        return false;
    char name[WFE_MAX_COMPONENT_BYTES];
    struct wfe_tree *tree = &decoder->index->tree;
    assert(tree->node_count == 1);
    for (uint32_t i = 1; i < count; i++) {
        if (!get_node(decoder, drafts, i, name))
            return false;
    }
    struct wfe_index_form_reference entry = {.step = 1}, content = {.step = 1};
    for (uint32_t i = 0; i < count; i++)
        tree->nodes[i].entry = wfe_index_decoder_reference(decoder, &entry);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        tree->nodes[i].content = wfe_index_decoder_reference(decoder, &content);
    return wfe_index_decoder_end_column(decoder);
}
