/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "artifactfs/artifact_parts.h"
#include "libcommon/cleanup.h"

/* What one call of openat2() may be given (Linux's PATH_MAX, less a rest for the NUL). */
#define PATH_PART_BYTES 4000

static int truncated(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EIO, "the data end before the file does");
}

static int lost(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EIO, "the data are encrypted or corrupt");
}

static int read_failed(struct wfe_error *err, int errnum)
{
    wfe_error_system(err, errnum, "read");
    return -EIO;
}

/* All of it, or an error. */
static int read_fd(int fd, char *buffer, size_t length, uint64_t offset, struct wfe_error *err)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = pread(fd, buffer + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return read_failed(err, errno);
        if (n == 0)
            return truncated(err);
        done += (size_t)n;
    }
    return 0;
}

static bool is_scanning(struct wfe_artifact *artifact)
{
    pthread_mutex_lock(&artifact->lock);
    bool scanning = artifact->scanning || artifact->passing;
    pthread_mutex_unlock(&artifact->lock);
    return scanning;
}

/* Wait until the scan has gone over the stream's bytes up to `end`. */
static int wait_for_pass(struct wfe_artifact *artifact, uint64_t end,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    if (wfe_stream_length(artifact->stream) >= end)
        return 0;
    wfe_index_want(artifact->index);
    int r = 0;
    while (r == 0 && is_scanning(artifact) && wfe_stream_length(artifact->stream) < end) {
        if (patience && patience->is_over && patience->is_over(patience->context))
            r = wfe_error_set(err, WFE_ERROR_CANCELLED, EINTR, "interrupted");
        const struct timespec pause = {.tv_nsec = 1000 * 1000};
        nanosleep(&pause, NULL);
    }
    wfe_index_unwant(artifact->index);
    return r == 0 && wfe_stream_length(artifact->stream) < end ? truncated(err) : r;
}

static int read_stream(struct wfe_artifact *artifact, char *buffer, size_t length, uint64_t data,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    if (data > UINT64_MAX - length)
        return truncated(err);
    if (wfe_stream_filter(artifact->stream) == WFE_STREAM_PLAIN) {
        if (data + length > artifact->size_bytes)
            return truncated(err);
        return read_fd(artifact->fd, buffer, length, artifact->offset_bytes + data, err);
    }
    int r = wait_for_pass(artifact, data + length, patience, err);
    size_t done = 0;
    while (r == 0 && done < length) {
        ssize_t n =
            wfe_stream_read(artifact->stream, buffer + done, length - done, data + done, err);
        if (n == 0)
            return truncated(err);
        if (n < 0)
            return n == -ENOMEM ? -ENOMEM : -EIO;
        done += (size_t)n;
    }
    return r;
}

/* No symbolic link is followed, since the tree may have been changed since it was scanned. */
static int open_part(int directory, const char *path, uint64_t flags)
{
    const struct open_how how = {
        .flags = flags | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
    };
    int fd = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
    return fd < 0 ? -errno : fd;
}

static int open_below(int root, char *path)
{
    WFE_CLOSE int held = -1;
    int directory = root;
    while (strlen(path) > PATH_PART_BYTES) {
        char *slash = memrchr(path, '/', PATH_PART_BYTES);
        assert(slash);
        *slash = '\0';
        int next = open_part(directory, path, O_PATH | O_DIRECTORY);
        if (next < 0)
            return next;
        wfe_cleanup_close(&held);
        held = directory = next;
        path = slash + 1;
    }
    return open_part(directory, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
}

static int read_file(struct wfe_artifact *artifact, uint32_t inode, char *buffer, size_t length,
    uint64_t offset, struct wfe_error *err)
{
    WFE_FREE char *path = malloc(WFE_MAX_NAME_BYTES + 1);
    if (!path)
        return wfe_error_nomem(err);
    ssize_t path_length = wfe_index_path(artifact->index, inode, path, WFE_MAX_NAME_BYTES + 1);
    if (path_length < 0)
        return read_failed(err, (int)-path_length);
    WFE_CLOSE int fd = open_below(artifact->fd, path);
    if (fd < 0)
        return read_failed(err, -fd);
    return read_fd(fd, buffer, length, offset, err);
}

static int check_file(
    struct wfe_artifact *artifact, uint32_t inode, struct wfe_inode *ret, struct wfe_error *err)
{
    if (wfe_index_get(artifact->index, inode, ret) < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "no such inode");
    if (S_ISDIR(ret->mode))
        return wfe_error_set(err, WFE_ERROR_INPUT, EISDIR, "it is a directory");
    if (!S_ISREG(ret->mode))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "it is no file");
    if (atomic_load(&artifact->refused))
        return wfe_error_set(err, WFE_ERROR_INTEGRITY, EIO, "it is not what its digest says");
    return 0;
}

ssize_t wfe_artifact_read(struct wfe_artifact *artifact, uint32_t inode, void *buffer,
    size_t length, uint64_t offset, const struct wfe_index_patience *patience,
    struct wfe_error *err)
{
    struct wfe_inode record;
    int r = check_file(artifact, inode, &record, err);
    if (r < 0)
        return r;
    if (offset >= record.size_bytes)
        return 0;
    if (length > record.size_bytes - offset)
        length = (size_t)(record.size_bytes - offset);
    char *out = buffer;
    size_t done = 0;
    while (r == 0 && done < length) {
        bool is_hole;
        uint64_t data, run;
        r = wfe_index_locate(artifact->index, inode, offset + done, &is_hole, &data, &run);
        if (r < 0)
            return r == -EIO ? lost(err) : truncated(err);
        size_t n = run < length - done ? (size_t)run : length - done;
        if (is_hole)
            memset(out + done, 0, n);
        else if (!artifact->stream)
            r = read_file(artifact, inode, out + done, n, offset + done, err);
        else if (data & WFE_INDEX_IN_SPOOL)
            r = read_fd(artifact->spool_fd, out + done, n, data & ~WFE_INDEX_IN_SPOOL, err);
        else
            r = read_stream(artifact, out + done, n, data, patience, err);
        done += n;
    }
    return r < 0 ? r : (ssize_t)length;
}

/* Where the stream's decoded bytes lie as they are: the descriptor, where byte 0 of them is, and
 * how many there are; or -1. */
static int plain_stream(struct wfe_artifact *artifact, uint64_t *ret_base, uint64_t *ret_bytes)
{
    if (wfe_stream_filter(artifact->stream) == WFE_STREAM_PLAIN) {
        *ret_base = artifact->offset_bytes;
        *ret_bytes = artifact->size_bytes;
        return artifact->fd;
    }
    if (!wfe_index_is_complete(artifact->index))
        return -1;
    *ret_bytes = wfe_stream_length(artifact->stream);
    return wfe_stream_plain_fd(artifact->stream, ret_base);
}

int wfe_artifact_map(struct wfe_artifact *artifact, uint32_t inode, uint64_t offset, size_t length,
    uint64_t *ret_fd_offset, size_t *ret_length)
{
    struct wfe_inode record;
    uint64_t base = 0, bytes = WFE_INDEX_IN_SPOOL, data, run;
    bool is_hole;
    if (!artifact->stream || check_file(artifact, inode, &record, NULL) < 0 ||
        wfe_index_locate(artifact->index, inode, offset, &is_hole, &data, &run) < 0 || is_hole)
        return -1;
    int fd = artifact->spool_fd;
    if (data & WFE_INDEX_IN_SPOOL)
        data &= ~WFE_INDEX_IN_SPOOL;
    else
        fd = plain_stream(artifact, &base, &bytes);
    if (run > length)
        run = length;
    if (fd < 0 || data > bytes || run > bytes - data)
        return -1;
    *ret_fd_offset = base + data;
    *ret_length = (size_t)run;
    return fd;
}
