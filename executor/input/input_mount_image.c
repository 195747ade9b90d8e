/* SPDX-License-Identifier: MIT */

/*
 * What an image has at the target of a mounted input: the same directory of each of its layers, as
 * the overlay or bind mount of the container's root names them.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "executor/input/input_mount.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

/* A page, which mount(2) takes of options, less what the other options need. */
#define LOWER_MAX_BYTES 3072

/* Whether `target` is a directory of the layer: 1, 0 (it has nothing there), or -ENOTSUP.
 * *ret_is_last: what is below that layer does not show. */
static int find_in_layer(const char *layer, const char *target, bool *ret_is_last)
{
    WFE_FREE char *path = wfe_path_join(layer, target + 1);
    if (!path)
        return -ENOMEM;
    char *end = path + strlen(layer);
    while (*end) {
        end += 1 + strcspn(end + 1, "/");
        char kept = *end;
        *end = '\0';
        struct stat st;
        char opaque[2] = "";
        if (lstat(path, &st) < 0)
            return errno == ENOENT ? 0 : -ENOTSUP;
        if (S_ISCHR(st.st_mode) && st.st_rdev == 0) {
            *ret_is_last = true;
            return 0;
        }
        if (!S_ISDIR(st.st_mode))
            return -ENOTSUP;
        if (lgetxattr(path, "trusted.overlay.opaque", opaque, 1) == 1 && opaque[0] == 'y')
            *ret_is_last = true;
        *end = kept;
    }
    return 1;
}

static int add_layers(
    struct wfe_buffer *lower, const char *layers, const char *target, struct wfe_error *err)
{
    WFE_FREE char *list = strdup(layers);
    if (!list)
        return wfe_error_nomem(err);
    char *rest = list, *layer;
    bool is_last = false;
    while (!is_last && (layer = strsep(&rest, ":"))) {
        int r = find_in_layer(layer, target, &is_last);
        if (r == -ENOMEM)
            return wfe_error_nomem(err);
        if (r == 1)
            r = wfe_buffer_printf(lower, ":%s%s", layer, target);
        if (r < 0)
            return -ENOTSUP;
    }
    return 0;
}

int wfe_input_mount_add_image(struct wfe_input_mount *mount,
    const Snapshots__PrepareSnapshotResponse *root, struct wfe_error *err)
{
    const char *layers = wfe_snapshot_layers(root);
    if (!layers || strchr(layers, '\\'))
        return -ENOTSUP;
    size_t count;
    struct wfe_spec_overlay *overlays = wfe_input_mount_overlays(mount, &count);
    for (size_t i = 0; i < count; i++) {
        WFE_BUFFER struct wfe_buffer lower = WFE_BUFFER_INIT(LOWER_MAX_BYTES);
        if (wfe_buffer_puts(&lower, overlays[i].lower) < 0)
            return -ENOTSUP;
        int r = add_layers(&lower, layers, overlays[i].target, err);
        if (r < 0)
            return r;
        char *text = wfe_buffer_steal(&lower);
        if (!text)
            return wfe_error_nomem(err);
        free(overlays[i].lower);
        overlays[i].lower = text;
    }
    return 0;
}
