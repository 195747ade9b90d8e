/* SPDX-License-Identifier: MIT */
#include "artifactfs/layer_window.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/artifact_source.h"
#include "libcommon/cleanup.h"
#include "libcommon/layer_pass.h"

/* Entries between two looks at whether patience is over. */
#define PATIENT_ENTRIES 256

/* What one read goes over the entries with. */
struct reader {
    struct wfe_layer_source *source;
    struct wfe_layer_pass pass;
    char *out;
    size_t wanted, used;
};

struct wfe_layer_window {
    struct wfe_artifact *artifact;
    struct wfe_layer_plan plan;
    /* The block of the tar at which each entry begins, and behind the last one their end. */
    uint32_t *starts;
    uint64_t size_bytes;
    _Atomic(struct reader *) idle; /* of the last read; or NULL */
};

static bool is_over(const struct wfe_index_patience *patience)
{
    return patience && patience->is_over && patience->is_over(patience->context);
}

static int interrupted(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_CANCELLED, EINTR, "interrupted");
}

/* Fails as soon as the read has what it wants, which ends the pass. */
static int take(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct reader *reader = context;
    size_t room = reader->wanted - reader->used;
    size_t n = length < room ? length : room;
    memcpy(reader->out + reader->used, data, n);
    reader->used += n;
    if (reader->used < reader->wanted)
        return 0;
    return wfe_error_set(err, WFE_ERROR_INTERNAL, ECANCELED, "the read has all that it wants");
}

static void reader_free(struct reader *reader)
{
    if (!reader)
        return;
    wfe_layer_pass_done(&reader->pass);
    reader->source->ops->free(reader->source);
    free(reader);
}

static int reader_new(
    struct wfe_layer_window *window, struct wfe_layer_source *source, struct reader **ret)
{
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return -ENOMEM;
    reader->source = source;
    wfe_layer_pass_init_part(
        &reader->pass, source, &window->plan, (struct wfe_sink){.write = take, .context = reader});
    *ret = reader;
    return 0;
}

static int open_reader(struct wfe_layer_window *window, struct reader **ret, struct wfe_error *err)
{
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    bool is_seekable;
    int r = wfe_artifact_source_new(window->artifact, 0, &is_seekable, &source, err);
    if (r < 0)
        return r;
    if (reader_new(window, source, ret) < 0)
        return wfe_error_nomem(err);
    wfe_steal(&source);
    return 0;
}

/* The whole second pass, with nothing coming out of it. */
static int measure(struct wfe_layer_window *window, struct reader *reader,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    struct wfe_layer_pass *pass = &reader->pass;
    pass->writer.drop_bytes = UINT64_MAX;
    int r = wfe_layer_pass_begin(pass, err);
    if (r == 0)
        r = reader->source->ops->rewind(reader->source, err);
    for (uint32_t i = 0; r == 0; i++) {
        if (i < window->plan.entry_count && i % PATIENT_ENTRIES == 0 && is_over(patience))
            return interrupted(err);
        if (i <= window->plan.entry_count)
            window->starts[i] = (uint32_t)(pass->writer.total_bytes / WFE_TAR_BLOCK_BYTES);
        r = wfe_layer_pass_entry(pass, i, err);
        if (r == 0)
            break;
        r = r < 0 ? r : 0;
    }
    if (r == 0)
        r = wfe_layer_pass_finish(pass, err);
    window->size_bytes = pass->writer.total_bytes;
    return r;
}

static int make_plan(struct wfe_layer_window *window, struct reader **ret, const char *prefix,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    const struct wfe_layer_options options = {
        .prefix = prefix,
        .is_cancelled = patience ? patience->is_over : NULL,
        .cancel_context = patience ? patience->context : NULL,
    };
    WFE_LAYER_SOURCE struct wfe_layer_source *source = NULL;
    bool is_seekable;
    int r = wfe_artifact_source_new(window->artifact, 0, &is_seekable, &source, err);
    if (r < 0)
        return r;
    assert(is_seekable);
    r = wfe_layer_pass_plan(source, &options, &window->plan, err);
    if (r < 0)
        return r;
    if (reader_new(window, source, ret) < 0)
        return wfe_error_nomem(err);
    wfe_steal(&source);
    return 0;
}

int wfe_layer_window_new(struct wfe_artifact *artifact, const char *prefix,
    const struct wfe_index_patience *patience, struct wfe_layer_window **ret, struct wfe_error *err)
{
    WFE_LAYER_WINDOW struct wfe_layer_window *window = calloc(1, sizeof *window);
    if (!window)
        return wfe_error_nomem(err);
    window->artifact = artifact;
    struct reader *reader = NULL;
    int r = make_plan(window, &reader, prefix, patience, err);
    atomic_store(&window->idle, reader);
    if (r < 0)
        return r;
    window->starts = reallocarray(NULL, (size_t)window->plan.entry_count + 1, sizeof(uint32_t));
    if (!window->starts)
        return wfe_error_nomem(err);
    r = measure(window, reader, patience, err);
    if (r == 0)
        *ret = wfe_steal(&window);
    return r;
}

void wfe_layer_window_free(struct wfe_layer_window *window)
{
    if (!window)
        return;
    reader_free(atomic_load(&window->idle));
    wfe_layer_plan_done(&window->plan);
    free(window->starts);
    free(window);
}

uint64_t wfe_layer_window_size(const struct wfe_layer_window *window)
{
    return window->size_bytes;
}

/* The last entry that begins at or before the block, which entry 0 does. */
static uint32_t find_entry(const struct wfe_layer_window *window, uint64_t block)
{
    uint32_t low = 0, high = window->plan.entry_count;
    while (low < high) {
        uint32_t middle = high - (high - low) / 2;
        if (window->starts[middle] <= block)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Let the pass go on from a block; what comes before offset is dropped. */
static void place_pass(struct reader *reader, uint32_t block, uint64_t offset)
{
    struct wfe_tar_writer *writer = &reader->pass.writer;
    writer->total_bytes = (uint64_t)block * WFE_TAR_BLOCK_BYTES;
    writer->drop_bytes = offset - writer->total_bytes;
}

static int go_to(struct reader *reader, uint32_t entry, struct wfe_error *err)
{
    const struct wfe_layer_source_ops *ops = reader->source->ops;
    if (ops->seek)
        return ops->seek(reader->source, entry, err);
    struct wfe_layer_entry passed;
    int r = ops->rewind(reader->source, err);
    for (uint32_t i = 0; r >= 0 && i < entry; i++)
        r = ops->next(reader->source, &passed, err);
    return r < 0 ? r : 0;
}

/* From the offset on, until the sink has what it wants and fails. */
static int replay(struct wfe_layer_window *window, struct reader *reader, uint64_t offset,
    const struct wfe_index_patience *patience, struct wfe_error *err)
{
    uint64_t block = offset / WFE_TAR_BLOCK_BYTES;
    uint32_t count = window->plan.entry_count;
    uint32_t entry = 0;
    int r = 0;
    if (block < window->starts[0]) {
        place_pass(reader, 0, offset);
        r = wfe_layer_pass_begin(&reader->pass, err);
    } else {
        entry = find_entry(window, block);
        place_pass(reader, window->starts[entry], offset);
    }
    if (r == 0)
        r = go_to(reader, entry, err);
    for (uint32_t done = 0; r == 0 && entry < count; done++) {
        if (done % PATIENT_ENTRIES == PATIENT_ENTRIES - 1 && is_over(patience))
            return interrupted(err);
        r = wfe_layer_pass_entry(&reader->pass, entry++, err);
        r = r < 0 ? r : 0;
    }
    return r < 0 ? r : wfe_layer_pass_finish(&reader->pass, err);
}

int wfe_layer_window_read(struct wfe_layer_window *window, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience, struct wfe_error *err)
{
    assert(offset <= window->size_bytes && length <= window->size_bytes - offset);
    if (length == 0)
        return 0;
    struct reader *reader = atomic_exchange(&window->idle, NULL);
    int r = reader ? 0 : open_reader(window, &reader, err);
    if (r < 0)
        return r;
    reader->out = buffer;
    reader->wanted = length;
    reader->used = 0;
    reader->source->wanted_bytes = length;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = replay(window, reader, offset, patience, &failure);
    if (reader->used == length)
        r = 0;
    else if (r == 0)
        r = wfe_error_set(&failure, WFE_ERROR_INTERNAL, EIO, "the tar is shorter than it was");
    if (r < 0 && err)
        *err = failure;
    reader_free(atomic_exchange(&window->idle, reader));
    return r;
}
