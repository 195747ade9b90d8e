/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_decoder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define RESERVE_MAX_BYTES ((uint64_t)256 << 20)

bool wfe_index_decoder_refuse(struct wfe_index_decoder *decoder, const char *wrong)
{
    if (!decoder->wrong)
        decoder->wrong = wrong;
    return false;
}

bool wfe_index_decoder_end_column(struct wfe_index_decoder *decoder)
{
    return wfe_column_get_end(decoder->reader) && wfe_index_decoder_is_good(decoder);
}

bool wfe_index_decoder_grow(struct wfe_index_decoder *decoder, void *items, uint32_t *allocated,
    uint32_t count, size_t item_bytes)
{
    if (count < *allocated)
        return true;
    if (wfe_tree_grow(items, allocated, count, item_bytes) < 0)
        decoder->no_memory = true;
    return !decoder->no_memory;
}

bool wfe_index_decoder_reserve(struct wfe_index_decoder *decoder, void *items, uint32_t *allocated,
    uint32_t used, uint64_t count, size_t item_bytes)
{
    uint64_t bytes = count * item_bytes;
    size_t wanted = (size_t)(bytes < RESERVE_MAX_BYTES ? bytes : RESERVE_MAX_BYTES);
    if (wanted < HUGE_PAGE_BYTES / 8 || wanted <= used * item_bytes)
        return true;
    wanted = (wanted + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    void *room = aligned_alloc(HUGE_PAGE_BYTES, wanted);
    if (!room) {
        decoder->no_memory = true;
        return false;
    }
    /* Without huge pages it works as well. */
    (void)madvise(room, wanted, MADV_HUGEPAGE);
    void **place = items;
    if (used > 0)
        memcpy(room, *place, used * item_bytes);
    free(*place);
    *place = room;
    *allocated = (uint32_t)(wanted / item_bytes);
    return true;
}

static bool get_head(struct wfe_index_decoder *decoder, const struct stat *st)
{
    uint64_t size = wfe_column_get(decoder->reader);
    uint64_t mtime_s = wfe_index_decoder_difference(decoder, 0);
    uint64_t mtime_ns = wfe_column_get(decoder->reader);
    decoder->stream_length = wfe_column_get(decoder->reader);
    uint64_t flags = wfe_column_get(decoder->reader);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    if (size != (uint64_t)st->st_size || mtime_s != (uint64_t)st->st_mtim.tv_sec ||
        mtime_ns != (uint64_t)st->st_mtim.tv_nsec)
        return wfe_index_decoder_refuse(
            decoder, "it is of another file, or of an earlier state of the file");
    if (flags > WFE_INDEX_FORM_CLAMPED)
        return wfe_index_decoder_refuse(decoder, "unknown flags");
    decoder->index->has_clamped_names = flags & WFE_INDEX_FORM_CLAMPED;
    return true;
}

/* Append length bytes, taking room only as they come. */
static bool get_bytes(struct wfe_index_decoder *decoder, char **data, uint32_t *allocated,
    uint32_t *data_length, uint64_t length)
{
    while (length > 0 && wfe_index_decoder_is_good(decoder)) {
        size_t n = length < WFE_COLUMN_CHUNK_BYTES ? (size_t)length : WFE_COLUMN_CHUNK_BYTES;
        while (*allocated - *data_length < n) {
            if (!wfe_index_decoder_grow(decoder, data, allocated, *allocated, 1))
                return false;
        }
        wfe_column_get_bytes(decoder->reader, *data + *data_length, n);
        *data_length += (uint32_t)n;
        length -= n;
    }
    return wfe_index_decoder_is_good(decoder);
}

static bool get_texts(struct wfe_index_decoder *decoder)
{
    struct wfe_index *index = decoder->index;
    uint32_t length = wfe_index_decoder_count(decoder, WFE_MAX_TEXT_BYTES);
    index->texts_length = 0;
    return wfe_index_decoder_end_column(decoder) &&
           wfe_index_decoder_reserve(
               decoder, &index->texts, &index->texts_allocated, 0, length, 1) &&
           get_bytes(decoder, &index->texts, &index->texts_allocated, &index->texts_length, length);
}

static bool get_items(struct wfe_index_decoder *decoder)
{
    struct wfe_index *index = decoder->index;
    uint32_t count = wfe_index_decoder_count(decoder, WFE_MAX_ENTRIES);
    struct wfe_index_form_reference node = {.step = 1}, inode = {.step = 1},
                                    link_node = {.is_rare = true};
    index->item_count = 0;
    if (!wfe_index_decoder_reserve(
            decoder, &index->items, &index->items_allocated, 0, count, sizeof *index->items))
        return false;
    for (uint32_t i = 0; i < count && wfe_index_decoder_is_good(decoder); i++) {
        if (!wfe_index_decoder_grow(
                decoder, &index->items, &index->items_allocated, i, sizeof *index->items))
            break;
        index->items[i] =
            (struct wfe_index_item){.node = wfe_index_decoder_reference(decoder, &node)};
        index->item_count = i + 1;
    }
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        index->items[i].inode = wfe_index_decoder_reference(decoder, &inode);
    if (!wfe_index_decoder_end_column(decoder))
        return false;
    for (uint32_t i = 0; i < count; i++)
        index->items[i].link_node = wfe_index_decoder_reference(decoder, &link_node);
    return wfe_index_decoder_end_column(decoder);
}

static bool get_problems(struct wfe_index_decoder *decoder)
{
    struct wfe_index *index = decoder->index;
    uint64_t problem_count = wfe_column_get(decoder->reader);
    uint32_t told = wfe_index_decoder_count(decoder, WFE_MAX_PROBLEMS);
    if (told != (problem_count < WFE_MAX_PROBLEMS ? problem_count : WFE_MAX_PROBLEMS))
        return wfe_index_decoder_refuse(decoder, "a table is larger than its limit");
    for (uint32_t i = 0; i < told; i++) {
        char text[WFE_INDEX_FORM_MAX_PROBLEM_BYTES];
        uint32_t length = wfe_index_decoder_count(decoder, sizeof text);
        if (!wfe_index_decoder_end_column(decoder))
            return false;
        wfe_column_get_bytes(decoder->reader, text, length);
        index->problems[i] = strndup(text, length);
        if (!index->problems[i]) {
            decoder->no_memory = true;
            return false;
        }
        index->problem_count = i + 1;
    }
    index->problem_count = problem_count;
    return wfe_index_decoder_end_column(decoder);
}

static bool get_stream(struct wfe_index_decoder *decoder, char **data, size_t *ret_length)
{
    uint32_t allocated = 0, length = 0;
    uint32_t wanted = wfe_index_decoder_count(decoder, WFE_INDEX_FORM_MAX_STREAM_BYTES);
    if (!wfe_index_decoder_end_column(decoder) ||
        !wfe_index_decoder_reserve(decoder, data, &allocated, 0, wanted, 1) ||
        !get_bytes(decoder, data, &allocated, &length, wanted))
        return false;
    if (!wfe_column_is_at_end(decoder->reader, &decoder->frame_bytes))
        return wfe_index_decoder_refuse(decoder, "it does not end where it should");
    *ret_length = length;
    return true;
}

static int decode_error(const struct wfe_index_decoder *decoder, struct wfe_error *err)
{
    enum wfe_column_state state = decoder->reader->state;
    if (decoder->no_memory || state == WFE_COLUMN_NO_MEMORY)
        return wfe_error_nomem(err);
    if (state == WFE_COLUMN_UNREADABLE)
        return wfe_error_system(err, decoder->reader->errnum, "read");
    if (state == WFE_COLUMN_TOO_LARGE)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "index: it is too large");
    return wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG, "index: %s",
        decoder->wrong ? decoder->wrong : "it is truncated or altered");
}

static int check_form(struct wfe_column_source *source, struct wfe_error *err)
{
    unsigned char head[WFE_INDEX_FORM_HEAD_BYTES];
    ssize_t n = source->read(source->context, head, sizeof head);
    if (n < 0)
        return wfe_error_system(err, (int)-n, "read");
    bool is_known = n == sizeof head &&
                    memcmp(head, WFE_INDEX_FORM_MAGIC, WFE_INDEX_FORM_MAGIC_BYTES) == 0 &&
                    head[WFE_INDEX_FORM_MAGIC_BYTES] == (WFE_INDEX_FORMAT_VERSION & 0xff) &&
                    head[WFE_INDEX_FORM_MAGIC_BYTES + 1] == WFE_INDEX_FORMAT_VERSION >> 8;
    return is_known ? 0 : wfe_error_set(err, WFE_ERROR_INTEGRITY, EBADMSG, "index: unknown form");
}

static ssize_t read_file(void *context, void *data, size_t length)
{
    return wfe_read_full(*(const int *)context, data, length);
}

int wfe_index_decode(int fd, const struct stat *st, struct wfe_stream *stream,
    struct wfe_index **ret, struct wfe_error *err)
{
    struct wfe_column_source source = {.read = read_file, .context = &fd};
    int r = check_form(&source, err);
    if (r < 0)
        return r;
    WFE_COLUMN_READER struct wfe_column_reader *reader = NULL;
    if (wfe_column_reader_new(source, &reader) < 0)
        return wfe_error_nomem(err);
    struct wfe_index *index;
    r = wfe_index_new(WFE_INDEX_STREAM, &index, err);
    if (r < 0)
        return r;
    struct wfe_index_decoder decoder = {.reader = reader, .index = index};
    WFE_FREE char *stream_data = NULL;
    size_t stream_data_length = 0;
    if (!get_head(&decoder, st) || !get_texts(&decoder) || !wfe_index_decoder_nodes(&decoder) ||
        !wfe_index_decoder_inodes(&decoder) || !wfe_index_decoder_extents(&decoder) ||
        !get_items(&decoder) || !get_problems(&decoder) ||
        !get_stream(&decoder, &stream_data, &stream_data_length)) {
        r = decode_error(&decoder, err);
    } else {
        decoder.wrong = wfe_index_form_check(index, decoder.stream_length);
        r = decoder.wrong ? decode_error(&decoder, err) : wfe_index_finish(index, err);
    }
    if (r == 0 && stream)
        r = wfe_stream_load(stream, stream_data, stream_data_length, fd,
            WFE_INDEX_FORM_HEAD_BYTES + decoder.frame_bytes, err);
    if (r < 0) {
        wfe_index_free(index);
        return r;
    }
    *ret = index;
    return 0;
}
