/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_TABLES_H
#define WFE_ARTIFACTFS_INDEX_TABLES_H

/* What the parts of the index (index.c, index_add.c, index_ask.c, index_xattrs.c) share. */

#include "artifactfs/index.h"

/* Takes the lock for reading where one is needed; what it returns goes to the second. */
bool wfe_index_read_lock(struct wfe_index *index);
void wfe_index_read_unlock(struct wfe_index *index, bool locked);

/* The adding thread, with the lock: a node came into being below parent. */
void wfe_index_wake(
    struct wfe_index *index, uint32_t parent, const struct wfe_layer_component *name);

/* Room for `bytes` more in texts, whose place goes to *ret. Returns 0, -ENOMEM or -EOVERFLOW. */
int wfe_index_reserve_text(struct wfe_index *index, size_t bytes, uint32_t *ret);

/* Put the xattrs that can be shown into texts; their place, or WFE_INDEX_NONE, goes to *ret, a
 * reason for those left out (static), or NULL, to *ret_problem. Returns 0, -ENOMEM or -EOVERFLOW.
 */
int wfe_index_pack_xattrs(struct wfe_index *index, const struct wfe_xattr *xattrs, uint32_t count,
    bool may_have_user, uint32_t *ret, const char **ret_problem);

/* Bytes that a sparse file's extents have. */
uint64_t wfe_index_extent_bytes(const struct wfe_extent *extents, uint32_t count);

#endif
