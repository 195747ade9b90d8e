/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/cancel.h"

static int make_token(void **state)
{
    struct wfe_cancel *cancel = NULL;
    int r = wfe_cancel_new(&cancel);
    *state = cancel;
    return r;
}

static int free_token(void **state)
{
    wfe_cancel_free(*state);
    return 0;
}

static void count_call(void *context)
{
    ++*(unsigned *)context;
}

static bool readable(const struct wfe_cancel *cancel)
{
    struct pollfd entry = {.fd = wfe_cancel_fd(cancel), .events = POLLIN};
    return poll(&entry, 1, 0) == 1;
}

static void a_fresh_token_is_silent(void **state)
{
    assert_false(wfe_cancel_requested(*state));
    assert_int_equal(wfe_cancel_count(*state), 0);
    assert_false(readable(*state));
}

static void no_token_never_triggers(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct wfe_cancel_entry entry = {.callback = count_call, .context = &calls};
    assert_false(wfe_cancel_requested(NULL));
    assert_int_equal(wfe_cancel_count(NULL), 0);
    wfe_cancel_add(NULL, &entry);
    wfe_cancel_remove(NULL, &entry);
    wfe_cancel_free(NULL);
    assert_int_equal(calls, 0);
}

static void triggering_counts_and_makes_the_descriptor_readable(void **state)
{
    assert_int_equal(wfe_cancel_trigger(*state), 1);
    assert_true(wfe_cancel_requested(*state));
    assert_true(readable(*state));
    assert_int_equal(wfe_cancel_trigger(*state), 2);
    assert_int_equal(wfe_cancel_count(*state), 2);
    assert_true(readable(*state));
}

static void every_entry_hears_of_the_first_trigger_only(void **state)
{
    unsigned calls[3] = {0};
    struct wfe_cancel_entry entries[3];
    for (size_t i = 0; i < 3; i++) {
        entries[i] = (struct wfe_cancel_entry){.callback = count_call, .context = &calls[i]};
        wfe_cancel_add(*state, &entries[i]);
    }
    wfe_cancel_trigger(*state);
    wfe_cancel_trigger(*state);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(calls[i], 1);
        wfe_cancel_remove(*state, &entries[i]);
    }
}

static void a_removed_entry_hears_nothing(void **state)
{
    for (size_t removed = 0; removed < 3; removed++) {
        struct wfe_cancel *cancel = NULL;
        assert_int_equal(wfe_cancel_new(&cancel), 0);
        unsigned calls[3] = {0};
        struct wfe_cancel_entry entries[3];
        for (size_t i = 0; i < 3; i++) {
            entries[i] = (struct wfe_cancel_entry){.callback = count_call, .context = &calls[i]};
            wfe_cancel_add(cancel, &entries[i]);
        }
        wfe_cancel_remove(cancel, &entries[removed]);
        wfe_cancel_trigger(cancel);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(calls[i], i != removed);
            if (i != removed)
                wfe_cancel_remove(cancel, &entries[i]);
        }
        wfe_cancel_free(cancel);
    }
    (void)state;
}

static void an_entry_added_too_late_is_called_at_once(void **state)
{
    unsigned calls = 0;
    struct wfe_cancel_entry entry = {.callback = count_call, .context = &calls};
    wfe_cancel_trigger(*state);
    wfe_cancel_add(*state, &entry);
    assert_int_equal(calls, 1);
    wfe_cancel_remove(*state, &entry);
}

static void *add_and_remove(void *context)
{
    for (int i = 0; i < 2000; i++) {
        unsigned calls = 0;
        struct wfe_cancel_entry entry = {.callback = count_call, .context = &calls};
        wfe_cancel_add(context, &entry);
        wfe_cancel_remove(context, &entry);
        if (calls > 1)
            return (void *)"called twice";
    }
    return NULL;
}

static void threads_may_come_and_go_while_it_triggers(void **state)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_remove, *state), 0);
    wfe_cancel_trigger(*state);
    for (size_t i = 0; i < 4; i++) {
        void *failure = NULL;
        pthread_join(threads[i], &failure);
        assert_null(failure);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_token, free_token)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_fresh_token_is_silent),
        TEST(no_token_never_triggers),
        TEST(triggering_counts_and_makes_the_descriptor_readable),
        TEST(every_entry_hears_of_the_first_trigger_only),
        TEST(a_removed_entry_hears_nothing),
        TEST(an_entry_added_too_late_is_called_at_once),
        TEST(threads_may_come_and_go_while_it_triggers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
