/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "artifactfs/artifact_parts.h"
#include "libcommon/layer.h"

#define BLOCK_BYTES 512

/* A tar without entries is 1 to 20 blocks of zeros. */
#define EMPTY_TAR_BYTES (UINT64_C(20) * BLOCK_BYTES)

/* POSIX.1-2017, pax, "ustar Interchange Format": the sum of the header's bytes, its own eight taken
 * for spaces. */
static bool is_tar_header(const unsigned char *block)
{
    unsigned sum = 0, stored = 0;
    bool has_digits = false;
    for (size_t i = 0; i < BLOCK_BYTES; i++)
        sum += i >= 148 && i < 156 ? ' ' : block[i];
    for (size_t i = 148; i < 156; i++) {
        if (block[i] >= '0' && block[i] <= '7') {
            stored = stored * 8 + (unsigned)(block[i] - '0');
            has_digits = true;
        } else if (has_digits) {
            break;
        }
    }
    return has_digits && sum == stored && block[0] != '\0';
}

static bool is_empty_tar(const unsigned char *block, uint64_t decoded_bytes)
{
    for (size_t i = 0; i < BLOCK_BYTES; i++) {
        if (block[i] != 0)
            return false;
    }
    return decoded_bytes <= EMPTY_TAR_BYTES;
}

static const char *tar_type(enum wfe_stream_filter filter)
{
    switch (filter) {
    case WFE_STREAM_PLAIN:
        return WFE_LAYER_MEDIA_TYPE_TAR;
    case WFE_STREAM_GZIP:
        return WFE_LAYER_MEDIA_TYPE_GZIP;
    case WFE_STREAM_ZSTD:
        return WFE_LAYER_MEDIA_TYPE_ZSTD;
    default:
        return NULL;
    }
}

/* The first decoded bytes, as far as they are there by now. */
static size_t read_head(struct wfe_artifact *artifact, unsigned char block[static BLOCK_BYTES])
{
    ssize_t n;
    if (wfe_stream_filter(artifact->stream) != WFE_STREAM_PLAIN) {
        n = wfe_stream_read(artifact->stream, block, BLOCK_BYTES, 0, NULL);
    } else {
        size_t length =
            artifact->size_bytes < BLOCK_BYTES ? (size_t)artifact->size_bytes : BLOCK_BYTES;
        do {
            n = pread(artifact->fd, block, length, (off_t)artifact->offset_bytes);
        } while (n < 0 && errno == EINTR);
    }
    return n > 0 ? (size_t)n : 0;
}

const char *wfe_artifact_media_type(struct wfe_artifact *artifact)
{
    if (!artifact->stream)
        return "inode/directory";
    const char *type = atomic_load(&artifact->media_type);
    if (type)
        return type;
    /* Asked first: what the head lacks then, it will lack for ever. */
    bool is_final = wfe_index_is_complete(artifact->index);
    unsigned char block[BLOCK_BYTES];
    size_t length = read_head(artifact, block);
    enum wfe_stream_filter filter = wfe_stream_filter(artifact->stream);
    uint64_t decoded_bytes =
        filter == WFE_STREAM_PLAIN ? artifact->size_bytes : wfe_stream_length(artifact->stream);
    if (length == BLOCK_BYTES && (is_tar_header(block) || is_empty_tar(block, decoded_bytes)))
        type = tar_type(filter);
    else if (filter == WFE_STREAM_PLAIN && length >= 4 &&
             (memcmp(block, "PK\3\4", 4) == 0 || memcmp(block, "PK\5\6", 4) == 0))
        type = "application/zip";
    if (!type)
        type = "application/octet-stream";
    if (is_final || length == BLOCK_BYTES)
        atomic_store(&artifact->media_type, type);
    return type;
}
