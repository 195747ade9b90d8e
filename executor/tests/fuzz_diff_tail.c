/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as the tar that a daemon makes of a step's output: what is read of it piece by piece,
 * while it grows, is what is read of it at once.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/daemon/diff_tail.h"
#include "libcommon/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BYTES = 1 << 20, TAILS = 2 };

struct tar {
    const uint8_t *data;
    size_t size;
};

struct followed {
    struct wfe_buffer out[TAILS];
    struct wfe_diff_tail tails[TAILS];
};

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static int append(void *context, const void *data, size_t length, struct wfe_error *err)
{
    int r = wfe_buffer_append(context, data, length);
    return r < 0 ? wfe_error_set(err, WFE_ERROR_LIMIT, -r, "too much") : 0;
}

static int read_tar(
    void *context, uint64_t offset, uint64_t length, struct wfe_sink sink, struct wfe_error *err)
{
    const struct tar *tar = context;
    if (offset >= tar->size)
        return 0;
    if (length > tar->size - offset)
        length = tar->size - offset;
    return sink.write(sink.context, tar->data + offset, (size_t)length, err);
}

static int read_on(struct followed *followed, struct tar tar)
{
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_diff_tails_from(read_tar, &tar, tar.size, followed->tails, TAILS, &err);
    expect((r == 0) == (err.kind == WFE_ERROR_NONE));
    expect(r == 0 || err.kind == WFE_ERROR_ARCHIVE || err.kind == WFE_ERROR_LIMIT);
    for (int i = 0; i < TAILS; i++)
        expect(followed->tails[i].read_bytes == followed->out[i].length);
    return r;
}

static void follow(struct followed *followed)
{
    static const char *const names[TAILS] = {"stdout", "stderr"};
    *followed = (struct followed){.out = {WFE_BUFFER_INIT(MAX_BYTES), WFE_BUFFER_INIT(MAX_BYTES)}};
    for (int i = 0; i < TAILS; i++)
        followed->tails[i] = (struct wfe_diff_tail){
            .name = names[i], .sink = {.write = append, .context = &followed->out[i]}};
}

static void unfollow(struct followed *followed)
{
    for (int i = 0; i < TAILS; i++)
        wfe_buffer_done(&followed->out[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct followed once, twice;
    follow(&once);
    follow(&twice);
    int r = read_on(&once, (struct tar){data, size});
    (void)read_on(&twice, (struct tar){data, size / 2});
    expect(read_on(&twice, (struct tar){data, size}) == r);
    /* A file that stands in the tar twice is two of different lengths. */
    for (int i = 0; i < TAILS; i++)
        expect(r < 0 || twice.out[i].length == once.out[i].length);
    unfollow(&once);
    unfollow(&twice);
    return 0;
}
