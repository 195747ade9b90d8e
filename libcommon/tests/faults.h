/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_TESTS_FAULTS_H
#define WFE_LIBCOMMON_TESTS_FAULTS_H

/*
 * Lets one call of the code under test fail: the Nth allocation (also one that cJSON makes), or the
 * Nth call that changes the file system or opens something in it. The calls that our own objects
 * make are led here by the linker (--wrap); those that libraries make inside of themselves are not
 * touched. cmocka's headers come first.
 */

#include <stdbool.h>

#include "libcommon/error.h"

enum fault {
    FAULT_MEMORY, /* malloc and its like return NULL */
    FAULT_FILE,   /* open, write, fsync, rename, ftruncate, mkdir and their like: FAULT_ERRNO */
};

/* One that no code of ours expects, so that it can only have been passed on. */
#define FAULT_ERRNO EDQUOT

/* Let the nth call from now (counted from 1) fail. */
void fault_begin(enum fault fault, unsigned nth);
/* Whether it has failed; none does any more. */
bool fault_end(void);

/* What is tried, and what has to hold after each attempt; err is NULL after one that passed. */
struct fault_case {
    int (*run)(void *context, struct wfe_error *err);
    void (*check)(void *context, const struct wfe_error *err); /* may be NULL */
    void *context;
    /* Whether a call may fail without the operation failing: one that is tried for, only. */
    bool may_pass;
};

/*
 * Run it with its first call failing, then with its second, and so on until none fails any more.
 * What it returns has to be the errno of the call (-ENOMEM, -FAULT_ERRNO), and err as well, of kind
 * WFE_ERROR_SYSTEM or, for memory, WFE_ERROR_INTERNAL. No descriptor may be left open. There must
 * be a call to fail.
 */
void fault_each(enum fault fault, const struct fault_case *tried);

#endif
