/* SPDX-License-Identifier: MIT */
#include "executor/run/progress.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/file.h"
#include "libcommon/log.h"

#define TICK_MS 120

/* A stage that took longer leaves its line behind. */
#define WORTH_KEEPING_MS 1000

struct wfe_progress {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t ticker;
    bool live; /* a terminal shows the live line, and the ticker runs */
    bool plain;
    bool color;
    bool ending;
    bool drawn;         /* the live line is on the screen */
    bool output_seen;   /* the stage's own output took the screen over */
    bool inside_a_line; /* the output's last byte was no newline */
    char step[128];
    char stage[256];
    struct timespec stage_began;
    uint64_t stage_bytes;
};

int wfe_progress_mode_parse(const char *text, enum wfe_progress_mode *ret)
{
    static const char *const names[] = {"auto", "plain", "none"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum wfe_progress_mode)i;
            return 0;
        }
    return -EINVAL;
}

static int64_t elapsed_ms(const struct wfe_progress *progress)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - progress->stage_began.tv_sec) * 1000 +
           (now.tv_nsec - progress->stage_began.tv_nsec) / 1000000;
}

static void format_bytes(char *text, size_t size, double bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void format_line(const struct wfe_progress *progress, char *line, size_t size)
{
    int64_t ms = elapsed_ms(progress);
    char moved[80] = "";
    if (progress->stage_bytes > 0) {
        char total[32], rate[32];
        format_bytes(total, sizeof total, (double)progress->stage_bytes);
        format_bytes(
            rate, sizeof rate, (double)progress->stage_bytes * 1000 / (double)(ms > 0 ? ms : 1));
        snprintf(moved, sizeof moved, "  %s  %s/s", total, rate);
    }
    snprintf(line, size, "%s%s%s%s  %lld.%llds", progress->step, progress->step[0] ? ": " : "",
        progress->stage, moved, (long long)(ms / 1000), (long long)(ms % 1000 / 100));
}

static void clear_line(struct wfe_progress *progress)
{
    if (!progress->drawn)
        return;
    wfe_write_all(STDERR_FILENO, "\r\033[K", 4);
    progress->drawn = false;
}

/* A line that wraps could not be cleared again. */
static void clip_to_terminal(char *text)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 &&
        strlen(text) >= size.ws_col)
        text[size.ws_col - 1] = '\0';
}

static void draw_line(struct wfe_progress *progress, bool final)
{
    char text[480], line[512];
    format_line(progress, text, sizeof text);
    clip_to_terminal(text);
    int length = snprintf(line, sizeof line, "\r\033[K%s%s%s%s", progress->color ? "\033[2m" : "",
        text, progress->color ? "\033[0m" : "", final ? "\n" : "");
    wfe_write_all(STDERR_FILENO, line, (size_t)length);
    progress->drawn = !final;
}

static bool may_draw(const struct wfe_progress *progress)
{
    return progress->live && progress->stage[0] && !progress->output_seen &&
           !progress->inside_a_line;
}

static void *tick(void *context)
{
    struct wfe_progress *progress = context;
    pthread_mutex_lock(&progress->lock);
    while (!progress->ending) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&progress->wake, &progress->lock, &until);
        if (!progress->ending && may_draw(progress))
            draw_line(progress, false);
    }
    pthread_mutex_unlock(&progress->lock);
    return NULL;
}

/* Around each line of the log. */
static void around_log_line(bool before, void *context)
{
    struct wfe_progress *progress = context;
    if (before) {
        pthread_mutex_lock(&progress->lock);
        clear_line(progress);
    } else {
        pthread_mutex_unlock(&progress->lock);
    }
}

int wfe_progress_new(enum wfe_progress_mode mode, struct wfe_progress **ret)
{
    struct wfe_progress *progress = calloc(1, sizeof *progress);
    if (!progress)
        return -ENOMEM;
    bool terminal = isatty(STDERR_FILENO) == 1;
    progress->live = mode == WFE_PROGRESS_AUTO && terminal;
    progress->plain = mode == WFE_PROGRESS_PLAIN || (mode == WFE_PROGRESS_AUTO && !terminal);
    const char *no_color = getenv("NO_COLOR");
    progress->color = !(no_color && *no_color);
    pthread_mutex_init(&progress->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&progress->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (progress->live) {
        int r = pthread_create(&progress->ticker, NULL, tick, progress);
        if (r != 0) {
            progress->live = false;
            progress->plain = true;
        }
    }
    wfe_log_set_hook(around_log_line, progress);
    *ret = progress;
    return 0;
}

void wfe_progress_free(struct wfe_progress *progress)
{
    if (!progress)
        return;
    wfe_log_set_hook(NULL, NULL);
    pthread_mutex_lock(&progress->lock);
    progress->ending = true;
    clear_line(progress);
    pthread_cond_signal(&progress->wake);
    pthread_mutex_unlock(&progress->lock);
    if (progress->live)
        pthread_join(progress->ticker, NULL);
    pthread_cond_destroy(&progress->wake);
    pthread_mutex_destroy(&progress->lock);
    free(progress);
}

void wfe_progress_step(struct wfe_progress *progress, const char *name)
{
    if (!progress)
        return;
    pthread_mutex_lock(&progress->lock);
    snprintf(progress->step, sizeof progress->step, "%s", name ? name : "");
    pthread_mutex_unlock(&progress->lock);
}

void wfe_progress_stage(struct wfe_progress *progress, const char *format, ...)
{
    if (!progress)
        return;
    pthread_mutex_lock(&progress->lock);
    if (may_draw(progress) && elapsed_ms(progress) >= WORTH_KEEPING_MS)
        draw_line(progress, true);
    va_list args;
    va_start(args, format);
    vsnprintf(progress->stage, sizeof progress->stage, format, args);
    va_end(args);
    clock_gettime(CLOCK_MONOTONIC, &progress->stage_began);
    progress->stage_bytes = 0;
    progress->output_seen = false;
    if (progress->plain)
        fprintf(stderr, "%s%s%s\n", progress->step, progress->step[0] ? ": " : "", progress->stage);
    else if (may_draw(progress))
        draw_line(progress, false);
    pthread_mutex_unlock(&progress->lock);
}

void wfe_progress_bytes(struct wfe_progress *progress, uint64_t bytes)
{
    if (!progress)
        return;
    pthread_mutex_lock(&progress->lock);
    progress->stage_bytes = bytes;
    pthread_mutex_unlock(&progress->lock);
}

int wfe_progress_output(struct wfe_progress *progress, const void *data, size_t length)
{
    if (!progress || length == 0)
        return 0;
    pthread_mutex_lock(&progress->lock);
    clear_line(progress);
    progress->output_seen = true;
    progress->inside_a_line = ((const char *)data)[length - 1] != '\n';
    pthread_mutex_unlock(&progress->lock);
    /* Written without the lock: a terminal that is stopped must not stop the log. */
    return wfe_write_all(STDERR_FILENO, data, length);
}
