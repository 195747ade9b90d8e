/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REGISTRY_H
#define WFE_EXECUTOR_REGISTRY_H

/*
 * A client of image registries: manifests and blobs of one repository (OCI distribution spec 1.1,
 * "Pull").
 *
 * Its hosts are asked in order (executor/image/registry_hosts.h): the next one when one can't be
 * reached, does not have it or refuses. A 401 is answered with credentials
 * (executor/image/registry_auth.h): those given for the host, else docker's
 * (executor/image/docker_config.h), else none. They go to the host that asked for them and to no
 * other that it redirects to.
 *
 * A connection that breaks, a host that is busy (429) or out of order (5xx) is tried again up to
 * WFE_REGISTRY_RETRIES times without progress, after a pause that doubles, or is as long as the
 * host says; a blob is resumed where it broke off. Sizes and digests are verified as the bytes
 * come.
 *
 * Threads: all functions but open and free may be called from several at once.
 */

#include <stddef.h>

#include "executor/image/image.h"
#include "executor/step/step.h"
#include "libcommon/cancel.h"
#include "libcommon/sink.h"

#define WFE_REGISTRY_RETRIES 5
/* A host that asks for a longer pause is an error. */
#define WFE_REGISTRY_MAX_PAUSE_S 60

struct wfe_registry;

struct wfe_registry_options {
    const char *hosts_directory; /* NULL: WFE_REGISTRY_HOSTS_DIRECTORY */
    /* Credentials by host; before docker's. Borrowed, must outlive the client. */
    const struct wfe_step_registry_auth *logins;
    size_t login_count;
};

struct wfe_registry_credentials;

/* Who asks at a host: the options' login for it, else docker's; nobody is no error. The caller
 * calls wfe_registry_credentials_done(). Errors: as wfe_docker_config_find(). */
int wfe_registry_find_credentials(const struct wfe_registry_options *options, const char *host,
    struct wfe_cancel *cancel, struct wfe_registry_credentials *ret, struct wfe_error *err);

/* A client for the repository of a reference (copied). Nothing is asked yet. Errors: as
 * wfe_registry_endpoints_load(), wfe_http_new(). */
int wfe_registry_open(const struct wfe_reference *reference,
    const struct wfe_registry_options *options, struct wfe_registry **ret, struct wfe_error *err);
/* NULL is fine. */
void wfe_registry_free(struct wfe_registry *registry);

/*
 * Both fail with
 *
 *   WFE_ERROR_INPUT      it is not there (ENOENT), access is denied (EACCES), an answer that is no
 *                        manifest
 *   WFE_ERROR_SYSTEM     it can't be reached or is out of order, see executor/image/http.h; EAGAIN:
 * a later try may succeed WFE_ERROR_INTEGRITY  other bytes than the digest's WFE_ERROR_LIMIT more
 * than WFE_IMAGE_JSON_MAX_BYTES WFE_ERROR_CANCELLED, and what the sink returned.
 *
 * Messages name the URL. cancel may be NULL.
 */

/* The manifest or index of a tag or a digest; *ret_json (ret->size_bytes of it, NUL-terminated) is
 * the caller's to free. */
int wfe_registry_manifest(struct wfe_registry *registry, const char *tag_or_digest,
    struct wfe_cancel *cancel, struct wfe_descriptor *ret, char **ret_json, struct wfe_error *err);

/* All bytes of a blob into the sink, each once and in order. What a failed call has put there is
 * worthless. */
int wfe_registry_blob(struct wfe_registry *registry, const struct wfe_descriptor *blob,
    struct wfe_sink sink, struct wfe_cancel *cancel, struct wfe_error *err);

#endif
