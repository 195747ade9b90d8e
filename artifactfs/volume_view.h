/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_VOLUME_VIEW_H
#define WFE_ARTIFACTFS_VOLUME_VIEW_H

/* /.wfe/volume.json: what wfe_volume_describe() tells, as it was when the file was looked up. */

#include "artifactfs/virtual.h"
#include "artifactfs/volume.h"

/* volume is borrowed for the tree's life. Errors: WFE_ERROR_INTERNAL. */
int wfe_volume_view_add(struct wfe_virtual *tree, struct wfe_volume *volume, struct wfe_error *err);

#endif
