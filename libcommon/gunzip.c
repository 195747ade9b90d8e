/* SPDX-License-Identifier: MIT */
#include "libcommon/gunzip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/file.h"
#include "libcommon/gunzip_inflate.h"

#define IN_BYTES (64 * 1024)
#define OUT_BYTES (256 * 1024)
#define MAGIC_1 0x1F
#define MAGIC_2 0x8B

struct wfe_gunzip {
    int fd;
    struct wfe_gunzip_inflate *inflate;
    struct wfe_gunzip_buffers buffers;
    bool in_member, any_member, source_ended;
    uint64_t source_bytes; /* read so far */
    unsigned char in[IN_BYTES];
    unsigned char out[OUT_BYTES];
};

int wfe_gunzip_new(int fd, struct wfe_gunzip **ret, struct wfe_error *err)
{
    struct wfe_gunzip *gunzip = calloc(1, sizeof *gunzip);
    if (gunzip)
        gunzip->inflate = wfe_gunzip_inflate_new();
    if (!gunzip || !gunzip->inflate) {
        free(gunzip);
        return wfe_error_nomem(err);
    }
    gunzip->fd = fd;
    *ret = gunzip;
    return 0;
}

void wfe_gunzip_free(struct wfe_gunzip *gunzip)
{
    if (!gunzip)
        return;
    wfe_gunzip_inflate_free(gunzip->inflate);
    free(gunzip);
}

/* More of the file behind what is left of it. */
static int fill(struct wfe_gunzip *gunzip, struct wfe_error *err)
{
    struct wfe_gunzip_buffers *buffers = &gunzip->buffers;
    size_t left = buffers->in_bytes;
    if (left > 0)
        memmove(gunzip->in, buffers->in, left);
    ssize_t n = wfe_read_full(gunzip->fd, gunzip->in + left, IN_BYTES - left);
    if (n < 0)
        return wfe_error_system(err, (int)-n, "read");
    gunzip->source_bytes += (uint64_t)n;
    gunzip->source_ended = (size_t)n < IN_BYTES - left;
    buffers->in = gunzip->in;
    buffers->in_bytes = left + (size_t)n;
    return 0;
}

static bool begins_member(const struct wfe_gunzip_buffers *buffers)
{
    return buffers->in_bytes >= 2 && buffers->in[0] == MAGIC_1 && buffers->in[1] == MAGIC_2;
}

static int inflate_some(struct wfe_gunzip *gunzip, struct wfe_error *err)
{
    struct wfe_gunzip_buffers *buffers = &gunzip->buffers;
    enum wfe_gunzip_status status = wfe_gunzip_inflate_run(gunzip->inflate, buffers);
    unsigned long long at = gunzip->source_bytes - buffers->in_bytes;
    switch (status) {
    case WFE_GUNZIP_NOMEM:
        return wfe_error_nomem(err);
    case WFE_GUNZIP_BROKEN:
        return wfe_error_set(
            err, WFE_ERROR_ARCHIVE, EBADMSG, "gzip: malformed or damaged before byte %llu", at);
    case WFE_GUNZIP_END:
        gunzip->in_member = false;
        return 0;
    case WFE_GUNZIP_MORE:
        break;
    }
    if (gunzip->source_ended && buffers->in_bytes == 0 && buffers->out_bytes == OUT_BYTES)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG,
            "cut off: the compressed stream has no end (%llu bytes)", at);
    return 0;
}

ssize_t wfe_gunzip_next(struct wfe_gunzip *gunzip, const void **ret_data, struct wfe_error *err)
{
    struct wfe_gunzip_buffers *buffers = &gunzip->buffers;
    buffers->out = gunzip->out;
    buffers->out_bytes = OUT_BYTES;
    while (buffers->out_bytes == OUT_BYTES) {
        int r = 0;
        if (buffers->in_bytes < 2 && !gunzip->source_ended)
            r = fill(gunzip, err);
        if (r == 0 && !gunzip->in_member) {
            if (!begins_member(buffers) && gunzip->any_member)
                return 0;
            wfe_gunzip_inflate_reset(gunzip->inflate);
            gunzip->in_member = gunzip->any_member = true;
        }
        if (r == 0)
            r = inflate_some(gunzip, err);
        if (r < 0)
            return r;
    }
    *ret_data = gunzip->out;
    return OUT_BYTES - (ssize_t)buffers->out_bytes;
}
