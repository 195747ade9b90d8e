/* SPDX-License-Identifier: MIT */
#include "executor/root_user.h"

#include <errno.h>

#include "executor/root_file.h"
#include "executor/snapshot.h"
#include "libcommon/cleanup.h"

/* *ret stays empty when the image has no such file. */
static int read_file(const Snapshots__PrepareSnapshotResponse *root, const char *path,
    char **ret_data, struct wfe_user_file *ret, struct wfe_error *err)
{
    const char *layers = wfe_snapshot_layers(root);
    if (!layers)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, ENOTSUP,
            "the image's %s can't be read with this snapshotter: give numbers, UID:GID", path);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r =
        wfe_root_file_read(layers, path, WFE_USER_FILE_MAX_BYTES, ret_data, &ret->length, &failure);
    if (r == -ENOENT && failure.kind == WFE_ERROR_INPUT)
        return 0;
    if (r == 0)
        ret->data = *ret_data;
    else if (err)
        *err = failure;
    return r;
}

int wfe_root_user(const char *text, const Snapshots__PrepareSnapshotResponse *root,
    struct wfe_user *ret, struct wfe_error *err)
{
    WFE_FREE char *passwd_data = NULL;
    WFE_FREE char *group_data = NULL;
    struct wfe_user_file passwd = {.data = NULL}, group = {.data = NULL};
    unsigned needs = wfe_user_needs(text);
    int r = 0;
    if (needs & WFE_USER_NEEDS_PASSWD)
        r = read_file(root, "/etc/passwd", &passwd_data, &passwd, err);
    if (r == 0 && (needs & WFE_USER_NEEDS_GROUP))
        r = read_file(root, "/etc/group", &group_data, &group, err);
    return r < 0 ? r : wfe_user_resolve(text, passwd, group, ret, err);
}
