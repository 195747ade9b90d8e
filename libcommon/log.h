/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LOG_H
#define WFE_LIBCOMMON_LOG_H

/*
 * The programs' log: one line an event on stderr, as text
 * ("warn build upload: message") or as one JSON object
 * ({"time","level","step","stage","message"}). Library code returns errors
 * and does not log.
 *
 * Line breaks in step and message become spaces, other control characters and bytes that
 * are no UTF-8 become '?'. A message is cut at 1023 bytes.
 *
 * Threads: safe; a line is written whole, and never between two halves of a
 * terminal's live line (see wfe_log_set_hook).
 */

#include <stdbool.h>

enum wfe_log_level {
    WFE_LOG_ERROR,
    WFE_LOG_WARN,
    WFE_LOG_INFO,
    WFE_LOG_DEBUG,
};

/* "error", "warn", "info" or "debug". Returns 0 or -EINVAL (ret untouched). */
int wfe_log_level_parse(const char *text, enum wfe_log_level *ret);

void wfe_log_setup(enum wfe_log_level level, bool json);

/* True when a line of that level would be written. */
bool wfe_log_enabled(enum wfe_log_level level);

/* The step that later lines speak of; copied, NULL for none. */
void wfe_log_set_step(const char *step);

/* Called with the log's lock held before (true) and after (false) each line: the progress
 * display clears and redraws its live line there. NULL for none. */
void wfe_log_set_hook(void (*hook)(bool before, void *context), void *context);

void wfe_log(enum wfe_log_level level, const char *stage, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
