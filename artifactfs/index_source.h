/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_SOURCE_H
#define WFE_ARTIFACTFS_INDEX_SOURCE_H

/*
 * A source of layers (libcommon/layer_source.h) that takes the entries from an artifact's index,
 * and goes to any of them at once.
 *
 * The layer is the one that libcommon/layer.h makes of the archive or directory itself. The index
 * has the names cleaned and of what was replaced the last state alone, which changes nothing: a
 * layer has that state, too. What would be refused there and is shown here all the same (devices,
 * sockets, whiteouts, names that are too long for a layer) is in the index as it was archived, and
 * the plan refuses it.
 *
 * Threads: each source is one thread's; the artifact may have any number of them.
 */

#include "artifactfs/artifact.h"
#include "libcommon/error.h"
#include "libcommon/layer_source.h"

/*
 * Whether the index is complete and tells all that the archive does: it is not broken, and nothing
 * was left out, clamped or shown as something else.
 */
bool wfe_index_source_is_exact(const struct wfe_index *index);

/* The artifact is borrowed, and is such a one; it is an archive or a directory. Errors:
 * WFE_ERROR_INTERNAL; of the source: those of wfe_artifact_read(). */
int wfe_index_source_new(
    struct wfe_artifact *artifact, struct wfe_layer_source **ret, struct wfe_error *err);

#endif
