/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REMOTE_FILE_H
#define WFE_EXECUTOR_REMOTE_FILE_H

/*
 * A file of a root file system on the daemon's machine, read with gRPC alone.
 *
 * The daemon itself looks the path up: it applies a tar of one hard link to the file onto a
 * snapshot of that root, which makes the kernel copy the file into a directory whose name only we
 * know, and makes a tar of that directory (executor/daemon/diff.h). So nothing that the image
 * contains can lead out of it.
 *
 * Threads: calls are independent of each other.
 */

#include <stddef.h>

#include "executor/daemon/connect.h"
#include "libcommon/digest.h"

/*
 * The contents of the regular file at path, absolute, in the root of chain, NUL-terminated; the
 * caller frees *ret. Symbolic links are followed inside of that root. The session must hold a
 * lease; nothing is left. Errors: WFE_ERROR_INPUT (ENOENT: there is none; ELOOP; EINVAL: no regular
 * file), WFE_ERROR_LIMIT (past max_bytes), WFE_ERROR_CONTAINERD, WFE_ERROR_SYSTEM (ENOTSUP: not
 * with this snapshotter), WFE_ERROR_CANCELLED.
 */
int wfe_remote_file_read(const struct wfe_session *session, const struct wfe_digest *chain,
    const char *path, size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err);

#endif
