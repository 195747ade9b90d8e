/* SPDX-License-Identifier: MIT */
#include "libcommon/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libcommon/cleanup.h"
#include "libcommon/utf8.h"

static const char *const LEVELS[] = {"error", "warn", "info", "debug"};

static struct {
    pthread_mutex_t lock;
    enum wfe_log_level level;
    bool json;
    char step[128];
    void (*hook)(bool before, void *context);
    void *hook_context;
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .level = WFE_LOG_WARN};

/* Text of daemons and archives must neither break a line in two nor speak to the terminal. */
static void make_printable(char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\n' || byte == '\r' || byte == '\t')
            text[i] = ' ';
        else if (byte < 0x20 || byte == 0x7F)
            text[i] = '?';
        else if (byte == 0xC2 && (unsigned char)text[i + 1] - 0x80U < 0x20)
            text[i] = text[i + 1] = '?'; /* U+0080 to U+009F are controls, too */
    }
    for (size_t i = wfe_utf8_span(text, length); i < length;
         i += wfe_utf8_span(text + i, length - i))
        text[i] = '?';
}

int wfe_log_level_parse(const char *text, enum wfe_log_level *ret)
{
    for (size_t i = 0; i < sizeof LEVELS / sizeof *LEVELS; i++) {
        if (strcmp(text, LEVELS[i]) == 0) {
            *ret = (enum wfe_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

void wfe_log_setup(enum wfe_log_level level, bool json)
{
    pthread_mutex_lock(&state.lock);
    state.level = level;
    state.json = json;
    pthread_mutex_unlock(&state.lock);
}

bool wfe_log_enabled(enum wfe_log_level level)
{
    pthread_mutex_lock(&state.lock);
    bool enabled = level <= state.level;
    pthread_mutex_unlock(&state.lock);
    return enabled;
}

void wfe_log_set_step(const char *step)
{
    pthread_mutex_lock(&state.lock);
    snprintf(state.step, sizeof state.step, "%s", step ? step : "");
    make_printable(state.step);
    pthread_mutex_unlock(&state.lock);
}

void wfe_log_set_hook(void (*hook)(bool before, void *context), void *context)
{
    pthread_mutex_lock(&state.lock);
    state.hook = hook;
    state.hook_context = context;
    pthread_mutex_unlock(&state.lock);
}

static void write_json(enum wfe_log_level level, const char *stage, const char *message)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char stamp[32];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    char time_text[48];
    snprintf(time_text, sizeof time_text, "%s.%03ldZ", stamp, now.tv_nsec / 1000000);

    WFE_JSON cJSON *line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "time", time_text);
    cJSON_AddStringToObject(line, "level", LEVELS[level]);
    if (state.step[0])
        cJSON_AddStringToObject(line, "step", state.step);
    cJSON_AddStringToObject(line, "stage", stage);
    cJSON_AddStringToObject(line, "message", message);
    WFE_FREE char *text = cJSON_PrintUnformatted(line);
    if (text)
        fprintf(stderr, "%s\n", text);
}

void wfe_log(enum wfe_log_level level, const char *stage, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    make_printable(message);

    pthread_mutex_lock(&state.lock);
    if (level <= state.level) {
        if (state.hook)
            state.hook(true, state.hook_context);
        if (state.json)
            write_json(level, stage, message);
        else
            fprintf(stderr, "%s %s%s%s: %s\n", LEVELS[level], state.step, state.step[0] ? " " : "",
                stage, message);
        if (state.hook)
            state.hook(false, state.hook_context);
    }
    pthread_mutex_unlock(&state.lock);
}
