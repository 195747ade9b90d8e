/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_MOUNT_H
#define WFE_ARTIFACTFS_MOUNT_H

/*
 * A FUSE session from the mount to its end.
 *
 * It ends when the file system is unmounted, and on SIGTERM, SIGINT and SIGHUP, which unmount it,
 * busy or not.
 *
 * Threads: one session a process; it takes the signals above for all of them.
 */

#include "artifactfs/mount_options.h"
#include "artifactfs/virtual.h"
#include "artifactfs/volume.h"
#include "libcommon/error.h"

/* Requests that may wait for a scan at the same time, before others have to wait for them. */
#define WFE_MOUNT_MAX_THREADS 64

/*
 * The mount point with all links resolved; allocated, caller frees. Errors: WFE_ERROR_INPUT (no
 * directory; a file system that died is still mounted there), WFE_ERROR_SYSTEM.
 */
int wfe_mount_resolve(const char *mountpoint, char **ret, struct wfe_error *err);

/* Block the signals that end a session. Before the first thread. */
void wfe_mount_block_signals(void);

/*
 * Mount, serve, unmount. `mounted` is called between the first two; when it fails, nothing is
 * served. Returns 0 after an end that was asked for. Errors: WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL, and what `mounted` has; nothing is mounted then.
 */
int wfe_mount_serve(const char *mountpoint, struct wfe_mount_options *options,
    struct wfe_volume *volume, struct wfe_virtual *virtual_files,
    int (*mounted)(struct wfe_error *), struct wfe_error *err);

#endif
