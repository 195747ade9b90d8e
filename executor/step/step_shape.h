/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_SHAPE_H
#define WFE_EXECUTOR_STEP_SHAPE_H

/* The shapes of a step document: which steps stand in it, in which order, under which names. */

#include "executor/step/step_reader.h"

/* Read all steps below root, the document's root, into *workflow (borrowed, zeroed by the caller,
 * released by wfe_workflow_free whatever was found). */
void wfe_step_read_document(
    struct wfe_step_reader *reader, const struct wfe_node *root, struct wfe_workflow *workflow);

#endif
