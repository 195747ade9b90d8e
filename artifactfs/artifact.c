/* SPDX-License-Identifier: MIT */
#include "artifactfs/artifact.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifactfs/artifact_parts.h"
#include "libcommon/cleanup.h"

/* Problems that the log tells; .wfe/volume.json has more. */
#define LOGGED_PROBLEMS 5

void wfe_artifact_log(struct wfe_artifact *artifact, const char *format, ...)
{
    if (!artifact->log)
        return;
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    artifact->log(artifact->log_context, message);
}

void wfe_artifact_blame(struct wfe_artifact *artifact, const char *reason)
{
    pthread_mutex_lock(&artifact->lock);
    bool is_first = !artifact->fault[0];
    if (is_first)
        snprintf(artifact->fault, sizeof artifact->fault, "%s", reason);
    pthread_mutex_unlock(&artifact->lock);
    if (is_first)
        wfe_artifact_log(artifact, "%s", reason);
}

int wfe_artifact_start_thread(pthread_t *ret, void *(*run)(void *), void *context)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(ret, NULL, run, context);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static void log_problems(struct wfe_artifact *artifact)
{
    const struct wfe_index *index = artifact->index;
    for (uint64_t i = 0; i < index->problem_count && i < LOGGED_PROBLEMS; i++)
        wfe_artifact_log(artifact, "%s", index->problems[i]);
    if (index->problem_count > LOGGED_PROBLEMS)
        wfe_artifact_log(
            artifact, "%" PRIu64 " problems more", index->problem_count - LOGGED_PROBLEMS);
}

static void report(struct wfe_artifact *artifact, int r, const struct wfe_error *err)
{
    const struct wfe_index *index = artifact->index;
    if (wfe_cancel_requested(artifact->cancel))
        return;
    if (index->broken)
        wfe_artifact_blame(artifact, index->broken);
    else if (r < 0)
        wfe_artifact_blame(artifact, err->message);
    log_problems(artifact);
}

/* An index is kept once its archive is known to be good. */
static void keep_index(struct wfe_artifact *artifact)
{
    pthread_mutex_lock(&artifact->lock);
    while (artifact->hashing)
        pthread_cond_wait(&artifact->changed, &artifact->lock);
    bool is_good = !artifact->fault[0];
    pthread_mutex_unlock(&artifact->lock);
    if (!is_good || !artifact->cache || !artifact->stream || wfe_cancel_requested(artifact->cancel))
        return;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_index_cache_store(artifact->cache, &artifact->key, &artifact->status,
        artifact->index, artifact->stream, &err);
    if (r < 0 && err.kind != WFE_ERROR_NONE)
        wfe_artifact_log(artifact, "its index is not kept: %s", err.message);
}

/* Until the quiet time is over, the scan goes on for those who wait for it. The first entry is
 * waited for by who mounts, in volume.json. */
static void pause_scan(void *context)
{
    struct wfe_artifact *artifact = context;
    if (artifact->quiet_ms > 0 && artifact->index && artifact->index->item_count > 0 &&
        !wfe_cancel_requested(artifact->cancel))
        wfe_index_await_want(artifact->index, &artifact->quiet_until);
}

static int end_pass(struct wfe_artifact *artifact, struct wfe_error *err)
{
    const void *data;
    size_t length = 1;
    int r = 0;
    while (r == 0 && length > 0 && !wfe_cancel_requested(artifact->cancel))
        r = wfe_stream_next(artifact->stream, &data, &length, err);
    return r;
}

static void end_scanning(struct wfe_artifact *artifact)
{
    pthread_mutex_lock(&artifact->lock);
    artifact->scanning = artifact->passing = false;
    pthread_mutex_unlock(&artifact->lock);
}

static void *run_scan(void *context)
{
    struct wfe_artifact *artifact = context;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = artifact->scan
                ? wfe_scan_run(artifact->scan, &err)
                : wfe_scan_directory(artifact->fd, artifact->index, artifact->cancel, &err);
    /* Over a plain file it has gone without reading it, and so without seeing its end. */
    if (artifact->scan && wfe_stream_filter(artifact->stream) == WFE_STREAM_PLAIN)
        (void)end_pass(artifact, NULL);
    report(artifact, r, &err);
    end_scanning(artifact);
    keep_index(artifact);
    return NULL;
}

/* For an artifact whose index was in the cache, and whose data have to be spooled: once somebody
 * wants them. */
static void *run_pass(void *context)
{
    struct wfe_artifact *artifact = context;
    struct wfe_error err = WFE_ERROR_INIT;
    const struct timespec never = {.tv_sec = INT32_MAX};
    wfe_index_await_want(artifact->index, &never);
    if (end_pass(artifact, &err) < 0)
        wfe_artifact_blame(artifact, err.message);
    end_scanning(artifact);
    return NULL;
}

static int start_scan(
    struct wfe_artifact *artifact, void *(*run)(void *context), struct wfe_error *err)
{
    artifact->scanning = run == run_scan;
    artifact->passing = run == run_pass;
    int r = wfe_artifact_start_thread(&artifact->scan_thread, run, artifact);
    if (r < 0)
        return wfe_error_system(err, -r, "pthread_create");
    artifact->has_scan_thread = true;
    return 0;
}

/* The cache's directory, unless it can't be written to. */
const char *wfe_artifact_spool_directory(const struct wfe_artifact *artifact)
{
    const char *candidates[] = {
        artifact->cache ? wfe_index_cache_directory(artifact->cache) : NULL,
        getenv("TMPDIR"),
        "/var/tmp",
    };
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (candidates[i] && access(candidates[i], W_OK | X_OK) == 0)
            return candidates[i];
    }
    return "/tmp";
}

/* A digest names an index, as long as it does not depend on the file's name. */
static void choose_key(
    struct wfe_artifact *artifact, const struct wfe_artifact_options *options, const char *name)
{
    if (!options->digest) {
        wfe_index_cache_key(
            &artifact->status, options->offset_bytes, options->length_bytes, name, &artifact->key);
    } else if (!options->file_name) {
        artifact->key = *options->digest;
    } else {
        char text[sizeof options->digest->text + 256];
        int length = snprintf(text, sizeof text, "%s/%s", options->digest->text, name);
        wfe_digest_of(text, strnlen(text, (size_t)length), &artifact->key);
    }
}

static int open_stream(struct wfe_artifact *artifact, uint64_t max_spool_bytes,
    const char *directory, struct wfe_error *err)
{
    struct wfe_stream_options options = {
        .offset_bytes = artifact->offset_bytes,
        .length_bytes = artifact->size_bytes,
        .spool_directory = directory,
        .max_spool_bytes = max_spool_bytes,
    };
    int fd = fcntl(artifact->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return wfe_error_system(err, errno, "dup");
    return wfe_stream_open(fd, &options, &artifact->stream, err);
}

/* Whether the cache has the index. */
static bool load_index(struct wfe_artifact *artifact)
{
    if (!artifact->cache)
        return false;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_index_cache_load(artifact->cache, &artifact->key, &artifact->status,
        artifact->stream, &artifact->index, &err);
    if (r < 0 && err.kind != WFE_ERROR_NONE)
        wfe_artifact_log(artifact, "the index is made again: %s", err.message);
    return r == 0;
}

/* The name of the one file, when it is no archive: a compressed one is shown without its ending. */
static void choose_name(
    const struct wfe_artifact *artifact, char name[static WFE_MAX_COMPONENT_BYTES + 1])
{
    static const char *const endings[] = {
        ".gz", ".zst", ".xz", ".bz2", ".lz4", ".lzma", ".Z", ".lz"};
    const char *given = artifact->file_name;
    size_t length = strnlen(given, WFE_MAX_COMPONENT_BYTES);
    bool is_plain = wfe_stream_filter(artifact->stream) == WFE_STREAM_PLAIN;
    for (size_t i = 0; !is_plain && i < sizeof endings / sizeof *endings; i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && memcmp(given + length - ending, endings[i], ending) == 0) {
            length -= ending;
            break;
        }
    }
    memcpy(name, given, length);
    name[length] = '\0';
}

static int open_file(struct wfe_artifact *artifact, const struct wfe_artifact_options *options,
    struct wfe_error *err)
{
    char name[WFE_MAX_COMPONENT_BYTES + 1];
    uint64_t max_spool_bytes =
        options->max_spool_bytes ? options->max_spool_bytes : WFE_SPOOL_MAX_BYTES;
    const char *directory = wfe_artifact_spool_directory(artifact);
    int r = open_stream(artifact, max_spool_bytes, directory, err);
    if (r < 0)
        return r;
    choose_name(artifact, name);
    choose_key(artifact, options, name);
    if (load_index(artifact)) {
        r = wfe_artifact_start_hash(artifact, true, err);
        bool is_passed = !wfe_stream_needs_pass(artifact->stream);
        return r < 0 || is_passed ? r : start_scan(artifact, run_pass, err);
    }
    struct wfe_scan_options scan = {
        .file_name = name,
        .file_mtime_s = artifact->status.st_mtim.tv_sec,
        .file_mtime_ns = (uint32_t)artifact->status.st_mtim.tv_nsec,
        .spool_directory = directory,
        .max_spool_bytes = max_spool_bytes,
        .cancel = artifact->cancel,
        .pause = pause_scan,
        .pause_context = artifact,
    };
    r = wfe_scan_open(artifact->stream, &scan, &artifact->scan, err);
    if (r < 0)
        return r;
    artifact->index = wfe_scan_take_index(artifact->scan);
    artifact->spool_fd = wfe_scan_take_spool(artifact->scan);
    r = wfe_artifact_start_hash(artifact, false, err);
    return r < 0 ? r : start_scan(artifact, run_scan, err);
}

static int open_directory(struct wfe_artifact *artifact, struct wfe_error *err)
{
    artifact->size_bytes = 0;
    int r = wfe_index_new(WFE_INDEX_FILES, &artifact->index, err);
    return r < 0 ? r : start_scan(artifact, run_scan, err);
}

static int open_source(struct wfe_artifact *artifact, const struct wfe_artifact_options *options,
    struct wfe_error *err)
{
    /* A FIFO must not be waited for. */
    artifact->fd = open(options->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (artifact->fd < 0 || fstat(artifact->fd, &artifact->status) < 0)
        return wfe_error_system(err, errno, "open");
    if (S_ISDIR(artifact->status.st_mode))
        return open_directory(artifact, err);
    if (!S_ISREG(artifact->status.st_mode))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "expected an archive, a directory or a file");
    uint64_t file_bytes = (uint64_t)artifact->status.st_size;
    uint64_t rest = file_bytes > options->offset_bytes ? file_bytes - options->offset_bytes : 0;
    artifact->offset_bytes = options->offset_bytes;
    artifact->size_bytes =
        options->length_bytes && options->length_bytes < rest ? options->length_bytes : rest;
    return open_file(artifact, options, err);
}

int wfe_artifact_open(
    const struct wfe_artifact_options *options, struct wfe_artifact **ret, struct wfe_error *err)
{
    assert(options->path);
    WFE_ARTIFACT struct wfe_artifact *artifact = calloc(1, sizeof *artifact);
    if (!artifact)
        return wfe_error_nomem(err);
    const char *slash = strrchr(options->path, '/');
    const char *last = slash ? slash + 1 : options->path;
    artifact->file_name = strdup(options->file_name ? options->file_name : last);
    artifact->fd = artifact->spool_fd = -1;
    pthread_mutex_init(&artifact->lock, NULL);
    pthread_cond_init(&artifact->changed, NULL);
    artifact->cache = options->cache;
    artifact->quiet_ms = options->quiet_ms;
    clock_gettime(CLOCK_MONOTONIC, &artifact->quiet_until);
    artifact->quiet_until.tv_sec += options->quiet_ms / 1000;
    artifact->quiet_until.tv_nsec += options->quiet_ms % 1000 * 1000000L;
    if (artifact->quiet_until.tv_nsec >= 1000000000L) {
        artifact->quiet_until.tv_sec++;
        artifact->quiet_until.tv_nsec -= 1000000000L;
    }
    artifact->log = options->log;
    artifact->log_context = options->log_context;
    if (options->digest) {
        artifact->expects_digest = artifact->knows_digest = true;
        artifact->digest = *options->digest;
    }
    if (!artifact->file_name || wfe_cancel_new(&artifact->cancel) < 0)
        return wfe_error_nomem(err);
    int r = open_source(artifact, options, err);
    if (r == 0)
        *ret = wfe_steal(&artifact);
    return r;
}

void wfe_artifact_free(struct wfe_artifact *artifact)
{
    if (!artifact)
        return;
    if (artifact->cancel)
        wfe_cancel_trigger(artifact->cancel);
    if (artifact->index)
        wfe_index_want(artifact->index);
    if (artifact->has_hash_thread)
        pthread_join(artifact->hash_thread, NULL);
    if (artifact->has_scan_thread)
        pthread_join(artifact->scan_thread, NULL);
    if (artifact->stream && artifact->cache && wfe_stream_has_altered_windows(artifact->stream))
        wfe_index_cache_forget(artifact->cache, &artifact->key);
    wfe_scan_free(artifact->scan);
    wfe_index_free(artifact->index);
    wfe_stream_free(artifact->stream);
    wfe_cleanup_close(&artifact->spool_fd);
    wfe_cleanup_close(&artifact->fd);
    wfe_cancel_free(artifact->cancel);
    pthread_cond_destroy(&artifact->changed);
    pthread_mutex_destroy(&artifact->lock);
    free(artifact->file_name);
    free(artifact);
}

struct wfe_index *wfe_artifact_index(struct wfe_artifact *artifact)
{
    return artifact->index;
}

enum wfe_artifact_state wfe_artifact_state(
    struct wfe_artifact *artifact, char *reason, size_t reason_size)
{
    pthread_mutex_lock(&artifact->lock);
    enum wfe_artifact_state state = artifact->fault[0] ? WFE_ARTIFACT_BROKEN
                                    : artifact->scanning || artifact->hashing
                                        ? WFE_ARTIFACT_SCANNING
                                        : WFE_ARTIFACT_GOOD;
    if (reason_size > 0)
        snprintf(reason, reason_size, "%s", artifact->fault);
    pthread_mutex_unlock(&artifact->lock);
    return state;
}

const char *wfe_artifact_file_name(const struct wfe_artifact *artifact)
{
    return artifact->file_name;
}

int wfe_artifact_reopen(const struct wfe_artifact *artifact, uint64_t *ret_offset_bytes)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", artifact->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    *ret_offset_bytes = artifact->offset_bytes;
    return fd;
}

uint64_t wfe_artifact_size(const struct wfe_artifact *artifact)
{
    return artifact->size_bytes;
}
