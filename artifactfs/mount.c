/* SPDX-License-Identifier: MIT */
#include "artifactfs/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "artifactfs/background.h"
#include "artifactfs/fuse_io.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

/* Sent between threads of this process: to the one that waits for signals, so that it ends, and to
 * the one that waits for the session's end, so that it looks whether that has come. */
#define SIGNAL_END SIGUSR1
#define SIGNAL_LOOK SIGUSR2

struct session {
    const char *mountpoint;
    struct fuse_session *fuse;
    pthread_t main_thread, signal_thread;
    atomic_bool has_ended;
};

/* What libfuse said last, for the message of a failure. */
static struct {
    pthread_mutex_t lock;
    bool is_serving;
    char text[256];
} fuse_words = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void __attribute__((format(printf, 2, 0)))
hear_fuse(enum fuse_log_level level, const char *format, va_list args)
{
    char text[sizeof fuse_words.text];
    vsnprintf(text, sizeof text, format, args);
    char *line = strncmp(text, "fuse: ", 6) == 0 ? text + 6 : text;
    line[strcspn(line, "\n")] = '\0';
    pthread_mutex_lock(&fuse_words.lock);
    bool is_serving = fuse_words.is_serving;
    if (!is_serving)
        snprintf(fuse_words.text, sizeof fuse_words.text, "%s", line);
    pthread_mutex_unlock(&fuse_words.lock);
    if (level >= FUSE_LOG_DEBUG)
        fprintf(stderr, "%s\n", text);
    else if (is_serving && *line)
        wfe_background_log(
            level <= FUSE_LOG_ERR ? WFE_LOG_ERROR : WFE_LOG_WARN, "fuse", "%s", line);
}

static int fuse_failed(const char *what, int errnum, struct wfe_error *err)
{
    pthread_mutex_lock(&fuse_words.lock);
    int r = wfe_error_set(err, WFE_ERROR_SYSTEM, errnum, "%s: %s", what,
        fuse_words.text[0] ? fuse_words.text : strerror(errnum));
    pthread_mutex_unlock(&fuse_words.lock);
    return r;
}

int wfe_mount_resolve(const char *mountpoint, char **ret, struct wfe_error *err)
{
    struct stat st;
    WFE_FREE char *resolved = realpath(mountpoint, NULL);
    if (!resolved || stat(resolved, &st) < 0) {
        if (errno == ENOTCONN)
            return wfe_error_set(err, WFE_ERROR_INPUT, ENOTCONN,
                "%s: a file system whose process died is still mounted there; remove it with "
                "umount -l %s",
                mountpoint, mountpoint);
        return wfe_error_system(err, errno, "%s", mountpoint);
    }
    if (!S_ISDIR(st.st_mode))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, ENOTDIR, "%s: expected a directory to mount on", mountpoint);
    *ret = wfe_steal(&resolved);
    return 0;
}

static void ending_signals(sigset_t *ret)
{
    sigemptyset(ret);
    sigaddset(ret, SIGTERM);
    sigaddset(ret, SIGINT);
    sigaddset(ret, SIGHUP);
    sigaddset(ret, SIGNAL_END);
}

void wfe_mount_block_signals(void)
{
    sigset_t signals;
    ending_signals(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

/* libfuse's loop looks whether it should end when a signal interrupts its wait; one that comes
 * between the look and the wait would be lost. */
static void end_session(struct session *session)
{
    fuse_session_exit(session->fuse);
    while (!atomic_load(&session->has_ended)) {
        pthread_kill(session->main_thread, SIGNAL_LOOK);
        const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
        nanosleep(&pause, NULL);
    }
}

static void *wait_for_signals(void *context)
{
    struct session *session = context;
    sigset_t signals;
    ending_signals(&signals);
    while (!atomic_load(&session->has_ended)) {
        int number;
        if (sigwait(&signals, &number) == 0 && number != SIGNAL_END)
            end_session(session);
    }
    return NULL;
}

static void do_nothing(int number)
{
    (void)number;
}

/* The mount table writes blanks and backslashes as \\NNN. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned value;
        if (*from == '\\' && sscanf(from + 1, "%3o", &value) == 1) {
            *to = (char)value;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* The mount's device, as the mount table has it: asking the mount would wait for this process. */
static bool find_device(const char *mountpoint, char device[static 32])
{
    WFE_FCLOSE FILE *mounts = fopen("/proc/self/mountinfo", "re");
    WFE_FREE char *line = NULL;
    size_t allocated = 0;
    bool found = false;
    while (mounts && getline(&line, &allocated, mounts) > 0) {
        char number[32];
        WFE_FREE char *point = NULL;
        if (sscanf(line, "%*d %*d %31s %*s %ms", number, &point) != 2)
            continue;
        unescape(point);
        if (strcmp(point, mountpoint) == 0) {
            memcpy(device, number, sizeof number);
            found = true; /* the last one is on top */
        }
    }
    return found;
}

/* The kernel reads 128 KiB ahead unless root raises it. */
static void raise_read_ahead(const char *mountpoint)
{
    char device[32], path[96], text[16];
    if (!find_device(mountpoint, device))
        return;
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", device);
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    int length = snprintf(text, sizeof text, "%d", WFE_FUSE_READ_AHEAD_KIB);
    if (fd < 0 || wfe_write_all(fd, text, (size_t)length) < 0)
        wfe_background_log(WFE_LOG_DEBUG, "mount", "%s can't be raised", path);
}

static int run_loop(struct session *session, struct wfe_error *err)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    if (!config)
        return wfe_error_nomem(err);
    fuse_loop_cfg_set_max_threads(config, WFE_MOUNT_MAX_THREADS);
    int r = fuse_session_loop_mt(session->fuse, config);
    fuse_loop_cfg_destroy(config);
    return r < 0 ? wfe_error_system(err, -r, "%s", session->mountpoint) : 0;
}

static int start_signal_thread(struct session *session, struct wfe_error *err)
{
    const struct sigaction look = {.sa_handler = do_nothing};
    sigaction(SIGNAL_LOOK, &look, NULL);
    session->main_thread = pthread_self();
    int r = pthread_create(&session->signal_thread, NULL, wait_for_signals, session);
    return r ? wfe_error_system(err, r, "pthread_create") : 0;
}

static void end_signal_thread(struct session *session)
{
    atomic_store(&session->has_ended, true);
    pthread_kill(session->signal_thread, SIGNAL_END);
    pthread_join(session->signal_thread, NULL);
}

static void begin_serving(void)
{
    pthread_mutex_lock(&fuse_words.lock);
    fuse_words.is_serving = true;
    pthread_mutex_unlock(&fuse_words.lock);
}

static int serve_mounted(
    struct session *session, int (*mounted)(struct wfe_error *), struct wfe_error *err)
{
    raise_read_ahead(session->mountpoint);
    int r = wfe_fuse_io_install(session->fuse, err);
    if (r == 0)
        r = start_signal_thread(session, err);
    if (r == 0) {
        begin_serving();
        r = mounted(err);
        if (r == 0)
            r = run_loop(session, err);
        /* Ends requests that wait, of which some may be under way in spite of a failure. */
        fuse_session_exit(session->fuse);
        end_signal_thread(session);
    }
    fuse_session_unmount(session->fuse);
    return r;
}

/* Each artifact has a few descriptors. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int wfe_mount_serve(const char *mountpoint, struct wfe_mount_options *options,
    struct wfe_volume *volume, struct wfe_virtual *virtual_files,
    int (*mounted)(struct wfe_error *), struct wfe_error *err)
{
    struct session session = {.mountpoint = mountpoint};
    struct wfe_fuse fs;
    raise_descriptor_limit();
    fuse_set_log_func(hear_fuse);
    wfe_fuse_init(&fs, volume, virtual_files, &options->owner);
    int r = 0;
    session.fuse = fuse_session_new(&options->args, &wfe_fuse_ops, sizeof wfe_fuse_ops, &fs);
    fs.session = session.fuse;
    if (!session.fuse)
        r = fuse_failed(mountpoint, EINVAL, err);
    else if (fuse_session_mount(session.fuse, mountpoint) < 0)
        r = fuse_failed(mountpoint, errno ? errno : EIO, err);
    else
        r = serve_mounted(&session, mounted, err);
    if (session.fuse)
        fuse_session_destroy(session.fuse);
    wfe_fuse_done(&fs);
    return r;
}
