/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_PULL_H
#define WFE_EXECUTOR_PULL_H

/*
 * Brings an image from its registry into containerd: by the daemon itself where it can
 * (executor/image/transfer.h), else reference → index and manifest of the daemon's platform →
 * configuration and layers, those that the daemon lacks → unpacked chain → record.
 *
 * In the latter way a few layers come in at once; each is unpacked as soon as it and those below it
 * are there. No blob is held whole. Of an index only the chosen platform's manifest comes in.
 */

#include "executor/daemon/connect.h"
#include "executor/run/progress.h"
#include "executor/image/registry.h"

#define WFE_PULL_DEFAULT_DOWNLOADS 3
#define WFE_PULL_MAX_DOWNLOADS 16

struct wfe_pull_options {
    struct wfe_registry_options registry;
    unsigned max_downloads; /* layers at once; 0: WFE_PULL_DEFAULT_DOWNLOADS */
    const char *name;       /* of the record; NULL: the reference's, normalized */
    struct wfe_progress *progress;
    /* For wfe_pull_by_policy(): wfe_image_find_start() of the image; NULL: not asked yet. */
    struct wfe_rpc_call *found;
};

/*
 * The session must hold a lease; what a failed pull has made goes with it. ret_name (may be NULL)
 * is allocated: what the image store calls the image.
 *
 * Errors: as wfe_registry_manifest() and wfe_registry_blob(); WFE_ERROR_INPUT (no reference, no
 * image for the platform: ENOENT), WFE_ERROR_INTEGRITY, WFE_ERROR_CONTAINERD.
 */
int wfe_pull(const struct wfe_session *session, const char *reference,
    const struct wfe_pull_options *options, char **ret_name, struct wfe_error *err);

/*
 * The image of a configuration as its `pull` says, unpacked into *ret_chain: found, or pulled with
 * the logins of its registry_auth beside the options. One that is found and lacks a layer which
 * unpacking takes is pulled after all, but for the policy never. To find it needs no lease: hold is
 * called before anything is made, and has been called on success. Errors: as wfe_image_find(),
 * wfe_image_unpack(), wfe_pull(), and hold's.
 */
int wfe_pull_by_policy(struct wfe_session *session, const struct wfe_step_config *config,
    const struct wfe_pull_options *options, int (*hold)(void *context, struct wfe_error *err),
    void *context, struct wfe_image *ret, struct wfe_digest *ret_chain, struct wfe_error *err);

#endif
