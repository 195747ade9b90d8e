/* SPDX-License-Identifier: MIT */
#include "artifactfs/fuse_ops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "artifactfs/fuse_place.h"

/* Reads ahead that the kernel may have under way; its own default is 12. */
#define MAX_BACKGROUND 64

#define BLOCK_BYTES 4096

void wfe_fuse_init(struct wfe_fuse *fs, struct wfe_volume *volume,
    struct wfe_virtual *virtual_files, const struct wfe_fuse_owner *owner)
{
    *fs = (struct wfe_fuse){
        .volume = volume,
        .virtual_files = virtual_files,
        .owner = *owner,
    };
    pthread_mutex_init(&fs->buffers_lock, NULL);
}

void wfe_fuse_done(struct wfe_fuse *fs)
{
    for (size_t i = 0; i < fs->buffer_count; i++)
        free(fs->buffers[i]);
    fs->buffer_count = 0;
    pthread_mutex_destroy(&fs->buffers_lock);
}

/* A buffer of this size would be mapped and unmapped by malloc() for every reply. */
static char *take_buffer(struct wfe_fuse *fs, size_t size)
{
    if (size > WFE_FUSE_BUFFER_BYTES)
        return malloc(size);
    char *buffer = NULL;
    pthread_mutex_lock(&fs->buffers_lock);
    if (fs->buffer_count > 0)
        buffer = fs->buffers[--fs->buffer_count];
    pthread_mutex_unlock(&fs->buffers_lock);
    return buffer ? buffer : malloc(WFE_FUSE_BUFFER_BYTES);
}

static void give_buffer(struct wfe_fuse *fs, char *buffer, size_t size)
{
    if (size <= WFE_FUSE_BUFFER_BYTES) {
        pthread_mutex_lock(&fs->buffers_lock);
        if (fs->buffer_count < WFE_FUSE_KEPT_BUFFERS) {
            fs->buffers[fs->buffer_count++] = buffer;
            buffer = NULL;
        }
        pthread_mutex_unlock(&fs->buffers_lock);
    }
    free(buffer);
}

static void init(void *user_data, struct fuse_conn_info *conn)
{
    struct wfe_fuse *fs = user_data;
    static const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS |
                                   FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
                                   FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_ASYNC_DIO;
    /* What was read of an inode stays true, so there is nothing to invalidate; listings are read
     * with all attributes, since most who list ask for them next. */
    static const unsigned unwanted =
        FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ |
        FUSE_CAP_SPLICE_WRITE | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | FUSE_CAP_IOCTL_DIR;
    conn->want |= conn->capable & wanted;
    conn->want &= ~unwanted;
    conn->max_background = MAX_BACKGROUND;
    conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
    conn->time_gran = 1;
    /* The kernel takes no more than the mount's bdi has. */
    conn->max_readahead = WFE_FUSE_READ_AHEAD_KIB * 1024;
    fs->parallel_directories = conn->capable & FUSE_CAP_PARALLEL_DIROPS;
    fs->skips_open = conn->capable & FUSE_CAP_NO_OPEN_SUPPORT;
    fs->skips_opendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
}

static void forget(fuse_req_t req, fuse_ino_t number, uint64_t lookups)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    if (number >= WFE_VIRTUAL_FIRST_CONTENT)
        wfe_virtual_forget(fs->virtual_files, number, lookups);
    fuse_reply_none(req);
}

static void forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    for (size_t i = 0; i < count; i++) {
        if (forgets[i].ino >= WFE_VIRTUAL_FIRST_CONTENT)
            wfe_virtual_forget(fs->virtual_files, forgets[i].ino, forgets[i].nlookup);
    }
    fuse_reply_none(req);
}

static void getattr(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)info;
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    struct wfe_place place;
    struct stat st;
    double timeout_s = 0;
    int r = wfe_place_of(fs, number, &place);
    if (r == 0)
        r = wfe_place_stat(fs, &place, &st, &timeout_s);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_attr(req, &st, timeout_s);
}

static void readlink_(fuse_req_t req, fuse_ino_t number)
{
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    struct wfe_place place;
    struct wfe_artifact *artifact;
    char target[WFE_MAX_TARGET_BYTES + 1];
    int r = wfe_place_of(fs, number, &place);
    if (r == 0 && place.kind != WFE_PLACE_ARTIFACT)
        r = -EINVAL;
    if (r == 0)
        r = wfe_place_open(fs, &place, &artifact);
    if (r == 0)
        r = wfe_index_readlink(wfe_artifact_index(artifact), place.inode, target);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_readlink(req, target);
}

/* The kernel asks once, then never again for the life of the mount: see fuse_ops.h. */
static void open_(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)number;
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    info->keep_cache = 1;
    if (fs->skips_open)
        fuse_reply_err(req, ENOSYS);
    else
        fuse_reply_open(req, info);
}

static void opendir_(fuse_req_t req, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)number;
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    /* A listing that has not everything must not be kept. */
    bool is_kept = !fs->owner.partial_listings;
    info->keep_cache = info->cache_readdir = is_kept;
    if (is_kept && fs->skips_opendir)
        fuse_reply_err(req, ENOSYS);
    else
        fuse_reply_open(req, info);
}

static ssize_t read_place(const struct wfe_fuse *fs, const struct wfe_place *place, char *buffer,
    size_t size, uint64_t offset, const struct wfe_index_patience *patience)
{
    if (place->kind == WFE_PLACE_ROOT)
        return -EISDIR;
    if (place->kind == WFE_PLACE_VIRTUAL)
        return wfe_virtual_read(fs->virtual_files, place->number, buffer, size, offset, patience);
    struct wfe_artifact *artifact;
    int r = wfe_place_open(fs, place, &artifact);
    return r < 0 ? r
                 : wfe_artifact_read(artifact, place->inode, buffer, size, offset, patience, NULL);
}

/* Through memory, also where the bytes lie in a file as they are: to splice them there took Linux
 * 6.18 12 times as long. */
static void read_(
    fuse_req_t req, fuse_ino_t number, size_t size, off_t offset, struct fuse_file_info *info)
{
    (void)info;
    struct wfe_fuse *fs = fuse_req_userdata(req);
    struct wfe_place place;
    int r = wfe_place_of(fs, number, &place);
    char *buffer = r == 0 ? take_buffer(fs, size) : NULL;
    if (r < 0 || !buffer) {
        fuse_reply_err(req, r < 0 ? -r : ENOMEM);
        return;
    }
    ssize_t n = read_place(fs, &place, buffer, size, (uint64_t)offset, WFE_FUSE_PATIENCE(fs, req));
    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else
        fuse_reply_buf(req, buffer, (size_t)n);
    give_buffer(fs, buffer, size);
}

static void lseek_(
    fuse_req_t req, fuse_ino_t number, off_t offset, int whence, struct fuse_file_info *info)
{
    (void)info;
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    struct wfe_place place;
    struct wfe_artifact *artifact;
    int64_t found = wfe_place_of(fs, number, &place);
    if (found == 0 && place.kind == WFE_PLACE_ARTIFACT) {
        found = wfe_place_open(fs, &place, &artifact);
        if (found == 0)
            found = wfe_index_seek(wfe_artifact_index(artifact), place.inode, offset, whence);
    } else if (found == 0) {
        /* A file without holes, at whose end there is one. */
        struct stat st;
        double timeout_s;
        found = wfe_place_stat(fs, &place, &st, &timeout_s);
        if (found == 0)
            found = offset >= st.st_size ? -ENXIO : whence == SEEK_HOLE ? st.st_size : offset;
    }
    if (found < 0)
        fuse_reply_err(req, (int)-found);
    else
        fuse_reply_lseek(req, found);
}

static void statfs_(fuse_req_t req, fuse_ino_t number)
{
    (void)number;
    const struct wfe_fuse *fs = fuse_req_userdata(req);
    struct statvfs st = {
        .f_bsize = BLOCK_BYTES,
        .f_frsize = BLOCK_BYTES,
        .f_namemax = WFE_MAX_COMPONENT_BYTES,
    };
    for (size_t i = 0; i < wfe_volume_count(fs->volume); i++) {
        struct wfe_artifact *artifact = wfe_volume_opened(fs->volume, i);
        if (!artifact)
            continue;
        struct wfe_index *index = wfe_artifact_index(artifact);
        pthread_rwlock_rdlock(&index->lock);
        st.f_files += index->inode_count;
        pthread_rwlock_unlock(&index->lock);
        st.f_blocks += (wfe_artifact_size(artifact) + BLOCK_BYTES - 1) / BLOCK_BYTES;
    }
    fuse_reply_statfs(req, &st);
}

const struct fuse_lowlevel_ops wfe_fuse_ops = {
    .init = init,
    .lookup = wfe_fuse_lookup,
    .forget = forget,
    .forget_multi = forget_multi,
    .getattr = getattr,
    .readlink = readlink_,
    .open = open_,
    .read = read_,
    .opendir = opendir_,
    .readdir = wfe_fuse_readdir,
    .readdirplus = wfe_fuse_readdirplus,
    .statfs = statfs_,
    .getxattr = wfe_fuse_getxattr,
    .listxattr = wfe_fuse_listxattr,
    .lseek = lseek_,
};
