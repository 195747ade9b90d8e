/* SPDX-License-Identifier: MIT */
#include "executor/daemon/remote_path.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "executor/daemon/content.h"
#include "executor/daemon/snapshot.h"

#define MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"

static const char EMPTY_TAR[2 * 512];

int wfe_remote_path_check(
    const struct wfe_session *session, const char *path, struct wfe_error *err)
{
    assert(session->lease && path[0] == '/');
    struct wfe_descriptor blob = {.media_type = MEDIA_TYPE, .size_bytes = sizeof EMPTY_TAR};
    int r = wfe_content_put(session, EMPTY_TAR, sizeof EMPTY_TAR, &blob.digest, err);
    if (r < 0)
        return r;
    char *options[] = {(char *)"bind", (char *)"ro"};
    Types__Mount mount = TYPES__MOUNT__INIT;
    mount.type = (char *)"none"; /* "bind" alone would be applied to without being mounted */
    mount.source = (char *)path;
    mount.options = options;
    mount.n_options = sizeof options / sizeof *options;
    Snapshots__PrepareSnapshotResponse place = SNAPSHOTS__PREPARE_SNAPSHOT_RESPONSE__INIT;
    place.mounts = &(Types__Mount *){&mount};
    place.n_mounts = 1;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = wfe_snapshot_fill(session, &place, &blob, &blob.digest, &failure);
    if (r == 0 || !strstr(failure.message, "failed to mount ") ||
        !strstr(failure.message, "no such file or directory"))
        return 0;
    return wfe_error_set(
        err, WFE_ERROR_INPUT, ENOENT, "'%s': it does not exist on the daemon's machine", path);
}
