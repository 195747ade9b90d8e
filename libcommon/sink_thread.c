/* SPDX-License-Identifier: MIT */
#include "libcommon/sink_thread.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4, SLOT_BYTES = 256 * 1024 };

struct slot {
    size_t length;
    char data[SLOT_BYTES];
};

struct wfe_sink_thread {
    struct wfe_sink to;
    pthread_t thread;
    bool joined;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Slots since the start; number n lies in slots[n % SLOTS]. The one that is being filled has
     * the number `full`, and is the writer's own. */
    uint64_t full, emptied;
    bool ended;     /* nothing comes any more */
    bool abandoned; /* and nothing more is wanted */
    int failure;    /* of the other sink, which is not called after it */
    struct wfe_error error;

    struct slot slots[SLOTS];
};

static struct slot *slot_at(struct wfe_sink_thread *thread, uint64_t number)
{
    return &thread->slots[number % SLOTS];
}

/* NULL: there is none any more. */
static struct slot *await_full(struct wfe_sink_thread *thread)
{
    struct slot *slot = NULL;
    pthread_mutex_lock(&thread->lock);
    while (thread->full == thread->emptied && !thread->ended)
        pthread_cond_wait(&thread->changed, &thread->lock);
    if (thread->full > thread->emptied && !thread->abandoned && thread->failure == 0)
        slot = slot_at(thread, thread->emptied);
    pthread_mutex_unlock(&thread->lock);
    return slot;
}

static void *pass_on(void *context)
{
    struct wfe_sink_thread *thread = context;
    struct slot *slot;
    while ((slot = await_full(thread))) {
        struct wfe_error err = WFE_ERROR_INIT;
        int r = thread->to.write(thread->to.context, slot->data, slot->length, &err);
        pthread_mutex_lock(&thread->lock);
        slot->length = 0;
        thread->emptied++;
        if (r < 0) {
            thread->failure = r;
            thread->error = err;
        }
        pthread_cond_signal(&thread->changed);
        pthread_mutex_unlock(&thread->lock);
    }
    return NULL;
}

/* The lock is held. */
static int failure_of(struct wfe_sink_thread *thread, struct wfe_error *err)
{
    if (thread->failure < 0 && err)
        *err = thread->error;
    return thread->failure;
}

/* Hands the writer's slot over and gives it another one. */
static int hand_over(struct wfe_sink_thread *thread, struct wfe_error *err)
{
    pthread_mutex_lock(&thread->lock);
    thread->full++;
    pthread_cond_signal(&thread->changed);
    while (thread->full - thread->emptied == SLOTS && thread->failure == 0)
        pthread_cond_wait(&thread->changed, &thread->lock);
    int r = failure_of(thread, err);
    pthread_mutex_unlock(&thread->lock);
    return r;
}

static int write_slots(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct wfe_sink_thread *thread = context;
    const char *from = data;
    while (length > 0) {
        struct slot *slot = slot_at(thread, thread->full);
        size_t room = SLOT_BYTES - slot->length;
        size_t part = length < room ? length : room;
        memcpy(slot->data + slot->length, from, part);
        slot->length += part;
        from += part;
        length -= part;
        if (slot->length < SLOT_BYTES)
            break;
        int r = hand_over(thread, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static void join(struct wfe_sink_thread *thread, bool abandoned)
{
    if (thread->joined)
        return;
    pthread_mutex_lock(&thread->lock);
    if (!abandoned && slot_at(thread, thread->full)->length > 0)
        thread->full++;
    thread->ended = true;
    thread->abandoned = abandoned;
    pthread_cond_signal(&thread->changed);
    pthread_mutex_unlock(&thread->lock);
    pthread_join(thread->thread, NULL);
    thread->joined = true;
}

int wfe_sink_thread_start(struct wfe_sink to, struct wfe_sink_thread **ret, struct wfe_error *err)
{
    struct wfe_sink_thread *thread = malloc(sizeof *thread);
    if (!thread)
        return wfe_error_nomem(err);
    /* What the slots hold is not touched before it is used. */
    memset(thread, 0, offsetof(struct wfe_sink_thread, slots));
    for (size_t i = 0; i < SLOTS; i++)
        thread->slots[i].length = 0;
    thread->to = to;
    pthread_mutex_init(&thread->lock, NULL);
    pthread_cond_init(&thread->changed, NULL);
    int errnum = pthread_create(&thread->thread, NULL, pass_on, thread);
    if (errnum != 0) {
        thread->joined = true;
        wfe_sink_thread_free(thread);
        return wfe_error_system(err, errnum, "start a thread");
    }
    *ret = thread;
    return 0;
}

struct wfe_sink wfe_sink_thread_sink(struct wfe_sink_thread *thread)
{
    return (struct wfe_sink){.write = write_slots, .context = thread};
}

int wfe_sink_thread_finish(struct wfe_sink_thread *thread, struct wfe_error *err)
{
    join(thread, false);
    return failure_of(thread, err);
}

void wfe_sink_thread_free(struct wfe_sink_thread *thread)
{
    if (!thread)
        return;
    join(thread, true);
    pthread_cond_destroy(&thread->changed);
    pthread_mutex_destroy(&thread->lock);
    free(thread);
}
