/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_FUSE_IO_H
#define WFE_ARTIFACTFS_FUSE_IO_H

/*
 * How a session's replies reach the kernel: as they are, but for the first one.
 *
 * Unless the reply to INIT says FUSE_PARALLEL_DIROPS, the kernel asks about one name of a directory
 * after the other, and lists it at no other time: who waits for a scan would keep everybody from
 * names that are known already. libfuse 3.14 has the capability and forgets to say so.
 */

#include "artifactfs/fuse_ops.h"
#include "libcommon/error.h"

/* After fuse_session_mount(), before the loop. Errors: WFE_ERROR_SYSTEM. */
int wfe_fuse_io_install(struct fuse_session *session, struct wfe_error *err);

#endif
