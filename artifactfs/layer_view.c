/* SPDX-License-Identifier: MIT */
#include "artifactfs/layer_view.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "artifactfs/artifact_source.h"
#include "artifactfs/layer_spool.h"
#include "artifactfs/layer_window.h"
#include "libcommon/cleanup.h"

enum { FILES_PER_ARTIFACT = 2, WAIT_MS = 50 };

/* What was made of an artifact. */
struct layer {
    struct wfe_artifact *artifact;
    struct wfe_layer_window *window; /* or NULL: it is in fd */
    int fd;
    uint64_t size_bytes;
    unsigned uses; /* contents that have it; under the view's lock */
};

struct view {
    struct wfe_layer_views *views;
    size_t artifact; /* its number */
    bool is_gzip;
    char *name;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    bool is_making;
    bool is_refused;
    struct layer *layer; /* NULL: not made, or forgotten */
};

struct wfe_layer_views {
    struct wfe_volume *volume;
    uint64_t max_spool_bytes;
    void (*log)(void *context, const char *name, const char *message);
    void *log_context;
    struct view *views;
    size_t count;
};

struct content {
    struct wfe_virtual_content head;
    struct view *view;
    struct layer *layer;
};

static void layer_free(struct layer *layer)
{
    if (!layer)
        return;
    wfe_layer_window_free(layer->window);
    wfe_cleanup_close(&layer->fd);
    free(layer);
}

static void cleanup_layer(struct layer **layer)
{
    layer_free(*layer);
}

static int spool(const struct view *view, struct layer *layer, struct wfe_layer_source *source,
    const struct wfe_layer_options *options, const struct wfe_index_patience *patience,
    struct wfe_error *err)
{
    WFE_LAYER_SPOOL struct wfe_layer_spool file = WFE_LAYER_SPOOL_INIT;
    file.patience = patience;
    int r = wfe_layer_spool_open(
        &file, wfe_artifact_spool_directory(layer->artifact), view->views->max_spool_bytes, err);
    struct wfe_layer_result result = {.size_bytes = 0};
    if (r == 0)
        r = wfe_layer_write_source(source, options, wfe_layer_spool_sink(&file), &result, err);
    if (r < 0)
        return r;
    layer->size_bytes = result.size_bytes;
    layer->fd = wfe_steal_fd(&file.fd);
    return 0;
}

/* Make what layer is to hold; its artifact is set, and scanned. */
static int fill(const struct view *view, struct layer *layer,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    const struct wfe_layer_views *views = view->views;
    const struct wfe_layer_options options = {
        .prefix = wfe_volume_prefix(views->volume, view->artifact),
        .compression = view->is_gzip ? WFE_LAYER_GZIP : WFE_LAYER_NONE,
        .is_cancelled = patience ? patience->is_over : NULL,
        .cancel_context = patience ? patience->context : NULL,
    };
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    bool is_seekable;
    int r = wfe_artifact_source_new(
        layer->artifact, views->max_spool_bytes, &is_seekable, &source, err);
    if (r < 0)
        return r;
    if (view->is_gzip || !is_seekable)
        return spool(view, layer, source, &options, patience, err);
    r = wfe_layer_window_new(layer->artifact, options.prefix, patience, &layer->window, err);
    if (r == 0)
        layer->size_bytes = wfe_layer_window_size(layer->window);
    return r;
}

/* Whether the same will be found wrong each time. */
static bool is_lasting(enum wfe_error_kind kind)
{
    return kind == WFE_ERROR_ARCHIVE || kind == WFE_ERROR_LIMIT || kind == WFE_ERROR_INPUT ||
           kind == WFE_ERROR_INTEGRITY;
}

static void report(const struct view *view, const struct wfe_error *failure)
{
    const struct wfe_layer_views *views = view->views;
    if (!views->log)
        return;
    char message[sizeof failure->message + 64];
    snprintf(message, sizeof message, "no layer can be made of it: %s", failure->message);
    views->log(views->log_context, wfe_volume_name(views->volume, view->artifact), message);
}

/* Without the lock. *ret_is_lasting is set on failure alone. Returns 0 or the errno of a look-up.
 */
static int make(const struct view *view, const struct wfe_index_patience *patience,
    struct layer **ret, bool *ret_is_lasting)
{
    WFE_CLEANUP(cleanup_layer) struct layer *layer = calloc(1, sizeof *layer);
    if (!layer)
        return -ENOMEM;
    layer->fd = -1;
    int r = wfe_volume_artifact(view->views->volume, view->artifact, &layer->artifact);
    if (r == 0)
        r = wfe_index_wait(wfe_artifact_index(layer->artifact), patience);
    if (r < 0)
        return r;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = fill(view, layer, patience, &failure);
    if (r == 0) {
        *ret = wfe_steal(&layer);
        return 0;
    }
    if (failure.kind == WFE_ERROR_CANCELLED)
        return -EINTR;
    report(view, &failure);
    *ret_is_lasting = is_lasting(failure.kind);
    return r == -ENOMEM || r == -ENOSPC ? r : -EIO;
}

/* With the lock: wait until nobody makes the layer. Returns 0 or -EINTR. */
static int wait_for_turn(struct view *view, const struct wfe_index_patience *patience)
{
    while (view->is_making) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&view->changed, &view->lock, &until);
        if (view->is_making && patience && patience->is_over &&
            patience->is_over(patience->context))
            return -EINTR;
    }
    return 0;
}

/* With the lock, which is given up while the layer is made: let view->layer be one. */
static int require_layer(struct view *view, const struct wfe_index_patience *patience)
{
    int r = wait_for_turn(view, patience);
    if (r < 0 || view->layer)
        return r;
    if (view->is_refused)
        return -EIO;
    view->is_making = true;
    pthread_mutex_unlock(&view->lock);
    struct layer *layer = NULL;
    bool is_lasting_failure = false;
    r = make(view, patience, &layer, &is_lasting_failure);
    pthread_mutex_lock(&view->lock);
    view->is_making = false;
    view->is_refused = is_lasting_failure;
    view->layer = layer;
    pthread_cond_broadcast(&view->changed);
    return r;
}

static int read_fd(int fd, char *buffer, size_t length, uint64_t offset)
{
    while (length > 0) {
        ssize_t n = pread(fd, buffer, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        buffer += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

static int read_content(struct wfe_virtual_content *base, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience)
{
    const struct layer *layer = ((const struct content *)base)->layer;
    /* Its digest may have been found wrong since. */
    if (wfe_artifact_state(layer->artifact, NULL, 0) == WFE_ARTIFACT_BROKEN)
        return -EIO;
    if (!layer->window)
        return read_fd(layer->fd, buffer, length, offset);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_layer_window_read(layer->window, buffer, length, offset, patience, &failure);
    return r == 0 || r == -EINTR || r == -ENOMEM ? r : -EIO;
}

static bool equals(const struct wfe_virtual_content *base, const struct wfe_virtual_content *other)
{
    return ((const struct content *)base)->layer == ((const struct content *)other)->layer;
}

static void free_content(struct wfe_virtual_content *base)
{
    struct content *content = (struct content *)base;
    struct view *view = content->view;
    struct layer *unused = NULL;
    pthread_mutex_lock(&view->lock);
    if (--content->layer->uses == 0) {
        unused = content->layer;
        view->layer = NULL;
    }
    pthread_mutex_unlock(&view->lock);
    layer_free(unused);
    free(content);
}

static int open_view(
    void *context, const struct wfe_index_patience *patience, struct wfe_virtual_content **ret)
{
    struct view *view = context;
    struct content *content = malloc(sizeof *content);
    if (!content)
        return -ENOMEM;
    pthread_mutex_lock(&view->lock);
    int r = require_layer(view, patience);
    if (r == 0) {
        view->layer->uses++;
        *content = (struct content){
            .head = {.size_bytes = view->layer->size_bytes,
                .is_final = true,
                .read = read_content,
                .equals = equals,
                .free = free_content},
            .view = view,
            .layer = view->layer,
        };
    }
    pthread_mutex_unlock(&view->lock);
    if (r < 0) {
        free(content);
        return r;
    }
    *ret = &content->head;
    return 0;
}

static int add_view(struct wfe_virtual *tree, struct wfe_layer_views *views, size_t artifact,
    bool is_gzip, struct wfe_error *err)
{
    struct view *view = &views->views[views->count];
    const char *name = wfe_volume_name(views->volume, artifact);
    const char *ending = is_gzip ? ".tar.gz" : ".tar";
    if (strlen(name) + strlen(ending) > WFE_MAX_COMPONENT_BYTES)
        return 0;
    if (asprintf(&view->name, "%s%s", name, ending) < 0)
        return wfe_error_nomem(err);
    view->views = views;
    view->artifact = artifact;
    view->is_gzip = is_gzip;
    pthread_mutex_init(&view->lock, NULL);
    pthread_cond_init(&view->changed, NULL);
    views->count++;
    const struct wfe_virtual_file file = {.name = view->name, .open = open_view, .context = view};
    return wfe_virtual_add(tree, WFE_VIRTUAL_LAYERS, &file, err);
}

int wfe_layer_views_add(struct wfe_virtual *tree, struct wfe_volume *volume,
    const struct wfe_layer_view_options *options, struct wfe_layer_views **ret,
    struct wfe_error *err)
{
    struct wfe_layer_views *views = calloc(1, sizeof *views);
    if (!views)
        return wfe_error_nomem(err);
    size_t artifacts = wfe_volume_count(volume);
    *views = (struct wfe_layer_views){
        .volume = volume,
        .max_spool_bytes =
            options->max_spool_bytes ? options->max_spool_bytes : WFE_SPOOL_MAX_BYTES,
        .log = options->log,
        .log_context = options->log_context,
        .views = calloc(artifacts ? artifacts * FILES_PER_ARTIFACT : 1, sizeof(struct view)),
    };
    /* The tree has views even when the last ones could not be added. */
    *ret = views;
    if (!views->views)
        return wfe_error_nomem(err);
    for (size_t i = 0; i < artifacts * FILES_PER_ARTIFACT; i++) {
        int r = add_view(tree, views, i / FILES_PER_ARTIFACT, i % FILES_PER_ARTIFACT != 0, err);
        if (r < 0)
            return r;
    }
    return 0;
}

void wfe_layer_views_free(struct wfe_layer_views *views)
{
    if (!views)
        return;
    for (size_t i = 0; i < views->count; i++) {
        assert(!views->views[i].layer);
        pthread_mutex_destroy(&views->views[i].lock);
        pthread_cond_destroy(&views->views[i].changed);
        free(views->views[i].name);
    }
    free(views->views);
    free(views);
}
