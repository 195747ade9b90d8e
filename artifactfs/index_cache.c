/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_cache.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "artifactfs/index_evict.h"
#include "artifactfs/index_form.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

struct wfe_index_cache {
    char *directory;
    int directory_fd;
    uint64_t max_bytes;
    uint64_t max_age_s;
};

/* Room for a file's name, and for the longer one that it has while it is written. */
#define NAME_BYTES 160

static char *default_directory(void)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    /* XDG base directory specification: a relative path is to be ignored. */
    if (cache && cache[0] == '/')
        return wfe_path_join(cache, "wfe");
    const char *home = getenv("HOME");
    return wfe_path_join(home && home[0] ? home : "/", ".cache/wfe");
}

int wfe_index_cache_open(const struct wfe_index_cache_options *options,
    struct wfe_index_cache **ret, struct wfe_error *err)
{
    struct wfe_index_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return wfe_error_nomem(err);
    cache->directory_fd = -1;
    cache->max_bytes = options->max_bytes ? options->max_bytes : WFE_CACHE_MAX_BYTES;
    cache->max_age_s = options->max_age_s ? options->max_age_s : WFE_CACHE_MAX_AGE_S;
    cache->directory = options->directory ? strdup(options->directory) : default_directory();
    int r = cache->directory ? 0 : wfe_error_nomem(err);
    if (r == 0) {
        int made = wfe_make_directories(cache->directory, 0700);
        cache->directory_fd = open(cache->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (cache->directory_fd < 0)
            r = wfe_error_system(
                err, made < 0 ? -made : errno, "cache directory %s", cache->directory);
    }
    if (r < 0) {
        wfe_index_cache_free(cache);
        return r;
    }
    *ret = cache;
    return 0;
}

void wfe_index_cache_free(struct wfe_index_cache *cache)
{
    if (!cache)
        return;
    if (cache->directory_fd >= 0)
        close(cache->directory_fd);
    free(cache->directory);
    free(cache);
}

const char *wfe_index_cache_directory(const struct wfe_index_cache *cache)
{
    return cache->directory;
}

void wfe_index_cache_key(const struct stat *st, uint64_t offset_bytes, uint64_t length_bytes,
    const char *file_name, struct wfe_digest *ret)
{
    char text[512];
    int length = snprintf(text, sizeof text,
        "%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 ".%09ld %" PRId64 ".%09ld %" PRIu64
        " %" PRIu64 " ",
        (uint64_t)st->st_dev, (uint64_t)st->st_ino, (uint64_t)st->st_size,
        (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (int64_t)st->st_ctim.tv_sec,
        st->st_ctim.tv_nsec, offset_bytes, length_bytes);
    assert(length > 0 && (size_t)length < sizeof text);
    /* A name can be long, so its digest stands for it. */
    struct wfe_digest name;
    wfe_digest_of(file_name ? file_name : "", file_name ? strlen(file_name) : 0, &name);
    snprintf(text + length, sizeof text - (size_t)length, "%s", name.text);
    wfe_digest_of(text, strlen(text), ret);
}

static void name_of(const struct wfe_digest *key, char out[static NAME_BYTES])
{
    snprintf(
        out, NAME_BYTES, "%s.v%d" WFE_INDEX_SUFFIX, wfe_digest_hex(key), WFE_INDEX_FORMAT_VERSION);
}

int wfe_index_cache_load(struct wfe_index_cache *cache, const struct wfe_digest *key,
    const struct stat *st, struct wfe_stream *stream, struct wfe_index **ret, struct wfe_error *err)
{
    char name[NAME_BYTES];
    name_of(key, name);
    WFE_CLOSE int fd = openat(
        cache->directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT
                   ? -ENOENT
                   : wfe_error_system(err, errno, "index %s/%s", cache->directory, name);
    struct stat found;
    if (fstat(fd, &found) < 0)
        return wfe_error_system(err, errno, "index %s/%s", cache->directory, name);
    if (!S_ISREG(found.st_mode))
        return -ENOENT;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_index_decode(fd, st, stream, ret, &failure);
    if (r == 0) {
        /* Its age counts from here; a file that is somebody else's keeps its own. */
        (void)futimens(fd, NULL);
        return 0;
    }
    if (failure.kind == WFE_ERROR_INTEGRITY || failure.kind == WFE_ERROR_LIMIT) {
        unlinkat(cache->directory_fd, name, 0);
        return -ENOENT;
    }
    if (err)
        *err = failure;
    wfe_error_prefix(err, "index %s/%s", cache->directory, name);
    return r;
}

void wfe_index_cache_forget(struct wfe_index_cache *cache, const struct wfe_digest *key)
{
    char name[NAME_BYTES];
    name_of(key, name);
    unlinkat(cache->directory_fd, name, 0);
}

static bool can_be_kept(const struct wfe_index *index)
{
    return wfe_index_is_complete(index) && !index->broken && index->place == WFE_INDEX_STREAM;
}

/* Whether fd is locked, as a file that still has its name: up to then it looks abandoned, and may
 * have been evicted. */
static bool lock_temporary(int fd)
{
    struct stat st;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/* Locked for as long as it is written. Returns the descriptor or -errno. */
static int create_temporary(
    const struct wfe_index_cache *cache, const struct wfe_digest *key, char out[static NAME_BYTES])
{
    static atomic_uint counter;
    for (;;) {
        snprintf(out, NAME_BYTES, ".%s.%ld-%u" WFE_INDEX_TEMPORARY_SUFFIX, wfe_digest_hex(key),
            (long)getpid(), atomic_fetch_add(&counter, 1));
        int fd = openat(cache->directory_fd, out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd >= 0 && lock_temporary(fd))
            return fd;
        if (fd < 0 && errno != EEXIST)
            return -errno;
        if (fd >= 0)
            close(fd);
    }
}

int wfe_index_cache_store(struct wfe_index_cache *cache, const struct wfe_digest *key,
    const struct stat *st, const struct wfe_index *index, const struct wfe_stream *stream,
    struct wfe_error *err)
{
    if (!can_be_kept(index))
        return -ENOTSUP;
    char temporary[NAME_BYTES], name[NAME_BYTES];
    name_of(key, name);
    WFE_CLOSE int fd = create_temporary(cache, key, temporary);
    if (fd < 0)
        return wfe_error_system(err, -fd, "index in %s", cache->directory);
    int r = wfe_index_encode(index, stream, st, wfe_sink_to_fd(&fd), err);
    /* Without fsync: what a power cut leaves of it does not pass its checksum. */
    if (r == 0 && renameat(cache->directory_fd, temporary, cache->directory_fd, name) < 0)
        r = wfe_error_system(err, errno, "rename");
    if (r < 0) {
        unlinkat(cache->directory_fd, temporary, 0);
        wfe_error_prefix(err, "index in %s", cache->directory);
        return r;
    }
    wfe_index_evict(cache->directory_fd, cache->max_bytes, cache->max_age_s);
    return 0;
}
