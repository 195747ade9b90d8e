/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ROOT_USER_H
#define WFE_EXECUTOR_ROOT_USER_H

/* Whom a step runs as, looked up in the files of its prepared root file system. */

#include "executor/spec/user.h"
#include "snapshots.pb-c.h"

/* The text to resolve: the step's, or the image's (may be NULL) where the step says so; an image
 * that names nobody means root. Borrowed from either. */
const char *wfe_root_user_text(const char *of_step, const char *of_image);

/*
 * Resolve text (executor/spec/user.h); the image may have named it, so that it need not be valid.
 * Only what wfe_user_needs() names is read of root, whose layers have to be on this machine; NULL:
 * they are not. Without the files a name is an error, and a number alone has the group 0, which a
 * warning tells.
 *
 * Errors: WFE_ERROR_INPUT (no user, unknown, can't be looked up), those of wfe_root_file_read().
 */
int wfe_root_user(const char *text, const Snapshots__PrepareSnapshotResponse *root,
    struct wfe_user *ret, struct wfe_error *err);

#endif
