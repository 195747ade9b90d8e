/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "artifactfs/stream_inflate.h"
#include "artifactfs/stream_parts.h"
#include "artifactfs/tests/stream_fixture.h"

enum { PLAIN_BYTES = 400000, SPACING = 16 * 1024 };

/* Open and run the pass over bytes of any kind, then read all of it back, from the end to the
 * start, and compare. Returns the kind of failure. */
static enum wfe_error_kind pass_and_read_back(const struct bytes *packed, struct bytes *passed)
{
    const struct wfe_stream_options options = {
        .spool_directory = "/tmp", .spacing_bytes = SPACING, .max_spool_bytes = 1 << 20};
    WFE_STREAM struct wfe_stream *stream = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_stream_open(bytes_to_file(packed), &options, &stream, &err) < 0)
        return err.kind;
    run_pass(stream, passed, &err);
    assert_int_equal(wfe_stream_length(stream), passed->length);
    for (size_t end = passed->length; end > 0;) {
        unsigned char buffer[70000];
        size_t length = end < sizeof buffer ? end : sizeof buffer;
        struct wfe_error failure = WFE_ERROR_INIT;
        ssize_t n = wfe_stream_read(stream, buffer, length, end - length, &failure);
        if (n < 0)
            fail_msg("%s", failure.message);
        assert_int_equal(n, length);
        end -= length;
        assert_memory_equal(buffer, passed->data + end, length);
    }
    return err.kind;
}

static void assert_good(const struct bytes *packed, const struct bytes *plain)
{
    BYTES struct bytes passed = {0};
    assert_int_equal(pass_and_read_back(packed, &passed), WFE_ERROR_NONE);
    assert_int_equal(passed.length, plain->length);
    assert_memory_equal(passed.data, plain->data, plain->length);
}

/* The whole of plain comes out all the same. */
static void assert_broken_at_end(const struct bytes *packed, const struct bytes *plain)
{
    BYTES struct bytes passed = {0};
    assert_int_equal(pass_and_read_back(packed, &passed), WFE_ERROR_ARCHIVE);
    assert_int_equal(passed.length, plain->length);
    assert_memory_equal(passed.data, plain->data, plain->length);
}

static void a_cut_file_is_good_as_far_as_it_goes(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 1);
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        size_t longest = 0;
        int cuts = 0;
        int whole = 0;
        /* With less, nothing tells that it is compressed, or what is below the first filter. */
        size_t cut = packings[i].filter == WFE_STREAM_PLAIN   ? packed.length
                     : packings[i].filter == WFE_STREAM_OTHER ? packed.length / 3 * 2
                                                              : 10;
        for (; cut < packed.length; cut += cut < 64 ? 1 : 1 + packed.length / 41) {
            struct bytes head = {.data = packed.data, .length = cut};
            BYTES struct bytes passed = {0};
            enum wfe_error_kind kind = pass_and_read_back(&head, &passed);
            /* Where a member, frame or stream ends, what is left is whole. */
            assert_true(kind == WFE_ERROR_ARCHIVE || kind == WFE_ERROR_NONE);
            if (kind == WFE_ERROR_NONE)
                assert_true(passed.length >= longest);
            whole += kind == WFE_ERROR_NONE;
            cuts++;
            assert_true(passed.length <= plain.length);
            if (passed.length > 0)
                assert_memory_equal(passed.data, plain.data, passed.length);
            longest = passed.length > longest ? passed.length : longest;
        }
        if (packings[i].filter != WFE_STREAM_PLAIN)
            assert_true(whole * 20 <= cuts);
        /* libarchive's may hold all of it in one block. */
        if (packings[i].filter != WFE_STREAM_PLAIN && packings[i].filter != WFE_STREAM_OTHER)
            assert_true(longest >= plain.length / 2);
    }
}

static void what_the_pass_made_of_a_flipped_bit_can_be_read(void **context)
{
    (void)context;
    enum { FLIPS = 60 };
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 2);
    uint32_t state = 3;
    for (size_t i = 0; i < packing_count; i++) {
        BYTES struct bytes packed = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        int broken = 0;
        for (int n = 0; n < FLIPS; n++) {
            size_t bit = (next_random(&state) << 8 ^ next_random(&state)) % (packed.length * 8);
            BYTES struct bytes passed = {0};
            packed.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            broken += pass_and_read_back(&packed, &passed) != WFE_ERROR_NONE;
            packed.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        /* The frames of zstd here have no sums. */
        if (packings[i].filter != WFE_STREAM_PLAIN && packings[i].filter != WFE_STREAM_ZSTD)
            assert_true(broken > FLIPS / 2);
    }
}

static void a_gzip_header_may_have_all_its_parts(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(20000, 4);
    BYTES struct bytes inner = {0};
    BYTES struct bytes packed = {0};
    add_gzip(&inner, plain.data, plain.length);
    static const unsigned char head[] = {0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 0, 3, 5, 0, 'e',
        'x', 't', 'r', 'a', 'n', 'a', 'm', 'e', 0, 't', 'e', 'x', 't', 0};
    bytes_append(&packed, head, sizeof head);
    uint32_t crc = wfe_inflate_crc32(0, head, sizeof head);
    unsigned char sum[] = {crc & 0xff, crc >> 8 & 0xff};
    bytes_append(&packed, sum, sizeof sum);
    bytes_append(&packed, inner.data + 10, inner.length - 10);
    assert_good(&packed, &plain);

    packed.data[sizeof head] ^= 1;
    BYTES struct bytes passed = {0};
    assert_int_equal(pass_and_read_back(&packed, &passed), WFE_ERROR_ARCHIVE);
    assert_int_equal(passed.length, 0);
}

static void reserved_gzip_flags_are_refused(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(20000, 5);
    BYTES struct bytes packed = {0};
    BYTES struct bytes passed = {0};
    add_gzip(&packed, plain.data, plain.length);
    packed.data[3] |= 0x20;
    assert_int_equal(pass_and_read_back(&packed, &passed), WFE_ERROR_ARCHIVE);
}

static void what_follows_the_last_member_or_stream_is_passed_over(void **context)
{
    (void)context;
    static const char *const tails[] = {"\0\0\0\0\0\0\0\0\0\0", "\x1f", "garbage", "BZ"};
    BYTES struct bytes plain = make_plain(200000, 6);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        BYTES struct bytes gzip = {0};
        BYTES struct bytes bzip2 = {0};
        size_t length = i == 0 ? 10 : strlen(tails[i]);
        add_gzip(&gzip, plain.data, plain.length);
        bytes_append(&gzip, tails[i], length);
        assert_good(&gzip, &plain);
        add_bzip2(&bzip2, plain.data, plain.length, 1);
        bytes_append(&bzip2, tails[i], length);
        assert_good(&bzip2, &plain);
    }
}

static void a_second_gzip_member_has_to_be_whole(void **context)
{
    (void)context;
    static const char *const tails[] = {
        "\x1f\x8b", "\x1f\x8b\x08\x20zzzzzz", "\x1f\x8b\x09zzzzzzz"};
    BYTES struct bytes plain = make_plain(200000, 7);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        BYTES struct bytes packed = {0};
        add_gzip(&packed, plain.data, plain.length);
        bytes_append(&packed, tails[i], strlen(tails[i]));
        assert_broken_at_end(&packed, &plain);
    }
}

static void a_wrong_sum_is_found(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(200000, 8);
    for (size_t from_end = 1; from_end <= 8; from_end++) {
        BYTES struct bytes packed = {0};
        add_gzip(&packed, plain.data, plain.length);
        packed.data[packed.length - from_end] ^= 1;
        assert_broken_at_end(&packed, &plain);
    }
    BYTES struct bytes zstd = {0};
    add_zstd_streamed(&zstd, plain.data, plain.length, 20);
    zstd.data[zstd.length - 1] ^= 1;
    BYTES struct bytes passed = {0};
    assert_int_equal(pass_and_read_back(&zstd, &passed), WFE_ERROR_ARCHIVE);
    BYTES struct bytes bzip2 = {0};
    add_bzip2(&bzip2, plain.data, 90000, 1);
    bzip2.data[10] ^= 1;
    BYTES struct bytes other = {0};
    assert_int_equal(pass_and_read_back(&bzip2, &other), WFE_ERROR_ARCHIVE);
}

static void a_spool_file_has_a_limit(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(3 << 20, 9);
    BYTES struct bytes packed = {0};
    BYTES struct bytes passed = {0};
    add_lz4(&packed, plain.data, plain.length);
    assert_int_equal(pass_and_read_back(&packed, &passed), WFE_ERROR_LIMIT);
    assert_in_range(passed.length, 512 << 10, 1 << 20);
    assert_memory_equal(passed.data, plain.data, passed.length);
}

static void a_window_has_a_limit(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(100000, 10);
    BYTES struct bytes packed = {0};
    BYTES struct bytes passed = {0};
    add_zstd_streamed(&packed, plain.data, plain.length, 28);
    assert_int_equal(pass_and_read_back(&packed, &passed), WFE_ERROR_LIMIT);
    assert_int_equal(passed.length, 0);
}

static void a_failed_pass_fails_again(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(100000, 11);
    BYTES struct bytes packed = {0};
    add_gzip(&packed, plain.data, plain.length);
    packed.length -= 100;
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
    struct wfe_error first = WFE_ERROR_INIT;
    struct wfe_error second = WFE_ERROR_INIT;
    int r = run_pass(stream, NULL, &first);
    assert_true(r < 0);
    assert_int_equal(run_pass(stream, NULL, &second), r);
    assert_string_equal(first.message, second.message);
}

static void a_file_that_becomes_shorter_is_an_error(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 12);
    BYTES struct bytes packed = {0};
    add_gzip(&packed, plain.data, plain.length);
    WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, SPACING);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    assert_int_equal(ftruncate(stream->source.fd, 1000), 0);
    char byte;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_stream_read(stream, &byte, 1, plain.length - 1, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_ARCHIVE);
    assert_true(wfe_stream_read(stream, &byte, 1, plain.length - 1, NULL) < 0);
}

static void a_spool_directory_must_exist(void **context)
{
    (void)context;
    BYTES struct bytes packed = {0};
    add_lz4(&packed, "abc", 3);
    const struct wfe_stream_options options = {.spool_directory = "/nowhere"};
    struct wfe_stream *stream = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_stream_open(bytes_to_file(&packed), &options, &stream, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    assert_null(stream);
}

static void save(const struct bytes *packed, struct saved *ret)
{
    WFE_STREAM struct wfe_stream *stream = open_bytes(packed, SPACING);
    assert_int_equal(run_pass(stream, NULL, NULL), 0);
    assert_int_equal(save_stream(stream, ret), 0);
}

/* Load and, when that went well, read here and there; the bytes may be wrong then. */
static enum wfe_error_kind load_and_read(const struct bytes *packed, const struct saved *saved)
{
    WFE_STREAM struct wfe_stream *stream = open_bytes(packed, 0);
    struct wfe_error err = WFE_ERROR_INIT;
    if (load_stream(stream, saved, &err) < 0) {
        /* It is left as it was. */
        assert_int_equal(run_pass(stream, NULL, NULL), 0);
        return err.kind;
    }
    unsigned char buffer[1000];
    uint64_t length = wfe_stream_length(stream);
    for (uint64_t at = 0; at < 20; at++)
        wfe_stream_read(stream, buffer, sizeof buffer, length / 20 * at, NULL);
    return WFE_ERROR_NONE;
}

static void assert_cuts_refused(
    const struct bytes *packed, const struct saved *saved, const struct bytes *part)
{
    struct saved cut = *saved;
    struct bytes *cut_part = part == &saved->places ? &cut.places : &cut.windows;
    size_t step = 1 + part->length / 50;
    for (size_t length = 0; length < part->length; length += length < 40 ? 1 : step) {
        cut_part->length = length;
        assert_int_equal(load_and_read(packed, &cut), WFE_ERROR_INTEGRITY);
    }
}

static void cut_checkpoints_are_refused(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 13);
    for (size_t i = 0; i < packing_count; i++) {
        if (packings[i].solid)
            continue;
        BYTES struct bytes packed = {0};
        SAVED struct saved saved = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        save(&packed, &saved);
        assert_int_equal(load_and_read(&packed, &saved), WFE_ERROR_NONE);
        assert_cuts_refused(&packed, &saved, &saved.places);
        assert_cuts_refused(&packed, &saved, &saved.windows);
        bytes_append(&saved.windows, "", 1);
        assert_int_equal(load_and_read(&packed, &saved), WFE_ERROR_INTEGRITY);
        saved.windows.length--;
        bytes_append(&saved.places, "", 1);
        assert_int_equal(load_and_read(&packed, &saved), WFE_ERROR_INTEGRITY);
    }
}

static void altered_checkpoints_do_no_harm(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 14);
    for (size_t i = 0; i < packing_count; i++) {
        if (packings[i].solid)
            continue;
        BYTES struct bytes packed = {0};
        SAVED struct saved saved = {0};
        packings[i].pack(&packed, plain.data, plain.length);
        save(&packed, &saved);
        uint32_t state = 15;
        for (size_t at = 0; at < saved.places.length; at++) {
            unsigned char before = saved.places.data[at];
            saved.places.data[at] = (unsigned char)next_random(&state);
            load_and_read(&packed, &saved);
            saved.places.data[at] = before;
        }
    }
}

static void altered_windows_are_done_without(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 17);
    BYTES struct bytes packed = {0};
    SAVED struct saved saved = {0};
    add_gzip_small_blocks(&packed, plain.data, plain.length, 0);
    save(&packed, &saved);
    assert_true(saved.windows.length > 1000);
    for (size_t at = 0; at < saved.windows.length; at += 1 + saved.windows.length / 40) {
        saved.windows.data[at] ^= 0x10;
        WFE_STREAM struct wfe_stream *stream = open_bytes(&packed, 0);
        assert_int_equal(load_stream(stream, &saved, NULL), 0);
        for (size_t offset = plain.length - 1000; offset >= 5000; offset -= 5000) {
            unsigned char buffer[1000];
            assert_int_equal(wfe_stream_read(stream, buffer, sizeof buffer, offset, NULL), 1000);
            assert_memory_equal(buffer, plain.data + offset, sizeof buffer);
        }
        assert_true(wfe_stream_has_altered_windows(stream));
        saved.windows.data[at] ^= 0x10;
    }
}

static void checkpoints_of_another_file_are_refused(void **context)
{
    (void)context;
    BYTES struct bytes plain = make_plain(PLAIN_BYTES, 16);
    BYTES struct bytes packed = {0};
    SAVED struct saved saved = {0};
    BYTES struct bytes other = {0};
    BYTES struct bytes solid = {0};
    add_gzip(&packed, plain.data, plain.length);
    save(&packed, &saved);
    add_gzip(&other, plain.data, plain.length - 1000);
    assert_int_equal(load_and_read(&other, &saved), WFE_ERROR_INTEGRITY);
    add_lz4(&solid, plain.data, plain.length);
    assert_int_equal(load_and_read(&solid, &saved), WFE_ERROR_INTEGRITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_file_is_good_as_far_as_it_goes),
        cmocka_unit_test(what_the_pass_made_of_a_flipped_bit_can_be_read),
        cmocka_unit_test(a_gzip_header_may_have_all_its_parts),
        cmocka_unit_test(reserved_gzip_flags_are_refused),
        cmocka_unit_test(what_follows_the_last_member_or_stream_is_passed_over),
        cmocka_unit_test(a_second_gzip_member_has_to_be_whole),
        cmocka_unit_test(a_wrong_sum_is_found),
        cmocka_unit_test(a_spool_file_has_a_limit),
        cmocka_unit_test(a_window_has_a_limit),
        cmocka_unit_test(a_failed_pass_fails_again),
        cmocka_unit_test(a_file_that_becomes_shorter_is_an_error),
        cmocka_unit_test(a_spool_directory_must_exist),
        cmocka_unit_test(cut_checkpoints_are_refused),
        cmocka_unit_test(altered_checkpoints_do_no_harm),
        cmocka_unit_test(altered_windows_are_done_without),
        cmocka_unit_test(checkpoints_of_another_file_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
