/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libcommon/tests/faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cjson/cJSON.h>

static enum fault wanted;
static atomic_uint left; /* calls until the one that fails; 0: none does */
static atomic_bool failed;

static bool fails(enum fault fault)
{
    if (fault != wanted || atomic_load(&left) == 0 || atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_store(&failed, true);
    errno = fault == FAULT_MEMORY ? ENOMEM : FAULT_ERRNO;
    return true;
}

/* RESULT NAME(PARAMETERS), which fails with FAILURE, else is the real one called with ARGUMENTS. */
#define WRAP(fault, failure, result, name, parameters, arguments)                                  \
    result __real_##name parameters;                                                               \
    result __wrap_##name parameters;                                                               \
    result __wrap_##name parameters                                                                \
    {                                                                                              \
        return fails(fault) ? (failure) : __real_##name arguments;                                 \
    }

WRAP(FAULT_MEMORY, NULL, void *, malloc, (size_t size), (size))
WRAP(FAULT_MEMORY, NULL, void *, calloc, (size_t count, size_t size), (count, size))
WRAP(FAULT_MEMORY, NULL, void *, realloc, (void *old, size_t size), (old, size))
WRAP(FAULT_MEMORY, NULL, void *, reallocarray, (void *old, size_t count, size_t size),
    (old, count, size))
WRAP(FAULT_MEMORY, NULL, char *, strdup, (const char *text), (text))
WRAP(FAULT_MEMORY, NULL, char *, strndup, (const char *text, size_t length), (text, length))
WRAP(FAULT_MEMORY, -1, int, vasprintf, (char **ret, const char *format, va_list list),
    (ret, format, list))
WRAP(FAULT_MEMORY, NULL, DIR *, fdopendir, (int fd), (fd))

int __wrap_asprintf(char **ret, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int r = __wrap_vasprintf(ret, format, list);
    va_end(list);
    return r;
}

WRAP(FAULT_FILE, -1, ssize_t, write, (int fd, const void *data, size_t length), (fd, data, length))
WRAP(FAULT_FILE, -1, ssize_t, pwrite64, (int fd, const void *data, size_t length, off_t offset),
    (fd, data, length, offset))
WRAP(FAULT_FILE, -1, int, ftruncate64, (int fd, off_t length), (fd, length))
WRAP(FAULT_FILE, -1, int, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(FAULT_FILE, -1, int, mkdirat, (int directory, const char *path, mode_t mode),
    (directory, path, mode))
WRAP(FAULT_FILE, -1, int, renameat, (int from, const char *old, int to, const char *new),
    (from, old, to, new))

/* Nothing is said here of power cuts, and thousands of attempts need not wait for a disk. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    (void)fd;
    return fails(FAULT_FILE) ? -1 : 0;
}

/* The mode is passed on where there is none, too. */
#define WRAP_OPEN(name, parameters, ...)                                                           \
    int __real_##name parameters;                                                                  \
    int __wrap_##name parameters;                                                                  \
    int __wrap_##name parameters                                                                   \
    {                                                                                              \
        va_list list;                                                                              \
        va_start(list, flags);                                                                     \
        mode_t mode = va_arg(list, mode_t);                                                        \
        va_end(list);                                                                              \
        return fails(FAULT_FILE) ? -1 : __real_##name(__VA_ARGS__, mode);                          \
    }

WRAP_OPEN(open64, (const char *path, int flags, ...), path, flags)
WRAP_OPEN(openat64, (int directory, const char *path, int flags, ...), directory, path, flags)

static void *fail_or_allocate(size_t size)
{
    return __wrap_malloc(size);
}

void fault_begin(enum fault fault, unsigned nth)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = fail_or_allocate, .free_fn = free});
    wanted = fault;
    atomic_store(&failed, false);
    atomic_store(&left, nth);
}

bool fault_end(void)
{
    atomic_store(&left, 0);
    cJSON_InitHooks(NULL);
    return atomic_load(&failed);
}

static void assert_told(enum fault fault, unsigned nth, int r, const struct wfe_error *err)
{
    int errnum = fault == FAULT_MEMORY ? ENOMEM : FAULT_ERRNO;
    enum wfe_error_kind kind = fault == FAULT_MEMORY ? WFE_ERROR_INTERNAL : WFE_ERROR_SYSTEM;
    if (r != -errnum || err->errnum != errnum ||
        (err->kind != kind && err->kind != WFE_ERROR_SYSTEM))
        fail_msg("call %u: %d, %s: %s", nth, r, wfe_error_kind_name(err->kind), err->message);
}

/* Descriptors of this process, that of the look at them included. */
static size_t count_open(void)
{
    size_t count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

void fault_each(enum fault fault, const struct fault_case *tried)
{
    size_t open_before = count_open();
    for (unsigned nth = 1;; nth++) {
        struct wfe_error err = WFE_ERROR_INIT;
        fault_begin(fault, nth);
        int r = tried->run(tried->context, &err);
        bool has_failed = fault_end();
        if (r < 0 && !has_failed)
            fail_msg("without a fault: %s", err.message);
        if (r == 0 && has_failed && !tried->may_pass)
            fail_msg("call %u failed, and nothing was said of it", nth);
        if (r < 0)
            assert_told(fault, nth, r, &err);
        if (count_open() != open_before)
            fail_msg("call %u failed, and a descriptor stayed open", nth);
        if (tried->check)
            tried->check(tried->context, r < 0 ? &err : NULL);
        if (!has_failed) {
            assert_true(nth > 1);
            return;
        }
    }
}
