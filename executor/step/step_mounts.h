/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_MOUNTS_H
#define WFE_EXECUTOR_STEP_MOUNTS_H

/* What a step finds at its paths, and leaves there: the fields `volumes`, `inputs`, `outputs`. */

#include "executor/step/step_config.h"

/* The words for enum wfe_step_propagation, which are mount options of the runtime spec too. */
extern const char *const wfe_step_propagations[];

void wfe_step_read_volumes(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_inputs(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_outputs(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);

/* No two volumes, no two inputs, and no volume and input have the same target; no output is in a
 * volume. node is the
 * configuration that both stand in. */
void wfe_step_check_mounts(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config);

#endif
