/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_CANCEL_H
#define WFE_LIBCOMMON_CANCEL_H

/*
 * A request to stop, given by a signal thread or any other thread, and heard
 * by every call that was registered with it.
 *
 * Threads: all functions may be called from any thread, none from a signal
 * handler. Callbacks run on the triggering thread (or at once on the adding thread,
 * when the request was already given) with the lock held: they must not call back into
 * the token.
 */

#include <stdbool.h>

struct wfe_cancel;

struct wfe_cancel_entry {
    void (*callback)(void *context);
    void *context;
    struct wfe_cancel_entry *next;
    struct wfe_cancel_entry **link;
};

/* Returns 0, or -errno with ret untouched. */
int wfe_cancel_new(struct wfe_cancel **ret);
/* NULL is fine. No entry may be registered any more. */
void wfe_cancel_free(struct wfe_cancel *cancel);

/* Give the request; the first time runs every callback. Returns how often it was given
 * so far, this time included. */
unsigned wfe_cancel_trigger(struct wfe_cancel *cancel);

/* Whether it was given. NULL is a token that never triggers. */
bool wfe_cancel_requested(struct wfe_cancel *cancel);

/* How often it was given. NULL: 0. */
unsigned wfe_cancel_count(struct wfe_cancel *cancel);

/* A descriptor that is readable (POLLIN) once the request was given; never read from it. */
int wfe_cancel_fd(const struct wfe_cancel *cancel);

/* entry is the caller's and must live until removed; cancel may be NULL (nothing happens). */
void wfe_cancel_add(struct wfe_cancel *cancel, struct wfe_cancel_entry *entry);
void wfe_cancel_remove(struct wfe_cancel *cancel, struct wfe_cancel_entry *entry);

#endif
