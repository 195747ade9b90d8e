/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_CONFINEMENT_H
#define WFE_EXECUTOR_STEP_CONFINEMENT_H

/* What opens or tightens a step's confinement: seccomp, apparmor, cap_add, cap_drop,
 * read_only, no_new_privileges, and the limits pids, nofile and shm_size. */

#include "executor/step/step_config.h"

void wfe_step_read_seccomp(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_apparmor(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_cap_add(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_cap_drop(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_read_only(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_no_new_privileges(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_pids(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_nofile(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);
void wfe_step_read_shm_size(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);

/* ALL is not in both of cap_add and cap_drop. node is the configuration that both stand in. */
void wfe_step_check_confinement(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config);

#endif
