/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SHARING_H
#define WFE_EXECUTOR_SHARING_H

/*
 * What a daemon shares with this process, found out by trying: an address tells nothing, since a
 * forwarded socket looks like a local one, and a TCP port may be this machine's.
 *
 *     DIRECTORY/wfe-io-ID/NONCE/NONCE    an empty file, under a name that nobody can guess
 *     DIRECTORY/wfe-io-ID/here           symbolic link to /proc/PID/fd/N/NONCE, N being wfe-io-ID
 *
 * The daemon is asked for a tar of `here` (executor/daemon/diff.h). There is one only when the
 * daemon sees the directory under its path, our process in its /proc, so that both run on one
 * kernel, and may mount what that process has open, so that both are in one mount namespace
 * (mount(2), MS_BIND). Then named pipes, mounts and all paths of this machine are the same for
 * both. Else a tar of NONCE tells whether at least the directory is shared.
 *
 * What was found is remembered in $XDG_CACHE_HOME/wfe/daemons, else ~/.cache/wfe/daemons, in one
 * file a daemon, as long as all of this is the same: the daemon's UUID and address, the socket
 * (device, inode, time), this boot, this mount namespace; without a UUID nothing is. Of these, the
 * wrong memory of a directory is corrected by wfe_sharing_forget(); that a daemon behind TCP is on
 * this machine, which could make a task hang, is never remembered, and that it does not see
 * $WFE_IO_DIR isn't either, since somebody wants to mend that.
 */

#include "executor/daemon/connect.h"

/* What the memory is good for. */
enum wfe_sharing_memory {
    WFE_SHARING_REMEMBERED, /* as above */
    WFE_SHARING_TRIED,      /* always tried anew, then remembered */
};

/*
 * Sets local and sees_directory of a connected session. The directory is that of
 * wfe_sharing_directory(io_directory). A directory that we can't write to is not shared. Errors:
 * WFE_ERROR_CONTAINERD (the daemon went away), WFE_ERROR_CANCELLED, WFE_ERROR_SYSTEM,
 * WFE_ERROR_INTERNAL.
 */
int wfe_sharing_find(struct wfe_session *session, const char *io_directory,
    enum wfe_sharing_memory memory, struct wfe_error *err);

/* What is remembered of the daemon has turned out to be wrong. */
void wfe_sharing_forget(const struct wfe_session *session);

/* $WFE_IO_DIR; NULL when it is not set. A view. */
const char *wfe_sharing_io_directory(void);

/* The directory of temporary files that a daemon may share: io_directory, $TMPDIR, /tmp. A view. */
const char *wfe_sharing_directory(const char *io_directory);

#endif
