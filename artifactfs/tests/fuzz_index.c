/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as an index from the cache: it is refused, or can be asked anything and comes out of
 * the cache again as it was. The first byte says whether the rest is the file, or (what mutations
 * get through to) the content of its frame.
 */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <zstd.h>

#include "artifactfs/index_cache.h"
#include "artifactfs/index_form.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_FILE_BYTES = 64 << 20, MAX_DEPTH = 200 };

static const struct stat file = {.st_size = 4711, .st_mtim = {.tv_sec = 1, .tv_nsec = 2}};

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static int to_buffer(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

/* The content as a file. */
static void wrap(const uint8_t *content, size_t size, struct wfe_buffer *ret)
{
    char head[WFE_INDEX_FORM_HEAD_BYTES] = WFE_INDEX_FORM_MAGIC;
    head[WFE_INDEX_FORM_MAGIC_BYTES] = WFE_INDEX_FORMAT_VERSION;
    size_t bound = ZSTD_compressBound(size);
    WFE_FREE char *frame = malloc(bound);
    expect(frame);
    size_t length = ZSTD_compress(frame, bound, content, size, 1);
    expect(!ZSTD_isError(length));
    expect(wfe_buffer_append(ret, head, sizeof head) == 0);
    expect(wfe_buffer_append(ret, frame, length) == 0);
}

static void ask_inode(struct wfe_index *index, uint32_t inode)
{
    struct stat st;
    expect(wfe_index_stat(index, inode, &st) == 0);
    char target[WFE_MAX_TARGET_BYTES + 1];
    expect((wfe_index_readlink(index, inode, target) == 0) == S_ISLNK(st.st_mode));
    char list[4096];
    ssize_t length = wfe_index_listxattr(index, inode, list, sizeof list);
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(list + at) + 1)
        (void)wfe_index_getxattr(index, inode, list + at, NULL, 0);
    if (!S_ISREG(st.st_mode))
        return;
    uint64_t offset = 0, data, step;
    bool is_hole;
    for (int i = 0; i < 1000 && offset < (uint64_t)st.st_size; i++, offset += step) {
        int r = wfe_index_locate(index, inode, offset, &is_hole, &data, &step);
        if (r == -EIO) /* its data are lost */
            return;
        expect(r == 0 && step > 0 && step <= (uint64_t)st.st_size - offset);
        (void)wfe_index_seek(index, inode, (int64_t)offset, SEEK_DATA);
        (void)wfe_index_seek(index, inode, (int64_t)offset, SEEK_HOLE);
    }
}

static void walk(struct wfe_index *index, uint32_t directory, int depth)
{
    const char *name;
    size_t name_length;
    uint32_t inode;
    (void)wfe_index_parent(index, directory);
    for (uint32_t i = 0; wfe_index_child(index, directory, i, &name, &name_length, &inode) == 0;
         i++) {
        char text[WFE_MAX_COMPONENT_BYTES + 1];
        expect(name_length < sizeof text);
        memcpy(text, name, name_length);
        text[name_length] = '\0';
        uint32_t found;
        expect(wfe_index_lookup(index, directory, text, NULL, &found) == 0);
        ask_inode(index, inode);
        if (S_ISDIR(index->inodes[inode].mode) && depth < MAX_DEPTH)
            walk(index, inode, depth + 1);
    }
}

static struct wfe_stream *open_stream(void)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);
    expect(fd >= 0);
    struct wfe_stream_options options = {.spool_directory = "/tmp", .max_spool_bytes = 1};
    struct wfe_stream *stream;
    expect(wfe_stream_open(fd, &options, &stream, NULL) == 0);
    const void *data;
    size_t length;
    expect(wfe_stream_next(stream, &data, &length, NULL) == 0 && length == 0);
    return stream;
}

static int decode(const struct wfe_buffer *input, struct wfe_index **ret, struct wfe_error *err)
{
    WFE_CLOSE int fd = memfd_create("index", MFD_CLOEXEC);
    expect(fd >= 0 && wfe_write_all(fd, input->data, input->length) == 0 && lseek(fd, 0, 0) == 0);
    return wfe_index_decode(fd, &file, NULL, ret, err);
}

static void save_and_load(struct wfe_index *index)
{
    WFE_BUFFER struct wfe_buffer first = WFE_BUFFER_INIT(MAX_FILE_BYTES);
    struct wfe_sink sink = {.write = to_buffer, .context = &first};
    WFE_STREAM struct wfe_stream *stream = open_stream();
    expect(wfe_index_encode(index, stream, &file, sink, NULL) == 0);
    struct wfe_index *again;
    /* The empty stream that it says now has nothing of what the files refer to. */
    if (decode(&first, &again, NULL) < 0)
        return;
    expect(again->tree.node_count == index->tree.node_count);
    expect(again->inode_count == index->inode_count && again->item_count == index->item_count);
    wfe_index_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    WFE_BUFFER struct wfe_buffer input = WFE_BUFFER_INIT(MAX_FILE_BYTES);
    if (data[0] & 1)
        wrap(data + 1, size - 1, &input);
    else
        expect(wfe_buffer_append(&input, data + 1, size - 1) == 0);
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_index *index = NULL;
    int r = decode(&input, &index, &err);
    if (r < 0) {
        expect(!index && r == -err.errnum && *err.message);
        return 0;
    }
    expect(err.kind == WFE_ERROR_NONE && wfe_index_is_complete(index));
    walk(index, WFE_INDEX_ROOT, 0);
    save_and_load(index);
    wfe_index_free(index);
    return 0;
}
