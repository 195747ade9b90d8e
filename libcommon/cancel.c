/* SPDX-License-Identifier: MIT */
#include "libcommon/cancel.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct wfe_cancel {
    pthread_mutex_t lock;
    unsigned count;
    int event_fd;
    struct wfe_cancel_entry *entries;
};

int wfe_cancel_new(struct wfe_cancel **ret)
{
    struct wfe_cancel *cancel = calloc(1, sizeof *cancel);
    if (!cancel)
        return -ENOMEM;
    cancel->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (cancel->event_fd < 0) {
        int r = -errno;
        free(cancel);
        return r;
    }
    pthread_mutex_init(&cancel->lock, NULL);
    *ret = cancel;
    return 0;
}

void wfe_cancel_free(struct wfe_cancel *cancel)
{
    if (!cancel)
        return;
    assert(!cancel->entries);
    close(cancel->event_fd);
    pthread_mutex_destroy(&cancel->lock);
    free(cancel);
}

unsigned wfe_cancel_trigger(struct wfe_cancel *cancel)
{
    pthread_mutex_lock(&cancel->lock);
    unsigned count = ++cancel->count;
    if (count == 1) {
        int r = eventfd_write(cancel->event_fd, 1);
        assert(r == 0);
        (void)r;
        for (struct wfe_cancel_entry *e = cancel->entries; e; e = e->next)
            e->callback(e->context);
    }
    pthread_mutex_unlock(&cancel->lock);
    return count;
}

unsigned wfe_cancel_count(struct wfe_cancel *cancel)
{
    if (!cancel)
        return 0;
    pthread_mutex_lock(&cancel->lock);
    unsigned count = cancel->count;
    pthread_mutex_unlock(&cancel->lock);
    return count;
}

bool wfe_cancel_requested(struct wfe_cancel *cancel)
{
    return wfe_cancel_count(cancel) > 0;
}

int wfe_cancel_fd(const struct wfe_cancel *cancel)
{
    return cancel->event_fd;
}

void wfe_cancel_add(struct wfe_cancel *cancel, struct wfe_cancel_entry *entry)
{
    if (!cancel)
        return;
    pthread_mutex_lock(&cancel->lock);
    entry->next = cancel->entries;
    entry->link = &cancel->entries;
    if (entry->next)
        entry->next->link = &entry->next;
    cancel->entries = entry;
    if (cancel->count > 0)
        entry->callback(entry->context);
    pthread_mutex_unlock(&cancel->lock);
}

void wfe_cancel_remove(struct wfe_cancel *cancel, struct wfe_cancel_entry *entry)
{
    if (!cancel)
        return;
    pthread_mutex_lock(&cancel->lock);
    *entry->link = entry->next;
    if (entry->next)
        entry->next->link = entry->link;
    pthread_mutex_unlock(&cancel->lock);
}
