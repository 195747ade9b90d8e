/* SPDX-License-Identifier: MIT */
#include "libcommon/layer_plan.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"

/* The xattrs of all directories are kept until they are written. */
enum { MAX_RECORDS_BYTES = 64 * 1024 * 1024 };

/* Where a name leads. */
struct place {
    uint32_t parent;
    struct wfe_layer_component name; /* length 0: the base itself */
};

static int refuse(struct wfe_error *err, const char *rule)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "%s", rule);
}

static int add_prefix(struct wfe_layer_plan *plan, const char *prefix, struct wfe_error *err)
{
    struct wfe_layer_component name;
    for (const char *at = prefix; wfe_layer_component_next(&at, &name);) {
        char shown[WFE_LAYER_SHOWN_BYTES];
        const char *rule = wfe_layer_component_rule(&name);
        if (!rule && name.length > WFE_LAYER_MAX_COMPONENT_BYTES)
            rule = "a component is longer than 255 bytes";
        plan->prefix_bytes += name.length + (plan->prefix_bytes > 0 ? 1 : 0);
        if (!rule && plan->prefix_bytes > plan->limits.max_path_bytes)
            rule = "the path is too long";
        if (rule)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "prefix '%s': %s",
                wfe_layer_show(prefix, shown), rule);
        if (wfe_tree_add(&plan->tree, plan->base, &name, true, &plan->base) < 0)
            return wfe_error_nomem(err);
    }
    return 0;
}

int wfe_layer_plan_init(struct wfe_layer_plan *plan, const char *prefix,
    const struct wfe_layer_limits *limits, struct wfe_error *err)
{
    *plan = (struct wfe_layer_plan){.limits = *limits, .base = WFE_TREE_ROOT};
    int r = wfe_tree_init(&plan->tree);
    if (r == -ENOMEM)
        return wfe_error_nomem(err);
    if (r < 0)
        return wfe_error_system(err, -r, "getrandom");
    return add_prefix(plan, prefix ? prefix : "", err);
}

void wfe_layer_plan_done(struct wfe_layer_plan *plan)
{
    wfe_tree_done(&plan->tree);
    for (uint32_t i = 0; i < plan->directory_count; i++)
        free(plan->directories[i].records);
    free(plan->directories);
    free(plan->contents);
    free(plan->entries);
    *plan = (struct wfe_layer_plan){.contents = NULL};
}

/* Rules that need the entry alone. */
static int check_entry(
    const struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry, struct wfe_error *err)
{
    if (!entry->name)
        return refuse(err, "its name can't be read");
    if (entry->kind == WFE_LAYER_DEVICE)
        return refuse(err, "device nodes are not allowed (character 0:0 is a whiteout)");
    if (entry->kind == WFE_LAYER_OTHER)
        return refuse(err, "neither file, directory, link nor FIFO (sockets are not allowed)");
    if (entry->encrypted)
        return refuse(err, "it is encrypted");
    if (entry->uid < 0 || entry->uid >= UINT32_MAX || entry->gid < 0 || entry->gid >= UINT32_MAX)
        return refuse(err, "its owner is no user or group number");
    if (entry->kind == WFE_LAYER_SYMLINK) {
        if (!entry->target || !*entry->target)
            return refuse(err, "a symbolic link without target");
        if (strlen(entry->target) >= WFE_LAYER_MAX_PATH_BYTES)
            return wfe_error_set(
                err, WFE_ERROR_LIMIT, ENAMETOOLONG, "the target has more than 4095 bytes");
    }
    if (plan->entry_count >= plan->limits.max_entries)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "more than %llu entries",
            (unsigned long long)plan->limits.max_entries);
    return 0;
}

static int add_node(struct wfe_layer_plan *plan, uint32_t parent,
    const struct wfe_layer_component *name, bool is_directory, uint32_t *ret, struct wfe_error *err)
{
    if (plan->tree.node_count - plan->base > plan->limits.max_entries)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG,
            "more than %llu entries and directories above them",
            (unsigned long long)plan->limits.max_entries);
    int r = wfe_tree_add(&plan->tree, parent, name, is_directory, ret);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

/* The directory `name` below *parent, made when it is missing. */
static int enter(struct wfe_layer_plan *plan, uint32_t *parent,
    const struct wfe_layer_component *name, struct wfe_error *err)
{
    uint32_t found = wfe_tree_find(&plan->tree, *parent, name);
    if (found == WFE_TREE_NONE)
        return add_node(plan, *parent, name, true, parent, err);
    const struct wfe_tree_node *node = &plan->tree.nodes[found];
    if (!node->is_directory) {
        char path[WFE_LAYER_MAX_PATH_BYTES + 1];
        char shown[WFE_LAYER_SHOWN_BYTES];
        wfe_tree_path(&plan->tree, found, path);
        enum wfe_layer_kind kind = plan->contents[node->content].kind;
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, ENOTDIR, "it lies below '/%s', which is a %s",
            wfe_layer_show(path, shown),
            kind == WFE_LAYER_SYMLINK ? "symbolic link"
            : kind == WFE_LAYER_FIFO  ? "FIFO"
                                      : "file");
    }
    *parent = found;
    return 0;
}

static int check_component(const struct wfe_layer_plan *plan,
    const struct wfe_layer_component *name, size_t *path_bytes, struct wfe_error *err)
{
    const char *rule = wfe_layer_component_rule(name);
    if (rule)
        return refuse(err, rule);
    if (name->length > WFE_LAYER_MAX_COMPONENT_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, ENAMETOOLONG,
            "a component of its name has more than %d bytes", WFE_LAYER_MAX_COMPONENT_BYTES);
    *path_bytes += name->length + (*path_bytes > 0 ? 1 : 0);
    if (*path_bytes > plan->limits.max_path_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, ENAMETOOLONG,
            "its path in the layer has more than %" PRIu64 " bytes", plan->limits.max_path_bytes);
    return 0;
}

/* Find the place of a name; the directories above are made. */
static int walk(
    struct wfe_layer_plan *plan, const char *name, struct place *ret, struct wfe_error *err)
{
    struct place place = {.parent = plan->base};
    size_t path_bytes = plan->prefix_bytes;
    struct wfe_layer_component next;
    for (const char *at = name; wfe_layer_component_next(&at, &next);) {
        int r = check_component(plan, &next, &path_bytes, err);
        if (r == 0 && place.name.length > 0)
            r = enter(plan, &place.parent, &place.name, err);
        if (r < 0)
            return r;
        place.name = next;
    }
    *ret = place;
    return 0;
}

/* The node that a hard link's target names, which must be there. */
static int find_target(
    const struct wfe_layer_plan *plan, const char *target, uint32_t *ret, struct wfe_error *err)
{
    char shown[WFE_LAYER_SHOWN_BYTES];
    wfe_layer_show(target ? target : "", shown);
    uint32_t node = plan->base;
    struct wfe_layer_component name;
    for (const char *at = target ? target : ""; wfe_layer_component_next(&at, &name);) {
        const char *rule = wfe_layer_component_rule(&name);
        if (rule)
            return wfe_error_set(
                err, WFE_ERROR_ARCHIVE, EINVAL, "a hard link to '%s': %s", shown, rule);
        node = wfe_tree_find(&plan->tree, node, &name);
        if (node == WFE_TREE_NONE)
            return wfe_error_set(err, WFE_ERROR_ARCHIVE, ENOENT,
                "a hard link to '%s', which is not in the archive before it", shown);
    }
    if (plan->tree.nodes[node].is_directory)
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EISDIR, "a hard link to '%s', which is a directory", shown);
    *ret = node;
    return 0;
}

/* The node at a place, for something of the given sort: what stands there of the other sort goes.
 */
static int occupy(struct wfe_layer_plan *plan, const struct place *place, bool is_directory,
    uint32_t *ret, struct wfe_error *err)
{
    uint32_t node = wfe_tree_find(&plan->tree, place->parent, &place->name);
    if (node != WFE_TREE_NONE && plan->tree.nodes[node].is_directory != is_directory) {
        wfe_tree_remove(&plan->tree, node);
        node = WFE_TREE_NONE;
    }
    if (node == WFE_TREE_NONE)
        return add_node(plan, place->parent, &place->name, is_directory, ret, err);
    *ret = node;
    return 0;
}

static struct wfe_plan_attributes attributes_of(const struct wfe_layer_entry *entry)
{
    uint32_t kept = entry->kind == WFE_LAYER_DIRECTORY ? 03777 : 01777;
    return (struct wfe_plan_attributes){
        .mtime_s = entry->mtime_s,
        .uid = (uint32_t)entry->uid,
        .gid = (uint32_t)entry->gid,
        .mode = entry->kind == WFE_LAYER_SYMLINK ? 0777 : entry->mode & kept,
    };
}

static int add_directory(struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry,
    const struct place *place, const struct wfe_buffer *records, uint32_t *ret_node,
    struct wfe_error *err)
{
    uint32_t node = plan->base;
    int r = place->name.length > 0 ? occupy(plan, place, true, &node, err) : 0;
    if (r < 0)
        return r;
    uint32_t index = plan->tree.nodes[node].content;
    if (index == WFE_PLAN_NONE) {
        index = plan->directory_count;
        if (wfe_tree_grow((void **)&plan->directories, &plan->directories_allocated, index,
                sizeof *plan->directories) < 0)
            return wfe_error_nomem(err);
        plan->directories[plan->directory_count++] = (struct wfe_plan_directory){.records = NULL};
        plan->tree.nodes[node].content = index;
    }
    struct wfe_plan_directory *directory = &plan->directories[index];
    plan->records_bytes += records->length - directory->records_length;
    if (plan->records_bytes > MAX_RECORDS_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG,
            "the directories have more than %d bytes of xattrs", MAX_RECORDS_BYTES);
    char *copy = NULL;
    if (records->length > 0) {
        copy = malloc(records->length);
        if (!copy)
            return wfe_error_nomem(err);
        memcpy(copy, records->data, records->length);
    }
    free(directory->records);
    directory->records = copy;
    directory->records_length = records->length;
    directory->attributes = attributes_of(entry);
    plan->tree.nodes[node].entry = plan->entry_count;
    *ret_node = node;
    return 0;
}

static int add_content(struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry,
    const struct place *place, uint32_t *ret_node, struct wfe_error *err)
{
    uint32_t index = plan->content_count;
    if (wfe_tree_grow(
            (void **)&plan->contents, &plan->contents_allocated, index, sizeof *plan->contents) < 0)
        return wfe_error_nomem(err);
    int r = occupy(plan, place, false, ret_node, err);
    if (r < 0)
        return r;
    plan->contents[plan->content_count++] = (struct wfe_plan_content){
        .attributes = attributes_of(entry),
        .kind = entry->kind,
        .data_entry = plan->entry_count,
        .first_path = WFE_PLAN_NONE,
        .early_paths = WFE_PLAN_NONE,
        .size_bytes = entry->kind == WFE_LAYER_FILE ? entry->size_bytes : 0,
    };
    plan->tree.nodes[*ret_node].content = index;
    plan->tree.nodes[*ret_node].entry = plan->entry_count;
    return 0;
}

static int add_hardlink(struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry,
    const struct place *place, uint32_t *ret_node, struct wfe_error *err)
{
    uint32_t target = WFE_PLAN_NONE;
    int r = find_target(plan, entry->target, &target, err);
    if (r < 0)
        return r;
    uint32_t node;
    r = occupy(plan, place, false, &node, err);
    if (r < 0)
        return r;
    if (wfe_tree_is_below_dead(&plan->tree, target))
        return refuse(err, "a hard link that takes the place of a directory above its target");
    uint32_t index = plan->tree.nodes[target].content;
    struct wfe_plan_content *content = &plan->contents[index];
    if (entry->size_bytes > 0) {
        if (content->kind != WFE_LAYER_FILE)
            return refuse(err, "a hard link that carries data, to something that is no file");
        content->attributes = attributes_of(entry);
        content->size_bytes = entry->size_bytes;
        content->data_entry = plan->entry_count;
    }
    if (node != target) {
        plan->tree.nodes[node].content = index;
        plan->tree.nodes[node].entry = plan->entry_count;
    }
    *ret_node = node;
    return 0;
}

static uint32_t fingerprint(const struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry)
{
    uint64_t numbers[] = {entry->kind, entry->version, (uint64_t)entry->mtime_s, entry->mode,
        (uint64_t)entry->uid, (uint64_t)entry->gid, entry->size_known ? entry->size_bytes : 0};
    uint64_t hash = wfe_tree_hash(&plan->tree, 0, numbers, sizeof numbers);
    if (entry->name)
        hash = wfe_tree_hash(&plan->tree, hash, entry->name, strlen(entry->name));
    if (entry->target)
        hash = wfe_tree_hash(&plan->tree, hash, entry->target, strlen(entry->target));
    return (uint32_t)(hash ^ hash >> 32);
}

bool wfe_layer_plan_matches(
    const struct wfe_layer_plan *plan, uint32_t index, const struct wfe_layer_entry *entry)
{
    return index < plan->entry_count &&
           plan->entries[index].fingerprint == fingerprint(plan, entry);
}

int wfe_layer_plan_add(struct wfe_layer_plan *plan, const struct wfe_layer_entry *entry,
    const struct wfe_buffer *records, struct wfe_error *err)
{
    struct place place;
    int r = check_entry(plan, entry, err);
    if (r == 0)
        r = walk(plan, entry->name, &place, err);
    if (r < 0)
        return r;
    if (place.name.length == 0 && entry->kind != WFE_LAYER_DIRECTORY)
        return refuse(err, "nothing is left of its name");
    if (wfe_tree_grow((void **)&plan->entries, &plan->entries_allocated, plan->entry_count,
            sizeof *plan->entries) < 0)
        return wfe_error_nomem(err);

    uint32_t node = WFE_PLAN_NONE;
    if (entry->kind == WFE_LAYER_DIRECTORY)
        r = add_directory(plan, entry, &place, records, &node, err);
    else if (entry->kind == WFE_LAYER_HARDLINK)
        r = add_hardlink(plan, entry, &place, &node, err);
    else
        r = add_content(plan, entry, &place, &node, err);
    if (r < 0)
        return r;
    plan->entries[plan->entry_count++] = (struct wfe_plan_entry){
        .fingerprint = fingerprint(plan, entry),
        .node = node,
        .content =
            entry->kind == WFE_LAYER_DIRECTORY ? WFE_PLAN_NONE : plan->tree.nodes[node].content,
    };
    return 0;
}

void wfe_layer_plan_finish(struct wfe_layer_plan *plan)
{
    wfe_tree_bury(&plan->tree);
    /* Backwards, so that the first path is the one that stays. */
    for (uint32_t i = plan->entry_count; i-- > 0;) {
        struct wfe_tree_node *node = &plan->tree.nodes[plan->entries[i].node];
        if (node->is_dead || node->is_directory || node->entry != i)
            continue;
        struct wfe_plan_content *content = &plan->contents[node->content];
        content->first_path = plan->entries[i].node;
        if (i < content->data_entry) {
            node->next_path = content->early_paths;
            content->early_paths = plan->entries[i].node;
        }
    }
}
