/* SPDX-License-Identifier: MIT */
#include "executor/spec/root_user.h"

#include <errno.h>
#include <string.h>

#include "executor/daemon/remote_file.h"
#include "executor/daemon/snapshot.h"
#include "executor/spec/root_file.h"
#include "executor/step/step.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

const char *wfe_root_user_text(const char *of_step, const char *of_image)
{
    if (strcmp(of_step, WFE_STEP_IMAGE_USER) != 0)
        return of_step;
    return of_image && *of_image ? of_image : "0:0";
}

static int read_anywhere(const struct wfe_root *root, const char *path, char **ret,
    size_t *ret_length, struct wfe_error *err)
{
    const char *layers = root->prepared ? wfe_snapshot_layers(root->prepared) : NULL;
    if (layers) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r =
            wfe_root_file_read(layers, path, WFE_USER_FILE_MAX_BYTES, ret, ret_length, &failure);
        if (r == 0 || failure.kind != WFE_ERROR_SYSTEM) {
            if (r < 0 && err)
                *err = failure;
            return r;
        }
    }
    return wfe_remote_file_read(
        root->session, root->chain, path, WFE_USER_FILE_MAX_BYTES, ret, ret_length, err);
}

/* *ret stays empty when the image has no such file. */
static int read_file(const struct wfe_root *root, const char *path, char **ret_data,
    struct wfe_user_file *ret, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = read_anywhere(root, path, ret_data, &ret->length, &failure);
    if (r == -ENOENT && failure.kind == WFE_ERROR_INPUT)
        return 0;
    if (r == 0)
        ret->data = *ret_data;
    else if (err)
        *err = failure;
    return r;
}

static int look_up(
    const char *text, const struct wfe_root *root, struct wfe_user *ret, struct wfe_error *err)
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

/* The files can't be read: a number alone does without. */
static int take_as_it_is(
    const char *text, const struct wfe_error *failure, struct wfe_user *ret, struct wfe_error *err)
{
    if (!wfe_user_is_number(text))
        return wfe_error_set(err, WFE_ERROR_INPUT, failure->errnum,
            "it can't be looked up: %s; give numbers, UID:GID", failure->message);
    wfe_log(WFE_LOG_WARN, "user", "%s has the group 0, whatever its groups in the image: %s", text,
        failure->message);
    const struct wfe_user_file none = {.data = NULL};
    return wfe_user_resolve(text, none, none, ret, err);
}

int wfe_root_user(
    const char *text, const struct wfe_root *root, struct wfe_user *ret, struct wfe_error *err)
{
    if (!wfe_user_is_valid(text))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "the image names it, and it is no user");
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = look_up(text, root, ret, &failure);
    if (r < 0 && failure.kind == WFE_ERROR_SYSTEM)
        return take_as_it_is(text, &failure, ret, err);
    if (r < 0 && err)
        *err = failure;
    return r;
}
