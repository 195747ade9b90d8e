/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_CONFIG_H
#define WFE_EXECUTOR_STEP_CONFIG_H

/* The configuration of a containerd step: a map of the document → struct wfe_step_config. */

#include "executor/step/step_reader.h"

#define WFE_STEP_MAX_VOLUMES 256
#define WFE_STEP_MAX_INPUTS 256
/* The result holds both streams, up to six times longer as JSON, in one string of at most 2 GiB. */
#define WFE_STEP_MAX_OUTPUT_LIMIT_BYTES (128 * 1024 * 1024)

/*
 * Read and check each field (defaults for those that are not given) into *config, which the caller
 * zeroed and releases with wfe_step_config_done, whatever was found. References in node were
 * replaced before.
 */
void wfe_step_config_read(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config);

/* A number of milliseconds, or a text with a unit, at least min_ms. */
void wfe_step_read_duration(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t min_ms, uint64_t *ret);

/* A list of texts, NULL-terminated, allocated; the first of them is no empty one. NULL when it is
 * none (told), or memory ran out. */
char **wfe_step_read_words(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *allowed);
void wfe_step_free_words(char **words);

void wfe_step_config_done(struct wfe_step_config *config);

/* Whether an artifact may be called that: letters, digits, ".", "_", "-"; the first one a letter,
 * digit or "_"; at most 128 bytes. It becomes a file name and a key of the workflow data. */
bool wfe_step_is_artifact_name(const char *name);

/*
 * An absolute path without repeated slashes, "." parts and final slash, allocated. Returns 0,
 * -EINVAL (relative, "/" itself, a ".." part, longer than a path may be) or -ENOMEM.
 */
int wfe_step_clean_path(const char *path, char **ret);

#endif
