/* SPDX-License-Identifier: MIT */
#include "artifactfs/stream_decoder.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { INPUT_BYTES = 128 * 1024 };

ssize_t wfe_source_read(const struct wfe_source *source, void *data, size_t length, uint64_t offset,
    struct wfe_error *err)
{
    if (offset >= source->length_bytes)
        return 0;
    if (length > source->length_bytes - offset)
        length = (size_t)(source->length_bytes - offset);
    size_t got = 0;
    while (got < length) {
        ssize_t n = pread(source->fd, (char *)data + got, length - got,
            (off_t)(source->offset_bytes + offset + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return wfe_error_system(err, errno, "read");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

int wfe_input_init(struct wfe_input *input, const struct wfe_source *source)
{
    *input = (struct wfe_input){.source = source, .data = malloc(INPUT_BYTES)};
    return input->data ? 0 : -ENOMEM;
}

void wfe_input_done(struct wfe_input *input)
{
    free(input->data);
    input->data = NULL;
}

uint64_t wfe_input_tell(const struct wfe_input *input)
{
    return input->next - (input->end - input->begin);
}

void wfe_input_seek(struct wfe_input *input, uint64_t offset)
{
    if (offset <= input->next && input->next - offset <= input->end) {
        input->begin = input->end - (size_t)(input->next - offset);
        return;
    }
    input->begin = 0;
    input->end = 0;
    input->next = offset;
}

int wfe_input_fill(struct wfe_input *input, size_t *ret_left, struct wfe_error *err)
{
    if (input->begin == input->end) {
        ssize_t n = wfe_source_read(input->source, input->data, INPUT_BYTES, input->next, err);
        if (n < 0)
            return (int)n;
        input->begin = 0;
        input->end = (size_t)n;
        input->next += (uint64_t)n;
    }
    *ret_left = input->end - input->begin;
    return 0;
}

int wfe_input_byte(struct wfe_input *input, unsigned char *ret, struct wfe_error *err)
{
    size_t left;
    int r = wfe_input_fill(input, &left, err);
    if (r < 0)
        return r;
    if (left == 0)
        return 0;
    *ret = input->data[input->begin++];
    return 1;
}

int wfe_decoder_decode(struct wfe_decoder *decoder, unsigned char *data, size_t length,
    size_t *ret_length, struct wfe_error *err)
{
    decoder->stopped = false;
    if (decoder->failure.kind == WFE_ERROR_NONE) {
        size_t got = 0;
        int r = decoder->ops->decode(decoder, data, length, &got, &decoder->failure);
        assert(got <= length && (r == 0 || decoder->failure.kind != WFE_ERROR_NONE));
        decoder->out += got;
        if (r == 0 || got > 0) {
            *ret_length = got;
            return 0;
        }
    }
    return wfe_error_set(
        err, decoder->failure.kind, decoder->failure.errnum, "%s", decoder->failure.message);
}

void wfe_decoder_free(struct wfe_decoder *decoder)
{
    if (decoder)
        decoder->ops->free(decoder);
}
