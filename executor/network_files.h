/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_FILES_H
#define WFE_EXECUTOR_NETWORK_FILES_H

/*
 * What a container knows of its network: /etc/resolv.conf and /etc/hosts.
 */

#include <stdbool.h>
#include <stddef.h>

#include "executor/spec.h"

#define WFE_NETWORK_FILES_MAX 2

/*
 * The files of network host: the daemon's host's own. Of a local daemon only those that are there.
 * Returns their count; views.
 */
size_t wfe_network_host_files(bool local, struct wfe_spec_file ret[static WFE_NETWORK_FILES_MAX]);

#endif
