/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REMOTE_PATH_H
#define WFE_EXECUTOR_REMOTE_PATH_H

/*
 * Whether something is there on the daemon's machine, asked with gRPC alone: the daemon is told to
 * apply a tar without entries to a bind mount of the path, and so has to mount it for a moment.
 * Nothing is written there, and nothing of it is read.
 *
 * Threads: calls are independent of each other.
 */

#include "executor/daemon/connect.h"

/*
 * Returns 0 when path, absolute, leads to something, and when the daemon can't tell: a later use
 * of it has words of its own. The session must hold a lease. Errors: WFE_ERROR_INPUT (ENOENT: there
 * is nothing), those of wfe_content_put().
 */
int wfe_remote_path_check(
    const struct wfe_session *session, const char *path, struct wfe_error *err);

#endif
