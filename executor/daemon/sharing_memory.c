/* SPDX-License-Identifier: MIT */
#include "executor/daemon/sharing_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/daemon/sharing.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/digest.h"
#include "libcommon/file.h"

#define RECORD_MAX_BYTES 8192
#define FILES_MAX 256

static const char *const NAMES[] = {
    [WFE_SHARES_NOTHING] = "nothing ",
    [WFE_SHARES_DIRECTORY] = "directory ",
    [WFE_SHARES_MACHINE] = "machine",
};

static char *memory_path(void)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/')
        return wfe_path_join(cache, "wfe/daemons");
    return home && home[0] == '/' ? wfe_path_join(home, ".cache/wfe/daemons") : NULL;
}

static int open_memory(bool make)
{
    WFE_FREE char *path = memory_path();
    if (!path)
        return -ENOENT;
    int r = make ? wfe_make_directories(path, 0700) : 0;
    if (r < 0)
        return r;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static void file_name(const struct wfe_session *session, char name[static 33])
{
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(RECORD_MAX_BYTES);
    wfe_buffer_printf(&text, "%s %s", session->uuid, session->address);
    struct wfe_digest digest;
    wfe_digest_of(text.data ? text.data : "", text.length, &digest);
    snprintf(name, 33, "%.32s", wfe_digest_hex(&digest));
}

/* The first line of a record: what has to be the same for the second to be true. */
static int add_circumstances(const struct wfe_session *session, struct wfe_buffer *record)
{
    char boot[64] = "";
    struct stat mounts;
    WFE_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -errno : wfe_read_full(fd, boot, sizeof boot - 1);
    if (length <= 0 || stat("/proc/self/ns/mnt", &mounts) < 0)
        return -ENOENT;
    boot[strcspn(boot, "\n")] = '\0';
    const struct stat *socket = &session->socket;
    return wfe_buffer_printf(record, "%s %ju:%ju:%jd.%09ld %s %ju\n", session->uuid,
        (uintmax_t)socket->st_dev, (uintmax_t)socket->st_ino, (intmax_t)socket->st_ctim.tv_sec,
        socket->st_ctim.tv_nsec, boot, (uintmax_t)mounts.st_ino);
}

static int read_record(const struct wfe_session *session, struct wfe_buffer *record)
{
    WFE_CLOSE int directory = open_memory(false);
    char name[33];
    file_name(session, name);
    WFE_CLOSE int fd =
        directory < 0 ? -1 : openat(directory, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    /* What somebody else can write is not ours to believe. */
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
        return -ENOENT;
    char text[RECORD_MAX_BYTES];
    ssize_t length = wfe_read_full(fd, text, sizeof text);
    return length < 0 ? (int)length : wfe_buffer_append(record, text, (size_t)length);
}

int wfe_sharing_recall(
    const struct wfe_session *session, const char *directory, enum wfe_sharing *ret)
{
    WFE_BUFFER struct wfe_buffer record = WFE_BUFFER_INIT(RECORD_MAX_BYTES);
    WFE_BUFFER struct wfe_buffer expected = WFE_BUFFER_INIT(RECORD_MAX_BYTES);
    if (!session->uuid[0] || read_record(session, &record) < 0)
        return -ENOENT;
    for (int sharing = WFE_SHARES_NOTHING; sharing <= WFE_SHARES_MACHINE; sharing++) {
        wfe_buffer_done(&expected);
        const char *path = sharing == WFE_SHARES_MACHINE ? "" : directory;
        if (add_circumstances(session, &expected) == 0 &&
            wfe_buffer_printf(&expected, "%s%s\n", NAMES[sharing], path) == 0 &&
            record.length == expected.length &&
            memcmp(record.data, expected.data, record.length) == 0) {
            *ret = (enum wfe_sharing)sharing;
            return 0;
        }
    }
    return -ENOENT;
}

static void make_room(int directory)
{
    char **names;
    size_t count;
    if (wfe_list_directory(directory, &names, &count) < 0)
        return;
    for (size_t i = 0; count >= FILES_MAX && i < count; i++)
        unlinkat(directory, names[i], 0);
    wfe_names_free(names, count);
}

void wfe_sharing_remember(
    const struct wfe_session *session, const char *directory, enum wfe_sharing sharing)
{
    WFE_BUFFER struct wfe_buffer record = WFE_BUFFER_INIT(RECORD_MAX_BYTES);
    const char *path = sharing == WFE_SHARES_MACHINE ? "" : directory;
    if (!session->uuid[0] || add_circumstances(session, &record) < 0 ||
        wfe_buffer_printf(&record, "%s%s\n", NAMES[sharing], path) < 0)
        return;
    WFE_CLOSE int memory = open_memory(true);
    if (memory < 0)
        return;
    make_room(memory);
    char name[33];
    file_name(session, name);
    /* One that can't be written is tried for again the next time. */
    (void)wfe_replace_file(memory, name, record.data, record.length, 0600);
}

void wfe_sharing_forget(const struct wfe_session *session)
{
    WFE_CLOSE int memory = open_memory(false);
    char name[33];
    file_name(session, name);
    if (memory >= 0)
        unlinkat(memory, name, 0);
}
