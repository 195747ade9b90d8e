/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_decoder.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <bzlib.h>

/*
 * libbz2 knows streams only; their blocks begin anywhere in a byte. A stream is "BZh", the level,
 * blocks, and an end: its own 48 bits, and a sum of the blocks' sums.
 *
 * The pass looks for the 48 bits that a block begins with. They may as well be found in the midst
 * of data, so it feeds libbz2 with no more than what is in front of them: where a block does begin
 * there, all of the block before comes out.
 *
 * To begin at a block, libbz2 is given a made-up head, and then the bits from there on. At the
 * stream's end it will find that the sum is not that of the blocks that it has seen; that this is
 * the end is told by the 48 bits there.
 */
#define BLOCK_MAGIC UINT64_C(0x314159265359)
#define END_MAGIC UINT64_C(0x177245385090)
#define MAGIC_MASK UINT64_C(0xffffffffffff)
enum { HEAD_BYTES = 4, MAGIC_BITS = 48, END_BYTES = 10 };
#define NOT_FOUND UINT64_MAX

enum { KEPT_BYTES = 16, FEED_BYTES = 16 * 1024 };

/* About what libbz2 takes at level 9. */
enum { MEMORY_BYTES = 3700000 };

/* Looks ahead for the magic of a block. */
struct scanner {
    struct wfe_input input;
    uint64_t window; /* the last 64 bits */
    uint64_t found;  /* the bit it begins at */
};

struct bzip2_decoder {
    struct wfe_decoder base;
    struct wfe_input input;
    bz_stream bz;
    bool open;
    bool first; /* no stream has come before */
    bool ended;
    unsigned char level;
    struct scanner scanner;
    uint64_t stopped_bit;
    /* Since start() at a block, up to the stream's end: */
    bool resumed;
    unsigned shift;
    uint64_t first_bit;
    uint64_t fed_bytes;
    int carry; /* the source's byte of which the lower bits are still to be fed; -1: no more */
    unsigned char feed[KEPT_BYTES + FEED_BYTES];
};

static int corrupt(const struct bzip2_decoder *bzip2, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "bzip2: corrupt data before byte %" PRIu64,
        wfe_input_tell(&bzip2->input));
}

static int cut_short(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "bzip2: the file is cut short");
}

/* Go on to the next magic, or to before `limit`. */
static int scan(struct scanner *scanner, uint64_t limit, struct wfe_error *err)
{
    struct wfe_input *input = &scanner->input;
    while (scanner->found == NOT_FOUND && wfe_input_tell(input) < limit) {
        unsigned char byte;
        int r = wfe_input_byte(input, &byte, err);
        if (r <= 0)
            return r;
        scanner->window = scanner->window << 8 | byte;
        uint64_t bits = wfe_input_tell(input) * CHAR_BIT;
        for (unsigned after = CHAR_BIT; after-- > 0;) {
            if ((scanner->window >> after & MAGIC_MASK) == BLOCK_MAGIC &&
                bits >= after + MAGIC_BITS)
                scanner->found = bits - after - MAGIC_BITS;
        }
    }
    return 0;
}

static void close_stream(struct bzip2_decoder *bzip2)
{
    if (bzip2->open)
        BZ2_bzDecompressEnd(&bzip2->bz);
    bzip2->open = false;
}

static int open_stream(struct bzip2_decoder *bzip2, struct wfe_error *err)
{
    bzip2->bz = (bz_stream){0};
    if (BZ2_bzDecompressInit(&bzip2->bz, 0, 0) != BZ_OK)
        return wfe_error_nomem(err);
    bzip2->open = true;
    return 0;
}

/* The stream that begins at the input. What follows the last stream and does not begin as one is
 * not looked at. */
static int next_stream(struct bzip2_decoder *bzip2, struct wfe_error *err)
{
    char head[HEAD_BYTES];
    uint64_t offset = wfe_input_tell(&bzip2->input);
    ssize_t n = wfe_source_read(bzip2->input.source, head, sizeof head, offset, err);
    if (n < 0)
        return (int)n;
    bool good =
        (size_t)n == sizeof head && memcmp(head, "BZh", 3) == 0 && head[3] >= '1' && head[3] <= '9';
    if (!good && bzip2->first)
        return (size_t)n < sizeof head ? cut_short(err) : corrupt(bzip2, err);
    bzip2->ended = !good;
    if (!good)
        return 0;
    bzip2->first = false;
    bzip2->resumed = false;
    bzip2->level = (unsigned char)head[3];
    return open_stream(bzip2, err);
}

/* Whether the bytes that libbz2 has taken end with a stream's end; *ret_bits is how many more bits
 * they are. */
static bool is_after_end(const unsigned char *taken_end, unsigned *ret_bits)
{
    uint64_t window = 0;
    for (int i = END_BYTES + 2; i > END_BYTES + 2 - 8; i--)
        window = window << 8 | taken_end[-i];
    for (unsigned bits = 0; bits < CHAR_BIT; bits++) {
        if ((window >> bits & MAGIC_MASK) == END_MAGIC) {
            *ret_bits = bits;
            return true;
        }
    }
    return false;
}

/* libbz2 says that the stream is at its end, or corrupt. */
static int end_stream(struct bzip2_decoder *bzip2, int code, struct wfe_error *err)
{
    if (bzip2->resumed) {
        const unsigned char *taken_end = (const unsigned char *)bzip2->bz.next_in;
        uint64_t taken = bzip2->fed_bytes - bzip2->bz.avail_in;
        unsigned bits;
        if (taken < HEAD_BYTES + END_BYTES || !is_after_end(taken_end, &bits))
            return corrupt(bzip2, err);
        uint64_t end_bit = bzip2->first_bit + (taken - HEAD_BYTES) * CHAR_BIT - bits;
        wfe_input_seek(&bzip2->input, (end_bit + CHAR_BIT - 1) / CHAR_BIT);
    } else if (code != BZ_STREAM_END) {
        return corrupt(bzip2, err);
    }
    close_stream(bzip2);
    return 0;
}

/* More for libbz2 of a stream that was begun at a block: the source's bits, moved up. */
static int feed_shifted(struct bzip2_decoder *bzip2, struct wfe_error *err)
{
    unsigned char *to = bzip2->feed + KEPT_BYTES;
    memmove(bzip2->feed, bzip2->bz.next_in - KEPT_BYTES, KEPT_BYTES);
    size_t count = 0;
    while (count < FEED_BYTES && bzip2->carry >= 0) {
        unsigned char byte = 0;
        int r = wfe_input_byte(&bzip2->input, &byte, err);
        if (r < 0)
            return r;
        unsigned both = (unsigned)bzip2->carry << CHAR_BIT | byte;
        to[count++] = (unsigned char)(both >> (CHAR_BIT - bzip2->shift));
        bzip2->carry = r > 0 ? byte : -1;
    }
    bzip2->bz.next_in = (char *)to;
    bzip2->bz.avail_in = (unsigned)count;
    bzip2->fed_bytes += count;
    return 0;
}

static uint64_t byte_of_found(const struct scanner *scanner)
{
    return (scanner->found + CHAR_BIT - 1) / CHAR_BIT;
}

static int feed(struct bzip2_decoder *bzip2, struct wfe_error *err)
{
    if (bzip2->resumed)
        return feed_shifted(bzip2, err);
    size_t left;
    int r = wfe_input_fill(&bzip2->input, &left, err);
    uint64_t offset = wfe_input_tell(&bzip2->input);
    if (r == 0 && bzip2->base.is_pass) {
        r = scan(&bzip2->scanner, offset + left + MAGIC_BITS / CHAR_BIT, err);
        if (r == 0 && bzip2->scanner.found != NOT_FOUND &&
            byte_of_found(&bzip2->scanner) < offset + left)
            left = (size_t)(byte_of_found(&bzip2->scanner) - offset);
    }
    bzip2->bz.next_in = (char *)bzip2->input.data + bzip2->input.begin;
    bzip2->bz.avail_in = (unsigned)left;
    return r;
}

/*
 * libbz2 has put out all that it can; whether that was because a block might begin here. In the
 * midst of a block none of it has come out, and so no more than where its start was passed, which
 * was stopped at if a stop was due.
 */
static bool pass_block_start(struct bzip2_decoder *bzip2, uint64_t out)
{
    struct scanner *scanner = &bzip2->scanner;
    if (!bzip2->base.is_pass || scanner->found == NOT_FOUND ||
        wfe_input_tell(&bzip2->input) != byte_of_found(scanner))
        return false;
    if (out >= bzip2->base.stop_from) {
        bzip2->base.stopped = true;
        bzip2->stopped_bit = scanner->found;
    }
    scanner->found = NOT_FOUND;
    return true;
}

static int decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    struct bzip2_decoder *bzip2 = (struct bzip2_decoder *)decoder;
    bz_stream *bz = &bzip2->bz;
    *ret_length = 0;
    while (*ret_length < length && !decoder->stopped) {
        int r = bzip2->open ? 0 : next_stream(bzip2, err);
        if (r == 0 && bzip2->ended)
            break;
        if (r == 0 && bz->avail_in == 0)
            r = feed(bzip2, err);
        if (r < 0)
            return r;
        unsigned before = bz->avail_in;
        bz->next_out = (char *)data + *ret_length;
        bz->avail_out = (unsigned)(length - *ret_length);
        int code = BZ2_bzDecompress(bz);
        *ret_length = length - bz->avail_out;
        if (!bzip2->resumed)
            bzip2->input.begin += before - bz->avail_in;
        if (code == BZ_MEM_ERROR)
            return wfe_error_nomem(err);
        if (code != BZ_OK)
            r = end_stream(bzip2, code, err);
        else if (bz->avail_in == 0 && bz->avail_out > 0 && before == 0 &&
                 !pass_block_start(bzip2, decoder->out + *ret_length))
            r = cut_short(err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int start(
    struct wfe_decoder *decoder, const struct wfe_checkpoint *checkpoint, struct wfe_error *err)
{
    struct bzip2_decoder *bzip2 = (struct bzip2_decoder *)decoder;
    close_stream(bzip2);
    decoder->out = checkpoint->out;
    bzip2->ended = false;
    bzip2->first = checkpoint->in == 0;
    bzip2->resumed = checkpoint->form != 0;
    wfe_input_seek(&bzip2->input, checkpoint->in);
    if (!bzip2->resumed)
        return 0;

    unsigned char byte;
    int r = wfe_input_byte(&bzip2->input, &byte, err);
    if (r <= 0)
        return r < 0 ? r : cut_short(err);
    bzip2->carry = byte;
    bzip2->shift = checkpoint->bits;
    bzip2->first_bit = checkpoint->in * CHAR_BIT + checkpoint->bits;
    r = open_stream(bzip2, err);
    if (r < 0)
        return r;
    unsigned char *head = bzip2->feed + KEPT_BYTES;
    memcpy(head, "BZh", 3);
    head[3] = checkpoint->form;
    bzip2->bz.next_in = (char *)head;
    bzip2->bz.avail_in = HEAD_BYTES;
    bzip2->fed_bytes = HEAD_BYTES;
    return 0;
}

static void describe(const struct wfe_decoder *decoder, struct wfe_checkpoint *ret)
{
    const struct bzip2_decoder *bzip2 = (const struct bzip2_decoder *)decoder;
    *ret = (struct wfe_checkpoint){
        .out = decoder->out,
        .in = bzip2->stopped_bit / CHAR_BIT,
        .bits = (uint8_t)(bzip2->stopped_bit % CHAR_BIT),
        .form = bzip2->level,
    };
}

static void free_decoder(struct wfe_decoder *decoder)
{
    struct bzip2_decoder *bzip2 = (struct bzip2_decoder *)decoder;
    close_stream(bzip2);
    wfe_input_done(&bzip2->input);
    wfe_input_done(&bzip2->scanner.input);
    free(bzip2);
}

static const struct wfe_decoder_ops bzip2_ops = {
    .free = free_decoder,
    .start = start,
    .decode = decode,
    .describe = describe,
};

int wfe_bzip2_decoder_new(
    const struct wfe_source *source, struct wfe_decoder **ret, struct wfe_error *err)
{
    struct bzip2_decoder *bzip2 = calloc(1, sizeof *bzip2);
    if (!bzip2)
        return wfe_error_nomem(err);
    bzip2->base.ops = &bzip2_ops;
    bzip2->base.stop_from = WFE_DECODER_NEVER;
    bzip2->base.memory_bytes = MEMORY_BYTES;
    bzip2->first = true;
    bzip2->scanner.found = NOT_FOUND;
    if (wfe_input_init(&bzip2->input, source) < 0 ||
        wfe_input_init(&bzip2->scanner.input, source) < 0) {
        free_decoder(&bzip2->base);
        return wfe_error_nomem(err);
    }
    *ret = &bzip2->base;
    return 0;
}
