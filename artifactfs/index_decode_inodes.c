/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_decoder.h"

static bool get_owners(struct wfe_index_decoder *decoder, uint32_t count)
{
    struct wfe_index *index = decoder->index;
    uint32_t last = 0;
    if (!wfe_index_decoder_reserve(
            decoder, &index->inodes, &index->inodes_allocated, 0, count, sizeof *index->inodes))
        return false;
    index->inode_count = 0;
    for (uint32_t i = 0; i < count && wfe_index_decoder_is_good(decoder); i++) {
        if (!wfe_index_decoder_grow(
                decoder, &index->inodes, &index->inodes_allocated, i, sizeof *index->inodes))
            break;
        last = wfe_index_decoder_32(decoder, wfe_index_decoder_difference(decoder, last));
        index->inodes[i] = (struct wfe_inode){.mode = last};
        index->inode_count = i + 1;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    struct wfe_inode *inodes = index->inodes;
    last = 0;
    for (uint32_t i = 0; i < count; i++)
        last = inodes[i].uid =
            wfe_index_decoder_32(decoder, wfe_index_decoder_difference(decoder, last));
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    last = 0;
    for (uint32_t i = 0; i < count; i++)
        last = inodes[i].gid =
            wfe_index_decoder_32(decoder, wfe_index_decoder_difference(decoder, last));
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        inodes[i].rdev = wfe_index_decoder_32(decoder, wfe_column_get(decoder->reader));
    return wfe_index_decoder_end_column(decoder);
}

static bool get_sizes_and_times(struct wfe_index_decoder *decoder, uint32_t count)
{
    struct wfe_inode *inodes = decoder->index->inodes;
    for (uint32_t i = 0; i < count; i++)
        inodes[i].size_bytes = wfe_column_get(decoder->reader);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    uint64_t last = 0;
    for (uint32_t i = 0; i < count; i++) {
        last = wfe_index_decoder_difference(decoder, last);
        inodes[i].mtime_s = (int64_t)last;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        inodes[i].mtime_ns = wfe_index_decoder_32(decoder, wfe_column_get(decoder->reader));
    return wfe_index_decoder_end_column(decoder);
}

static bool get_places(struct wfe_index_decoder *decoder, uint32_t count)
{
    struct wfe_inode *inodes = decoder->index->inodes;
    struct wfe_index_form_reference node = {.step = 1};
    for (uint32_t i = 0; i < count; i++)
        inodes[i].node = wfe_index_decoder_reference(decoder, &node);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        inodes[i].count = wfe_index_decoder_count(decoder, WFE_MAX_EXTENTS);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    struct wfe_index_form_place place = {.expected = 0};
    for (uint32_t i = 0; i < count; i++) {
        if (wfe_index_form_has_place(&inodes[i], inodes[i].count > 0))
            inodes[i].data = wfe_index_decoder_difference(decoder, place.expected);
        wfe_index_form_pass(&place, &inodes[i], inodes[i].count > 0);
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    struct wfe_index_form_reference target = {.is_rare = true}, xattrs = {.is_rare = true};
    for (uint32_t i = 0; i < count; i++)
        inodes[i].target = wfe_index_decoder_reference(decoder, &target);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        inodes[i].xattrs = wfe_index_decoder_reference(decoder, &xattrs);
    return wfe_index_decoder_end_column(decoder);
}

bool wfe_index_decoder_inodes(struct wfe_index_decoder *decoder)
{
    uint32_t count = wfe_index_decoder_count(decoder, WFE_MAX_ENTRIES);
    return wfe_index_decoder_is_good(decoder) && get_owners(decoder, count) &&
           get_sizes_and_times(decoder, count) && get_places(decoder, count);
}

bool wfe_index_decoder_extents(struct wfe_index_decoder *decoder)
{
    struct wfe_index *index = decoder->index;
    index->extent_count = 0;
    uint64_t count = 0;
    for (uint32_t i = 0; i < index->inode_count; i++) {
        if (index->inodes[i].count == 0)
            continue;
        index->inodes[i].first = (uint32_t)count;
        count += index->inodes[i].count;
        if (count > UINT32_MAX)
            return wfe_index_decoder_refuse(decoder, "there are too many extents");
    }
    if (!wfe_index_decoder_reserve(
            decoder, &index->extents, &index->extents_allocated, 0, count, sizeof *index->extents))
        return false;
    uint64_t last_gap = 0;
    for (uint32_t i = 0; i < count && wfe_index_decoder_is_good(decoder); i++) {
        if (!wfe_index_decoder_grow(
                decoder, &index->extents, &index->extents_allocated, i, sizeof *index->extents))
            break;
        /* Only the gap until the lengths are known. */
        last_gap = wfe_column_unfold(wfe_column_get(decoder->reader));
        index->extents[i] = (struct wfe_extent){.offset_bytes = last_gap};
        index->extent_count = i + 1;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    struct wfe_extent last = {.offset_bytes = 0};
    for (uint32_t i = 0; i < count; last = index->extents[i++]) {
        index->extents[i].length_bytes = wfe_column_get(decoder->reader);
        index->extents[i].offset_bytes += last.offset_bytes + last.length_bytes;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    last = (struct wfe_extent){.offset_bytes = 0};
    for (uint32_t i = 0; i < count; last = index->extents[i++])
        index->extents[i].data =
            wfe_index_decoder_difference(decoder, last.data + last.length_bytes);
    return wfe_index_decoder_end_column(decoder);
}
