/* SPDX-License-Identifier: MIT */
#include "libcommon/sink.h"

#include "libcommon/file.h"

static int write_fd(void *context, const void *data, size_t length, struct wfe_error *err)
{
    int r = wfe_write_all(*(const int *)context, data, length);
    return r < 0 ? wfe_error_system(err, -r, "write") : 0;
}

struct wfe_sink wfe_sink_to_fd(const int *fd)
{
    return (struct wfe_sink){.write = write_fd, .context = (void *)fd};
}
