/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_STATE_H
#define WFE_EXECUTOR_NETWORK_STATE_H

/*
 * What this machine holds of steps' networks, so that whoever comes next can take it away when
 * their executors die:
 *
 *     /run/wfe/network/lock             held while steps come and go
 *     /run/wfe/network/addresses/NAME/  those given out in the network NAME (host-local's files)
 *     /run/wfe/network/steps/ID/        a step's
 *         state.json                    what is needed to detach it
 *         netns  resolv.conf  hosts     its network namespace, and what its container sees
 *
 * A step's directory is locked (flock(2)) for as long as its executor lives, or a plugin that it
 * has started: whoever gets the lock may clean up. That of a service is one as well; when its state
 * says `kept`, it is nobody's any more, and stays until the service is taken down. The kernel takes
 * all of it away at a reboot, and /run with it.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

#define WFE_NETWORK_DIRECTORY "/run/wfe/network"
#define WFE_NETWORK_STEPS WFE_NETWORK_DIRECTORY "/steps"
#define WFE_NETWORK_ADDRESSES WFE_NETWORK_DIRECTORY "/addresses"
#define WFE_NETWORK_STATE_MAX_BYTES (4 * 1024 * 1024)

/* Take the lock, making the directories where needed; closing *ret_fd gives it back. Errors:
 * WFE_ERROR_SYSTEM. */
int wfe_network_lock(int *ret_fd, struct wfe_error *err);

/* Make a step's directory, locked until *ret_fd is closed; the network's lock is held meanwhile.
 * Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_network_step_make(const char *id, int *ret_fd, struct wfe_error *err);
/* Open a step's directory that somebody else made, and lock it when nobody has; *ret_locked.
 * Returns 0 or -errno, -ENOENT when it is gone. */
int wfe_network_step_open(const char *id, int *ret_fd, bool *ret_locked);
/* Remove a step's directory, whose network namespace was removed. Returns 0 or -errno. */
int wfe_network_step_remove(const char *id);
/* The ids of all steps; free with wfe_names_free(). None when there is no directory yet, or
 * it is not ours to read. Errors:
 * WFE_ERROR_SYSTEM. */
int wfe_network_step_list(char ***ret_ids, size_t *ret_count, struct wfe_error *err);
/* A file in a step's directory (allocated); NULL when memory ran out. */
char *wfe_network_step_path(const char *id, const char *name);

/* Errors: WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. */
int wfe_network_state_write(int step_fd, const cJSON *state, struct wfe_error *err);
/* NULL when there is none, or it can't be read; the caller deletes. */
cJSON *wfe_network_state_read(int step_fd);

#endif
