/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_INPUT_MOUNT_H
#define WFE_EXECUTOR_INPUT_MOUNT_H

/*
 * A step's inputs without a copy: the volume is mounted by a wfe-artifactfs of this executor's own,
 * and the container gets an overlay for each input, whose lower directory is the artifact's tree
 * and whose upper one is scratch space of this step. So the step starts at once, reads what it
 * needs, and may write as it may with a layer.
 *
 *     BASE/wfe-in-ID/mnt/N      tree of input number N (FUSE)
 *     BASE/wfe-in-ID/up/N       what the step writes there
 *     BASE/wfe-in-ID/work/N     overlayfs's own
 *
 * The daemon has to see that mount. A lower directory lies inside of it, so where the daemon does
 * not (it is on another machine, or in another mount namespace), the task can't be made, and
 * nothing else happens: wfe_input_mount_is_unseen() tells such a failure from others.
 *
 * The file system ends with its executor, however that ends. Needs root, /dev/fuse, and
 * wfe-artifactfs beside this program or in $PATH.
 */

#include <stdbool.h>

#include "executor/input/artifacts.h"
#include "executor/spec/spec.h"
#include "libcommon/cancel.h"
#include "libcommon/error.h"
#include "snapshots.pb-c.h"

/* More inputs than this go in as layers. */
#define WFE_INPUT_MOUNT_MAX 16

struct wfe_input_mount;

/* Why it can't be done here (static), or NULL. */
const char *wfe_input_mount_obstacle(const struct wfe_inputs *inputs);

/*
 * Begin to mount the inputs. base_directory and id make the place; store_path is where the stored
 * inputs are, NULL when there are none. inputs is borrowed for the mount's life. Errors:
 * WFE_ERROR_SYSTEM, WFE_ERROR_INPUT (no overlay can be made there), WFE_ERROR_INTERNAL; nothing is
 * left behind then.
 */
int wfe_input_mount_start(const struct wfe_inputs *inputs, const char *base_directory,
    const char *id, const char *store_path, struct wfe_input_mount **ret, struct wfe_error *err);
/* Wait until the mount serves. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_ARCHIVE (an input can't be
 * read), WFE_ERROR_CANCELLED. */
int wfe_input_mount_await(
    struct wfe_input_mount *mount, struct wfe_cancel *cancel, struct wfe_error *err);
/* Let the file system end while something else is done; the container must have ended. */
void wfe_input_mount_stop(struct wfe_input_mount *mount);
/* Ends the file system and removes its place. NULL is fine. */
void wfe_input_mount_free(struct wfe_input_mount *mount);

/*
 * Put what the image has at the targets below the inputs, as layers would lie on it. root is the
 * container's root file system as the snapshotter told it, of this machine. -ENOTSUP, without err,
 * where that can't be done: the snapshotter's mounts are not understood, or a target leads through
 * a symbolic link or a file. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL.
 */
int wfe_input_mount_add_image(struct wfe_input_mount *mount,
    const Snapshots__PrepareSnapshotResponse *root, struct wfe_error *err);

/* The overlays for the container's spec, one an input; they stay the mount's. */
struct wfe_spec_overlay *wfe_input_mount_overlays(struct wfe_input_mount *mount, size_t *ret_count);

/* Whether a task could not be made because the daemon does not see the mount. */
bool wfe_input_mount_is_unseen(const struct wfe_input_mount *mount, const struct wfe_error *err);

/*
 * After the task's end: 0 when it had all of its inputs. Errors: WFE_ERROR_SYSTEM (the file system
 * died meanwhile), WFE_ERROR_INTEGRITY (an input is broken, or not what its digest says).
 */
int wfe_input_mount_check(struct wfe_input_mount *mount, struct wfe_error *err);

/* Remove what an executor that died has left of the place for id. */
void wfe_input_mount_reclaim(const char *base_directory, const char *id);

#endif
