/* SPDX-License-Identifier: MIT */
#include "executor/image/pull_layers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "executor/daemon/content.h"
#include "libcommon/cleanup.h"

/* The first layer is what unpacking waits for, so it has the line to itself for a moment; where
 * that is enough for a layer, two at once would only be in each other's way. */
#define HEAD_START_MS 250

struct job {
    const struct wfe_pull_layers *layers;
    struct wfe_session session; /* the caller's, but for its token */
    struct wfe_cancel *cancel;  /* the caller's request to stop, or ours */
    _Atomic uint64_t bytes;
    bool told;            /* that unpacking is all that remains */
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    unsigned started; /* threads, each of which begins HEAD_START_MS after the one before */
    size_t next;      /* layer to be fetched */
    bool fetched[WFE_IMAGE_MAX_LAYERS];
    size_t missing_count; /* layers that are not fetched yet, each counted once */
    int r;                /* of the first fetch that failed */
    struct wfe_error err;
};

/* Where the layer at an index occurs first: an image may have one several times. */
static size_t first_of(const struct wfe_image_manifest *manifest, size_t index)
{
    size_t first = 0;
    while (!wfe_digest_equal(&manifest->layers[first].digest, &manifest->layers[index].digest))
        first++;
    return first;
}

/* Bytes on their way into the content store. */
struct counted_sink {
    struct job *job;
    struct wfe_sink to;
};

static int write_counted(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct counted_sink *sink = context;
    uint64_t bytes = atomic_fetch_add(&sink->job->bytes, length) + length;
    wfe_progress_bytes(sink->job->layers->progress, bytes);
    return sink->to.write(sink->to.context, data, length, err);
}

static bool is_foreign(const struct wfe_descriptor *layer)
{
    return strstr(layer->media_type, ".foreign.") ||
           strstr(layer->media_type, ".nondistributable.");
}

static int fetch_blob(struct job *job, const struct wfe_descriptor *layer,
    struct wfe_content_writer *writer, struct wfe_error *err)
{
    struct counted_sink counted = {.job = job, .to = wfe_content_writer_sink(writer)};
    struct wfe_sink sink = {.write = write_counted, .context = &counted};
    int r = wfe_registry_blob(job->layers->registry, layer, sink, job->cancel, err);
    if (r == -ENOENT && is_foreign(layer))
        wfe_error_prefix(err,
            "a foreign layer, which the image's publisher lets nobody else hand out; bring the "
            "image in from where it is whole, with `pull oci:…`");
    return r;
}

static int fetch_layer(struct job *job, size_t index, struct wfe_error *err)
{
    const struct wfe_pull_layers *layers = job->layers;
    const struct wfe_descriptor *layer = &layers->manifest->layers[index];
    WFE_CONTENT_WRITER struct wfe_content_writer *writer = NULL;
    bool known;
    int r = wfe_content_writer_open(&job->session, &layer->digest, &writer, &known, err);
    if (r == 0 && !known)
        r = fetch_blob(job, layer, writer, err);
    if (r < 0)
        return r;
    char source_key[sizeof layers->reference->host + 64];
    snprintf(source_key, sizeof source_key, "containerd.io/distribution.source.%s",
        layers->reference->host);
    const struct wfe_label labels[] = {
        {"containerd.io/uncompressed", layers->config->diff_ids[index].text},
        {source_key, layers->reference->repository},
    };
    /* A blob that was known may have come from elsewhere. */
    return wfe_content_writer_commit(
        writer, &layer->digest, layer->size_bytes, labels, known ? 1 : 2, err);
}

/* The index of the next layer that is to be fetched, or -1 when there is none. */
static ssize_t next_layer(struct job *job)
{
    const struct wfe_image_manifest *manifest = job->layers->manifest;
    ssize_t index = -1;
    pthread_mutex_lock(&job->lock);
    while (job->r == 0 && index < 0 && job->next < manifest->layer_count) {
        if (first_of(manifest, job->next) == job->next)
            index = (ssize_t)job->next;
        job->next++;
    }
    pthread_mutex_unlock(&job->lock);
    return index;
}

/* The first failure stops all. */
static void note_end(struct job *job, size_t index, int r, const struct wfe_error *err)
{
    pthread_mutex_lock(&job->lock);
    if (r == 0) {
        job->fetched[index] = true;
        job->missing_count--;
    }
    bool first_failure = r < 0 && job->r == 0;
    if (first_failure) {
        job->r = r;
        job->err = *err;
    }
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    if (first_failure)
        wfe_cancel_trigger(job->cancel);
}

/* Until it is this thread's turn to begin, or nothing is left to do. */
static void await_turn(struct job *job)
{
    struct timespec turn;
    clock_gettime(CLOCK_MONOTONIC, &turn);
    pthread_mutex_lock(&job->lock);
    int64_t ns = turn.tv_nsec + (int64_t)job->started++ * HEAD_START_MS * 1000000;
    turn.tv_sec += ns / 1000000000;
    turn.tv_nsec = ns % 1000000000;
    int r = 0;
    while (r == 0 && job->r == 0 && job->next < job->layers->manifest->layer_count)
        r = pthread_cond_timedwait(&job->changed, &job->lock, &turn);
    pthread_mutex_unlock(&job->lock);
}

static void *fetch_layers(void *context)
{
    struct job *job = context;
    await_turn(job);
    ssize_t index;
    while ((index = next_layer(job)) >= 0) {
        struct wfe_error err = WFE_ERROR_INIT;
        int r = fetch_layer(job, (size_t)index, &err);
        note_end(job, (size_t)index, r, &err);
    }
    return NULL;
}

static int await_fetched(struct job *job, size_t index, bool *ret_all, struct wfe_error *err)
{
    size_t first = first_of(job->layers->manifest, index);
    pthread_mutex_lock(&job->lock);
    while (job->r == 0 && !job->fetched[first])
        pthread_cond_wait(&job->changed, &job->lock);
    int r = job->fetched[first] ? 0 : job->r;
    if (r < 0 && err)
        *err = job->err;
    *ret_all = job->missing_count == 0;
    pthread_mutex_unlock(&job->lock);
    return r;
}

/* What remains is another stage to who looks on. */
static int await_layer(void *context, size_t index, struct wfe_error *err)
{
    struct job *job = context;
    bool all;
    int r = await_fetched(job, index, &all, err);
    if (r == 0 && all && !job->told) {
        wfe_progress_stage(job->layers->progress, "unpacking %s", job->layers->name);
        job->told = true;
    }
    return r;
}

static int await_all(struct job *job, struct wfe_error *err)
{
    int r = 0;
    bool all;
    for (size_t i = 0; r == 0 && i < job->layers->manifest->layer_count; i++)
        r = await_fetched(job, i, &all, err);
    return r;
}

static int unpack_while_fetching(struct job *job, struct wfe_error *err)
{
    struct wfe_digest chain_id;
    int r = wfe_image_unpack(&job->session, job->layers->manifest, job->layers->config, await_layer,
        job, &chain_id, err);
    return r < 0 ? r : await_all(job, err);
}

static int run_job(struct job *job, struct wfe_error *err)
{
    pthread_t threads[WFE_PULL_MAX_DOWNLOADS];
    unsigned wanted = job->layers->max_downloads, count = 0;
    assert(wanted > 0 && wanted <= WFE_PULL_MAX_DOWNLOADS);
    if (wanted > job->layers->manifest->layer_count)
        wanted = (unsigned)job->layers->manifest->layer_count;
    int failure = 0;
    while (count < wanted && failure == 0) {
        failure = pthread_create(&threads[count], NULL, fetch_layers, job);
        count += failure == 0;
    }
    struct wfe_error unpack_err = WFE_ERROR_INIT;
    int r = count > 0 ? unpack_while_fetching(job, &unpack_err)
                      : wfe_error_system(&unpack_err, failure, "start a thread");
    if (r < 0)
        wfe_cancel_trigger(job->cancel);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    /* Unpacking that a failed fetch has stopped is not what went wrong. */
    bool stopped_by_fetch = r == -ECANCELED && job->r < 0;
    if (r < 0 && err)
        *err = stopped_by_fetch ? job->err : unpack_err;
    return stopped_by_fetch ? job->r : r;
}

static void pass_on(void *context)
{
    wfe_cancel_trigger(context);
}

int wfe_pull_layers(const struct wfe_pull_layers *layers, struct wfe_error *err)
{
    assert(layers->manifest->layer_count <= WFE_IMAGE_MAX_LAYERS);
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        return wfe_error_nomem(err);
    int r = wfe_cancel_new(&job->cancel);
    if (r < 0) {
        free(job);
        return wfe_error_system(err, -r, "cancel token");
    }
    job->layers = layers;
    job->session = *layers->session;
    job->session.cancel = job->cancel;
    for (size_t i = 0; i < layers->manifest->layer_count; i++)
        job->missing_count += first_of(layers->manifest, i) == i;
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    struct wfe_cancel_entry entry = {.callback = pass_on, .context = job->cancel};
    wfe_cancel_add(layers->session->cancel, &entry);
    r = run_job(job, err);
    wfe_cancel_remove(layers->session->cancel, &entry);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
    wfe_cancel_free(job->cancel);
    free(job);
    return r;
}
