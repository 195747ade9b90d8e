/* SPDX-License-Identifier: MIT */
#include "artifactfs/scan_spool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "artifactfs/stream_parts.h"
#include "libcommon/cleanup.h"

int wfe_scan_spool_open(
    struct wfe_scan_spool *spool, const char *directory, uint64_t max_bytes, struct wfe_error *err)
{
    if (!directory)
        return wfe_error_system(
            err, ENOENT, "the archive has to be spooled, and there is no cache");
    WFE_CLOSE int fd = -1;
    int r = wfe_stream_spool_open(directory, &fd, err);
    if (r < 0)
        return r;
    int handed_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (handed_fd < 0)
        return wfe_error_system(err, errno, "the spool file");
    *spool = (struct wfe_scan_spool){
        .fd = wfe_steal_fd(&fd),
        .handed_fd = handed_fd,
        .max_bytes = max_bytes,
    };
    return 0;
}

void wfe_scan_spool_done(struct wfe_scan_spool *spool)
{
    wfe_cleanup_close(&spool->fd);
    wfe_cleanup_close(&spool->handed_fd);
    spool->fd = spool->handed_fd = -1;
}

int wfe_scan_spool_write(struct wfe_scan_spool *spool, uint64_t place, const void *data,
    size_t length, struct wfe_error *err)
{
    if (place > spool->max_bytes || length > spool->max_bytes - place)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
            "its unpacked data take more than the %" PRIu64 " bytes that a spool file may have",
            spool->max_bytes);
    const char *at = data;
    while (length > 0) {
        ssize_t n = pwrite(spool->fd, at, length, (off_t)place);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wfe_error_system(err, errno, "write to the spool file");
        at += n;
        place += (uint64_t)n;
        length -= (size_t)n;
        if (place > spool->length_bytes)
            spool->length_bytes = place;
    }
    return 0;
}
