/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_INDEX_DECODER_H
#define WFE_ARTIFACTFS_INDEX_DECODER_H

/*
 * What the parts of wfe_index_decode() share. Each function that returns a bool returns false when
 * the decoding is over, for a reason that the decoder holds.
 */

#include "artifactfs/index_form.h"

struct wfe_index_decoder {
    struct wfe_column_reader *reader;
    struct wfe_index *index;
    const char *wrong; /* what does not hold; NULL: nothing so far. Static */
    bool no_memory;
    uint64_t stream_length;
    uint64_t frame_bytes; /* in the file; known at its end */
};

static inline bool wfe_index_decoder_is_good(const struct wfe_index_decoder *decoder)
{
    return !decoder->wrong && !decoder->no_memory && decoder->reader->state == WFE_COLUMN_GOOD;
}

/* Returns false. */
bool wfe_index_decoder_refuse(struct wfe_index_decoder *decoder, const char *wrong);
bool wfe_index_decoder_end_column(struct wfe_index_decoder *decoder);

static inline uint64_t wfe_index_decoder_difference(
    struct wfe_index_decoder *decoder, uint64_t expected)
{
    return expected + wfe_column_unfold(wfe_column_get(decoder->reader));
}

static inline uint32_t wfe_index_decoder_32(struct wfe_index_decoder *decoder, uint64_t number)
{
    if (number > UINT32_MAX)
        wfe_index_decoder_refuse(decoder, "a number has more than 32 bits");
    return (uint32_t)number;
}

static inline uint32_t wfe_index_decoder_reference(
    struct wfe_index_decoder *decoder, struct wfe_index_form_reference *column)
{
    return wfe_index_decoder_32(
        decoder, wfe_index_form_unfold_reference(column, wfe_column_get(decoder->reader)));
}

/* A number of at most max, else 0. */
static inline uint32_t wfe_index_decoder_count(struct wfe_index_decoder *decoder, uint64_t max)
{
    uint64_t count = wfe_column_get(decoder->reader);
    if (count > max) {
        wfe_index_decoder_refuse(decoder, "a table is larger than its limit");
        return 0;
    }
    return (uint32_t)count;
}

/* items is the address of the table, of which count or used are taken. */
bool wfe_index_decoder_grow(struct wfe_index_decoder *decoder, void *items, uint32_t *allocated,
    uint32_t count, size_t item_bytes);
/* Room for a table that should have count items, at once: to grow into it page by page takes
 * several times as long as all the rest. A count that is not true takes no more than address
 * space, and of that 256 MiB: a larger table grows from there. */
bool wfe_index_decoder_reserve(struct wfe_index_decoder *decoder, void *items, uint32_t *allocated,
    uint32_t used, uint64_t count, size_t item_bytes);

/* The parts of the content. */
bool wfe_index_decoder_nodes(struct wfe_index_decoder *decoder);
bool wfe_index_decoder_inodes(struct wfe_index_decoder *decoder);
bool wfe_index_decoder_extents(struct wfe_index_decoder *decoder);

#endif
