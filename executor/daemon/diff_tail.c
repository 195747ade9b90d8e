/* SPDX-License-Identifier: MIT */
#include "executor/daemon/diff_tail.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/layer_tar.h"

/* A step that says little is read with one request. */
#define WINDOW_BYTES (64 * 1024)

/* containerd's pax records hold a long name at most. */
#define PAX_MAX_BYTES (16 * 1024)

/* The tar, of which the last piece that was read is kept. */
struct window {
    wfe_diff_reader *reader;
    void *context;
    uint64_t size_bytes;
    uint64_t offset;
    struct wfe_buffer bytes;
};

static int malformed(uint64_t offset, const char *what, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG,
        "the daemon's tar of the step's output: byte %" PRIu64 ": %s", offset, what);
}

static int keep(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

static bool holds(const struct window *window, uint64_t offset, uint64_t length)
{
    return offset >= window->offset && offset + length <= window->offset + window->bytes.length;
}

/* A view of at most WINDOW_BYTES, until the next call. */
static int look(struct window *window, uint64_t offset, uint64_t length, const char **ret,
    struct wfe_error *err)
{
    if (!holds(window, offset, length)) {
        window->bytes.length = 0;
        window->offset = offset;
        int r = window->reader(window->context, offset, WINDOW_BYTES,
            (struct wfe_sink){.write = keep, .context = &window->bytes}, err);
        if (r < 0)
            return r;
    }
    if (!holds(window, offset, length))
        return malformed(offset, "it ends too early", err);
    *ret = window->bytes.data + (offset - window->offset);
    return 0;
}

/* An octal number in a header's field; -1 for something else. */
static int64_t octal(const char *field, size_t size)
{
    int64_t value = 0;
    size_t i = 0;
    while (i < size && field[i] == ' ')
        i++;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        value = value * 8 + (field[i] - '0');
    return i == size || field[i] == '\0' || field[i] == ' ' ? value : -1;
}

static bool has_checksum(const char *header)
{
    int64_t sum = 8 * ' ';
    for (size_t i = 0; i < WFE_TAR_BLOCK_BYTES; i++)
        if (i < 148 || i >= 156)
            sum += (unsigned char)header[i];
    return octal(header + 148, 8) == sum;
}

/* The value of "size" among pax records, "LENGTH KEY=VALUE\n" each; 0 without one. */
static int pax_size(const char *records, size_t length, uint64_t *ret)
{
    const char *end = records + length;
    while (records < end) {
        char *key;
        unsigned long record_length = strtoul(records, &key, 10);
        if (record_length < 5 || record_length > (size_t)(end - records) || *key != ' ' ||
            records[record_length - 1] != '\n')
            return -EBADMSG;
        if (strncmp(key, " size=", 6) == 0)
            *ret = strtoull(key + 6, NULL, 10);
        records += record_length;
    }
    return 0;
}

static int pass_on(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct wfe_diff_tail *tail = context;
    int r = tail->sink.write(tail->sink.context, data, length, err);
    if (r == 0)
        tail->read_bytes += length;
    return r;
}

static int read_tail(struct window *window, struct wfe_diff_tail *tail, uint64_t data_offset,
    uint64_t size_bytes, struct wfe_error *err)
{
    if (size_bytes <= tail->read_bytes)
        return 0;
    uint64_t offset = data_offset + tail->read_bytes, length = size_bytes - tail->read_bytes;
    if (holds(window, offset, length))
        return pass_on(tail, window->bytes.data + (offset - window->offset), (size_t)length, err);
    return window->reader(
        window->context, offset, length, (struct wfe_sink){.write = pass_on, .context = tail}, err);
}

static int take_pax(
    struct window *window, uint64_t offset, uint64_t size, uint64_t *ret, struct wfe_error *err)
{
    const char *view;
    if (size > PAX_MAX_BYTES)
        return malformed(offset, "its pax records are too long", err);
    int r = look(window, offset, size, &view, err);
    if (r < 0)
        return r;
    char *records = strndup(view, (size_t)size);
    if (!records)
        return wfe_error_nomem(err);
    r = pax_size(records, strlen(records), ret);
    free(records);
    return r < 0 ? malformed(offset, "no pax records", err) : 0;
}

static struct wfe_diff_tail *find_tail(
    const char *header, struct wfe_diff_tail *tails, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strncmp(header, tails[i].name, 100) == 0)
            return &tails[i];
    return NULL;
}

/* One header and what belongs to it. *offset advances to the next; *pax_bytes goes from a pax
 * header to the entry that it is for. */
static int read_entry(struct window *window, const char *header, uint64_t *offset,
    uint64_t *pax_bytes, struct wfe_diff_tail *tails, size_t count, struct wfe_error *err)
{
    int64_t field = octal(header + 124, 12);
    if (memcmp(header + 257, "ustar", 5) != 0 || !has_checksum(header) || field < 0)
        return malformed(*offset, "no header of a tar", err);
    char type = header[156];
    struct wfe_diff_tail *tail =
        type == '0' || type == '\0' ? find_tail(header, tails, count) : NULL;
    uint64_t size = (uint64_t)field, data_offset = *offset + WFE_TAR_BLOCK_BYTES;
    int r = 0;
    if (type == 'x') {
        r = take_pax(window, data_offset, size, pax_bytes, err);
    } else {
        if (*pax_bytes > 0)
            size = *pax_bytes;
        *pax_bytes = 0;
        if (data_offset > window->size_bytes || size > window->size_bytes - data_offset)
            return malformed(*offset, "an entry longer than the tar", err);
        if (tail)
            r = read_tail(window, tail, data_offset, size, err);
    }
    uint64_t blocks = (size + WFE_TAR_BLOCK_BYTES - 1) / WFE_TAR_BLOCK_BYTES;
    *offset = data_offset + blocks * WFE_TAR_BLOCK_BYTES;
    return r;
}

int wfe_diff_tails_from(wfe_diff_reader *reader, void *context, uint64_t size_bytes,
    struct wfe_diff_tail *tails, size_t count, struct wfe_error *err)
{
    struct window window = {
        .reader = reader,
        .context = context,
        .size_bytes = size_bytes,
        .bytes = WFE_BUFFER_INIT(WINDOW_BYTES),
    };
    uint64_t offset = 0, pax_bytes = 0;
    int r = 0;
    while (r == 0) {
        const char *header;
        r = look(&window, offset, WFE_TAR_BLOCK_BYTES, &header, err);
        /* Two blocks of zeros are the end. */
        if (r < 0 || header[0] == '\0')
            break;
        r = read_entry(&window, header, &offset, &pax_bytes, tails, count, err);
    }
    wfe_buffer_done(&window.bytes);
    return r;
}

struct of_daemon {
    const struct wfe_session *session;
    const struct wfe_diff *diff;
};

static int read_daemon(
    void *context, uint64_t offset, uint64_t length, struct wfe_sink sink, struct wfe_error *err)
{
    const struct of_daemon *of = context;
    return wfe_diff_read(of->session, of->diff, offset, length, sink, err);
}

int wfe_diff_tails(const struct wfe_session *session, const struct wfe_diff *diff,
    struct wfe_diff_tail *tails, size_t count, struct wfe_error *err)
{
    struct of_daemon of = {.session = session, .diff = diff};
    return wfe_diff_tails_from(read_daemon, &of, diff->size_bytes, tails, count, err);
}
