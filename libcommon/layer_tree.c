/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_tree.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

uint64_t wfe_tree_hash(const struct wfe_tree *tree, uint64_t seed, const void *data, size_t length)
{
    const unsigned char *at = data;
    uint64_t hash = mix(seed ^ tree->secret[0], tree->secret[1] ^ length);
    for (; length > 0;) {
        uint64_t word = 0;
        size_t n = length < sizeof word ? length : sizeof word;
        memcpy(&word, at, n);
        hash = mix(hash ^ word, tree->secret[1]);
        at += n;
        length -= n;
    }
    return hash;
}

static uint32_t hash_name(
    const struct wfe_tree *tree, uint32_t parent, const struct wfe_layer_component *name)
{
    uint64_t hash = wfe_tree_hash(tree, parent, name->text, name->length);
    return (uint32_t)(hash ^ hash >> 32);
}

int wfe_tree_grow(void **items, uint32_t *allocated, uint32_t count, size_t item_bytes)
{
    if (count < *allocated)
        return 0;
    if (*allocated > UINT32_MAX / 2 - 1)
        return -ENOMEM;
    uint32_t more = *allocated ? *allocated * 2 : 64;
    void *grown = reallocarray(*items, more, item_bytes);
    if (!grown)
        return -ENOMEM;
    *items = grown;
    *allocated = more;
    return 0;
}

int wfe_tree_init(struct wfe_tree *tree)
{
    *tree = (struct wfe_tree){.bucket_count = 64};
    if (getrandom(tree->secret, sizeof tree->secret, 0) != sizeof tree->secret)
        return -EIO;
    tree->secret[0] |= 1;
    tree->secret[1] |= 1;
    tree->buckets = malloc(tree->bucket_count * sizeof *tree->buckets);
    if (!tree->buckets)
        return -ENOMEM;
    memset(tree->buckets, 0xff, tree->bucket_count * sizeof *tree->buckets);
    uint32_t root;
    return wfe_tree_add(
        tree, WFE_TREE_ROOT, &(struct wfe_layer_component){.text = ""}, true, &root);
}

void wfe_tree_done(struct wfe_tree *tree)
{
    free(tree->nodes);
    free(tree->names);
    free(tree->buckets);
    *tree = (struct wfe_tree){.nodes = NULL};
}

uint32_t wfe_tree_find(
    const struct wfe_tree *tree, uint32_t parent, const struct wfe_layer_component *name)
{
    uint32_t hash = hash_name(tree, parent, name);
    uint32_t found = tree->buckets[hash & (tree->bucket_count - 1)];
    for (; found != WFE_TREE_NONE; found = tree->nodes[found].hash_next) {
        const struct wfe_tree_node *node = &tree->nodes[found];
        if (node->hash == hash && node->parent == parent && node->name_length == name->length &&
            memcmp(tree->names + node->name, name->text, name->length) == 0)
            return found;
    }
    return WFE_TREE_NONE;
}

static void link_node(struct wfe_tree *tree, uint32_t index)
{
    struct wfe_tree_node *node = &tree->nodes[index];
    uint32_t *bucket = &tree->buckets[node->hash & (tree->bucket_count - 1)];
    node->hash_next = *bucket;
    *bucket = index;
}

static int widen_buckets(struct wfe_tree *tree)
{
    if (tree->node_count < tree->bucket_count || tree->bucket_count > UINT32_MAX / 4)
        return 0;
    uint32_t count = tree->bucket_count * 2;
    uint32_t *buckets = reallocarray(tree->buckets, count, sizeof *buckets);
    if (!buckets)
        return -ENOMEM;
    memset(buckets, 0xff, count * sizeof *buckets);
    tree->buckets = buckets;
    tree->bucket_count = count;
    /* The root can't be looked up, so it is in no bucket. */
    for (uint32_t i = WFE_TREE_ROOT + 1; i < tree->node_count; i++) {
        if (!tree->nodes[i].is_dead)
            link_node(tree, i);
    }
    return 0;
}

static int add_name(struct wfe_tree *tree, const struct wfe_layer_component *name)
{
    if (name->length > UINT32_MAX / 4 - tree->names_length)
        return -EOVERFLOW;
    while (tree->names_allocated - tree->names_length < name->length + 1) {
        int r = wfe_tree_grow((void **)&tree->names, &tree->names_allocated, tree->names_allocated,
            sizeof *tree->names);
        if (r < 0)
            return r;
    }
    memcpy(tree->names + tree->names_length, name->text, name->length);
    tree->names_length += (uint32_t)name->length;
    return 0;
}

int wfe_tree_add(struct wfe_tree *tree, uint32_t parent, const struct wfe_layer_component *name,
    bool is_directory, uint32_t *ret)
{
    assert(name->length <= WFE_LAYER_MAX_COMPONENT_BYTES);
    int r = wfe_tree_grow(
        (void **)&tree->nodes, &tree->nodes_allocated, tree->node_count, sizeof *tree->nodes);
    if (r == 0)
        r = widen_buckets(tree);
    uint32_t name_at = tree->names_length;
    if (r == 0)
        r = add_name(tree, name);
    if (r < 0)
        return r;
    uint32_t index = tree->node_count++;
    tree->nodes[index] = (struct wfe_tree_node){
        .parent = parent,
        .hash = hash_name(tree, parent, name),
        .hash_next = WFE_TREE_NONE,
        .name = name_at,
        .name_length = (uint8_t)name->length,
        .is_directory = is_directory,
        .entry = WFE_TREE_NONE,
        .content = WFE_TREE_NONE,
        .next_path = WFE_TREE_NONE,
    };
    if (index != WFE_TREE_ROOT)
        link_node(tree, index);
    *ret = index;
    return 0;
}

void wfe_tree_remove(struct wfe_tree *tree, uint32_t node)
{
    assert(node != WFE_TREE_ROOT && !tree->nodes[node].is_dead);
    uint32_t *link = &tree->buckets[tree->nodes[node].hash & (tree->bucket_count - 1)];
    while (*link != node)
        link = &tree->nodes[*link].hash_next;
    *link = tree->nodes[node].hash_next;
    tree->nodes[node].is_dead = true;
}

bool wfe_tree_is_below_dead(const struct wfe_tree *tree, uint32_t node)
{
    for (; node != WFE_TREE_ROOT; node = tree->nodes[node].parent) {
        if (tree->nodes[node].is_dead)
            return true;
    }
    return false;
}

void wfe_tree_bury(struct wfe_tree *tree)
{
    for (uint32_t i = WFE_TREE_ROOT + 1; i < tree->node_count; i++) {
        if (tree->nodes[tree->nodes[i].parent].is_dead)
            tree->nodes[i].is_dead = true;
    }
}

size_t wfe_tree_path(
    const struct wfe_tree *tree, uint32_t node, char out[static WFE_LAYER_MAX_PATH_BYTES + 1])
{
    size_t length = 0;
    for (uint32_t at = node; at != WFE_TREE_ROOT; at = tree->nodes[at].parent)
        length += tree->nodes[at].name_length + (length > 0 ? 1U : 0U);
    assert(length <= WFE_LAYER_MAX_PATH_BYTES);
    out[length] = '\0';
    size_t end = length;
    for (uint32_t at = node; at != WFE_TREE_ROOT; at = tree->nodes[at].parent) {
        end -= tree->nodes[at].name_length;
        memcpy(out + end, tree->names + tree->nodes[at].name, tree->nodes[at].name_length);
        if (end > 0)
            out[--end] = '/';
    }
    return length;
}
