/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_tables.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"

/* Where a name leads. */
struct place {
    uint32_t parent;     /* the deepest of the name's directories that is there */
    const char *missing; /* where the directories begin that have to be made; NULL: none has to */
    struct wfe_layer_component name; /* the last; length 0: nothing is left of the name */
    uint32_t node;                   /* what is there; WFE_TREE_NONE */
};

/* An entry on its way into the tables. */
struct draft {
    const struct wfe_index_entry *entry;
    struct place place;
    uint32_t target; /* a hard link's: the node; else WFE_TREE_NONE */
    uint32_t mode;
    const char *problem; /* why it, or a part of it, is left out; static */
};

static bool has_dotdot(const char *name)
{
    for (const char *at = name; (at = strstr(at, "..")); at += 2) {
        if ((at == name || at[-1] == '/') && (at[2] == '/' || at[2] == '\0'))
            return true;
    }
    return false;
}

/* A copy of the name that ".." was worked out of. Returns 0 or -ENOMEM. */
static int clamp(const char *name, char **ret)
{
    char *out = malloc(strlen(name) + 2);
    if (!out)
        return -ENOMEM;
    size_t length = 0;
    struct wfe_layer_component next;
    while (wfe_layer_component_next(&name, &next)) {
        if (next.length == 2 && memcmp(next.text, "..", 2) == 0) {
            const char *slash = memrchr(out, '/', length);
            length = slash ? (size_t)(slash - out) : 0;
            continue;
        }
        out[length++] = '/';
        memcpy(out + length, next.text, next.length);
        length += next.length;
    }
    out[length] = '\0';
    *ret = out;
    return 0;
}

/* Follow a name to what is there. Returns NULL, or why it can't lead anywhere (static). */
static const char *resolve(const struct wfe_index *index, const char *name, struct place *ret)
{
    const struct wfe_tree *tree = &index->tree;
    struct place place = {.parent = WFE_TREE_ROOT, .node = WFE_TREE_ROOT};
    struct wfe_layer_component next;
    while (wfe_layer_component_next(&name, &next)) {
        if (next.length > WFE_MAX_COMPONENT_BYTES)
            return "left out: a component of its name is too long";
        if (place.node != WFE_TREE_NONE) {
            if (!tree->nodes[place.node].is_directory)
                return "left out: what is above it is no directory";
            place.parent = place.node;
            place.node = wfe_tree_find(tree, place.parent, &next);
        } else if (!place.missing) {
            place.missing = place.name.text;
        }
        place.name = next;
    }
    *ret = place;
    return NULL;
}

static bool is_at_or_below(const struct wfe_index *index, uint32_t node, uint32_t above)
{
    for (; node != WFE_TREE_ROOT; node = index->tree.nodes[node].parent) {
        if (node == above)
            return true;
    }
    return above == WFE_TREE_ROOT;
}

/* The node that a hard link names; NULL, or why the link can't be (static). */
static const char *resolve_target(
    const struct wfe_index *index, const char *hardlink, const struct place *place, uint32_t *ret)
{
    struct place target;
    if (resolve(index, hardlink, &target) || target.node == WFE_TREE_NONE)
        return "left out: a hard link to what is not in the archive before it";
    const struct wfe_tree_node *nodes = index->tree.nodes;
    if (nodes[target.node].is_directory)
        return "left out: a hard link to a directory";
    if (place->node != WFE_TREE_NONE && nodes[place->node].is_directory &&
        is_at_or_below(index, target.node, place->node))
        return "left out: a hard link in the place of a directory above its target";
    *ret = target.node;
    return NULL;
}

static bool is_kind(uint32_t mode)
{
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
           S_ISFIFO(mode) || S_ISSOCK(mode);
}

static const char *check_target(const char *symlink)
{
    if (!symlink || !*symlink)
        return "left out: a symbolic link without a target";
    if (strlen(symlink) > WFE_MAX_TARGET_BYTES)
        return "left out: the target of a symbolic link is too long";
    return NULL;
}

static const char *check_data(const struct wfe_index_entry *entry)
{
    if (entry->size_bytes > WFE_MAX_FILE_BYTES)
        return "left out: it is too large";
    if (!entry->extents)
        return NULL;
    if (entry->extent_count > WFE_MAX_EXTENTS)
        return "left out: it has too many extents";
    uint64_t end = 0;
    for (uint32_t i = 0; i < entry->extent_count; i++) {
        const struct wfe_extent *extent = &entry->extents[i];
        if (extent->offset_bytes < end || extent->offset_bytes > entry->size_bytes ||
            extent->length_bytes > entry->size_bytes - extent->offset_bytes)
            return "left out: its extents are not in order";
        end = extent->offset_bytes + extent->length_bytes;
    }
    return NULL;
}

/* Whether the entry can be shown, and where; the reason against it goes to draft->problem. */
static bool judge(
    const struct wfe_index *index, const char *name, const char *hardlink, struct draft *draft)
{
    const struct wfe_index_entry *entry = draft->entry;
    struct place *place = &draft->place;
    draft->problem = resolve(index, name, place);
    if (draft->problem)
        return false;
    bool is_directory = !hardlink && S_ISDIR(draft->mode);
    if (place->name.length == 0 && !is_directory)
        draft->problem = "left out: nothing is left of its name";
    else if (hardlink)
        draft->problem = resolve_target(index, hardlink, place, &draft->target);
    else if (S_ISLNK(draft->mode))
        draft->problem = check_target(entry->symlink);
    else if (!is_kind(draft->mode))
        draft->problem = "left out: it is of an unknown kind";
    if (!draft->problem && (hardlink ? entry->has_data : S_ISREG(draft->mode)))
        draft->problem = check_data(entry);
    if (!draft->problem && hardlink && entry->has_data) {
        uint32_t inode = index->tree.nodes[draft->target].content;
        if (!S_ISREG(index->inodes[inode].mode))
            draft->problem = "left out: a hard link with data, to something that is no file";
        /* A hard link has no kind of its own. */
        draft->mode = S_IFREG | (draft->mode & 07777);
    }
    return !draft->problem;
}

static int limit(struct wfe_error *err, const char *what)
{
    return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "%s", what);
}

static int grow_failed(int r, struct wfe_error *err)
{
    return r == -ENOMEM ? wfe_error_nomem(err) : limit(err, "its names are too many");
}

int wfe_index_reserve_text(struct wfe_index *index, size_t bytes, uint32_t *ret)
{
    if (bytes > WFE_MAX_TEXT_BYTES - index->texts_length)
        return -EOVERFLOW;
    while (index->texts_allocated - index->texts_length < bytes) {
        int r = wfe_tree_grow((void **)&index->texts, &index->texts_allocated,
            index->texts_allocated, sizeof *index->texts);
        if (r < 0)
            return r;
    }
    *ret = index->texts_length;
    index->texts_length += (uint32_t)bytes;
    return 0;
}

static int add_extents(
    struct wfe_index *index, const struct wfe_index_entry *entry, struct wfe_inode *inode)
{
    const struct wfe_extent all_hole = {.offset_bytes = entry->size_bytes};
    const struct wfe_extent *extents = entry->extent_count > 0 ? entry->extents : &all_hole;
    uint32_t count = entry->extent_count > 0 ? entry->extent_count : 1;
    uint32_t first = index->extent_count;
    if (count > UINT32_MAX - 1 - first)
        return -EOVERFLOW;
    for (uint32_t i = 0; i < count; i++) {
        int r = wfe_tree_grow((void **)&index->extents, &index->extents_allocated,
            index->extent_count, sizeof *index->extents);
        if (r < 0)
            return r;
        index->extents[index->extent_count++] = extents[i];
    }
    inode->first = first;
    inode->count = count;
    inode->data = wfe_index_extent_bytes(extents, count);
    return 0;
}

/* The entry's own part of an inode's record. */
static int describe(struct wfe_index *index, struct draft *draft, struct wfe_inode *ret)
{
    const struct wfe_index_entry *entry = draft->entry;
    assert(entry->mtime_ns < 1000000000);
    bool is_file = S_ISREG(draft->mode);
    struct wfe_inode inode = {
        .size_bytes = is_file ? entry->size_bytes : 0,
        .data = is_file ? entry->data : 0,
        .mtime_s = entry->mtime_s,
        .mtime_ns = entry->mtime_ns,
        .mode = draft->mode,
        .uid = entry->uid,
        .gid = entry->gid,
        .rdev = S_ISCHR(draft->mode) || S_ISBLK(draft->mode) ? entry->rdev : 0,
        .target = WFE_INDEX_NONE,
    };
    int r = wfe_index_pack_xattrs(index, entry->xattrs, entry->xattr_count,
        is_file || S_ISDIR(draft->mode), &inode.xattrs, &draft->problem);
    if (r == 0 && is_file && entry->extents && entry->size_bytes > 0)
        r = add_extents(index, entry, &inode);
    if (r == 0 && S_ISLNK(draft->mode)) {
        inode.size_bytes = strlen(entry->symlink);
        r = wfe_index_reserve_text(index, inode.size_bytes + 1, &inode.target);
        if (r == 0)
            memcpy(index->texts + inode.target, entry->symlink, inode.size_bytes + 1);
    }
    if (r == 0)
        *ret = inode;
    return r;
}

static int new_inode(
    struct wfe_index *index, const struct wfe_inode *inode, uint32_t *ret, struct wfe_error *err)
{
    if (index->inode_count >= WFE_MAX_ENTRIES)
        return limit(err, "it has too many entries");
    if (wfe_tree_grow((void **)&index->inodes, &index->inodes_allocated, index->inode_count,
            sizeof *index->inodes) < 0)
        return wfe_error_nomem(err);
    *ret = index->inode_count;
    index->inodes[index->inode_count++] = *inode;
    return 0;
}

/* A node and, for a directory, its link to the one above. */
static int add_node(struct wfe_index *index, uint32_t parent,
    const struct wfe_layer_component *name, bool is_directory, uint32_t inode, uint32_t *ret,
    struct wfe_error *err)
{
    if (index->tree.node_count >= WFE_MAX_ENTRIES)
        return limit(err, "it has too many entries");
    int r = wfe_tree_add(&index->tree, parent, name, is_directory, ret);
    if (r < 0)
        return grow_failed(r, err);
    index->tree.nodes[*ret].content = inode;
    if (is_directory)
        index->inodes[index->tree.nodes[parent].content].nlink++;
    wfe_index_wake(index, parent, name);
    return 0;
}

static int make_directory(struct wfe_index *index, uint32_t parent,
    const struct wfe_layer_component *name, uint32_t *ret, struct wfe_error *err)
{
    if (index->made_directories >= WFE_MAX_MADE_DIRECTORIES + 2 * (uint64_t)index->item_count)
        return limit(err, "it has too many directories that no entry tells of");
    const struct wfe_inode made = {
        .mode = S_IFDIR | 0755,
        .nlink = 2,
        .node = index->tree.node_count,
        .target = WFE_INDEX_NONE,
        .xattrs = WFE_INDEX_NONE,
    };
    uint32_t inode = WFE_INDEX_NONE;
    int r = new_inode(index, &made, &inode, err);
    if (r == 0)
        r = add_node(index, parent, name, true, inode, ret, err);
    if (r == 0)
        index->made_directories++;
    return r;
}

static int make_parents(struct wfe_index *index, struct place *place, struct wfe_error *err)
{
    struct wfe_layer_component next;
    while (place->missing && wfe_layer_component_next(&place->missing, &next) &&
           next.text != place->name.text) {
        int r = make_directory(index, place->parent, &next, &place->parent, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void detach(struct wfe_index *index, uint32_t node)
{
    const struct wfe_tree_node *nodes = index->tree.nodes;
    if (nodes[node].is_directory)
        index->inodes[nodes[nodes[node].parent].content].nlink--;
    else
        index->inodes[nodes[node].content].nlink--;
    wfe_tree_remove(&index->tree, node);
    index->has_dead_nodes = true;
}

/* Let the entry's path lead to an inode that is no directory, whatever is there now. */
static int put(struct wfe_index *index, struct draft *draft, uint32_t inode, uint32_t *ret_node,
    struct wfe_error *err)
{
    struct place *place = &draft->place;
    int r = make_parents(index, place, err);
    if (r < 0)
        return r;
    if (place->node != WFE_TREE_NONE && !index->tree.nodes[place->node].is_directory) {
        struct wfe_tree_node *node = &index->tree.nodes[place->node];
        index->inodes[node->content].nlink--;
        node->content = inode;
        *ret_node = place->node;
    } else {
        if (place->node != WFE_TREE_NONE)
            detach(index, place->node);
        r = add_node(index, place->parent, &place->name, false, inode, ret_node, err);
    }
    if (r == 0)
        index->inodes[inode].nlink++;
    return r;
}

static int add_other(struct wfe_index *index, struct draft *draft, struct wfe_index_item *item,
    struct wfe_error *err)
{
    struct wfe_inode inode;
    int r = describe(index, draft, &inode);
    if (r < 0)
        return grow_failed(r, err);
    inode.node = draft->place.node != WFE_TREE_NONE ? draft->place.node : WFE_TREE_ROOT;
    r = new_inode(index, &inode, &item->inode, err);
    if (r == 0)
        r = put(index, draft, item->inode, &item->node, err);
    if (r == 0)
        index->inodes[item->inode].node = item->node;
    return r;
}

static int add_directory(struct wfe_index *index, struct draft *draft, struct wfe_index_item *item,
    struct wfe_error *err)
{
    struct place *place = &draft->place;
    struct wfe_inode inode;
    int r = describe(index, draft, &inode);
    if (r < 0)
        return grow_failed(r, err);
    bool is_there = place->node != WFE_TREE_NONE && index->tree.nodes[place->node].is_directory;
    if (!is_there) {
        r = make_parents(index, place, err);
        if (r == 0 && place->node != WFE_TREE_NONE)
            detach(index, place->node);
        if (r == 0)
            r = make_directory(index, place->parent, &place->name, &place->node, err);
        if (r < 0)
            return r;
    }
    const struct wfe_tree_node *node = &index->tree.nodes[place->node];
    if (node->entry == WFE_TREE_NONE && place->node != WFE_TREE_ROOT)
        index->made_directories--;
    item->node = place->node;
    item->inode = node->content;
    inode.nlink = index->inodes[item->inode].nlink;
    inode.node = place->node;
    index->inodes[item->inode] = inode;
    return 0;
}

static int add_hardlink(struct wfe_index *index, struct draft *draft, struct wfe_index_item *item,
    struct wfe_error *err)
{
    uint32_t inode = index->tree.nodes[draft->target].content;
    bool is_itself = draft->place.node == draft->target;
    if (draft->entry->has_data) {
        struct wfe_inode with_data;
        int r = describe(index, draft, &with_data);
        if (r < 0)
            return grow_failed(r, err);
        with_data.nlink = index->inodes[inode].nlink;
        with_data.node = index->inodes[inode].node;
        index->inodes[inode] = with_data;
    }
    item->inode = inode;
    item->node = draft->target;
    if (is_itself)
        return 0;
    item->link_node = draft->target;
    return put(index, draft, inode, &item->node, err);
}

static void add_item(struct wfe_index *index, const struct wfe_index_item *item)
{
    index->tree.nodes[item->node].entry = index->item_count;
    index->items[index->item_count++] = *item;
}

/* With the lock. */
static int add(struct wfe_index *index, struct draft *draft, struct wfe_error *err)
{
    if (index->item_count >= WFE_MAX_ENTRIES)
        return limit(err, "it has too many entries");
    /* A hard link with data is two items. */
    for (uint32_t i = 0; i < 2; i++) {
        if (wfe_tree_grow((void **)&index->items, &index->items_allocated, index->item_count + i,
                sizeof *index->items) < 0)
            return wfe_error_nomem(err);
    }
    struct wfe_index_item item = {.link_node = WFE_INDEX_NONE};
    int r;
    if (draft->target != WFE_TREE_NONE)
        r = add_hardlink(index, draft, &item, err);
    else if (S_ISDIR(draft->mode))
        r = add_directory(index, draft, &item, err);
    else
        r = add_other(index, draft, &item, err);
    if (r < 0)
        return r;
    bool is_hardlink = draft->target != WFE_TREE_NONE;
    if (!is_hardlink || draft->target != item.node)
        add_item(index, &item);
    if (is_hardlink && draft->entry->has_data) {
        item.link_node = item.node;
        add_item(index, &item);
    }
    return 0;
}

/* A name without "..", in *ret: itself, or a copy in *copy. */
static int clean(struct wfe_index *index, const struct wfe_index_entry *entry, const char *name,
    char **copy, const char **ret, struct wfe_error *err)
{
    *ret = name;
    if (!name || !has_dotdot(name))
        return 0;
    if (clamp(name, copy) < 0)
        return wfe_error_nomem(err);
    *ret = *copy;
    pthread_rwlock_wrlock(&index->lock);
    index->has_clamped_names = true;
    pthread_rwlock_unlock(&index->lock);
    wfe_index_report(index, entry->name,
        name == entry->name ? "'..' in its name is kept within the tree"
                            : "'..' in the name that it links to is kept within the tree");
    return 0;
}

static bool is_too_long(const char *name)
{
    return name && strnlen(name, WFE_MAX_NAME_BYTES + 1) > WFE_MAX_NAME_BYTES;
}

int wfe_index_add(
    struct wfe_index *index, const struct wfe_index_entry *entry, struct wfe_error *err)
{
    assert(!wfe_index_is_complete(index));
    if (!entry->name || is_too_long(entry->name) || is_too_long(entry->hardlink)) {
        wfe_index_report(index, entry->name,
            entry->name ? "left out: its name is too long" : "an entry without a name is left out");
        return 0;
    }
    WFE_FREE char *name_copy = NULL;
    WFE_FREE char *hardlink_copy = NULL;
    const char *name, *hardlink;
    int r = clean(index, entry, entry->name, &name_copy, &name, err);
    if (r == 0)
        r = clean(index, entry, entry->hardlink, &hardlink_copy, &hardlink, err);
    if (r < 0)
        return r;
    struct draft draft = {
        .entry = entry, .target = WFE_TREE_NONE, .mode = entry->mode & (S_IFMT | 07777)};
    if (judge(index, name, hardlink, &draft)) {
        pthread_rwlock_wrlock(&index->lock);
        r = add(index, &draft, err);
        pthread_rwlock_unlock(&index->lock);
    }
    if (draft.problem)
        wfe_index_report(index, entry->name, "%s", draft.problem);
    return r;
}
