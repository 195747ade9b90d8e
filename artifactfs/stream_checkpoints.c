/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_checkpoints.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

/* Faster levels leave more of them in memory, slower ones take longer than decoding. */
enum { PACK_LEVEL = 1 };

int wfe_checkpoints_init(struct wfe_checkpoints *checkpoints, uint64_t spacing_bytes)
{
    enum { FIRST_ALLOCATION = 16 };
    struct wfe_packed_checkpoint *items = calloc(FIRST_ALLOCATION, sizeof *items);
    if (!items)
        return -ENOMEM;
    *checkpoints = (struct wfe_checkpoints){
        .items = items,
        .count = 1,
        .allocated = FIRST_ALLOCATION,
        .spacing_bytes = spacing_bytes,
    };
    return 0;
}

void wfe_checkpoints_done(struct wfe_checkpoints *checkpoints)
{
    for (size_t i = 0; i < checkpoints->count; i++)
        free(checkpoints->items[i].packed);
    free(checkpoints->items);
    *checkpoints = (struct wfe_checkpoints){0};
}

int wfe_checkpoint_pack(const struct wfe_checkpoint *checkpoint, struct wfe_packed_checkpoint *ret)
{
    struct wfe_packed_checkpoint packed = {.place = *checkpoint};
    packed.place.window = NULL;
    if (checkpoint->window_bytes > 0) {
        unsigned char buffer[WFE_CHECKPOINT_PACKED_BYTES];
        size_t n = ZSTD_compress(
            buffer, sizeof buffer, checkpoint->window, checkpoint->window_bytes, PACK_LEVEL);
        if (ZSTD_isError(n))
            return -ENOMEM;
        packed.packed = malloc(n);
        if (!packed.packed)
            return -ENOMEM;
        memcpy(packed.packed, buffer, n);
        packed.packed_bytes = n;
    }
    *ret = packed;
    return 0;
}

/* Drop every other one, so that there is room for a half more. */
static void thin(struct wfe_checkpoints *checkpoints)
{
    size_t kept = 0;
    for (size_t i = 0; i < checkpoints->count; i++) {
        if (i % 2 == 0)
            checkpoints->items[kept++] = checkpoints->items[i];
        else
            free(checkpoints->items[i].packed);
    }
    checkpoints->count = kept;
    checkpoints->spacing_bytes *= 2;
}

int wfe_checkpoints_add(
    struct wfe_checkpoints *checkpoints, const struct wfe_packed_checkpoint *packed)
{
    assert(packed->place.out >= checkpoints->items[checkpoints->count - 1].place.out);
    if (checkpoints->count == WFE_STREAM_MAX_CHECKPOINTS)
        thin(checkpoints);
    if (checkpoints->count == checkpoints->allocated) {
        size_t wanted = checkpoints->allocated * 2;
        struct wfe_packed_checkpoint *items =
            reallocarray(checkpoints->items, wanted, sizeof *items);
        if (!items) {
            free(packed->packed);
            return -ENOMEM;
        }
        checkpoints->items = items;
        checkpoints->allocated = wanted;
    }
    checkpoints->items[checkpoints->count++] = *packed;
    return 0;
}

uint64_t wfe_checkpoints_next(const struct wfe_checkpoints *checkpoints)
{
    return checkpoints->items[checkpoints->count - 1].place.out + checkpoints->spacing_bytes;
}

const struct wfe_packed_checkpoint *wfe_checkpoints_find(
    const struct wfe_checkpoints *checkpoints, uint64_t out)
{
    size_t low = 0;
    size_t high = checkpoints->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (checkpoints->items[middle].place.out <= out)
            low = middle;
        else
            high = middle;
    }
    return &checkpoints->items[low];
}

int wfe_checkpoint_unpack(const struct wfe_packed_checkpoint *packed, unsigned char *window,
    struct wfe_checkpoint *ret, struct wfe_error *err)
{
    if (packed->packed_bytes > 0) {
        size_t n = ZSTD_decompress(
            window, WFE_CHECKPOINT_WINDOW_BYTES, packed->packed, packed->packed_bytes);
        if (n != packed->place.window_bytes)
            return wfe_error_set(
                err, WFE_ERROR_INTEGRITY, EINVAL, "the window of a checkpoint is corrupt");
    }
    *ret = packed->place;
    ret->window = window;
    return 0;
}
