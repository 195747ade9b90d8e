/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ROOT_USER_H
#define WFE_EXECUTOR_ROOT_USER_H

/* Whom a step runs as, looked up in the files of its prepared root file system. */

#include "executor/user.h"
#include "snapshots.pb-c.h"

/*
 * Resolve text (executor/user.h). Only what wfe_user_needs() names is read of root, whose layers
 * have to be on this machine; root may be NULL when that is nothing. Errors: those of
 * wfe_user_resolve() and wfe_root_file_read(), WFE_ERROR_SYSTEM (ENOTSUP: the snapshotter's mounts
 * are not understood).
 */
int wfe_root_user(const char *text, const Snapshots__PrepareSnapshotResponse *root,
    struct wfe_user *ret, struct wfe_error *err);

#endif
