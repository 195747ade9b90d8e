/* SPDX-License-Identifier: MIT */
#include "artifactfs/virtual.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libcommon/cleanup.h"

#define LAYERS_NAME "layers"
#define DIRECTORY_COUNT 2

struct file {
    struct wfe_virtual_file hooks;
    struct held *newest; /* the content of the last lookup, while it lives */
};

/* A content that the kernel knows. */
struct held {
    uint64_t number;
    uint64_t lookups;
    unsigned readers;
    struct timespec made;
    struct wfe_virtual_content *content;
    struct file *file;
    struct held *next;
};

struct directory {
    struct file **files;
    size_t count;
};

struct wfe_virtual {
    struct directory directories[DIRECTORY_COUNT];
    struct timespec made;
    pthread_mutex_t lock; /* of what follows, and of each file's newest */
    struct held *held;
    uint64_t next_number;
};

static struct directory *directory_of(
    const struct wfe_virtual *tree, enum wfe_virtual_directory directory)
{
    assert(directory == WFE_VIRTUAL_TOP || directory == WFE_VIRTUAL_LAYERS);
    return (struct directory *)&tree->directories[directory - WFE_VIRTUAL_TOP];
}

int wfe_virtual_new(struct wfe_virtual **ret, struct wfe_error *err)
{
    struct wfe_virtual *tree = calloc(1, sizeof *tree);
    if (!tree)
        return wfe_error_nomem(err);
    pthread_mutex_init(&tree->lock, NULL);
    clock_gettime(CLOCK_REALTIME, &tree->made);
    tree->next_number = WFE_VIRTUAL_FIRST_CONTENT;
    *ret = tree;
    return 0;
}

static void free_held(struct held *held)
{
    held->content->free(held->content);
    free(held);
}

void wfe_virtual_free(struct wfe_virtual *tree)
{
    if (!tree)
        return;
    for (struct held *held = tree->held; held;) {
        struct held *next = held->next;
        free_held(held);
        held = next;
    }
    for (size_t i = 0; i < DIRECTORY_COUNT; i++) {
        for (size_t k = 0; k < tree->directories[i].count; k++)
            free(tree->directories[i].files[k]);
        free(tree->directories[i].files);
    }
    pthread_mutex_destroy(&tree->lock);
    free(tree);
}

int wfe_virtual_add(struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    const struct wfe_virtual_file *file, struct wfe_error *err)
{
    struct directory *d = directory_of(tree, directory);
    struct file **files = reallocarray(d->files, d->count + 1, sizeof(struct file *));
    if (!files)
        return wfe_error_nomem(err);
    d->files = files;
    struct file *added = calloc(1, sizeof *added);
    if (!added)
        return wfe_error_nomem(err);
    added->hooks = *file;
    d->files[d->count++] = added;
    return 0;
}

static struct held *find_held(const struct wfe_virtual *tree, uint64_t number)
{
    struct held *held = tree->held;
    while (held && held->number != number)
        held = held->next;
    return held;
}

/* The content becomes known under a number: the newest one's when it holds the same. */
static int hold(struct wfe_virtual *tree, struct file *file, struct wfe_virtual_content *content,
    uint64_t *ret_number)
{
    struct held *added = calloc(1, sizeof *added);
    if (!added) {
        content->free(content);
        return -ENOMEM;
    }
    pthread_mutex_lock(&tree->lock);
    struct held *held = file->newest;
    if (held && content->equals && content->equals(content, held->content)) {
        free(added);
    } else {
        held = added;
        held->number = tree->next_number++;
        clock_gettime(CLOCK_REALTIME, &held->made);
        held->content = wfe_steal(&content);
        held->file = file;
        held->next = tree->held;
        tree->held = file->newest = held;
    }
    held->lookups++;
    *ret_number = held->number;
    pthread_mutex_unlock(&tree->lock);
    if (content)
        content->free(content);
    return 0;
}

int wfe_virtual_lookup(struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    const char *name, const struct wfe_index_patience *patience, uint64_t *ret_number)
{
    if (directory == WFE_VIRTUAL_TOP && strcmp(name, LAYERS_NAME) == 0) {
        *ret_number = WFE_VIRTUAL_LAYERS;
        return 0;
    }
    const struct directory *d = directory_of(tree, directory);
    for (size_t i = 0; i < d->count; i++) {
        struct file *file = d->files[i];
        if (strcmp(file->hooks.name, name) != 0)
            continue;
        struct wfe_virtual_content *content;
        int r = file->hooks.open(file->hooks.context, patience, &content);
        return r < 0 ? r : hold(tree, file, content, ret_number);
    }
    return -ENOENT;
}

bool wfe_virtual_is_final(struct wfe_virtual *tree, uint64_t number)
{
    if (number < WFE_VIRTUAL_FIRST_CONTENT)
        return true;
    pthread_mutex_lock(&tree->lock);
    const struct held *held = find_held(tree, number);
    bool is_final = held && held->content->is_final;
    pthread_mutex_unlock(&tree->lock);
    return is_final;
}

/* With the lock held. Frees what nobody knows or reads any more. */
static void drop_unused(struct wfe_virtual *tree, struct held *held)
{
    if (held->lookups > 0 || held->readers > 0)
        return;
    struct held **link = &tree->held;
    while (*link != held)
        link = &(*link)->next;
    *link = held->next;
    if (held->file->newest == held)
        held->file->newest = NULL;
    free_held(held);
}

void wfe_virtual_forget(struct wfe_virtual *tree, uint64_t number, uint64_t lookups)
{
    pthread_mutex_lock(&tree->lock);
    struct held *held = find_held(tree, number);
    if (held) {
        held->lookups -= lookups < held->lookups ? lookups : held->lookups;
        drop_unused(tree, held);
    }
    pthread_mutex_unlock(&tree->lock);
}

int wfe_virtual_stat(struct wfe_virtual *tree, uint64_t number, struct stat *ret)
{
    struct stat st = {.st_ino = number};
    struct timespec made = tree->made;
    if (number == WFE_VIRTUAL_TOP || number == WFE_VIRTUAL_LAYERS) {
        st.st_mode = S_IFDIR | 0555;
        st.st_nlink = number == WFE_VIRTUAL_TOP ? 3 : 2;
    } else {
        pthread_mutex_lock(&tree->lock);
        const struct held *held = find_held(tree, number);
        if (held) {
            st.st_size = (off_t)held->content->size_bytes;
            made = held->made;
        }
        pthread_mutex_unlock(&tree->lock);
        if (!held)
            return -ENOENT;
        st.st_mode = S_IFREG | 0444;
        st.st_nlink = 1;
        st.st_blocks = (st.st_size + 511) / 512;
    }
    st.st_blksize = 4096;
    st.st_atim = st.st_mtim = st.st_ctim = made;
    *ret = st;
    return 0;
}

ssize_t wfe_virtual_read(struct wfe_virtual *tree, uint64_t number, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience)
{
    if (number < WFE_VIRTUAL_FIRST_CONTENT)
        return -EISDIR;
    pthread_mutex_lock(&tree->lock);
    struct held *held = find_held(tree, number);
    if (held)
        held->readers++;
    pthread_mutex_unlock(&tree->lock);
    if (!held)
        return -ENOENT;
    struct wfe_virtual_content *content = held->content;
    uint64_t rest = offset < content->size_bytes ? content->size_bytes - offset : 0;
    if (length > rest)
        length = (size_t)rest;
    int r = length > 0 ? content->read(content, buffer, length, offset, patience) : 0;
    pthread_mutex_lock(&tree->lock);
    held->readers--;
    drop_unused(tree, held);
    pthread_mutex_unlock(&tree->lock);
    return r < 0 ? r : (ssize_t)length;
}

const char *wfe_virtual_name(const struct wfe_virtual *tree, enum wfe_virtual_directory directory,
    size_t position, bool *ret_is_directory)
{
    const struct directory *d = directory_of(tree, directory);
    if (directory == WFE_VIRTUAL_TOP && position-- == 0) {
        *ret_is_directory = true;
        return LAYERS_NAME;
    }
    *ret_is_directory = false;
    return position < d->count ? d->files[position]->hooks.name : NULL;
}
