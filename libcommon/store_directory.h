/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_DIRECTORY_H
#define WFE_LIBCOMMON_STORE_DIRECTORY_H

/* Within the store: what a directory of files named by digest holds. */

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

#include "libcommon/store_layout.h"

/* A directory of the store, closed with closedir(); NULL with errno when it can't be opened. */
DIR *wfe_store_open_directory(struct wfe_store *store, const char *directory);

static inline void wfe_cleanup_directory(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}
#define WFE_DIRECTORY __attribute__((cleanup(wfe_cleanup_directory)))

/* Sorted by text after wfe_digests_sort(). */
struct wfe_digests {
    struct wfe_digest *items;
    size_t count;
    size_t allocated;
};

void wfe_digests_done(struct wfe_digests *digests);
#define WFE_DIGESTS __attribute__((cleanup(wfe_digests_done)))

/* Returns 0 or -ENOMEM. */
int wfe_digests_add(struct wfe_digests *digests, const struct wfe_digest *digest);
void wfe_digests_sort(struct wfe_digests *digests);
/* digests must be sorted. */
bool wfe_digests_contain(const struct wfe_digests *digests, const struct wfe_digest *digest);

/*
 * The digests of the files HEX<suffix> in a directory, sorted; other files are passed over, a
 * missing directory is empty. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_store_read_directory(struct wfe_store *store, const char *directory, const char *suffix,
    struct wfe_digests *ret, struct wfe_error *err);

#endif
