/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_tables.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libcommon/layer_name.h"

enum { PATIENCE_MS = 100 };

/* Why an index is broken, when there is no memory for the reason. */
static char no_memory[] = "memory ran out";

/* Someone who waits for a name. Guarded by wait_mutex. */
struct wfe_index_waiter {
    struct wfe_index_waiter *next;
    uint32_t parent;
    struct wfe_layer_component name;
    bool is_due;
};

static int init_locks(struct wfe_index *index)
{
    pthread_rwlockattr_t lock_attributes;
    pthread_condattr_t cond_attributes;
    int r = pthread_rwlockattr_init(&lock_attributes);
    if (r != 0)
        return -r;
    /* Many readers at once would keep the adding thread out for as long as they like. */
    pthread_rwlockattr_setkind_np(&lock_attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    r = pthread_rwlock_init(&index->lock, &lock_attributes);
    pthread_rwlockattr_destroy(&lock_attributes);
    if (r != 0)
        return -r;
    r = pthread_condattr_init(&cond_attributes);
    if (r == 0) {
        pthread_condattr_setclock(&cond_attributes, CLOCK_MONOTONIC);
        r = pthread_cond_init(&index->grown, &cond_attributes);
        pthread_condattr_destroy(&cond_attributes);
    }
    if (r == 0) {
        r = pthread_mutex_init(&index->wait_mutex, NULL);
        if (r != 0)
            pthread_cond_destroy(&index->grown);
    }
    if (r != 0)
        pthread_rwlock_destroy(&index->lock);
    return -r;
}

int wfe_index_new(enum wfe_index_place place, struct wfe_index **ret, struct wfe_error *err)
{
    struct wfe_index *index = calloc(1, sizeof *index);
    if (!index)
        return wfe_error_nomem(err);
    index->place = place;
    index->last_xattrs = WFE_INDEX_NONE;
    int r = init_locks(index);
    if (r < 0) {
        free(index);
        return wfe_error_set(err, WFE_ERROR_INTERNAL, -r, "make a lock: %s", strerror(-r));
    }
    r = wfe_tree_init(&index->tree);
    if (r == 0)
        r = wfe_tree_grow((void **)&index->inodes, &index->inodes_allocated, index->inode_count,
            sizeof *index->inodes);
    if (r < 0) {
        wfe_index_free(index);
        return r == -ENOMEM ? wfe_error_nomem(err)
                            : wfe_error_set(err, WFE_ERROR_INTERNAL, -r, "random numbers");
    }
    index->inodes[index->inode_count++] = (struct wfe_inode){
        .mode = S_IFDIR | 0755,
        .nlink = 2,
        .node = WFE_TREE_ROOT,
        .target = WFE_INDEX_NONE,
        .xattrs = WFE_INDEX_NONE,
    };
    index->tree.nodes[WFE_TREE_ROOT].content = WFE_INDEX_ROOT;
    *ret = index;
    return 0;
}

void wfe_index_free(struct wfe_index *index)
{
    if (!index)
        return;
    assert(!index->waiters);
    wfe_tree_done(&index->tree);
    free(index->inodes);
    free(index->extents);
    free(index->items);
    free(index->texts);
    free(index->children);
    uint64_t told =
        index->problem_count < WFE_MAX_PROBLEMS ? index->problem_count : WFE_MAX_PROBLEMS;
    for (uint64_t i = 0; i < told; i++)
        free(index->problems[i]);
    if (index->broken != no_memory)
        free(index->broken);
    pthread_mutex_destroy(&index->wait_mutex);
    pthread_cond_destroy(&index->grown);
    pthread_rwlock_destroy(&index->lock);
    free(index);
}

bool wfe_index_is_complete(const struct wfe_index *index)
{
    return __atomic_load_n(&index->complete, __ATOMIC_ACQUIRE);
}

bool wfe_index_read_lock(struct wfe_index *index)
{
    if (wfe_index_is_complete(index))
        return false;
    pthread_rwlock_rdlock(&index->lock);
    return true;
}

void wfe_index_read_unlock(struct wfe_index *index, bool locked)
{
    if (locked)
        pthread_rwlock_unlock(&index->lock);
}

void wfe_index_report(struct wfe_index *index, const char *name, const char *format, ...)
{
    char *text = NULL;
    if (index->problem_count < WFE_MAX_PROBLEMS) {
        char shown[WFE_LAYER_SHOWN_BYTES];
        char reason[512];
        va_list args;
        va_start(args, format);
        vsnprintf(reason, sizeof reason, format, args);
        va_end(args);
        if (name)
            wfe_layer_show(name, shown);
        if (asprintf(&text, name ? "'%s': %s" : "%s%s", name ? shown : "", reason) < 0)
            text = NULL;
        if (!text)
            return;
    }
    pthread_rwlock_wrlock(&index->lock);
    if (text)
        index->problems[index->problem_count] = text;
    index->problem_count++;
    pthread_rwlock_unlock(&index->lock);
}

void wfe_index_break(struct wfe_index *index, const char *reason)
{
    if (index->broken)
        return;
    char *copy = strdup(reason);
    pthread_rwlock_wrlock(&index->lock);
    index->broken = copy ? copy : no_memory;
    pthread_rwlock_unlock(&index->lock);
}

uint64_t wfe_index_extent_bytes(const struct wfe_extent *extents, uint32_t count)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += extents[i].length_bytes;
    return bytes;
}

static void settle_inodes(struct wfe_index *index)
{
    for (uint32_t i = 0; i < index->inode_count; i++) {
        struct wfe_inode *inode = &index->inodes[i];
        inode->nlink = 0;
        if (S_ISDIR(inode->mode))
            inode->first = inode->count = 0;
        else if (inode->count > 0)
            inode->data = wfe_index_extent_bytes(index->extents + inode->first, inode->count);
    }
    index->inodes[WFE_INDEX_ROOT].nlink = 2;
    const struct wfe_tree_node *nodes = index->tree.nodes;
    for (uint32_t i = WFE_TREE_ROOT + 1; i < index->tree.node_count; i++) {
        if (nodes[i].is_dead)
            continue;
        struct wfe_inode *inode = &index->inodes[nodes[i].content];
        struct wfe_inode *parent = &index->inodes[nodes[nodes[i].parent].content];
        parent->count++;
        if (S_ISDIR(inode->mode)) {
            parent->nlink++;
            inode->nlink += 2;
        } else if (inode->nlink++ == 0) {
            inode->node = i;
        }
    }
}

/* Counting sort of the nodes by their parents. */
static int list_children(struct wfe_index *index)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < index->inode_count; i++) {
        if (S_ISDIR(index->inodes[i].mode)) {
            index->inodes[i].first = total;
            total += index->inodes[i].count;
        }
    }
    uint32_t *children = malloc((total > 0 ? total : 1) * sizeof *children);
    if (!children)
        return -ENOMEM;
    const struct wfe_tree_node *nodes = index->tree.nodes;
    for (uint32_t i = WFE_TREE_ROOT + 1; i < index->tree.node_count; i++) {
        if (!nodes[i].is_dead)
            children[index->inodes[nodes[nodes[i].parent].content].first++] = i;
    }
    for (uint32_t i = 0; i < index->inode_count; i++) {
        if (S_ISDIR(index->inodes[i].mode))
            index->inodes[i].first -= index->inodes[i].count;
    }
    index->children = children;
    index->child_count = total;
    return 0;
}

int wfe_index_finish(struct wfe_index *index, struct wfe_error *err)
{
    assert(!wfe_index_is_complete(index));
    pthread_rwlock_wrlock(&index->lock);
    wfe_tree_bury(&index->tree);
    settle_inodes(index);
    int r = list_children(index);
    if (r < 0) {
        for (uint32_t i = 0; i < index->inode_count; i++) {
            if (S_ISDIR(index->inodes[i].mode))
                index->inodes[i].first = index->inodes[i].count = 0;
        }
    }
    pthread_rwlock_unlock(&index->lock);
    if (r < 0)
        wfe_index_break(index, no_memory);
    pthread_mutex_lock(&index->wait_mutex);
    __atomic_store_n(&index->complete, true, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&index->grown);
    pthread_mutex_unlock(&index->wait_mutex);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

/* Wait for the condition, a moment at most. */
static void wait_a_moment(struct wfe_index *index)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PATIENCE_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    pthread_cond_timedwait(&index->grown, &index->wait_mutex, &until);
}

static bool is_over(const struct wfe_index_patience *patience)
{
    return patience && patience->is_over && patience->is_over(patience->context);
}

void wfe_index_want(struct wfe_index *index)
{
    pthread_mutex_lock(&index->wait_mutex);
    index->wanted++;
    pthread_cond_broadcast(&index->grown);
    pthread_mutex_unlock(&index->wait_mutex);
}

void wfe_index_unwant(struct wfe_index *index)
{
    pthread_mutex_lock(&index->wait_mutex);
    index->wanted--;
    pthread_mutex_unlock(&index->wait_mutex);
}

void wfe_index_await_want(struct wfe_index *index, const struct timespec *until)
{
    int r = 0;
    pthread_mutex_lock(&index->wait_mutex);
    while (index->wanted == 0 && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&index->grown, &index->wait_mutex, until);
    pthread_mutex_unlock(&index->wait_mutex);
}

int wfe_index_wait(struct wfe_index *index, const struct wfe_index_patience *patience)
{
    if (wfe_index_is_complete(index))
        return 0;
    wfe_index_want(index);
    int r = 0;
    while (r == 0 && !wfe_index_is_complete(index)) {
        pthread_mutex_lock(&index->wait_mutex);
        if (!wfe_index_is_complete(index))
            wait_a_moment(index);
        pthread_mutex_unlock(&index->wait_mutex);
        if (is_over(patience))
            r = -EINTR;
    }
    wfe_index_unwant(index);
    return wfe_index_is_complete(index) ? 0 : r;
}

void wfe_index_wake(
    struct wfe_index *index, uint32_t parent, const struct wfe_layer_component *name)
{
    if (__atomic_load_n(&index->waiter_count, __ATOMIC_SEQ_CST) == 0)
        return;
    bool any = false;
    pthread_mutex_lock(&index->wait_mutex);
    for (struct wfe_index_waiter *waiter = index->waiters; waiter; waiter = waiter->next) {
        if (waiter->parent == parent && waiter->name.length == name->length &&
            memcmp(waiter->name.text, name->text, name->length) == 0)
            waiter->is_due = any = true;
    }
    if (any)
        pthread_cond_broadcast(&index->grown);
    pthread_mutex_unlock(&index->wait_mutex);
}

static void add_waiter(struct wfe_index *index, struct wfe_index_waiter *waiter)
{
    pthread_mutex_lock(&index->wait_mutex);
    waiter->next = index->waiters;
    index->waiters = waiter;
    __atomic_add_fetch(&index->waiter_count, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&index->wait_mutex);
}

static void remove_waiter(struct wfe_index *index, struct wfe_index_waiter *waiter)
{
    pthread_mutex_lock(&index->wait_mutex);
    struct wfe_index_waiter **link = &index->waiters;
    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    __atomic_sub_fetch(&index->waiter_count, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&index->wait_mutex);
}

/* What stands at a name now: 0, -ENOENT (nothing, and nothing will come), -ENOTDIR, or -EAGAIN
 * (nothing so far). *ret_parent is the directory's node. */
static int look(struct wfe_index *index, uint32_t directory, const struct wfe_layer_component *name,
    uint32_t *ret_inode, uint32_t *ret_parent)
{
    bool locked = wfe_index_read_lock(index);
    const struct wfe_tree_node *nodes = index->tree.nodes;
    int r = 0;
    if (directory >= index->inode_count) {
        r = -ENOENT;
    } else if (!S_ISDIR(index->inodes[directory].mode)) {
        r = -ENOTDIR;
    } else {
        uint32_t parent = index->inodes[directory].node;
        /* Of a directory that was replaced nothing can be reached any more. */
        if (parent >= index->tree.node_count || nodes[parent].content != directory ||
            nodes[parent].is_dead ||
            (locked && index->has_dead_nodes && wfe_tree_is_below_dead(&index->tree, parent))) {
            r = -ENOENT;
        } else {
            uint32_t node = wfe_tree_find(&index->tree, parent, name);
            if (node == WFE_TREE_NONE)
                r = locked ? -EAGAIN : -ENOENT;
            else
                *ret_inode = nodes[node].content;
            *ret_parent = parent;
        }
    }
    wfe_index_read_unlock(index, locked);
    return r;
}

int wfe_index_lookup(struct wfe_index *index, uint32_t directory, const char *name,
    const struct wfe_index_patience *patience, uint32_t *ret_inode)
{
    struct wfe_layer_component component = {.text = name, .length = strlen(name)};
    if (component.length > WFE_MAX_COMPONENT_BYTES)
        return -ENAMETOOLONG;
    uint32_t parent = WFE_TREE_NONE;
    int r = look(index, directory, &component, ret_inode, &parent);
    if (r != -EAGAIN)
        return r;
    /* Whoever adds the name after the next look sees that it is waited for. */
    struct wfe_index_waiter waiter = {.parent = parent, .name = component};
    add_waiter(index, &waiter);
    wfe_index_want(index);
    while ((r = look(index, directory, &component, ret_inode, &parent)) == -EAGAIN) {
        if (is_over(patience)) {
            r = -EINTR;
            break;
        }
        pthread_mutex_lock(&index->wait_mutex);
        if (!waiter.is_due && !wfe_index_is_complete(index))
            wait_a_moment(index);
        waiter.is_due = false;
        pthread_mutex_unlock(&index->wait_mutex);
    }
    wfe_index_unwant(index);
    remove_waiter(index, &waiter);
    return r;
}
