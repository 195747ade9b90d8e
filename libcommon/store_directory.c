/* SPDX-License-Identifier: MIT */
#include "libcommon/store_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

DIR *wfe_store_open_directory(struct wfe_store *store, const char *directory)
{
    WFE_CLOSE int fd = openat(store->root, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    DIR *opened = fdopendir(fd);
    if (opened)
        (void)wfe_steal_fd(&fd);
    return opened;
}

void wfe_digests_done(struct wfe_digests *digests)
{
    free(digests->items);
    *digests = (struct wfe_digests){.count = 0};
}

int wfe_digests_add(struct wfe_digests *digests, const struct wfe_digest *digest)
{
    if (digests->count == digests->allocated) {
        size_t allocated = digests->allocated ? 2 * digests->allocated : 16;
        struct wfe_digest *items = reallocarray(digests->items, allocated, sizeof *items);
        if (!items)
            return -ENOMEM;
        digests->items = items;
        digests->allocated = allocated;
    }
    digests->items[digests->count++] = *digest;
    return 0;
}

static int compare_digests(const void *a, const void *b)
{
    const struct wfe_digest *left = a;
    const struct wfe_digest *right = b;
    return strcmp(left->text, right->text);
}

void wfe_digests_sort(struct wfe_digests *digests)
{
    if (digests->count > 0)
        qsort(digests->items, digests->count, sizeof *digests->items, compare_digests);
}

bool wfe_digests_contain(const struct wfe_digests *digests, const struct wfe_digest *digest)
{
    if (digests->count == 0)
        return false;
    return bsearch(digest, digests->items, digests->count, sizeof *digests->items,
               compare_digests) != NULL;
}

int wfe_store_read_directory(struct wfe_store *store, const char *directory, const char *suffix,
    struct wfe_digests *ret, struct wfe_error *err)
{
    WFE_DIRECTORY DIR *opened = wfe_store_open_directory(store, directory);
    if (!opened)
        return errno == ENOENT ? 0 : wfe_error_system(err, errno, "%s/%s", store->path, directory);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(opened);
        if (!entry && errno != 0)
            return wfe_error_system(err, errno, "%s/%s", store->path, directory);
        if (!entry)
            break;
        struct wfe_digest digest;
        if (wfe_store_parse_file_name(entry->d_name, suffix, &digest) == 0 &&
            wfe_digests_add(ret, &digest) < 0)
            return wfe_error_nomem(err);
    }
    wfe_digests_sort(ret);
    return 0;
}
