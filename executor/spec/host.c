/* SPDX-License-Identifier: MIT */
#include "executor/spec/host.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/spec/spec_json.h"
#include "libcommon/cleanup.h"

#define PROFILE_LINE_MAX 512

/* The profiles that container engines load, the daemon's own first. */
static const char *const PROFILES[] = {
    "cri-containerd.apparmor.d", "nerdctl-default", "docker-default"};

/* Each line is "NAME (MODE)". A profile that only complains confines nothing. */
static const char *find_apparmor_profile(void)
{
    size_t best = COUNT(PROFILES);
    char line[PROFILE_LINE_MAX];
    WFE_FCLOSE FILE *file = fopen("/sys/kernel/security/apparmor/profiles", "re");
    while (file && fgets(line, sizeof line, file)) {
        size_t length = strcspn(line, " ");
        for (size_t i = 0; i < best; i++)
            if (strlen(PROFILES[i]) == length && strncmp(PROFILES[i], line, length) == 0 &&
                strncmp(line + length, " (enforce)", strlen(" (enforce)")) == 0)
                best = i;
    }
    return best < COUNT(PROFILES) ? PROFILES[best] : NULL;
}

/* cgroup v1 tells at its root; v2 in every group but its root. */
static bool can_limit_swap(void)
{
    if (access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0)
        return true;
    glob_t found;
    if (glob("/sys/fs/cgroup/*/memory.swap.max", GLOB_NOSORT, NULL, &found) != 0)
        return false;
    globfree(&found);
    return true;
}

struct wfe_host wfe_host_probe(void)
{
    return (struct wfe_host){
        .apparmor_profile = find_apparmor_profile(),
        .limits_swap = can_limit_swap(),
    };
}

int wfe_host_check_volumes(const struct wfe_step_config *config, struct wfe_error *err)
{
    for (size_t i = 0; i < config->volume_count; i++) {
        const struct wfe_step_volume *volume = &config->volumes[i];
        struct stat st;
        if (volume->type != WFE_VOLUME_BIND)
            continue;
        int errnum = stat(volume->source, &st) < 0 ? errno : 0;
        if (errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP || errnum == ENAMETOOLONG)
            return wfe_error_set(err, WFE_ERROR_INPUT, errnum, "volumes[%zu].source: '%s': %s", i,
                volume->source, strerror(errnum));
        if (errnum == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)))
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "volumes[%zu].source: '%s' is a device, which no step may open", i, volume->source);
    }
    return 0;
}
