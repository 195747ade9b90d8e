/* SPDX-License-Identifier: MIT */
#include "libcommon/gunzip_inflate.h"

#include <stdint.h>
#include <stdlib.h>

#include <isa-l/igzip_lib.h>

struct wfe_gunzip_inflate {
    struct inflate_state state;
};

struct wfe_gunzip_inflate *wfe_gunzip_inflate_new(void)
{
    struct wfe_gunzip_inflate *inflate = malloc(sizeof *inflate);
    if (!inflate)
        return NULL;
    isal_inflate_init(&inflate->state);
    inflate->state.crc_flag = ISAL_GZIP;
    return inflate;
}

void wfe_gunzip_inflate_free(struct wfe_gunzip_inflate *inflate)
{
    free(inflate);
}

void wfe_gunzip_inflate_reset(struct wfe_gunzip_inflate *inflate)
{
    isal_inflate_reset(&inflate->state);
}

enum wfe_gunzip_status wfe_gunzip_inflate_run(
    struct wfe_gunzip_inflate *inflate, struct wfe_gunzip_buffers *buffers)
{
    struct inflate_state *state = &inflate->state;
    state->next_in = (uint8_t *)buffers->in; /* it is not written to */
    state->avail_in = (uint32_t)buffers->in_bytes;
    state->next_out = buffers->out;
    state->avail_out = (uint32_t)buffers->out_bytes;
    int status = isal_inflate(state);
    buffers->in = state->next_in;
    buffers->in_bytes = state->avail_in;
    buffers->out = state->next_out;
    buffers->out_bytes = state->avail_out;
    if (status < 0)
        return WFE_GUNZIP_BROKEN;
    return state->block_state == ISAL_BLOCK_FINISH ? WFE_GUNZIP_END : WFE_GUNZIP_MORE;
}
