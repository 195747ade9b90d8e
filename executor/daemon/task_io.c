/* SPDX-License-Identifier: MIT */
#include "executor/daemon/task_io.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "executor/daemon/volume_follow.h"
#include "executor/run/outputs.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define READ_BYTES (64 * 1024)

/* How often a regular file is looked at for more. */
#define FILE_POLL_MS 40

/* After the task's end its shim may still hold a FIFO open for a moment. */
#define DRAIN_TIMEOUT_MS 10000

enum { STDOUT, STDERR, STREAMS };
static const char *const NAMES[STREAMS] = {"stdout", "stderr"};

struct stream {
    char *path;
    int fd;
    int raw_fd; /* -1: none */
    bool ended;
    uint64_t total_bytes;
    struct wfe_buffer kept;
};

struct wfe_task_io {
    enum wfe_task_io_kind kind;
    char *directory;
    struct stream streams[STREAMS];
    struct wfe_outputs *outputs;
    struct wfe_progress *progress;
    bool show; /* stderr still takes what we show */
    int drain_event;
    bool thread_running; /* `thread` reads */
    pthread_t thread;
    /* SNAPSHOT. `maker` makes the volume, and has ended before `thread` begins. */
    struct wfe_session session;
    char key[WFE_TASK_IO_KEY_MAX];
    struct wfe_volume volume;
    struct wfe_diff last;                     /* what the last look has left; size 0: nothing */
    struct wfe_rpc_call *dropping, *removing; /* in flight since wfe_task_io_remove_start() */
    bool maker_running;
    pthread_t maker;
    struct wfe_error making;  /* NONE: the volume is there; read after the maker was joined */
    atomic_bool abandoned;    /* nobody wants the rest */
    struct wfe_error failure; /* the thread's first; read after it was joined */
    bool is_incomplete;       /* the same */
};

static void fail(struct wfe_task_io *io, int r, const char *what)
{
    if (io->failure.kind == WFE_ERROR_NONE)
        wfe_error_system(&io->failure, -r, "%s", what);
}

static void keep(struct wfe_task_io *io, struct stream *stream, const char *data, size_t length)
{
    size_t room = stream->kept.cap_bytes - stream->kept.length;
    int r = wfe_buffer_append(&stream->kept, data, length < room ? length : room);
    if (r < 0) {
        fail(io, r, "keep the step's output");
        stream->kept.cap_bytes = stream->kept.length;
    }
}

static void take(struct wfe_task_io *io, int which, const char *data, size_t length)
{
    struct stream *stream = &io->streams[which];
    stream->total_bytes += length;
    keep(io, stream, data, length);
    if (which == STDOUT) {
        int r = wfe_outputs_feed(io->outputs, data, length);
        if (r < 0)
            fail(io, r, "read the step's output directives");
    }
    if (stream->raw_fd >= 0) {
        int r = wfe_write_all(stream->raw_fd, data, length);
        if (r < 0) {
            fail(io, r, "write the step's raw output");
            close(wfe_steal_fd(&stream->raw_fd));
        }
    }
    /* Nobody reads our stderr any more: the result still holds everything. */
    if (io->show && wfe_progress_output(io->progress, data, length) < 0)
        io->show = false;
}

/* Read what is there. A FIFO whose writers have gone has ended; a regular file has only when
 * its task has. */
static void read_stream(struct wfe_task_io *io, int which, bool draining)
{
    struct stream *stream = &io->streams[which];
    char data[READ_BYTES];
    ssize_t n = read(stream->fd, data, sizeof data);
    if (n > 0) {
        take(io, which, data, (size_t)n);
    } else if (n == 0) {
        stream->ended = io->kind == WFE_TASK_IO_FIFO || draining;
    } else if (errno != EAGAIN && errno != EINTR) {
        fail(io, -errno, "read the step's output");
        stream->ended = true;
    }
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pump_fifos(struct wfe_task_io *io)
{
    bool draining = false;
    int64_t give_up_ms = 0;
    while (!io->streams[STDOUT].ended || !io->streams[STDERR].ended) {
        struct pollfd fds[STREAMS + 1];
        for (int i = 0; i < STREAMS; i++)
            fds[i] = (struct pollfd){
                .fd = io->streams[i].ended ? -1 : io->streams[i].fd, .events = POLLIN};
        fds[STREAMS] = (struct pollfd){.fd = draining ? -1 : io->drain_event, .events = POLLIN};
        int timeout = draining ? (int)(give_up_ms - now_ms()) : -1;
        if (draining && timeout <= 0) {
            fail(io, -ETIMEDOUT, "the step's output was still open after its end");
            return;
        }
        if (poll(fds, STREAMS + 1, timeout) < 0 && errno != EINTR) {
            fail(io, -errno, "wait for the step's output");
            return;
        }
        for (int i = 0; i < STREAMS; i++)
            if (fds[i].revents)
                read_stream(io, i, draining);
        if (fds[STREAMS].revents) {
            draining = true;
            give_up_ms = now_ms() + DRAIN_TIMEOUT_MS;
            /* A FIFO that nobody ever opened reports nothing to poll, but reads as ended. */
            for (int i = 0; i < STREAMS; i++)
                if (!io->streams[i].ended)
                    read_stream(io, i, draining);
        }
    }
}

static void pump_files(struct wfe_task_io *io)
{
    bool draining = false;
    while (!io->streams[STDOUT].ended || !io->streams[STDERR].ended) {
        uint64_t before = io->streams[STDOUT].total_bytes + io->streams[STDERR].total_bytes;
        for (int i = 0; i < STREAMS; i++)
            if (!io->streams[i].ended)
                read_stream(io, i, draining);
        uint64_t after = io->streams[STDOUT].total_bytes + io->streams[STDERR].total_bytes;
        struct pollfd drain = {.fd = draining ? -1 : io->drain_event, .events = POLLIN};
        if (!draining && poll(&drain, 1, after > before ? 0 : FILE_POLL_MS) > 0)
            draining = true;
    }
}

static int take_stdout(void *io, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    take(io, STDOUT, data, length);
    return 0;
}

static int take_stderr(void *io, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    take(io, STDERR, data, length);
    return 0;
}

static void pump_volume(struct wfe_task_io *io)
{
    struct wfe_diff_tail tails[STREAMS] = {
        {.name = NAMES[STDOUT], .sink = {.write = take_stdout, .context = io}},
        {.name = NAMES[STDERR], .sink = {.write = take_stderr, .context = io}},
    };
    struct wfe_volume_follow follow = {
        .session = &io->session, .volume = &io->volume, .tails = tails, .tail_count = STREAMS};
    struct pollfd drain = {.fd = io->drain_event, .events = POLLIN};
    while (poll(&drain, 1, (int)wfe_volume_pause_ms(&follow)) <= 0)
        /* What can't be read now may be the next time, or at the end. */
        wfe_volume_look(&follow, NULL);
    if (!atomic_load(&io->abandoned) &&
        wfe_volume_look_last(&follow, &io->last, &io->failure) < 0) {
        wfe_error_prefix(&io->failure, "read the step's output from the daemon");
        io->is_incomplete = true;
    }
}

static void *pump(void *context)
{
    struct wfe_task_io *io = context;
    switch (io->kind) {
    case WFE_TASK_IO_FIFO:
        pump_fifos(io);
        break;
    case WFE_TASK_IO_FILE:
        pump_files(io);
        break;
    case WFE_TASK_IO_SNAPSHOT:
        pump_volume(io);
        break;
    }
    return NULL;
}

static int start_thread(struct wfe_task_io *io, struct wfe_error *err)
{
    int r = pthread_create(&io->thread, NULL, pump, io);
    if (r != 0)
        return wfe_error_system(err, r, "start a thread");
    io->thread_running = true;
    return 0;
}

static void *make_volume(void *context)
{
    struct wfe_task_io *io = context;
    wfe_volume_make(&io->session, io->key, NAMES, STREAMS, &io->volume, &io->making);
    return NULL;
}

static int start_maker(struct wfe_task_io *io, struct wfe_error *err)
{
    int r = pthread_create(&io->maker, NULL, make_volume, io);
    if (r != 0)
        return wfe_error_system(err, r, "start a thread");
    io->maker_running = true;
    return 0;
}

static void join_maker(struct wfe_task_io *io)
{
    if (io->maker_running)
        pthread_join(io->maker, NULL);
    io->maker_running = false;
}

static int open_stream(struct wfe_task_io *io, int which, struct wfe_error *err)
{
    struct stream *stream = &io->streams[which];
    stream->path = wfe_path_join(io->directory, NAMES[which]);
    if (!stream->path)
        return wfe_error_nomem(err);
    if (io->kind == WFE_TASK_IO_FIFO) {
        if (mkfifo(stream->path, 0600) < 0)
            return wfe_error_system(err, errno, "make FIFO %s", stream->path);
        stream->fd = open(stream->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    } else {
        stream->fd = open(stream->path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        /* The daemon's shim may be another user there: the umask must not shut it out. */
        if (stream->fd >= 0 && fchmod(stream->fd, 0666) < 0)
            return wfe_error_system(err, errno, "%s", stream->path);
    }
    if (stream->fd < 0)
        return wfe_error_system(err, errno, "open %s", stream->path);
    return 0;
}

static int open_raw(struct wfe_task_io *io, const struct wfe_task_io_options *options, int which,
    struct wfe_error *err)
{
    if (!options->raw_directory)
        return 0;
    WFE_FREE char *path = NULL;
    if (asprintf(&path, "%s/%s.%s", options->raw_directory, options->step_name, NAMES[which]) < 0)
        return wfe_error_nomem(err);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return wfe_error_system(err, errno, "%s", path);
    io->streams[which].raw_fd = fd;
    return 0;
}

static int make_directory(
    struct wfe_task_io *io, const struct wfe_task_io_options *options, struct wfe_error *err)
{
    if (asprintf(&io->directory, "%s/wfe-io-%s", options->base_directory, options->container_id) <
        0) {
        io->directory = NULL;
        return wfe_error_nomem(err);
    }
    /* The files' names are secret enough for 0700 only where the daemon is root here. */
    mode_t mode = io->kind == WFE_TASK_IO_FIFO ? 0700 : 0755;
    if (mkdir(io->directory, mode) < 0) {
        int r = wfe_error_system(err, errno, "make directory %s", io->directory);
        free(wfe_steal(&io->directory));
        return r;
    }
    return 0;
}

static void set_session(struct wfe_task_io *io, const struct wfe_task_io_options *options)
{
    assert(options->session->lease);
    io->session = *options->session;
    /* What a step has said that was stopped is wanted all the same. */
    io->session.cancel = NULL;
    wfe_task_io_key(options->container_id, io->key);
}

static int set_up(
    struct wfe_task_io *io, const struct wfe_task_io_options *options, struct wfe_error *err)
{
    bool is_here = io->kind != WFE_TASK_IO_SNAPSHOT;
    int r = is_here ? make_directory(io, options, err) : 0;
    for (int i = 0; i < STREAMS && r == 0; i++) {
        r = is_here ? open_stream(io, i, err) : 0;
        if (r == 0)
            r = open_raw(io, options, i, err);
    }
    if (r < 0)
        return r;
    r = wfe_outputs_new(&io->outputs);
    if (r < 0)
        return wfe_error_nomem(err);
    io->drain_event = eventfd(0, EFD_CLOEXEC);
    if (io->drain_event < 0)
        return wfe_error_system(err, errno, "eventfd");
    if (is_here)
        return start_thread(io, err);
    set_session(io, options);
    return start_maker(io, err);
}

int wfe_task_io_open(
    const struct wfe_task_io_options *options, struct wfe_task_io **ret, struct wfe_error *err)
{
    struct wfe_task_io *io = calloc(1, sizeof *io);
    if (!io)
        return wfe_error_nomem(err);
    io->kind = options->kind;
    io->progress = options->progress;
    io->show = options->progress != NULL;
    io->drain_event = -1;
    for (int i = 0; i < STREAMS; i++) {
        io->streams[i].fd = io->streams[i].raw_fd = -1;
        io->streams[i].kept = (struct wfe_buffer)WFE_BUFFER_INIT(options->limit_bytes);
    }
    int r = set_up(io, options, err);
    if (r < 0) {
        wfe_task_io_free(io);
        return r;
    }
    *ret = io;
    return 0;
}

void wfe_task_io_key(const char *container_id, char key[static WFE_TASK_IO_KEY_MAX])
{
    snprintf(key, WFE_TASK_IO_KEY_MAX, "%s-io", container_id);
}

int wfe_task_io_await(struct wfe_task_io *io, struct wfe_error *err)
{
    if (!io->maker_running)
        return 0;
    join_maker(io);
    if (io->making.kind != WFE_ERROR_NONE) {
        if (err)
            *err = io->making;
        return -io->making.errnum;
    }
    for (int i = 0; i < STREAMS; i++) {
        io->streams[i].path = wfe_path_join(io->volume.directory, NAMES[i]);
        if (!io->streams[i].path)
            return wfe_error_nomem(err);
    }
    return 0;
}

int wfe_task_io_follow(struct wfe_task_io *io, struct wfe_error *err)
{
    return io->kind == WFE_TASK_IO_SNAPSHOT ? start_thread(io, err) : 0;
}

const char *wfe_task_io_stdout(const struct wfe_task_io *io)
{
    return io->streams[STDOUT].path;
}

const char *wfe_task_io_stderr(const struct wfe_task_io *io)
{
    return io->streams[STDERR].path;
}

void wfe_task_io_drain(struct wfe_task_io *io)
{
    join_maker(io);
    if (!io->thread_running)
        return;
    uint64_t one = 1;
    ssize_t n = write(io->drain_event, &one, sizeof one);
    assert(n == sizeof one);
    (void)n;
    pthread_join(io->thread, NULL);
    io->thread_running = false;
}

static void abandon(struct wfe_task_io *io)
{
    atomic_store(&io->abandoned, true);
    wfe_task_io_drain(io);
}

void wfe_task_io_remove_start(struct wfe_task_io *io, int64_t timeout_ms)
{
    abandon(io);
    if (io->last.size_bytes > 0)
        wfe_diff_drop_start(&io->session, &io->last, &io->dropping);
    wfe_volume_remove_start(&io->session, &io->volume, timeout_ms, &io->removing);
}

int wfe_task_io_remove_finish(struct wfe_task_io *io, int64_t timeout_ms, struct wfe_error *err)
{
    if (io->last.size_bytes > 0)
        wfe_diff_drop_finish(&io->session, &io->last, wfe_steal(&io->dropping));
    io->last.size_bytes = 0;
    return wfe_volume_remove_finish(
        &io->session, &io->volume, wfe_steal(&io->removing), timeout_ms, err);
}

int wfe_task_io_reclaim(const struct wfe_session *session, const char *container_id,
    int64_t timeout_ms, struct wfe_error *err)
{
    struct wfe_volume volume = {0};
    wfe_task_io_key(container_id, volume.key);
    return wfe_volume_remove(session, &volume, timeout_ms, err);
}

void wfe_task_io_unlink(struct wfe_task_io *io)
{
    if (io->directory)
        wfe_remove_tree(io->directory);
    free(wfe_steal(&io->directory));
}

static struct wfe_stream_output view(const struct stream *stream)
{
    return (struct wfe_stream_output){
        .data = stream->kept.data ? stream->kept.data : "",
        .length = stream->kept.length,
        .total_bytes = stream->total_bytes,
    };
}

int wfe_task_io_finish(struct wfe_task_io *io, struct wfe_task_output *ret, struct wfe_error *err)
{
    wfe_task_io_drain(io);
    *ret = (struct wfe_task_output){
        .directives = wfe_outputs_finish(io->outputs),
        .stdout_output = view(&io->streams[STDOUT]),
        .stderr_output = view(&io->streams[STDERR]),
        .dropped_directives = wfe_outputs_dropped(io->outputs),
        .is_incomplete = io->is_incomplete,
    };
    if (!ret->directives)
        fail(io, -ENOMEM, "read the step's output directives");
    if (io->failure.kind != WFE_ERROR_NONE) {
        if (err)
            *err = io->failure;
        return -io->failure.errnum;
    }
    return 0;
}

void wfe_task_io_free(struct wfe_task_io *io)
{
    if (!io)
        return;
    abandon(io);
    for (int i = 0; i < STREAMS; i++) {
        struct stream *stream = &io->streams[i];
        if (stream->fd >= 0)
            close(stream->fd);
        if (stream->raw_fd >= 0)
            close(stream->raw_fd);
        wfe_buffer_done(&stream->kept);
        free(stream->path);
    }
    free(io->volume.directory);
    wfe_task_io_unlink(io);
    wfe_outputs_free(io->outputs);
    if (io->drain_event >= 0)
        close(io->drain_event);
    free(io);
}
