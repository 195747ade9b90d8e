/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "artifactfs/artifact_parts.h"
#include "libcommon/cleanup.h"

#define CHUNK_BYTES (1024 * 1024)

/* Up to here a file is hashed without being asked: it takes less than the blink of an eye. */
#define HASHED_UNASKED_BYTES (UINT64_C(64) * 1024 * 1024)

/* patience may be NULL. Returns 0, -EINTR (patience is over, or the artifact ends), -ENOMEM or
 * another -errno of reading. */
static int hash_file(struct wfe_artifact *artifact, const struct wfe_index_patience *patience,
    struct wfe_digest *ret)
{
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    WFE_FREE char *chunk = malloc(CHUNK_BYTES);
    if (!chunk || wfe_hasher_new(&hasher) < 0)
        return -ENOMEM;
    uint64_t done = 0;
    while (done < artifact->size_bytes) {
        if (wfe_cancel_requested(artifact->cancel) ||
            (patience && patience->is_over && patience->is_over(patience->context)))
            return -EINTR;
        uint64_t rest = artifact->size_bytes - done;
        ssize_t n = pread(artifact->fd, chunk, rest < CHUNK_BYTES ? (size_t)rest : CHUNK_BYTES,
            (off_t)(artifact->offset_bytes + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break; /* it was cut off since; the digest will tell */
        wfe_hasher_update(hasher, chunk, (size_t)n);
        done += (uint64_t)n;
    }
    wfe_hasher_final(hasher, ret);
    return 0;
}

static void judge(struct wfe_artifact *artifact, const struct wfe_digest *found)
{
    if (wfe_digest_equal(found, &artifact->digest))
        return;
    atomic_store(&artifact->refused, true);
    char reason[sizeof artifact->fault];
    snprintf(reason, sizeof reason, "its bytes have the digest %s, not %s", found->text,
        artifact->digest.text);
    wfe_artifact_blame(artifact, reason);
}

static void *run_hash(void *context)
{
    struct wfe_artifact *artifact = context;
    struct wfe_digest found;
    struct pollfd end = {.fd = wfe_cancel_fd(artifact->cancel), .events = POLLIN};
    (void)poll(&end, 1, (int)artifact->quiet_ms);
    int r = hash_file(artifact, NULL, &found);
    if (r == 0 && artifact->expects_digest) {
        judge(artifact, &found);
    } else if (r < 0 && r != -EINTR && artifact->expects_digest) {
        char reason[256];
        snprintf(reason, sizeof reason, "its digest can't be checked: %s", strerror(-r));
        wfe_artifact_blame(artifact, reason);
    }
    pthread_mutex_lock(&artifact->lock);
    if (r == 0 && !artifact->expects_digest) {
        artifact->digest = found;
        artifact->knows_digest = true;
    }
    artifact->hashing = false;
    pthread_cond_broadcast(&artifact->changed);
    pthread_mutex_unlock(&artifact->lock);
    return NULL;
}

int wfe_artifact_start_hash(struct wfe_artifact *artifact, bool is_cached, struct wfe_error *err)
{
    bool is_due =
        artifact->expects_digest ? !is_cached : artifact->size_bytes <= HASHED_UNASKED_BYTES;
    if (!is_due)
        return 0;
    artifact->hashing = true;
    int r = wfe_artifact_start_thread(&artifact->hash_thread, run_hash, artifact);
    if (r < 0)
        return wfe_error_system(err, -r, "pthread_create");
    artifact->has_hash_thread = true;
    return 0;
}

bool wfe_artifact_digest(struct wfe_artifact *artifact, struct wfe_digest *ret)
{
    pthread_mutex_lock(&artifact->lock);
    bool known = artifact->knows_digest;
    if (known)
        *ret = artifact->digest;
    pthread_mutex_unlock(&artifact->lock);
    return known;
}

/* Wait until nobody else hashes, and become the one who does unless the digest is known. Returns 0
 * (known), 1 (it is the caller's turn) or -EINTR. */
static int take_turn(struct wfe_artifact *artifact, const struct wfe_index_patience *patience)
{
    int r = 0;
    pthread_mutex_lock(&artifact->lock);
    while (artifact->hashing && !artifact->knows_digest && r == 0) {
        pthread_mutex_unlock(&artifact->lock);
        const struct timespec pause = {.tv_nsec = 5 * 1000 * 1000};
        nanosleep(&pause, NULL);
        if (patience && patience->is_over && patience->is_over(patience->context))
            r = -EINTR;
        pthread_mutex_lock(&artifact->lock);
    }
    if (r == 0 && !artifact->knows_digest)
        r = artifact->hashing = true;
    pthread_mutex_unlock(&artifact->lock);
    return r;
}

int wfe_artifact_find_digest(struct wfe_artifact *artifact,
    const struct wfe_index_patience *patience, struct wfe_digest *ret)
{
    if (!artifact->stream || atomic_load(&artifact->refused))
        return -ENODATA;
    int r = take_turn(artifact, patience);
    if (r == 1) {
        struct wfe_digest found;
        r = hash_file(artifact, patience, &found);
        pthread_mutex_lock(&artifact->lock);
        if (r == 0) {
            artifact->digest = found;
            artifact->knows_digest = true;
        }
        artifact->hashing = false;
        pthread_cond_broadcast(&artifact->changed);
        pthread_mutex_unlock(&artifact->lock);
    }
    if (r < 0)
        return r == -EINTR ? r : -EIO;
    return wfe_artifact_digest(artifact, ret) ? 0 : -ENODATA;
}
