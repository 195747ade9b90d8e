/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_BACKGROUND_H
#define WFE_ARTIFACTFS_BACKGROUND_H

/*
 * Going to the background: the work is done by a child, and its parent ends with 0 once the mount
 * answers. Until the child has mounted, it has the terminal and speaks for both.
 *
 * It is the parent that asks the mount: a process that waits for its own mount can't be ended,
 * since the kernel gives up a mount only when all of its process's threads have ended.
 */

#include "libcommon/error.h"
#include "libcommon/log.h"

/*
 * Fork; before the first thread. In the child it returns 0. The parent does not return: it ends
 * with 0 once mountpoint answers, else with the child's status or 1, and says why.
 * Errors: WFE_ERROR_SYSTEM.
 */
int wfe_background_start(const char *mountpoint, struct wfe_error *err);

/*
 * In the child, which has mounted and is about to serve: leave the terminal and the working
 * directory, log to syslog from now on, and let the parent ask the mount. Does nothing where
 * there was no wfe_background_start(). Errors: WFE_ERROR_SYSTEM, also when the parent is gone.
 */
int wfe_background_mounted(struct wfe_error *err);

/* wfe_log(), or syslog(3) once in the background. Any thread. */
void wfe_background_log(enum wfe_log_level level, const char *stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
