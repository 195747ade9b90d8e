/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_ARTIFACT_SOURCE_H
#define WFE_ARTIFACTFS_ARTIFACT_SOURCE_H

/*
 * What the layer of an artifact is made from, so that it is the one that libcommon/layer.h makes of
 * the artifact's file or directory, byte for byte:
 *
 *     artifact                            source                         any entry at once
 *     ----------------------------------  -----------------------------  -----------------
 *     archive or directory with an exact  the index                      yes
 *     index (artifactfs/index_source.h)   (artifactfs/index_source.h)
 *     no archive, a file of its own       the file, as it is             yes
 *     archive or directory with an        the archive or directory,      no
 *     index that is not exact             read again: what the index
 *                                         lacks the layer's policy
 *                                         refuses, most often
 *     no archive, a volume package's      refused: it has no attributes
 *     broken                              refused
 */

#include <stdbool.h>

#include "artifactfs/artifact.h"
#include "libcommon/error.h"
#include "libcommon/layer_source.h"

/*
 * A source for the artifact, which is borrowed and whose scan has ended. *ret_is_seekable tells
 * whether each source for it goes to any entry at once.
 * Errors: WFE_ERROR_ARCHIVE (refused), WFE_ERROR_SYSTEM, WFE_ERROR_LIMIT (a volume package's
 * archive has to be copied, and is larger than max_spool_bytes), WFE_ERROR_INTERNAL.
 */
int wfe_artifact_source_new(struct wfe_artifact *artifact, uint64_t max_spool_bytes,
    bool *ret_is_seekable, struct wfe_layer_source **ret, struct wfe_error *err);

#endif
