/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_ARTIFACT_PARTS_H
#define WFE_ARTIFACTFS_ARTIFACT_PARTS_H

/* Within the artifact module: the handle, and the thread that hashes. */

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "artifactfs/artifact.h"
#include "artifactfs/scan.h"
#include "artifactfs/stream.h"
#include "libcommon/cancel.h"

struct wfe_artifact {
    int fd; /* the file or directory */
    char *file_name;
    struct stat status;
    uint64_t offset_bytes;
    uint64_t size_bytes;
    struct wfe_stream *stream; /* NULL for a directory */
    struct wfe_scan *scan;     /* while it runs */
    struct wfe_index *index;
    int spool_fd; /* what WFE_INDEX_IN_SPOOL refers to, or -1 */

    struct wfe_index_cache *cache;
    struct wfe_digest key;
    unsigned quiet_ms;
    struct timespec quiet_until; /* CLOCK_MONOTONIC */
    struct wfe_cancel *cancel;
    void (*log)(void *context, const char *message);
    void *log_context;

    pthread_t scan_thread, hash_thread;
    bool has_scan_thread, has_hash_thread;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool scanning;
    bool passing; /* with an index from the cache, over what has to be spooled */
    bool hashing;
    bool expects_digest; /* `digest` is what the bytes should have */
    bool knows_digest;   /* `digest` is what was expected or found */
    struct wfe_digest digest;
    char fault[512]; /* why it is broken, "" when it is not */

    atomic_bool refused; /* its digest is another: nothing is read from now on */
    _Atomic(const char *) media_type;
};

void wfe_artifact_log(struct wfe_artifact *artifact, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Why it is broken, unless there is a reason already. */
void wfe_artifact_blame(struct wfe_artifact *artifact, const char *reason);

/* Start the thread that hashes (`hashing` is set), when that is due. is_cached: the index was
 * kept, so the bytes had their digest once. Errors: WFE_ERROR_SYSTEM. */
int wfe_artifact_start_hash(struct wfe_artifact *artifact, bool is_cached, struct wfe_error *err);

/* pthread_create() of a thread that takes no signals. Returns 0 or -errno. */
int wfe_artifact_start_thread(pthread_t *ret, void *(*run)(void *), void *context);

#endif
