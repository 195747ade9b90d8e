/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "libcommon/sink_thread.h"

/* Counts and checks what comes: the byte at an offset is its number's lowest. */
struct receiver {
    uint64_t bytes;
    bool is_wrong;
    uint64_t refuse_from; /* 0: nothing is refused */
    unsigned wait_us;     /* before each call */
    unsigned calls_after_refusal;
    pthread_t thread;
};

static int receive(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct receiver *receiver = context;
    const unsigned char *at = data;
    receiver->thread = pthread_self();
    usleep(receiver->wait_us);
    if (receiver->refuse_from && receiver->bytes >= receiver->refuse_from) {
        receiver->calls_after_refusal++;
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "enough");
    }
    for (size_t i = 0; i < length; i++)
        receiver->is_wrong |= at[i] != (unsigned char)(receiver->bytes + i);
    receiver->bytes += length;
    return 0;
}

static struct wfe_sink_thread *start(struct receiver *receiver)
{
    struct wfe_sink_thread *thread = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_sink to = {.write = receive, .context = receiver};
    assert_int_equal(wfe_sink_thread_start(to, &thread, &err), 0);
    return thread;
}

/* In pieces of so many bytes and fewer. Returns what the first write that fails does. */
static int feed(struct wfe_sink_thread *thread, uint64_t bytes, size_t piece, struct wfe_error *err)
{
    static unsigned char data[1 << 20];
    struct wfe_sink sink = wfe_sink_thread_sink(thread);
    assert_true(piece <= sizeof data);
    for (uint64_t sent = 0; sent < bytes;) {
        size_t length = piece < bytes - sent ? piece : (size_t)(bytes - sent);
        for (size_t i = 0; i < length; i++)
            data[i] = (unsigned char)(sent + i);
        int r = sink.write(sink.context, data, length, err);
        if (r < 0)
            return r;
        sent += length;
    }
    return 0;
}

static void all_arrives_in_order(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 10000019};
    static const size_t pieces[] = {999, 256 * 1024, 1 << 20};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            struct receiver receiver = {0};
            struct wfe_error err = WFE_ERROR_INIT;
            struct wfe_sink_thread *thread = start(&receiver);
            assert_int_equal(feed(thread, sizes[s], pieces[p], &err), 0);
            assert_int_equal(wfe_sink_thread_finish(thread, &err), 0);
            assert_int_equal(receiver.bytes, sizes[s]);
            assert_false(receiver.is_wrong);
            assert_true(sizes[s] == 0 || !pthread_equal(receiver.thread, pthread_self()));
            wfe_sink_thread_free(thread);
        }
}

static void a_slow_receiver_is_waited_for(void **state)
{
    (void)state;
    struct receiver receiver = {.wait_us = 2000};
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_sink_thread *thread = start(&receiver);
    assert_int_equal(feed(thread, 5000000, 100000, &err), 0);
    assert_int_equal(wfe_sink_thread_finish(thread, &err), 0);
    assert_int_equal(receiver.bytes, 5000000);
    assert_false(receiver.is_wrong);
    wfe_sink_thread_free(thread);
}

static void a_refusal_comes_back_and_ends_it(void **state)
{
    (void)state;
    struct receiver receiver = {.refuse_from = 1};
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_sink_thread *thread = start(&receiver);
    assert_int_equal(feed(thread, UINT64_C(1) << 40, 100000, &err), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_string_equal(err.message, "enough");
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(wfe_sink_thread_finish(thread, &err), -EFBIG);
    assert_string_equal(err.message, "enough");
    assert_int_equal(receiver.calls_after_refusal, 1);
    wfe_sink_thread_free(thread);
}

static void a_refusal_of_the_last_bytes_is_told_at_the_end(void **state)
{
    (void)state;
    struct receiver receiver = {.refuse_from = 256 * 1024};
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_sink_thread *thread = start(&receiver);
    assert_int_equal(feed(thread, 256 * 1024 + 1, 1, &err), 0);
    assert_int_equal(wfe_sink_thread_finish(thread, &err), -EFBIG);
    assert_string_equal(err.message, "enough");
    wfe_sink_thread_free(thread);
}

static void what_is_not_finished_is_dropped(void **state)
{
    (void)state;
    struct receiver receiver = {.wait_us = 20000};
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_sink_thread *thread = start(&receiver);
    assert_int_equal(feed(thread, 1000000, 100000, &err), 0);
    wfe_sink_thread_free(thread);
    uint64_t received = receiver.bytes;
    usleep(50000);
    assert_true(received < 1000000);
    assert_int_equal(receiver.bytes, received);
    wfe_sink_thread_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_arrives_in_order),
        cmocka_unit_test(a_slow_receiver_is_waited_for),
        cmocka_unit_test(a_refusal_comes_back_and_ends_it),
        cmocka_unit_test(a_refusal_of_the_last_bytes_is_told_at_the_end),
        cmocka_unit_test(what_is_not_finished_is_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
