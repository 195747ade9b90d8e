/* SPDX-License-Identifier: MIT */
#include "artifactfs/index_evict.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/digest.h"
#include "libcommon/layer_tree.h"

struct kept {
    char *name;
    uint64_t size_bytes;
    struct timespec used;
};

struct kept_list {
    struct kept *files;
    uint32_t count, allocated;
    uint64_t bytes;
};

static bool is_digest(const char *text)
{
    return strspn(text, "0123456789abcdef") == WFE_DIGEST_HEX_LENGTH;
}

static bool is_index(const char *name)
{
    if (!is_digest(name) || strncmp(name + WFE_DIGEST_HEX_LENGTH, ".v", 2) != 0)
        return false;
    const char *version = name + WFE_DIGEST_HEX_LENGTH + 2;
    size_t digits = strspn(version, "0123456789");
    return digits > 0 && strcmp(version + digits, WFE_INDEX_SUFFIX) == 0;
}

static bool is_temporary(const char *name)
{
    if (name[0] != '.' || !is_digest(name + 1) || name[1 + WFE_DIGEST_HEX_LENGTH] != '.')
        return false;
    const char *writer = name + 1 + WFE_DIGEST_HEX_LENGTH + 1;
    size_t length = strspn(writer, "0123456789-");
    return length > 0 && strcmp(writer + length, WFE_INDEX_TEMPORARY_SUFFIX) == 0;
}

/* A writer holds the lock of its file; the one taken here holds until the file is gone. */
static void remove_abandoned(int directory_fd, const char *name)
{
    WFE_CLOSE int fd = openat(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(directory_fd, name, 0);
}

static void keep(struct kept_list *list, const char *name, const struct stat *st)
{
    if (wfe_tree_grow((void **)&list->files, &list->allocated, list->count, sizeof *list->files) <
        0)
        return;
    char *copy = strdup(name);
    if (!copy)
        return;
    list->files[list->count++] =
        (struct kept){.name = copy, .size_bytes = (uint64_t)st->st_size, .used = st->st_mtim};
    list->bytes += (uint64_t)st->st_size;
}

static void look_at(int directory_fd, const char *name, uint64_t max_age_s, struct kept_list *list)
{
    struct stat st;
    if ((!is_index(name) && !is_temporary(name)) ||
        fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return;
    time_t age_s = time(NULL) - st.st_mtim.tv_sec;
    if (is_temporary(name))
        remove_abandoned(directory_fd, name);
    else if (age_s > 0 && (uint64_t)age_s > max_age_s)
        unlinkat(directory_fd, name, 0);
    else
        keep(list, name, &st);
}

static int compare_use(const void *a, const void *b)
{
    const struct timespec *x = &((const struct kept *)a)->used;
    const struct timespec *y = &((const struct kept *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

void wfe_index_evict(int directory_fd, uint64_t max_bytes, uint64_t max_age_s)
{
    /* Not a duplicate: it would share the position in the directory with other threads. */
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory) {
        if (fd >= 0)
            close(fd);
        return;
    }
    struct kept_list list = {.files = NULL};
    for (struct dirent *found; (found = readdir(directory));)
        look_at(directory_fd, found->d_name, max_age_s, &list);
    closedir(directory);
    if (list.bytes > max_bytes)
        qsort(list.files, list.count, sizeof *list.files, compare_use);
    for (uint32_t i = 0; i < list.count; i++) {
        if (list.bytes > max_bytes && unlinkat(directory_fd, list.files[i].name, 0) == 0)
            list.bytes -= list.files[i].size_bytes;
        free(list.files[i].name);
    }
    free(list.files);
}
