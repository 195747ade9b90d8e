/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_WORKFLOW_FILE_H
#define WFE_EXECUTOR_WORKFLOW_FILE_H

/* Step documents and workflow data as files that a command line names; "-" is stdin. */

#include "executor/step/step.h"
#include "libcommon/error.h"

/* Read the document, with the data of data_path (NULL: none). Everything that is wrong with it goes
 * to stderr, a line each. Errors: WFE_ERROR_INPUT, WFE_ERROR_SYSTEM, WFE_ERROR_LIMIT,
 * WFE_ERROR_INTERNAL. */
int wfe_workflow_load(
    const char *path, const char *data_path, struct wfe_workflow **ret, struct wfe_error *err);

#endif
