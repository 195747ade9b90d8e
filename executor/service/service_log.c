/* SPDX-License-Identifier: MIT */
#include "executor/service/service_log.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "executor/daemon/sharing.h"
#include "executor/run/result.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define TAIL_MAX_BYTES 300
#define TAIL_LINES 4
#define READ_BYTES (64 * 1024)
#define MAX_STREAMS 2

/* What the shim hands over. */
#define STDOUT_FD 3
#define STDERR_FD 4
#define READY_FD 5

int wfe_service_log_directory(
    const struct wfe_session *session, const char *id, char **ret, struct wfe_error *err)
{
    if (!session->sees_directory) {
        *ret = NULL;
        return 0;
    }
    char *directory;
    if (asprintf(
            &directory, "%s/wfe-io-%s", wfe_sharing_directory(wfe_sharing_io_directory()), id) < 0)
        return wfe_error_nomem(err);
    *ret = directory;
    return 0;
}

/* The daemon reads it as a URL. */
static int add_escaped(struct wfe_buffer *to, const char *path)
{
    int r = 0;
    for (; r == 0 && *path; path++) {
        bool plain = isalnum((unsigned char)*path) || strchr("/-._~", *path);
        r = wfe_buffer_printf(to, plain ? "%c" : "%%%02X", (unsigned char)*path);
    }
    return r;
}

/* "binary:///PROGRAM?service-log=LOG": a query's keys and values are the program's arguments. */
static int make_uri(const char *log, char **ret, struct wfe_error *err)
{
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return wfe_error_system(err, errno, "read /proc/self/exe");
    program[length] = '\0';
    WFE_BUFFER struct wfe_buffer uri = WFE_BUFFER_INIT(SIZE_MAX / 2);
    int r = wfe_buffer_puts(&uri, "binary://");
    if (r == 0)
        r = add_escaped(&uri, program);
    if (r == 0)
        r = wfe_buffer_puts(&uri, "?service-log=");
    if (r == 0)
        r = add_escaped(&uri, log);
    char *text = r == 0 ? wfe_buffer_steal(&uri) : NULL;
    if (!text)
        return wfe_error_nomem(err);
    *ret = text;
    return 0;
}

/* The name can be guessed, so what somebody else has put there is not written to. */
int wfe_service_log_open(const struct wfe_session *session, const char *directory, char **ret_stdio,
    struct wfe_error *err)
{
    if (!directory) {
        *ret_stdio = strdup("");
        return *ret_stdio ? 0 : wfe_error_nomem(err);
    }
    WFE_FREE char *log = wfe_path_join(directory, "log");
    if (!log)
        return wfe_error_nomem(err);
    int r = wfe_remove_tree(directory);
    if (r < 0 || mkdir(directory, 0755) < 0)
        return wfe_error_system(err, r < 0 ? -r : errno, "make %s", directory);
    WFE_CLOSE int fd = open(log, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return wfe_error_system(err, errno, "make %s", log);
    if (session->local)
        return make_uri(log, ret_stdio, err);
    *ret_stdio = wfe_steal(&log);
    return 0;
}

/* The last bytes of a file into the end of the room before *at, which moves to where they begin. */
static void read_end(const char *directory, const char *name, const char *room, char **at)
{
    WFE_FREE char *path = wfe_path_join(directory, name);
    WFE_CLOSE int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return;
    size_t length = (size_t)(*at - room);
    if ((off_t)length > st.st_size)
        length = (size_t)st.st_size;
    if (pread(fd, *at - length, length, st.st_size - (off_t)length) == (ssize_t)length)
        *at -= length;
}

char *wfe_service_log_tail(const char *directory)
{
    char room[TAIL_MAX_BYTES], *at = room + sizeof room;
    if (directory) {
        read_end(directory, "log", room, &at);
        read_end(directory, "log.1", room, &at);
    }
    const char *end = room + sizeof room, *start;
    while (end > at && end[-1] == '\n')
        end--;
    int lines = 0;
    for (start = end; start > at; start--)
        if (start[-1] == '\n' && ++lines == TAIL_LINES)
            break;
    return wfe_utf8_lossy(start, (size_t)(end - start));
}

struct log {
    const char *path;
    char *old_path;
    size_t max_bytes, bytes;
    int fd;
};

static void open_file(struct log *log, int flags)
{
    struct stat st;
    log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    log->bytes = log->fd >= 0 && fstat(log->fd, &st) == 0 ? (size_t)st.st_size : 0;
}

static void turn_over(struct log *log)
{
    wfe_cleanup_close(&log->fd);
    rename(log->path, log->old_path);
    open_file(log, O_TRUNC);
}

/* What a full disk did not take counts as well: it makes room in its turn. */
static void put(struct log *log, const char *data, size_t length)
{
    if (log->fd >= 0)
        wfe_write_all(log->fd, data, length);
    log->bytes += length;
}

/* A line that has begun is ended in the same file, when its end has come. */
static void take(struct log *log, const char *data, size_t length)
{
    if (log->bytes + length > log->max_bytes) {
        const char *newline = memchr(data, '\n', length);
        size_t first = newline ? (size_t)(newline - data) + 1 : 0;
        put(log, data, first);
        turn_over(log);
        data += first;
        length -= first;
    }
    put(log, data, length);
}

/* False once the stream has ended. */
static bool read_stream(struct log *log, int fd)
{
    static char data[READ_BYTES];
    ssize_t n = read(fd, data, sizeof data);
    if (n > 0)
        take(log, data, (size_t)n);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

void wfe_service_log_copy(
    const int *fds, size_t count, const char *path, size_t max_bytes, int ready_fd)
{
    assert(count <= MAX_STREAMS);
    struct log log = {.path = path, .max_bytes = max_bytes, .fd = -1};
    struct pollfd streams[MAX_STREAMS];
    if (asprintf(&log.old_path, "%s.1", path) < 0)
        return;
    open_file(&log, 0);
    close(ready_fd);
    for (size_t i = 0; i < count; i++)
        streams[i] = (struct pollfd){.fd = fds[i], .events = POLLIN};
    for (size_t left = count; left > 0;) {
        if (poll(streams, count, -1) < 0)
            continue;
        for (size_t i = 0; i < count; i++) {
            if (streams[i].fd < 0 || !streams[i].revents || read_stream(&log, streams[i].fd))
                continue;
            streams[i].fd = -1;
            left--;
        }
    }
    wfe_cleanup_close(&log.fd);
    free(log.old_path);
}

/* The shim's SIGTERM comes when it has closed the streams: what is in them is written first. */
int wfe_service_log_main(const char *path)
{
    signal(SIGTERM, SIG_IGN);
    const int fds[] = {STDOUT_FD, STDERR_FD};
    wfe_service_log_copy(fds, 2, path, WFE_SERVICE_LOG_MAX_BYTES, READY_FD);
    return 0;
}
