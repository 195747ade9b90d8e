/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_SINK_H
#define WFE_LIBCOMMON_SINK_H

/* Where a stream of bytes goes: a file, an upload, a hash. */

#include <stddef.h>

#include "libcommon/error.h"

struct wfe_sink {
    /* Takes all of data (borrowed for the call). Returns 0, or -errno with err set. */
    int (*write)(void *context, const void *data, size_t length, struct wfe_error *err);
    void *context;
};

/* A sink that writes to a descriptor, which stays the caller's. */
struct wfe_sink wfe_sink_to_fd(const int *fd);

#endif
