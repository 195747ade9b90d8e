/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_checkpoints.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "libcommon/cleanup.h"

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
        .windows_fd = -1,
    };
    return 0;
}

void wfe_checkpoints_done(struct wfe_checkpoints *checkpoints)
{
    for (size_t i = 0; i < checkpoints->count; i++)
        free(checkpoints->items[i].packed);
    free(checkpoints->items);
    wfe_cleanup_close(&checkpoints->windows_fd);
    *checkpoints = (struct wfe_checkpoints){.windows_fd = -1};
}

/* With a checksum, since a window may lie in a file that somebody altered. */
static int pack_window(
    const struct wfe_checkpoint *checkpoint, unsigned char *to, size_t size, size_t *ret)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    if (!zstd)
        return -ENOMEM;
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, PACK_LEVEL);
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
    *ret = ZSTD_compress2(zstd, to, size, checkpoint->window, checkpoint->window_bytes);
    ZSTD_freeCCtx(zstd);
    return ZSTD_isError(*ret) ? -ENOMEM : 0;
}

int wfe_checkpoint_pack(const struct wfe_checkpoint *checkpoint, struct wfe_packed_checkpoint *ret)
{
    struct wfe_packed_checkpoint packed = {.place = *checkpoint};
    packed.place.window = NULL;
    if (checkpoint->window_bytes > 0) {
        unsigned char buffer[WFE_CHECKPOINT_PACKED_BYTES];
        size_t n;
        if (pack_window(checkpoint, buffer, sizeof buffer, &n) < 0)
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

static size_t find(const struct wfe_checkpoints *checkpoints, uint64_t out)
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
    return low;
}

const struct wfe_packed_checkpoint *wfe_checkpoints_find(
    const struct wfe_checkpoints *checkpoints, uint64_t out)
{
    return &checkpoints->items[find(checkpoints, out)];
}

void wfe_checkpoints_remove(struct wfe_checkpoints *checkpoints, uint64_t out)
{
    size_t at = find(checkpoints, out);
    struct wfe_packed_checkpoint *item = &checkpoints->items[at];
    if (at == 0 || item->place.out != out)
        return;
    free(item->packed);
    memmove(item, item + 1, (--checkpoints->count - at) * sizeof *item);
}

static int corrupt(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_INTEGRITY, EINVAL, "the window of a checkpoint is corrupt");
}

int wfe_checkpoint_fetch(struct wfe_packed_checkpoint *packed, int windows_fd, unsigned char *bytes,
    struct wfe_error *err)
{
    const struct wfe_source file = {.fd = windows_fd, .length_bytes = INT64_MAX};
    ssize_t n = wfe_source_read(&file, bytes, packed->packed_bytes, packed->packed_at, err);
    if (n < 0)
        return (int)n;
    if ((size_t)n < packed->packed_bytes)
        return corrupt(err);
    packed->packed = bytes;
    return 0;
}

int wfe_checkpoint_unpack(const struct wfe_packed_checkpoint *packed, unsigned char *window,
    struct wfe_checkpoint *ret, struct wfe_error *err)
{
    if (packed->packed_bytes > 0) {
        size_t n = ZSTD_decompress(
            window, WFE_CHECKPOINT_WINDOW_BYTES, packed->packed, packed->packed_bytes);
        if (n != packed->place.window_bytes)
            return corrupt(err);
    }
    *ret = packed->place;
    ret->window = window;
    return 0;
}
