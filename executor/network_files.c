/* SPDX-License-Identifier: MIT */
#include "executor/network_files.h"

#include <unistd.h>

size_t wfe_network_host_files(bool local, struct wfe_spec_file ret[static WFE_NETWORK_FILES_MAX])
{
    static const char *const paths[WFE_NETWORK_FILES_MAX] = {"/etc/resolv.conf", "/etc/hosts"};
    size_t count = 0;
    for (size_t i = 0; i < WFE_NETWORK_FILES_MAX; i++)
        if (!local || access(paths[i], F_OK) == 0)
            ret[count++] = (struct wfe_spec_file){.source = paths[i], .target = paths[i]};
    return count;
}
