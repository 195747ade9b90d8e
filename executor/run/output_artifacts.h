/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_OUTPUT_ARTIFACTS_H
#define WFE_EXECUTOR_OUTPUT_ARTIFACTS_H

/*
 * A step's `outputs`: paths of its container become artifacts in the store, with gRPC alone.
 *
 *     the step's snapshot, compared with what it was made of ─► tar ─► the entries below a path
 *     ─► tar+gzip in a file that has no name ─► the store
 *
 * The daemon finds what has changed without a look at the image, so that this costs what the step
 * has written. Only when the path was there before the step, what has not changed belongs to it as
 * well: then the daemon makes a tar of the whole root file system. Of that, no more comes here than
 * is wanted.
 *
 * A directory's artifact has its entries with "./" before their names, and "./" itself; a file's
 * has one entry under the file's own name.
 */

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/step/step.h"
#include "snapshots.pb-c.h"

struct wfe_output_source {
    const struct wfe_session *session;              /* under a lease */
    const Snapshots__PrepareSnapshotResponse *root; /* the step's; no task uses it any more */
    const char *root_key;                           /* a name of the step's own */
    const struct wfe_digest *chain;                 /* what it was made of */
};

/*
 * *ret: {NAME: {"__wfe_artifact": DIGEST}, …}, which the caller deletes. Errors: WFE_ERROR_INPUT
 * that names the output and the path (ENOENT: not there; what can't be in an artifact), as
 * wfe_diff_make() and wfe_store_put(), WFE_ERROR_SYSTEM.
 */
int wfe_output_artifacts_take(const struct wfe_output_source *source,
    const struct wfe_step_pair *outputs, size_t count, const char *store_path, cJSON **ret,
    struct wfe_error *err);

#endif
