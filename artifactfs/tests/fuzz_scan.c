/* SPDX-License-Identifier: MIT */

/* Any bytes as an archive, through stream and scan: the index that comes out holds together, and
 * every byte that it tells of can be read, or is an error. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "artifactfs/index.h"
#include "artifactfs/scan.h"
#include "artifactfs/stream.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SPOOL_BYTES = 4 << 20 };

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void read_some(struct wfe_index *index, struct wfe_stream *stream, uint32_t inode)
{
    char buffer[512];
    bool is_hole;
    uint64_t place, length, at = 0;
    for (int i = 0; i < 8; i++) {
        int r = wfe_index_locate(index, inode, at, &is_hole, &place, &length);
        require(r == 0 || r == -ENXIO || r == -EIO);
        if (r < 0)
            break;
        require(length > 0);
        if (!is_hole && !(place & WFE_INDEX_IN_SPOOL))
            wfe_stream_read(stream, buffer, length < sizeof buffer ? (size_t)length : sizeof buffer,
                place, NULL);
        at += length;
    }
    wfe_index_seek(index, inode, 0, SEEK_DATA);
    wfe_index_seek(index, inode, 1, SEEK_HOLE);
}

static void check_inode(struct wfe_index *index, struct wfe_stream *stream, uint32_t inode)
{
    struct stat st;
    char target[WFE_MAX_TARGET_BYTES + 1], names[512];
    require(wfe_index_stat(index, inode, &st) == 0);
    wfe_index_listxattr(index, inode, names, sizeof names);
    if (S_ISREG(st.st_mode))
        read_some(index, stream, inode);
    if (S_ISLNK(st.st_mode))
        require(
            wfe_index_readlink(index, inode, target) == 0 && strlen(target) == (size_t)st.st_size);
}

/* Every path, from the root down; each directory's children once. */
static void check_tree(struct wfe_index *index, struct wfe_stream *stream)
{
    uint64_t children = 0, subdirectories = 0;
    for (uint32_t i = 0; i < index->inode_count; i++) {
        check_inode(index, stream, i);
        const char *name;
        size_t length;
        uint32_t inode;
        for (uint32_t n = 0; wfe_index_child(index, i, n, &name, &length, &inode) == 0; n++) {
            char copy[WFE_MAX_COMPONENT_BYTES + 1];
            require(length > 0 && length <= WFE_MAX_COMPONENT_BYTES && !memchr(name, '/', length));
            memcpy(copy, name, length);
            copy[length] = '\0';
            uint32_t found;
            require(wfe_index_lookup(index, i, copy, NULL, &found) == 0 && found == inode);
            children++;
            if (S_ISDIR(index->inodes[inode].mode)) {
                require(wfe_index_parent(index, inode) == i);
                subdirectories++;
            }
        }
    }
    require(children == index->child_count && subdirectories < index->inode_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);
    require(fd >= 0 && wfe_write_all(fd, data, size) == 0);
    struct wfe_stream_options stream_options = {
        .spool_directory = "/tmp", .max_spool_bytes = MAX_SPOOL_BYTES};
    struct wfe_scan_options options = {
        .file_name = "file", .spool_directory = "/tmp", .max_spool_bytes = MAX_SPOOL_BYTES};
    struct wfe_stream *stream;
    struct wfe_scan *scan;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_stream_open(fd, &stream_options, &stream, &err);
    if (r < 0) {
        require(err.kind != WFE_ERROR_NONE && r == -err.errnum);
        return 0;
    }
    r = wfe_scan_open(stream, &options, &scan, &err);
    if (r == 0) {
        struct wfe_index *index = wfe_scan_take_index(scan);
        r = wfe_scan_run(scan, &err);
        require(wfe_index_is_complete(index));
        require(r == 0 || index->broken);
        check_tree(index, stream);
        wfe_scan_free(scan);
        wfe_index_free(index);
    }
    require(r == 0 || (err.kind != WFE_ERROR_NONE && r == -err.errnum));
    wfe_stream_free(stream);
    return 0;
}
