/* SPDX-License-Identifier: MIT */
#include "artifactfs/artifact_source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "artifactfs/index_source.h"
#include "artifactfs/layer_spool.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"

enum { COPY_BYTES = 256 * 1024 };

/* Enough of a file to tell whether it is an archive. */
#define PROBED_BYTES (UINT64_C(1024) * 1024)

/* The first bytes of the artifact in a file of their own. */
static int copy_range(const struct wfe_artifact *artifact, int fd, uint64_t offset, uint64_t length,
    uint64_t max_bytes, int *ret, struct wfe_error *err)
{
    WFE_LAYER_SPOOL struct wfe_layer_spool spool = WFE_LAYER_SPOOL_INIT;
    WFE_FREE char *chunk = malloc(COPY_BYTES);
    if (!chunk)
        return wfe_error_nomem(err);
    int r = wfe_layer_spool_open(&spool, wfe_artifact_spool_directory(artifact), max_bytes, err);
    struct wfe_sink sink = wfe_layer_spool_sink(&spool);
    for (uint64_t done = 0; r == 0 && done < length;) {
        size_t wanted = length - done < COPY_BYTES ? (size_t)(length - done) : COPY_BYTES;
        ssize_t n = pread(fd, chunk, wanted, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? wfe_error_system(err, errno, "read")
                         : wfe_error_set(err, WFE_ERROR_ARCHIVE, EIO, "it was cut off");
        r = sink.write(sink.context, chunk, (size_t)n, err);
        done += (uint64_t)n;
    }
    if (r == 0)
        *ret = wfe_steal_fd(&spool.fd);
    return r;
}

/* The artifact's file or directory; that of an archive inside of another file as a copy, of
 * max_bytes at most unless it is to be whole. */
static int open_file(const struct wfe_artifact *artifact, bool is_whole, uint64_t max_bytes,
    int *ret_fd, bool *ret_is_copy, struct wfe_error *err)
{
    uint64_t offset;
    WFE_CLOSE int fd = wfe_artifact_reopen(artifact, &offset);
    struct stat st;
    if (fd < 0)
        return wfe_error_system(err, -fd, "open");
    if (fstat(fd, &st) < 0)
        return wfe_error_system(err, errno, "stat");
    uint64_t size = wfe_artifact_size(artifact);
    bool is_part = S_ISREG(st.st_mode) && (offset > 0 || size < (uint64_t)st.st_size);
    *ret_is_copy = is_part;
    if (!is_part) {
        *ret_fd = wfe_steal_fd(&fd);
        return 0;
    }
    uint64_t length = !is_whole && size > max_bytes ? max_bytes : size;
    return copy_range(artifact, fd, offset, length, max_bytes, ret_fd, err);
}

/* Whether the artifact may be a file that is no archive: such a one has a single item. */
static bool may_be_plain(const struct wfe_index *index)
{
    return index->place != WFE_INDEX_FILES && index->item_count == 1;
}

static int find_plain(struct wfe_artifact *artifact, struct wfe_layer_source **ret,
    bool *ret_is_plain, struct wfe_error *err)
{
    WFE_CLOSE int fd = -1;
    bool is_copy = false;
    int r = open_file(artifact, false, PROBED_BYTES, &fd, &is_copy, err);
    enum wfe_archive_form form = WFE_ARCHIVE_NONE;
    if (r == 0)
        r = wfe_archive_probe_fd(fd, &form, NULL, err);
    if (r < 0)
        return r;
    *ret_is_plain = form == WFE_ARCHIVE_NONE;
    if (!*ret_is_plain)
        return 0;
    if (is_copy)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "it is no archive");
    return wfe_file_source_new(wfe_steal_fd(&fd), wfe_artifact_file_name(artifact), ret, err);
}

static int read_again(struct wfe_artifact *artifact, uint64_t max_spool_bytes,
    struct wfe_layer_source **ret, struct wfe_error *err)
{
    int fd = -1;
    bool is_copy = false;
    int r = open_file(artifact, true, max_spool_bytes, &fd, &is_copy, err);
    if (r < 0)
        return r;
    return wfe_artifact_index(artifact)->place == WFE_INDEX_FILES
               ? wfe_directory_source_new(fd, ret, err)
               : wfe_archive_source_new(fd, ret, err);
}

int wfe_artifact_source_new(struct wfe_artifact *artifact, uint64_t max_spool_bytes,
    bool *ret_is_seekable, struct wfe_layer_source **ret, struct wfe_error *err)
{
    const struct wfe_index *index = wfe_artifact_index(artifact);
    char reason[512];
    if (index->broken)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EIO, "it is broken: %s", index->broken);
    if (wfe_artifact_state(artifact, reason, sizeof reason) == WFE_ARTIFACT_BROKEN)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EIO, "it is broken: %s", reason);
    bool is_plain = false;
    int r = may_be_plain(index) ? find_plain(artifact, ret, &is_plain, err) : 0;
    if (r < 0)
        return r;
    bool is_exact = wfe_index_source_is_exact(index);
    if (!is_plain)
        r = is_exact ? wfe_index_source_new(artifact, ret, err)
                     : read_again(artifact, max_spool_bytes, ret, err);
    if (r == 0)
        *ret_is_seekable = is_plain || is_exact;
    return r;
}
