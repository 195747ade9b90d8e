/* SPDX-License-Identifier: MIT */

/* Any bytes as an archive: a layer comes out that makes itself again, or an error. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TAR_BYTES = 8 << 20 };

static int to_buffer(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

static int make_layer(const void *data, size_t size, const char *prefix, struct wfe_buffer *layer,
    struct wfe_layer_result *ret, struct wfe_error *err)
{
    WFE_CLOSE int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0 || wfe_write_all(fd, data, size) < 0)
        abort();
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct wfe_layer_options options = {
        .prefix = prefix,
        .limits = {.max_tar_bytes = MAX_TAR_BYTES, .max_entries = 10000},
    };
    struct wfe_sink sink = {.write = to_buffer, .context = layer};
    return wfe_layer_write(path, &options, sink, ret, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    WFE_BUFFER struct wfe_buffer layer = WFE_BUFFER_INIT(MAX_TAR_BYTES);
    WFE_BUFFER struct wfe_buffer again = WFE_BUFFER_INIT(MAX_TAR_BYTES);
    struct wfe_layer_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = make_layer(data, size, "in/data", &layer, &result, &err);
    if (r < 0) {
        if (err.kind == WFE_ERROR_NONE || r != -err.errnum || !*err.message)
            abort();
        return 0;
    }
    if (err.kind != WFE_ERROR_NONE || result.tar_bytes != layer.length)
        abort();
    if (make_layer(layer.data, layer.length, NULL, &again, &result, &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    if (again.length != layer.length || memcmp(again.data, layer.data, layer.length) != 0)
        abort();
    return 0;
}
