/* SPDX-License-Identifier: MIT */
#include "executor/network/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "libcommon/cleanup.h"

/* What a thread, the only one that leaves the process's namespace, has to do. */
struct making {
    const char *path;
    const char *failed; /* what did */
    int errnum;
};

static int raise_loopback(void)
{
    WFE_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    struct ifreq request = {.ifr_flags = IFF_UP};
    memcpy(request.ifr_name, "lo", sizeof "lo");
    return ioctl(fd, SIOCSIFFLAGS, &request);
}

static void *make(void *context)
{
    struct making *making = context;
    if (unshare(CLONE_NEWNET) < 0)
        making->failed = "make a network namespace";
    else if (raise_loopback() < 0)
        making->failed = "bring the loopback interface up";
    else if (mount("/proc/thread-self/ns/net", making->path, NULL, MS_BIND, NULL) < 0)
        making->failed = "mount a network namespace";
    making->errnum = making->failed ? errno : 0;
    return NULL;
}

int wfe_netns_make(const char *path, struct wfe_error *err)
{
    WFE_CLOSE int fd = open(path, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0444);
    if (fd < 0)
        return wfe_error_system(err, errno, "make %s", path);
    struct making making = {.path = path};
    pthread_t thread;
    int r = pthread_create(&thread, NULL, make, &making);
    if (r != 0) {
        unlink(path);
        return wfe_error_system(err, r, "start a thread");
    }
    pthread_join(thread, NULL);
    if (making.failed) {
        unlink(path);
        return wfe_error_system(err, making.errnum, "%s", making.failed);
    }
    return 0;
}

bool wfe_netns_is_made(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && fs.f_type == NSFS_MAGIC;
}

int wfe_netns_remove(const char *path)
{
    if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
        return -errno;
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
