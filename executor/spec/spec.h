/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SPEC_H
#define WFE_EXECUTOR_SPEC_H

/*
 * Step and image configuration → OCI runtime spec (runtime-spec 1.0.2, config.json),
 * containerd's own default spec with the step's settings in it.
 *
 * Pure: no daemon, no files, no clock. Threads: calls are independent.
 */

#include <cjson/cJSON.h>

#include "executor/image/image.h"
#include "executor/step/step.h"
#include "executor/spec/user.h"
#include "libcommon/error.h"

#define WFE_SPEC_TYPE_URL "types.containerd.io/opencontainers/runtime-spec/1/Spec"

/* An overlay file system below a path of the container; all paths but target are the daemon's. */
struct wfe_spec_overlay {
    const char *target;
    char *lower;
    char *upper;
    char *work;
};

/* A file of the daemon's host that the container sees read-only. */
struct wfe_spec_file {
    const char *source;
    const char *target;
};

struct wfe_spec_options {
    const char *namespace_;      /* containerd's namespace: first part of the cgroup path */
    const char *container_id;    /* second part of the cgroup path, and the host name's source */
    const char *architecture;    /* the daemon's, in OCI's terms: what the seccomp profile is for */
    const struct wfe_user *user; /* whom the process runs as */
    bool limits_swap;            /* the daemon's kernel is known to count swap by cgroup */
    const char *apparmor_profile; /* one that is loaded on the daemon's machine, or NULL */
    const struct wfe_spec_overlay *overlays; /* mounted before the volumes */
    size_t overlay_count;
    const struct wfe_spec_file *files; /* mounted after the overlays, before the volumes */
    size_t file_count;
    const char *network_namespace; /* a path, which network bridge needs; else NULL */
};

/* The host name of a container: its id, cut at 63 bytes, with '-' for what no host name may hold.
 */
#define WFE_SPEC_HOSTNAME_MAX 64
void wfe_spec_hostname(const char *container_id, char hostname[static WFE_SPEC_HOSTNAME_MAX]);

/*
 * Environment of the process, NULL-terminated "KEY=VALUE" strings (free with
 * wfe_spec_env_free): the image's (a default PATH when the image has no environment), then
 * each top-level member of `data`, an object, under its name with ASCII letters upper-cased (a
 * string raw, anything else as compact JSON), then the step's env; a later one replaces an earlier
 * one in place, and one of the step's env without a value takes it away. Left out are data members
 * whose name can't be an environment name (empty, or
 * '=' inside) and the image's entries without a name or a '='.
 * NULL when memory ran out. image and data may be NULL.
 */
char **wfe_spec_env(
    const struct wfe_image_config *image, const cJSON *data, const struct wfe_step_config *config);
void wfe_spec_env_free(char **env);

/*
 * The spec as a JSON object (caller deletes). process.args is run as
 * /bin/sh -c RUN, else the image's Entrypoint + (command or Cmd). process.cwd is the step's,
 * else the image's, else "/". Volumes come after the default mounts, one that lies inside of
 * another after it.
 *
 * A step with a limit of memory may have as much of swap besides, as docker has it, where that can
 * be limited.
 *
 * The process is confined by the seccomp profile of executor/spec/seccomp.h and by containerd's
 * capabilities (usable by root alone), masked and read-only paths, and device rules, as far as
 * the step does not open them by name.
 *
 * network none gets a network namespace of its own, host shares the daemon's, bridge joins the one
 * at options->network_namespace. In a network of its own a process of any user may listen on any
 * port and send echo requests.
 *
 * Errors: WFE_ERROR_INTERNAL (memory), WFE_ERROR_INPUT (less than 0.01 processors, more memory than
 * INT64_MAX).
 * image may be NULL (an image without configuration). Empty args are left to the caller to refuse.
 */
int wfe_spec_build(const struct wfe_step_config *config, const struct wfe_image_config *image,
    char *const *env, const struct wfe_spec_options *options, cJSON **ret, struct wfe_error *err);

#endif
