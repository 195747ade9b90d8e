/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_inflate.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l/crc.h>
#include <isa-l/igzip_lib.h>

struct wfe_inflate {
    struct inflate_state state;
    bool forced; /* the block under way is not the last one, though the state says so */
};

static struct wfe_inflate *create(void)
{
    struct wfe_inflate *inflate = malloc(sizeof *inflate);
    if (inflate)
        isal_inflate_init(&inflate->state);
    return inflate;
}

static void free_inflate(struct wfe_inflate *inflate)
{
    free(inflate);
}

static int start(struct wfe_inflate *inflate, unsigned bits, unsigned char byte,
    const unsigned char *window, size_t window_bytes)
{
    struct inflate_state *state = &inflate->state;
    isal_inflate_reset(state);
    inflate->forced = false;
    if (bits > 0) {
        state->read_in = byte >> (8 - bits);
        state->read_in_length = (int32_t)bits;
    }
    if (window_bytes > 0)
        isal_inflate_set_dict(state, (unsigned char *)window, (uint32_t)window_bytes);
    return 0;
}

/*
 * ISA-L has no call to stop at a block's end. But it stops at the end of the last block, and which
 * one that is stands in the state, which is the caller's: so the block under way is made the last.
 */
static void force_end_of_block(struct wfe_inflate *inflate)
{
    struct inflate_state *state = &inflate->state;
    bool in_block =
        state->block_state == ISAL_BLOCK_CODED || state->block_state == ISAL_BLOCK_TYPE0;
    if (in_block && !state->bfinal) {
        state->bfinal = 1;
        inflate->forced = true;
    }
}

static enum wfe_inflate_status run(
    struct wfe_inflate *inflate, struct wfe_inflate_buffers *buffers, bool stop)
{
    struct inflate_state *state = &inflate->state;
    if (stop)
        force_end_of_block(inflate);
    state->next_in = (unsigned char *)buffers->in; /* it is not written to */
    state->avail_in = (uint32_t)buffers->in_bytes;
    state->next_out = buffers->out;
    state->avail_out = (uint32_t)buffers->out_bytes;
    int status = isal_inflate(state);
    buffers->in = state->next_in;
    buffers->in_bytes = state->avail_in;
    buffers->out = state->next_out;
    buffers->out_bytes = state->avail_out;
    if (status != ISAL_DECOMP_OK)
        return WFE_INFLATE_BROKEN;
    if (state->block_state != ISAL_BLOCK_FINISH)
        return WFE_INFLATE_MORE;
    return inflate->forced ? WFE_INFLATE_BLOCK : WFE_INFLATE_END;
}

static unsigned unused_bits(const struct wfe_inflate *inflate)
{
    return (unsigned)inflate->state.read_in_length;
}

static bool stops;

/* Some versions forget, at the end of the last block, within which byte it lies. */
static void try_to_stop(void)
{
    /* A block that is not the last one, of fixed codes, with the letter 'a': 18 bits. */
    static const unsigned char block[] = {0x4a, 0x04, 0x00};
    unsigned char out[4];
    struct wfe_inflate *inflate = create();
    if (!inflate)
        return;
    start(inflate, 0, 0, NULL, 0);
    struct wfe_inflate_buffers buffers = {block, 1, out, sizeof out};
    bool good = run(inflate, &buffers, true) == WFE_INFLATE_MORE && buffers.in_bytes == 0;
    buffers.in_bytes = 2;
    good = good && run(inflate, &buffers, true) == WFE_INFLATE_BLOCK && buffers.in_bytes == 0 &&
           unused_bits(inflate) == 6 && buffers.out == out + 1 && out[0] == 'a';
    free_inflate(inflate);
    stops = good;
}

static bool can_stop(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, try_to_stop);
    return stops;
}

const struct wfe_inflate_ops wfe_inflate_isal = {
    .is_exact = false,
    .can_stop = can_stop,
    .create = create,
    .free = free_inflate,
    .start = start,
    .run = run,
    .unused_bits = unused_bits,
};

uint32_t wfe_inflate_crc32(uint32_t crc, const unsigned char *data, size_t length)
{
    return crc32_gzip_refl(crc, data, length);
}
