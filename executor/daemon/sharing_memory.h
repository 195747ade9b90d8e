/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SHARING_MEMORY_H
#define WFE_EXECUTOR_SHARING_MEMORY_H

/*
 * What executor/daemon/sharing.h has found, in a file a daemon:
 *
 *     UUID SOCKET BOOT MOUNT-NAMESPACE
 *     machine | directory PATH | nothing PATH
 *
 * The file's name is made of the UUID and the address; 0600 in a directory of 0700, replaced as a
 * whole. It is a cache: what can't be read or written is not remembered, and when there are more
 * than 256 files, all go.
 */

#include "executor/daemon/connect.h"

enum wfe_sharing {
    WFE_SHARES_NOTHING,
    WFE_SHARES_DIRECTORY, /* under the same path; the kernel may be another */
    WFE_SHARES_MACHINE,   /* kernel, mount namespace, and so every path */
};

/* Returns 0, or -ENOENT when nothing is remembered that is still true of this session. */
int wfe_sharing_recall(
    const struct wfe_session *session, const char *directory, enum wfe_sharing *ret);

void wfe_sharing_remember(
    const struct wfe_session *session, const char *directory, enum wfe_sharing sharing);

#endif
