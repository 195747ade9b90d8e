/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ROOT_USER_H
#define WFE_EXECUTOR_ROOT_USER_H

/* Whom a step runs as, looked up in the files of its root file system. */

#include "executor/daemon/connect.h"
#include "executor/spec/user.h"
#include "libcommon/digest.h"
#include "snapshots.pb-c.h"

/* A root file system that nobody has mounted. */
struct wfe_root {
    /* Its layers, when they are on this machine; else, NULL, the daemon is asked for each file. */
    const Snapshots__PrepareSnapshotResponse *prepared;
    const struct wfe_session *session; /* under a lease */
    const struct wfe_digest *chain;    /* that it is made of */
};

/* The text to resolve: the step's, or the image's (may be NULL) where the step says so; an image
 * that names nobody means root. Borrowed from either. */
const char *wfe_root_user_text(const char *of_step, const char *of_image);

/*
 * Resolve text (executor/spec/user.h); the image may have named it, so that it need not be valid.
 * Only what wfe_user_needs() names is read of root. When files can't be read, a name is an error,
 * and a number alone has the group 0, which a warning tells.
 *
 * Errors: WFE_ERROR_INPUT (no user, unknown, can't be looked up), those of wfe_root_file_read() and
 * wfe_remote_file_read().
 */
int wfe_root_user(
    const char *text, const struct wfe_root *root, struct wfe_user *ret, struct wfe_error *err);

#endif
