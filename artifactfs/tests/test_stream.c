/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "artifactfs/stream_inflate.h"
#include "artifactfs/stream_parts.h"
#include "artifactfs/tests/stream_fixture.h"

enum { PLAIN_BYTES = 2000000, SPACING = 64 * 1024 };

static void assert_read(
    struct wfe_stream *stream, const struct bytes *plain, uint64_t offset, size_t length)
{
    static _Thread_local unsigned char buffer[600000];
    struct wfe_error err = WFE_ERROR_INIT;
    uint64_t known = wfe_stream_length(stream);
    size_t expected = offset >= known           ? 0
                      : length > known - offset ? (size_t)(known - offset)
                                                : length;
    ssize_t n = wfe_stream_read(stream, buffer, length, offset, &err);
    if (n < 0)
        fail_msg("%s", err.message);
    if (wfe_stream_length(stream) == known)
        assert_int_equal(n, expected);
    assert_true((size_t)n >= expected);
    assert_memory_equal(buffer, plain->data + offset, (size_t)n);
}

static void assert_random_reads(
    struct wfe_stream *stream, const struct bytes *plain, int count, unsigned seed)
{
    uint32_t state = seed;
    for (int i = 0; i < count; i++) {
        uint64_t offset = (next_random(&state) << 8 ^ next_random(&state)) % plain->length;
        size_t length = i % 16 == 0 ? 500000 : 1 + next_random(&state) % 9000;
        assert_read(stream, plain, offset, length);
    }
}

static void each_filter_gives_the_plain_bytes(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 1);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        BYTES struct bytes passed = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, SPACING);
        assert_int_equal(wfe_stream_filter(stream), packings[i].filter);
        assert_int_equal(stream->spool >= 0, packings[i].solid);
        assert_int_equal(run_pass(stream, &passed, NULL), 0);
        assert_int_equal(passed.length, plain.length);
        assert_memory_equal(passed.data, plain.data, plain.length);
        assert_int_equal(wfe_stream_length(stream), plain.length);
        if (!packings[i].solid && packings[i].filter != WFE_STREAM_PLAIN)
            assert_true(stream->checkpoints.count > 10);
        assert_random_reads(stream, &plain, 200, 2);
        for (uint64_t at = 0; at < plain.length; at += 50000)
            assert_read(stream, &plain, at, 50000);
        assert_read(stream, &plain, plain.length, 10);
    }
}

static void each_filter_can_be_read_during_the_pass(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 3);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, SPACING);
        const void *data;
        size_t length;
        assert_read(stream, &plain, 0, 10);
        do {
            assert_int_equal(wfe_stream_next(stream, &data, &length, NULL), 0);
            uint64_t known = wfe_stream_length(stream);
            assert_read(stream, &plain, known - known / 3, PLAIN_BYTES / 10);
            assert_read(stream, &plain, known - 1, 10);
            assert_read(stream, &plain, known / 3, 5000);
        } while (length > 0);
        assert_int_equal(wfe_stream_length(stream), plain.length);
    }
}

struct reader {
    pthread_t thread;
    struct wfe_stream *stream;
    const struct bytes *plain;
    unsigned number;
    _Atomic uint64_t *next_offset;
};

static void *read_at_random(void *context)
{
    struct reader *reader = context;
    assert_random_reads(reader->stream, reader->plain, 80, reader->number);
    return NULL;
}

/* As several FUSE threads have the pieces of a readahead among them. */
static void *read_in_turn(void *context)
{
    struct reader *reader = context;
    for (;;) {
        uint64_t offset = atomic_fetch_add(reader->next_offset, 65536);
        if (offset >= reader->plain->length)
            return NULL;
        assert_read(reader->stream, reader->plain, offset, 65536);
    }
}

static void *pass(void *context)
{
    struct reader *reader = context;
    assert_int_equal(run_pass(reader->stream, NULL, NULL), 0);
    return NULL;
}

enum { READERS = 12 };

static void many_threads_read_during_and_after_the_pass(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 4);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, SPACING);
        _Atomic uint64_t next_offset = 0;
        struct reader readers[READERS];
        for (unsigned n = 0; n < READERS; n++) {
            readers[n] = (struct reader){
                .stream = stream, .plain = &plain, .number = n, .next_offset = &next_offset};
            void *(*body)(void *) = n == 0 ? pass : n < 4 ? read_in_turn : read_at_random;
            assert_int_equal(pthread_create(&readers[n].thread, NULL, body, &readers[n]), 0);
        }
        for (unsigned n = 0; n < READERS; n++)
            pthread_join(readers[n].thread, NULL);
        assert_int_equal(wfe_stream_length(stream), plain.length);
    }
}

static size_t live_decoders(const struct wfe_stream *stream)
{
    size_t count = 0;
    for (size_t i = 0; i < WFE_STREAM_MAX_DECODERS; i++)
        count += stream->reads.live[i].decoder != NULL;
    return count;
}

static void a_sequential_reader_keeps_to_one_decoder(void **context)
{
    (void)context;
    enum { STEP = WFE_STREAM_PIECE_BYTES };
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 5);
    BYTES struct bytes packed = {0};
    add_gzip(&packed, plain.data, plain.length);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    for (uint64_t at = 0; at + 2 * STEP < plain.length; at += 2 * STEP) {
        assert_read(stream, &plain, at + STEP, STEP);
        assert_read(stream, &plain, at, STEP);
    }
    assert_int_equal(live_decoders(stream), 1);

    WFE_STREAM struct wfe_stream *shared = open_bytes(&packed, 0);
    assert_int_equal(run_pass(shared, NULL, NULL), 0);
    _Atomic uint64_t next_offset = 0;
    struct reader readers[READERS];
    for (unsigned n = 0; n < READERS; n++) {
        readers[n] =
            (struct reader){.stream = shared, .plain = &plain, .next_offset = &next_offset};
        assert_int_equal(pthread_create(&readers[n].thread, NULL, read_in_turn, &readers[n]), 0);
    }
    for (unsigned n = 0; n < READERS; n++)
        pthread_join(readers[n].thread, NULL);
    assert_int_equal(live_decoders(shared), 1);
}

static void what_is_saved_replaces_the_pass(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 6);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        SAVED struct saved saved = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, SPACING);
        assert_int_equal(run_pass(stream, NULL, NULL), 0);
        assert_int_equal(save_stream(stream, &saved), 0);
        WFE_STREAM struct wfe_stream *other = open_bytes(&packed, 0);
        assert_int_equal(load_stream(other, &saved, NULL), 0);
        assert_int_equal(wfe_stream_needs_pass(other), packings[i].solid);
        if (packings[i].solid)
            assert_int_equal(run_pass(other, NULL, NULL), 0);
        assert_int_equal(wfe_stream_length(other), plain.length);
        assert_int_equal(other->checkpoints.count, stream->checkpoints.count);
        const void *data;
        size_t length;
        assert_int_equal(wfe_stream_next(other, &data, &length, NULL), 0);
        assert_int_equal(length, 0);
        assert_random_reads(other, &plain, 100, 7);
        for (size_t n = 0; n < other->checkpoints.count; n++)
            assert_read(other, &plain, other->checkpoints.items[n].place.out, 100);
        assert_false(wfe_stream_has_altered_windows(other));
    }
}

static void every_other_checkpoint_goes_when_there_are_too_many(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 8);
    BYTES struct bytes packed = {0};
    add_zstd(&packed, plain.data, plain.length, 1000);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 1000);
    const uint64_t spacing = stream->checkpoints.spacing_bytes;
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    const struct wfe_checkpoints *checkpoints = &stream->checkpoints;
    assert_int_equal(checkpoints->spacing_bytes % (2 * spacing), 0);
    assert_in_range(checkpoints->count, WFE_STREAM_MAX_CHECKPOINTS / 2, WFE_STREAM_MAX_CHECKPOINTS);
    assert_int_equal(checkpoints->items[0].place.out, 0);
    for (size_t i = 0; i < checkpoints->count; i++)
        assert_read(stream, &plain, checkpoints->items[i].place.out, 2000);
    assert_random_reads(stream, &plain, 300, 9);
}

static void windows_survive_the_thinning_of_checkpoints(void **context)
{
    (void)context;
    enum { ADDED = 3 * WFE_STREAM_MAX_CHECKPOINTS, STEP = 10 };
    BYTES struct bytes plain = make_plain(ADDED * STEP + WFE_CHECKPOINT_WINDOW_BYTES, 9);
    struct wfe_checkpoints checkpoints;
    assert_int_equal(wfe_checkpoints_init(&checkpoints, STEP), 0);
    for (uint64_t i = 1; i <= ADDED; i++) {
        const struct wfe_checkpoint checkpoint = {
            .out = i * STEP,
            .in = i,
            .window_bytes = WFE_CHECKPOINT_WINDOW_BYTES,
            .window = plain.data + i * STEP,
        };
        struct wfe_packed_checkpoint packed;
        assert_int_equal(wfe_checkpoint_pack(&checkpoint, &packed), 0);
        assert_int_equal(wfe_checkpoints_add(&checkpoints, &packed), 0);
    }
    assert_in_range(checkpoints.count, WFE_STREAM_MAX_CHECKPOINTS / 2, WFE_STREAM_MAX_CHECKPOINTS);
    for (size_t i = 1; i < checkpoints.count; i++) {
        unsigned char window[WFE_CHECKPOINT_WINDOW_BYTES];
        struct wfe_checkpoint found;
        uint64_t out = checkpoints.items[i].place.out;
        assert_ptr_equal(wfe_checkpoints_find(&checkpoints, out), &checkpoints.items[i]);
        assert_int_equal(wfe_checkpoint_unpack(&checkpoints.items[i], window, &found, NULL), 0);
        assert_int_equal(found.in, out / STEP);
        assert_memory_equal(window, plain.data + out, sizeof window);
        checkpoints.items[i].packed_bytes--;
        assert_true(wfe_checkpoint_unpack(&checkpoints.items[i], window, &found, NULL) < 0);
    }
    wfe_checkpoints_done(&checkpoints);
}

/* The bytes of a block of bzip2 are listed in its head, 16 bits for each 16 of them: here the bits
 * are those that a block begins with. */
static void a_start_of_a_block_in_the_midst_of_another_is_none(void **context)
{
    (void)context;
    static const unsigned magic[] = {0x3141, 0x5926, 0x5359};
    unsigned char used[48];
    size_t count = 0;
    for (unsigned i = 0; i < 48; i++) {
        if (magic[i / 16] >> (15 - i % 16) & 1)
            used[count++] = (unsigned char)i;
    }
    BYTES struct bytes plain = make_plain(PLAIN_BYTES / 2, 21);
    uint32_t state = 23;
    for (size_t i = 0; i < plain.length; i++)
        plain.data[i] = used[next_random(&state) % count];
    BYTES struct bytes packed = {0};
    BYTES struct bytes passed = {0};
    add_bzip2(&packed, plain.data, plain.length, 1);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 80);
    assert_int_equal(run_pass(stream, &passed, NULL), 0);
    assert_int_equal(passed.length, plain.length);
    assert_memory_equal(passed.data, plain.data, plain.length);
    assert_in_range(stream->checkpoints.count, plain.length / 100000, plain.length / 80000);
    for (size_t i = stream->checkpoints.count; i-- > 0;)
        assert_read(stream, &plain, stream->checkpoints.items[i].place.out, 1000);
    assert_random_reads(stream, &plain, 50, 22);
}

static void isal_stops_at_blocks(void **context)
{
    (void)context;
#ifdef WFE_WITH_ISAL
    /* A version that can't makes the pass slower, nothing else. */
    if (wfe_inflate_isal.can_stop())
        return;
#endif
    skip();
}

static void empty_files_are_empty(void **context)
{
    (void)context;
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        packings[i].pack(&packed, "", 0);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
        char byte;
        assert_int_equal(run_pass(stream, NULL, NULL), 0);
        assert_int_equal(wfe_stream_length(stream), 0);
        assert_int_equal(wfe_stream_read(stream, &byte, 1, 0, NULL), 0);
    }
}

static void a_range_of_a_file_is_a_file(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(700000, 10);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes inner = {0};
        BYTES struct bytes file = {0};
        BYTES struct bytes passed = {0};
        packings[i].pack(&inner, plain.data, plain.length);
        bytes_append(&file, plain.data, 1234);
        bytes_append(&file, inner.data, inner.length);
        bytes_append(&file, inner.data, inner.length);
        const struct wfe_stream_options options = {
            .offset_bytes = 1234,
            .length_bytes = inner.length,
            .spool_directory = "/tmp",
            .spacing_bytes = SPACING,
        };
        WFE_STREAM struct wfe_stream *stream = NULL;
        assert_int_equal(wfe_stream_open(bytes_to_file(&file), &options, &stream, NULL), 0);
        assert_int_equal(run_pass(stream, &passed, NULL), 0);
        assert_int_equal(passed.length, plain.length);
        assert_memory_equal(passed.data, plain.data, plain.length);
        assert_random_reads(stream, &plain, 50, 11);
    }
}

static void a_range_beyond_the_file_is_refused(void **context)
{
    (void)context;
    BYTES struct bytes file = make_plain(1000, 12);
    const struct wfe_stream_options options = {.offset_bytes = 500, .length_bytes = 501};
    struct wfe_stream *stream = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_stream_open(bytes_to_file(&file), &options, &stream, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_ARCHIVE);
    assert_null(stream);
}

static void a_plain_file_can_be_skipped_through(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(2000000, 13);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&plain, 0);
    const void *data;
    size_t length;
    uint64_t offset = 1;
    assert_true(wfe_stream_plain_fd(stream, &offset) >= 0);
    assert_int_equal(offset, 0);
    assert_int_equal(wfe_stream_skip(stream, 1000000), 1000000);
    assert_int_equal(wfe_stream_next(stream, &data, &length, NULL), 0);
    assert_memory_equal(data, plain.data + 1000000, length);
    assert_int_equal(wfe_stream_length(stream), 1000000 + length);
    assert_int_equal(wfe_stream_skip(stream, UINT64_MAX), 1000000 - length);
    assert_int_equal(wfe_stream_next(stream, &data, &length, NULL), 0);
    assert_int_equal(length, 0);
}

static void a_decoded_file_cannot_be_skipped_through(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(1000, 14);
    BYTES struct bytes packed = {0};
    uint64_t offset;
    add_gzip(&packed, plain.data, plain.length);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    assert_int_equal(wfe_stream_skip(stream, 10), 0);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    assert_int_equal(wfe_stream_plain_fd(stream, &offset), -1);
}

static void a_spooled_file_lies_in_its_spool_after_the_pass(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 15);
    BYTES struct bytes packed = {0};
    BYTES struct bytes found = {0};
    uint64_t offset = 1;
    add_lz4(&packed, plain.data, plain.length);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    assert_int_equal(wfe_stream_plain_fd(stream, &offset), -1);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    int fd = wfe_stream_plain_fd(stream, &offset);
    assert_true(fd >= 0);
    assert_int_equal(offset, 0);
    bytes_append(&found, plain.data, plain.length);
    memset(found.data, 0, found.length);
    assert_int_equal(pread(fd, found.data, found.length, 0), plain.length);
    assert_memory_equal(found.data, plain.data, plain.length);
}

static void large_frames_and_blocks_are_spooled(void **context)
{
    (void)context;
    enum { LARGE = 33 << 20 };
    BYTES struct bytes plain = make_plain(LARGE, 16);
    void (*const packs[])(struct bytes *, const void *, size_t, size_t) = {add_zstd, add_xz};
    for (int i = 0; i < 3; i++) {
        BYTES struct bytes packed = {0};
        BYTES struct bytes passed = {0};
        if (i < 2)
            packs[i](&packed, plain.data, plain.length, plain.length);
        else
            add_zstd_streamed(&packed, plain.data, plain.length, 20);
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
        assert_true(stream->spool >= 0);
        assert_int_equal(run_pass(stream, &passed, NULL), 0);
        assert_int_equal(passed.length, plain.length);
        assert_memory_equal(passed.data, plain.data, plain.length);
        assert_random_reads(stream, &plain, 50, 17);
    }
}

static void a_large_frame_behind_a_small_one_can_be_read(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(18 << 20, 18);
    BYTES struct bytes packed = {0};
    add_zstd_streamed(&packed, plain.data, 1000, 20);
    add_zstd_streamed(&packed, plain.data + 1000, plain.length - 1000, 20);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    assert_int_equal(stream->spool, -1);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    assert_random_reads(stream, &plain, 20, 19);
}

static void decoders_with_much_memory_are_not_all_kept(void **context)
{
    (void)context;
    enum { FRAME = 5 << 20, FRAMES = 6 };
    BYTES struct bytes plain = make_plain((size_t)FRAME * FRAMES, 20);
    BYTES struct bytes packed = {0};
    for (size_t i = 0; i < FRAMES; i++)
        add_zstd_streamed(&packed, plain.data + i * FRAME, FRAME, 25);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    for (size_t i = FRAMES; i-- > 0;)
        assert_read(stream, &plain, i * FRAME + 10, 1000);
    assert_true(live_decoders(stream) <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_filter_gives_the_plain_bytes),
        cmocka_unit_test(each_filter_can_be_read_during_the_pass),
        cmocka_unit_test(many_threads_read_during_and_after_the_pass),
        cmocka_unit_test(a_sequential_reader_keeps_to_one_decoder),
        cmocka_unit_test(what_is_saved_replaces_the_pass),
        cmocka_unit_test(every_other_checkpoint_goes_when_there_are_too_many),
        cmocka_unit_test(windows_survive_the_thinning_of_checkpoints),
        cmocka_unit_test(a_start_of_a_block_in_the_midst_of_another_is_none),
        cmocka_unit_test(isal_stops_at_blocks),
        cmocka_unit_test(empty_files_are_empty),
        cmocka_unit_test(a_range_of_a_file_is_a_file),
        cmocka_unit_test(a_range_beyond_the_file_is_refused),
        cmocka_unit_test(a_plain_file_can_be_skipped_through),
        cmocka_unit_test(a_decoded_file_cannot_be_skipped_through),
        cmocka_unit_test(a_spooled_file_lies_in_its_spool_after_the_pass),
        cmocka_unit_test(large_frames_and_blocks_are_spooled),
        cmocka_unit_test(a_large_frame_behind_a_small_one_can_be_read),
        cmocka_unit_test(decoders_with_much_memory_are_not_all_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
