/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_PARENT_H
#define WFE_EXECUTOR_PARENT_H

#include "libcommon/error.h"

/*
 * From here on, the end of the process that started us is a SIGTERM for us. That process has to be
 * gone: the thread of it that started us may end (which PR_SET_PDEATHSIG takes for the same). One
 * that lives in another PID namespace, or is process 1, is not watched.
 *
 * Errors: WFE_ERROR_SYSTEM, with ENOSYS on a kernel before 5.3.
 */
int wfe_parent_watch(struct wfe_error *err);

#endif
