/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_TREE_H
#define WFE_LIBCOMMON_LAYER_TREE_H

/*
 * Paths as a tree of nodes, found by parent and name.
 *
 * A node that is replaced by one of another sort leaves the tree with everything below it:
 * what was below hangs on the old node, and so can't be found any more. Memory: about 60
 * bytes a path.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/layer.h"
#include "libcommon/layer_name.h"

#define WFE_TREE_ROOT 0
#define WFE_TREE_NONE UINT32_MAX

struct wfe_tree_node {
    uint32_t parent; /* of lower index; the root is its own */
    uint32_t hash;
    uint32_t hash_next;
    uint32_t name; /* where its component begins in names */
    uint8_t name_length;
    bool is_directory;
    bool is_dead; /* replaced, or (once wfe_tree_bury() was called) below one that was */
    /* The users': */
    uint32_t entry;
    uint32_t content;
    union {
        uint32_t next_path;
        uint32_t block;
    };
};

struct wfe_tree {
    struct wfe_tree_node *nodes;
    uint32_t node_count, nodes_allocated;
    char *names;
    uint32_t names_length, names_allocated;
    uint32_t *buckets;
    uint32_t bucket_count; /* a power of two */
    uint64_t secret[2];    /* random, so that no archive can aim at one bucket */
};

/* A tree that holds the root. Returns 0 or -errno; wfe_tree_done() is due on failure too. */
int wfe_tree_init(struct wfe_tree *tree);
void wfe_tree_done(struct wfe_tree *tree);

/* The node called name below parent, or WFE_TREE_NONE. */
uint32_t wfe_tree_find(
    const struct wfe_tree *tree, uint32_t parent, const struct wfe_layer_component *name);

/*
 * Add a node below parent, which has none of that name, or none that is not dead; name has at
 * most WFE_LAYER_MAX_COMPONENT_BYTES. The users' fields are WFE_TREE_NONE.
 * Returns 0, -ENOMEM or -EOVERFLOW.
 */
int wfe_tree_add(struct wfe_tree *tree, uint32_t parent, const struct wfe_layer_component *name,
    bool is_directory, uint32_t *ret);

/* Take a node out of the tree: it can't be found from now on. */
void wfe_tree_remove(struct wfe_tree *tree, uint32_t node);

/* Whether the node or one above it was removed. */
bool wfe_tree_is_below_dead(const struct wfe_tree *tree, uint32_t node);

/* Marks everything below a dead node as dead. */
void wfe_tree_bury(struct wfe_tree *tree);

/* The node's path without slash at either end. Returns its length. Paths must be kept within
 * WFE_LAYER_MAX_PATH_BYTES by who adds. */
size_t wfe_tree_path(
    const struct wfe_tree *tree, uint32_t node, char out[static WFE_LAYER_MAX_PATH_BYTES + 1]);

/* A hash that depends on the tree's secret. */
uint64_t wfe_tree_hash(const struct wfe_tree *tree, uint64_t seed, const void *data, size_t length);

/* Make room for one more item. Returns 0 or -ENOMEM. */
int wfe_tree_grow(void **items, uint32_t *allocated, uint32_t count, size_t item_bytes);

#endif
