/* SPDX-License-Identifier: MIT */
#include "artifactfs/fuse_io.h"

#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

/* INIT is answered before anything else is asked, so this is the session's first reply. */
static void amend_init(const struct wfe_fuse *fs, const struct iovec *parts, int count)
{
    if (count < 2 || parts[0].iov_len != sizeof(struct fuse_out_header) ||
        parts[1].iov_len < offsetof(struct fuse_init_out, flags) + sizeof(uint32_t))
        return;
    const struct fuse_out_header *header = parts[0].iov_base;
    struct fuse_init_out *init = parts[1].iov_base;
    if (header->error == 0 && fs->parallel_directories)
        init->flags |= FUSE_PARALLEL_DIROPS;
}

static ssize_t write_reply(int fd, struct iovec *parts, int count, void *user_data)
{
    struct wfe_fuse *fs = user_data;
    if (!atomic_exchange(&fs->has_replied, true))
        amend_init(fs, parts, count);
    return writev(fd, parts, count);
}

static ssize_t read_request(int fd, void *buffer, size_t length, void *user_data)
{
    (void)user_data;
    return read(fd, buffer, length);
}

int wfe_fuse_io_install(struct fuse_session *session, struct wfe_error *err)
{
    static const struct fuse_custom_io io = {
        .writev = write_reply,
        .read = read_request,
    };
    int r = fuse_session_custom_io(session, &io, fuse_session_fd(session));
    return r < 0 ? wfe_error_system(err, -r, "fuse_session_custom_io") : 0;
}
