/* SPDX-License-Identifier: MIT */
#include "libcommon/layer.h"

#include <errno.h>
#include <string.h>

#include "libcommon/units.h"

int wfe_layer_limits_set(struct wfe_layer_limits *limits, const char *text, struct wfe_error *err)
{
    const struct {
        const char *name;
        uint64_t *limit;
        uint64_t most;
    } all[] = {
        {"entries", &limits->max_entries, WFE_LAYER_MAX_ENTRIES},
        {"bytes", &limits->max_tar_bytes, WFE_LAYER_MAX_TAR_BYTES},
        {"path", &limits->max_path_bytes, WFE_LAYER_MAX_PATH_BYTES},
        {"xattr", &limits->max_xattr_bytes, WFE_LAYER_MAX_XATTR_BYTES},
        {"xattrs", &limits->max_xattrs_bytes, WFE_LAYER_MAX_XATTRS_BYTES},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        size_t length = strlen(all[i].name);
        if (strncmp(text, all[i].name, length) != 0 || text[length] != '=')
            continue;
        uint64_t value;
        int r = wfe_size_parse(text + length + 1, &value);
        if (r < 0 || value == 0 || value > all[i].most)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "limit '%s': expected a number from 1 to %llu, or one with K, M, G or T", text,
                (unsigned long long)all[i].most);
        *all[i].limit = value;
        return 0;
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "limit '%s': expected entries=N, bytes=N, path=N, xattr=N or xattrs=N", text);
}

bool wfe_layer_limits_are_set(const struct wfe_layer_limits *limits)
{
    return limits->max_entries || limits->max_tar_bytes || limits->max_path_bytes ||
           limits->max_xattr_bytes || limits->max_xattrs_bytes;
}
