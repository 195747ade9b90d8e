/* SPDX-License-Identifier: MIT */
#include "libcommon/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

int wfe_write_all(int fd, const void *data, size_t length)
{
    const char *at = data;
    while (length > 0) {
        ssize_t n = write(fd, at, length);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        at += n;
        length -= (size_t)n;
    }
    return 0;
}

ssize_t wfe_read_full(int fd, void *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = read(fd, (char *)data + done, length - done);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int wfe_read_file(
    const char *path, size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err)
{
    WFE_CLOSE int opened = -1;
    int fd = STDIN_FILENO;
    if (strcmp(path, "-") != 0) {
        opened = open(path, O_RDONLY | O_CLOEXEC);
        if (opened < 0)
            return wfe_error_system(err, errno, "%s", path);
        fd = opened;
    }
    WFE_BUFFER struct wfe_buffer contents = WFE_BUFFER_INIT(max_bytes);
    for (;;) {
        char chunk[16384];
        ssize_t n = wfe_read_full(fd, chunk, sizeof chunk);
        if (n < 0)
            return wfe_error_system(err, (int)-n, "%s", path);
        int r = wfe_buffer_append(&contents, chunk, (size_t)n);
        if (r == -EMSGSIZE)
            return wfe_error_set(
                err, WFE_ERROR_LIMIT, EFBIG, "%s: larger than %zu bytes", path, max_bytes);
        if (r < 0)
            return wfe_error_nomem(err);
        if ((size_t)n < sizeof chunk)
            break;
    }
    size_t length = contents.length;
    char *data = wfe_buffer_steal(&contents);
    if (!data)
        return wfe_error_nomem(err);
    *ret = data;
    *ret_length = length;
    return 0;
}

int wfe_make_directories(const char *path, mode_t mode)
{
    WFE_FREE char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    for (char *slash = copy + 1; *copy; slash++) {
        slash = strchrnul(slash, '/');
        char end = *slash;
        *slash = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            return -errno;
        if (!end)
            break;
        *slash = end;
    }
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Everything of a replacement but the temporary file's removal on failure. */
static int write_and_rename(
    int dirfd, int fd, const char *temporary, const char *name, const void *data, size_t length)
{
    int r = wfe_write_all(fd, data, length);
    if (r < 0)
        return r;
    if (fsync(fd) < 0)
        return -errno;
    if (renameat(dirfd, temporary, dirfd, name) < 0)
        return -errno;
    if (fsync(dirfd) < 0)
        return -errno;
    return 0;
}

/* A new file beside name, its own name in temporary. Returns the descriptor or -errno. */
static int open_temporary(
    int dirfd, const char *name, mode_t mode, char *temporary, size_t temporary_size)
{
    static _Atomic unsigned counter;
    /* Process ids come again, on this machine and on others that share the directory, and a
     * killed writer leaves its file behind. */
    for (int attempt = 0; attempt < 1000; attempt++) {
        int n =
            snprintf(temporary, temporary_size, ".%s.%ld.%u.tmp", name, (long)getpid(), ++counter);
        if (n < 0 || (size_t)n >= temporary_size)
            return -ENAMETOOLONG;
        int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0)
            return fd;
        if (errno != EEXIST)
            return -errno;
    }
    return -EEXIST;
}

int wfe_replace_file(int dirfd, const char *name, const void *data, size_t length, mode_t mode)
{
    char temporary[NAME_MAX + 1];
    WFE_CLOSE int fd = open_temporary(dirfd, name, mode, temporary, sizeof temporary);
    if (fd < 0)
        return fd;
    int r = write_and_rename(dirfd, fd, temporary, name, data, length);
    if (r < 0)
        unlinkat(dirfd, temporary, 0);
    return r;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int wfe_remove_tree(const char *path)
{
    int r = nftw(path, remove_entry, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (r == -1)
        return errno == ENOENT ? 0 : -errno;
    return r;
}

char *wfe_path_join(const char *directory, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", directory, name) < 0)
        return NULL;
    return path;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(DIR *directory, char ***names, size_t *count)
{
    size_t allocated = 0;
    for (;;) {
        errno = 0;
        const struct dirent *found = readdir(directory);
        if (!found)
            return -errno;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        if (*count == allocated) {
            allocated = allocated ? 2 * allocated : 32;
            char **grown = reallocarray(*names, allocated, sizeof *grown);
            if (!grown)
                return -ENOMEM;
            *names = grown;
        }
        char *name = strdup(found->d_name);
        if (!name)
            return -ENOMEM;
        (*names)[(*count)++] = name;
    }
}

int wfe_list_directory(int fd, char ***ret_names, size_t *ret_count)
{
    /* The stream owns its descriptor, and has a position of its own. */
    WFE_CLOSE int list_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (list_fd < 0)
        return -errno;
    DIR *directory = fdopendir(list_fd);
    if (!directory)
        return -errno;
    wfe_steal_fd(&list_fd);
    char **names = NULL;
    size_t count = 0;
    int r = read_names(directory, &names, &count);
    closedir(directory);
    if (r < 0) {
        wfe_names_free(names, count);
        return r;
    }
    if (count > 0)
        qsort(names, count, sizeof *names, compare_names);
    *ret_names = names;
    *ret_count = count;
    return 0;
}

void wfe_names_free(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
}
