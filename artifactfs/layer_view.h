/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_LAYER_VIEW_H
#define WFE_ARTIFACTFS_LAYER_VIEW_H

/*
 * /.wfe/layers: each artifact NAME as NAME.tar and NAME.tar.gz, the layers that
 * libcommon/layer.h makes of it without and with gzip, byte for byte, below the container path that
 * a step's inputs give the artifact, if they do.
 *
 *     file      when it is looked up                          disk
 *     --------  --------------------------------------------  ------------------------------
 *     .tar      the scan's end is waited for; where each      none; but where the source does
 *               entry lies is computed; data are not read     not seek (see
 *                                                             artifactfs/artifact_source.h),
 *                                                             as .tar.gz
 *     .tar.gz   the scan's end is waited for; it is written   all of it, in a file without a
 *                                                             name, under the spool's limit
 *
 * Nothing happens when the directory is listed. What was made lives until the kernel forgets the
 * file. An artifact of which no layer can be made (its files can't be opened: EIO) is logged once,
 * with the reason.
 *
 * An artifact whose name is so long that the file's would pass WFE_MAX_COMPONENT_BYTES has no such
 * file.
 */

#include <stdint.h>

#include "artifactfs/virtual.h"
#include "artifactfs/volume.h"

struct wfe_layer_views;

struct wfe_layer_view_options {
    uint64_t max_spool_bytes; /* 0: WFE_SPOOL_MAX_BYTES */
    /* Why there is no layer of an artifact. Any thread; may be NULL. */
    void (*log)(void *context, const char *name, const char *message);
    void *log_context;
};

/* Add the files. The volume is borrowed for the views' life, which ends after the tree's: *ret is
 * to be freed then, on failure too. Errors: WFE_ERROR_INTERNAL. */
int wfe_layer_views_add(struct wfe_virtual *tree, struct wfe_volume *volume,
    const struct wfe_layer_view_options *options, struct wfe_layer_views **ret,
    struct wfe_error *err);
/* After wfe_virtual_free(). NULL is fine. */
void wfe_layer_views_free(struct wfe_layer_views *views);

#endif
