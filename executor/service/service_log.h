/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SERVICE_LOG_H
#define WFE_EXECUTOR_SERVICE_LOG_H

/*
 * A service's output, both streams together: DIRECTORY/log, and DIRECTORY/log.1 before it.
 *
 * The service may outlive whoever has brought it up, and its shim alone lives as long as it does.
 * So the shim starts a small process (containerd's binary:// logging) that writes the log: this
 * program as `wfe-containerd service-log PATH`. When the log is full it becomes log.1, and the
 * log.1 before it goes: the last WFE_SERVICE_LOG_MAX_BYTES are always there, and never more than
 * twice of them.
 *
 * Where the daemon shares a directory and nothing else, this program may not be there, and the
 * shim writes to the file, which has no bound.
 */

#include <stddef.h>

#include "executor/daemon/connect.h"

#define WFE_SERVICE_LOG_MAX_BYTES (8 * 1024 * 1024)

/* The directory of a service's log, by its container's id. Allocated; *ret is NULL when its output
 * can't be kept. Errors: WFE_ERROR_INTERNAL. */
int wfe_service_log_directory(
    const struct wfe_session *session, const char *id, char **ret, struct wfe_error *err);

/* Make the directory, and say what a task's stdout and stderr have to be (allocated); "" for no
 * directory. Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_service_log_open(const struct wfe_session *session, const char *directory, char **ret_stdio,
    struct wfe_error *err);

/* The last lines; "" when there are none. The task has been deleted: all is written by then.
 * Allocated, NULL when memory ran out. */
char *wfe_service_log_tail(const char *directory);

/* Copy from the descriptors to the log until all of them have ended. What can't be written is
 * dropped, so that the service goes on. */
void wfe_service_log_copy(
    const int *fds, size_t count, const char *path, size_t max_bytes, int ready_fd);

/* The process that the shim starts: descriptors 3 and 4 are the service's streams, 5 is closed when
 * it is ready. Returns the exit status. */
int wfe_service_log_main(const char *path);

#endif
