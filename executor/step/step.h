/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_H
#define WFE_EXECUTOR_STEP_H

/*
 * Step documents: YAML or JSON text → validated steps.
 *
 * Three shapes are accepted: a bare configuration {image, run, …}; a step
 * {name, type, config}; a workflow {workflow: {…, steps: [...]}} (or `workflows:`,
 * a list of them), whose containerd steps are taken in order. Steps of another type, and in a
 * workflow those without one, are passed over with a warning; the children of `parallel`
 * are taken one after the other where they stand. `((a.b))` in a step's name and configuration and
 * in a workflow's id is replaced from the workflow data, see executor/step/step_interpolate.h. An
 * object `data` at the top of the document, beside any of the shapes, is workflow data too.
 *
 * Everything wrong is reported at once, in problems, before anything runs. What an engine
 * does and this program does not (when, on_success, on_failure, ensure, error_behavior) is warned
 * of. A workflow's `services` are read too, see executor/step/step_services.h.
 *
 * Limits: see libcommon/document.h; WFE_STEP_MAX_STEPS steps; 256 volumes, inputs and outputs a
 * step. Threads: calls are independent.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "libcommon/document.h"
#include "libcommon/error.h"

#define WFE_STEP_DEFAULT_USER "65534:65534"
#define WFE_STEP_IMAGE_USER "image" /* the one that the image names */
#define WFE_STEP_DEFAULT_ADDRESS "/run/containerd/containerd.sock"
#define WFE_STEP_DEFAULT_OUTPUT_LIMIT_BYTES (4 * 1024 * 1024)
#define WFE_STEP_DEFAULT_GRACE_MS 10000
#define WFE_STEP_MAX_STEPS 1000

enum wfe_step_network { WFE_NETWORK_NONE, WFE_NETWORK_HOST, WFE_NETWORK_BRIDGE };
enum wfe_step_profile { WFE_PROFILE_DEFAULT, WFE_PROFILE_UNCONFINED };
enum wfe_step_pull { WFE_PULL_ALWAYS, WFE_PULL_IF_NOT_PRESENT, WFE_PULL_NEVER };

/* An ordered name → value pair: env, inputs. */
struct wfe_step_pair {
    char *name;
    char *value;
};

enum wfe_step_volume_type { WFE_VOLUME_BIND, WFE_VOLUME_TMPFS };

/* How mounts made later below one side of a bind show on the other, see mount_namespaces(7). */
enum wfe_step_propagation {
    WFE_PROPAGATION_RPRIVATE,
    WFE_PROPAGATION_PRIVATE,
    WFE_PROPAGATION_RSHARED,
    WFE_PROPAGATION_SHARED,
    WFE_PROPAGATION_RSLAVE,
    WFE_PROPAGATION_SLAVE,
};

struct wfe_step_volume {
    char *source; /* bind: absolute path on the daemon's host */
    char *target; /* absolute path in the container */
    bool readonly;
    enum wfe_step_volume_type type;
    enum wfe_step_propagation propagation; /* bind */
    bool shallow;                          /* bind: without what is mounted below the source */
    uint64_t size_bytes;                   /* tmpfs; 0: the kernel's own limit, half of memory */
    uint32_t mode;                         /* tmpfs: of its root, 0: 1777 */
};

/* A port of the step's network that is published on the daemon's host. */
struct wfe_step_port {
    struct in_addr host_address; /* INADDR_ANY: all of the host's */
    uint16_t host_port;
    uint16_t container_port;
    bool udp; /* else TCP */
};

struct wfe_step_registry_auth {
    char *host;
    char *username;
    char *password;
};

/* The configuration of a containerd step: the reference's 17 fields, then ours. */
struct wfe_step_config {
    char *image;
    char **command;            /* NULL-terminated, or NULL when not given */
    char *run;                 /* NULL when not given */
    struct wfe_step_pair *env; /* value NULL: the variable is taken away */
    size_t env_count;
    struct wfe_step_volume *volumes;
    size_t volume_count;
    char *working_dir; /* absolute, or NULL */
    char *user;        /* executor/spec/user.h, or WFE_STEP_IMAGE_USER; never NULL */
    enum wfe_step_network network;
    struct wfe_step_port *ports; /* published; only with WFE_NETWORK_BRIDGE */
    size_t port_count;
    uint64_t memory_bytes; /* 0: no limit */
    uint32_t cpu_millis;   /* thousandths of a processor; 0: no limit */
    enum wfe_step_pull pull;
    char *containerd_addr;             /* NULL when not given: the caller's defaults apply */
    char *cli;                         /* accepted and ignored */
    char *tls_ca, *tls_cert, *tls_key; /* NULL when not given */
    struct wfe_step_registry_auth *registry_auth;
    size_t registry_auth_count;
    struct wfe_step_pair *inputs; /* artifact name → absolute container path, in document order */
    size_t input_count;
    struct wfe_step_pair *outputs; /* the same, of what the step makes */
    size_t output_count;
    uint64_t timeout_ms; /* 0: none */

    uint64_t output_limit_bytes; /* of each stream, kept in the result */
    uint64_t grace_ms;           /* between SIGTERM and SIGKILL */
    enum wfe_step_profile seccomp, apparmor;
    uint64_t cap_add, cap_drop; /* executor/spec/capabilities.h */
    bool read_only;             /* the root file system */
    uint64_t pids;              /* of processes and threads; 0: no limit */
    uint64_t nofile;            /* open files of a process; 0: 1024 */
    uint64_t shm_bytes;         /* of /dev/shm; 0: 64 MiB */
    bool new_privileges;        /* no_new_privileges: false */
};

enum wfe_probe_kind { WFE_PROBE_NONE, WFE_PROBE_TCP, WFE_PROBE_HTTP, WFE_PROBE_EXEC };

/* How it is found out that a service is ready. */
struct wfe_service_probe {
    enum wfe_probe_kind kind;
    char **exec;   /* of EXEC: program and arguments, NULL-terminated */
    uint16_t port; /* of TCP and HTTP */
    char *path;    /* of HTTP */
    uint64_t interval_ms;
    uint64_t timeout_ms; /* of all tries together */
    uint64_t retries;    /* tries, but for those of the first interval */
};

/* A container that runs beside the steps. */
struct wfe_service {
    char *name;
    /* Image, environment, limits, and the ports that are published; user 0:0, network host or
     * bridge. */
    struct wfe_step_config config;
    char **command;  /* in the place of the image's Entrypoint; NULL when not given */
    char **args;     /* in the place of its Cmd */
    uint16_t *ports; /* that it serves, published or not */
    size_t port_count;
    struct wfe_service_probe probe;
};

struct wfe_step {
    char *name; /* NULL when not given: results say "unknown" */
    struct wfe_step_config config;
};

struct wfe_workflow {
    char *id; /* the first workflow's; NULL when the document is no workflow or names none */
    struct wfe_step *steps;
    size_t step_count;
    struct wfe_service *services;
    size_t service_count;
    cJSON *data; /* the document's own `data` object overlaid by the caller's; never NULL */
};

/*
 * Parse and validate text (borrowed). `file` is what messages call it. `data` (borrowed, may be
 * NULL) is the workflow data that `((a.b))` refers to. Problems are added to `problems`;
 * any problem makes it fail with WFE_ERROR_INPUT. Notes that are no failure (a step of another
 * type that is skipped) become warnings in `problems`.
 */
int wfe_workflow_parse(const char *file, const char *text, size_t length, const cJSON *data,
    struct wfe_workflow **ret, struct wfe_problems *problems, struct wfe_error *err);
void wfe_workflow_free(struct wfe_workflow *workflow);

/* Only the named step stays. Returns 0, or -ENOENT with err set, naming the steps there are. */
int wfe_workflow_select(
    struct wfe_workflow *workflow, const char *step_name, struct wfe_error *err);

/* Add an input to a step, or replace its target: what --input NAME=TARGET does, with the same
 * rules as `inputs` in a document. Errors: WFE_ERROR_INPUT, WFE_ERROR_INTERNAL. */
int wfe_step_set_input(
    struct wfe_step *step, const char *name, const char *target, struct wfe_error *err);

/* "always", "if-not-present" or "never". Returns 0 or -EINVAL. */
int wfe_pull_policy_parse(const char *text, enum wfe_step_pull *ret);

/* "80", "8080:80", "127.0.0.1:8080:80", each also with "/tcp" or "/udp" behind it: the container's
 * port stands last, and is the host's as well when that is not given. Returns 0 or -EINVAL. */
int wfe_port_parse(const char *text, struct wfe_step_port *ret);

#endif
