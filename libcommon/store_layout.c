/* SPDX-License-Identifier: MIT */
#include "libcommon/store_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define LOCK_NAME ".lock"

struct wfe_store_path wfe_store_blob_path(const struct wfe_digest *digest)
{
    struct wfe_store_path path;
    snprintf(path.text, sizeof path.text, WFE_STORE_BLOBS "/%s", wfe_digest_hex(digest));
    return path;
}

struct wfe_store_path wfe_store_meta_path(const struct wfe_digest *digest)
{
    struct wfe_store_path path;
    snprintf(path.text, sizeof path.text, WFE_STORE_META "/%s.json", wfe_digest_hex(digest));
    return path;
}

static int lock_file(int fd)
{
    while (flock(fd, LOCK_EX) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* One try at a new name. 1: gc took the file for a leftover between open and lock. */
static int try_stage(struct wfe_stage *stage)
{
    uint64_t number;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number)
        return -EIO;
    snprintf(stage->name, sizeof stage->name,
        WFE_STORE_TMP "/" WFE_STORE_STAGE_PREFIX "%016" PRIx64, number);
    stage->fd = openat(stage->root, stage->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (stage->fd < 0)
        return errno == EEXIST ? 1 : -errno;
    int r = lock_file(stage->fd);
    if (r < 0)
        return r;
    struct stat st;
    if (fstat(stage->fd, &st) < 0)
        return -errno;
    return st.st_nlink == 0 ? 1 : 0;
}

int wfe_stage_open(struct wfe_store *store, struct wfe_stage *stage, struct wfe_error *err)
{
    for (;;) {
        *stage = (struct wfe_stage){.root = store->root, .fd = -1};
        int r = try_stage(stage);
        if (r == 0)
            return 0;
        if (stage->fd < 0)
            stage->name[0] = '\0';
        wfe_stage_done(stage);
        if (r < 0)
            return wfe_error_system(err, -r, "%s/" WFE_STORE_TMP, store->path);
    }
}

int wfe_stage_sync(struct wfe_stage *stage, struct wfe_error *err)
{
    if (fsync(stage->fd) < 0)
        return wfe_error_system(err, errno, "fsync %s", stage->name);
    return 0;
}

int wfe_stage_rename(struct wfe_stage *stage, const char *to, struct wfe_error *err)
{
    if (renameat(stage->root, stage->name, stage->root, to) < 0)
        return wfe_error_system(err, errno, "rename %s to %s", stage->name, to);
    stage->name[0] = '\0';
    return 0;
}

void wfe_stage_done(struct wfe_stage *stage)
{
    if (stage->name[0])
        unlinkat(stage->root, stage->name, 0);
    wfe_cleanup_close(&stage->fd);
    *stage = (struct wfe_stage)WFE_STAGE_INIT;
}

int wfe_store_sync_directory(struct wfe_store *store, const char *name, struct wfe_error *err)
{
    WFE_CLOSE int fd = openat(store->root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return wfe_error_system(err, errno, "%s/%s", store->path, name);
    return 0;
}

int wfe_store_replace(struct wfe_store *store, const char *directory, const char *name,
    const void *data, size_t length, struct wfe_error *err)
{
    WFE_STAGE struct wfe_stage stage = WFE_STAGE_INIT;
    int r = wfe_stage_open(store, &stage, err);
    if (r < 0)
        return r;
    r = wfe_write_all(stage.fd, data, length);
    if (r < 0)
        return wfe_error_system(err, -r, "%s/%s", store->path, stage.name);
    r = wfe_stage_sync(&stage, err);
    if (r < 0)
        return r;
    char to[128];
    snprintf(to, sizeof to, "%s/%s", directory, name);
    r = wfe_stage_rename(&stage, to, err);
    if (r < 0)
        return r;
    return wfe_store_sync_directory(store, directory, err);
}

/* O_NONBLOCK: a FIFO in a file's place must not hang us. */
static int open_regular(struct wfe_store *store, const char *name, struct stat *ret_status)
{
    WFE_CLOSE int fd =
        openat(store->root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ELOOP || errno == ENOTDIR || errno == ENXIO ? -ENOENT : -errno;
    if (fstat(fd, ret_status) < 0)
        return -errno;
    if (!S_ISREG(ret_status->st_mode))
        return -ENOENT;
    return wfe_steal_fd(&fd);
}

int wfe_store_read(
    struct wfe_store *store, const char *name, size_t max_bytes, char **ret, size_t *ret_length)
{
    struct stat st = {.st_size = 0};
    WFE_CLOSE int fd = open_regular(store, name, &st);
    if (fd < 0)
        return fd;
    if ((uint64_t)st.st_size > max_bytes)
        return -EFBIG;
    WFE_FREE char *data = malloc((size_t)st.st_size + 1);
    if (!data)
        return -ENOMEM;
    ssize_t length = wfe_read_full(fd, data, (size_t)st.st_size);
    if (length < 0)
        return (int)length;
    data[length] = '\0';
    *ret = wfe_steal(&data);
    *ret_length = (size_t)length;
    return 0;
}

int wfe_store_open_blob(
    struct wfe_store *store, const struct wfe_digest *digest, struct stat *ret_status)
{
    struct wfe_store_path path = wfe_store_blob_path(digest);
    return open_regular(store, path.text, ret_status);
}

int wfe_store_unlink(struct wfe_store *store, const char *name, struct wfe_error *err)
{
    if (unlinkat(store->root, name, 0) < 0 && errno != ENOENT)
        return wfe_error_system(err, errno, "unlink %s/%s", store->path, name);
    return 0;
}

int wfe_store_lock(struct wfe_store *store, int *ret_fd, struct wfe_error *err)
{
    WFE_CLOSE int fd =
        openat(store->root, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return wfe_error_system(err, errno, "%s/" LOCK_NAME, store->path);
    int r = lock_file(fd);
    if (r < 0)
        return wfe_error_system(err, -r, "lock %s/" LOCK_NAME, store->path);
    *ret_fd = wfe_steal_fd(&fd);
    return 0;
}

int wfe_store_parse_file_name(const char *name, const char *suffix, struct wfe_digest *ret)
{
    size_t length = strlen(name);
    if (length != WFE_DIGEST_HEX_LENGTH + strlen(suffix) ||
        strcmp(name + WFE_DIGEST_HEX_LENGTH, suffix) != 0)
        return -EINVAL;
    char text[sizeof ret->text];
    snprintf(text, sizeof text, "sha256:%.*s", WFE_DIGEST_HEX_LENGTH, name);
    return wfe_digest_parse(text, ret);
}
