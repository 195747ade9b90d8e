/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_EVICT_H
#define WFE_ARTIFACTFS_INDEX_EVICT_H

/*
 * Keeps a directory of indexes small. Ours are: 64 hexadecimal digits, ".v", the format's version,
 * WFE_INDEX_SUFFIX; and what a writer that was killed has left: ".", such digits, ".", the
 * writer's number, WFE_INDEX_TEMPORARY_SUFFIX. Whatever else lies there is left alone.
 */

#include <stdint.h>

#define WFE_INDEX_SUFFIX ".idx"
#define WFE_INDEX_TEMPORARY_SUFFIX ".tmp"

/* Remove what was not used for max_age_s, then the longest unused until max_bytes are left. What
 * can't be removed stays. */
void wfe_index_evict(int directory_fd, uint64_t max_bytes, uint64_t max_age_s);

#endif
