/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int wfe_stream_spool_open(const char *directory, int *ret, struct wfe_error *err)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EOPNOTSUPP) {
        WFE_FREE char *path = wfe_path_join(directory, ".spool-XXXXXX");
        if (!path)
            return wfe_error_nomem(err);
        fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
            unlink(path);
    }
    if (fd < 0)
        return wfe_error_system(err, errno, "make a spool file in '%s'", directory);
    *ret = fd;
    return 0;
}

int wfe_stream_spool_write(
    const struct wfe_stream *stream, const void *data, size_t length, struct wfe_error *err)
{
    uint64_t written = atomic_load(&stream->length);
    if (length > stream->max_spool_bytes || written > stream->max_spool_bytes - length)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "what is decoded takes more than the %" PRIu64 " bytes that a spool file may have",
            stream->max_spool_bytes);
    int r = wfe_write_all(stream->spool, data, length);
    return r < 0 ? wfe_error_system(err, -r, "write to the spool file") : 0;
}
