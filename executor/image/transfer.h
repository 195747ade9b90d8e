/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TRANSFER_H
#define WFE_EXECUTOR_TRANSFER_H

/*
 * Pulls by the daemon itself: the Transfer service of containerd 1.7 and newer, from OCIRegistry to
 * ImageStore, unpacked into the session's snapshotter. The image's bytes don't pass through here.
 *
 * Credentials (executor/image/registry.h) go to a daemon on this machine alone, when it asks for
 * them, and only for the reference's own host.
 */

#include "executor/daemon/connect.h"
#include "executor/image/image.h"
#include "executor/image/registry.h"
#include "executor/run/progress.h"

enum wfe_transfer_use {
    WFE_TRANSFER_AUTO,
    WFE_TRANSFER_ALWAYS, /* or fail */
    WFE_TRANSFER_NEVER,
};

/* As $WFE_TRANSFER says: "auto" (also when it is not set), "always" or "never". Errors:
 * WFE_ERROR_INPUT. */
int wfe_transfer_use(enum wfe_transfer_use *ret, struct wfe_error *err);

struct wfe_transfer_pull {
    const struct wfe_session *session; /* holds a lease */
    const struct wfe_reference *reference;
    const char *source; /* the reference's text, normalized */
    const char *name;   /* of the record */
    const struct wfe_registry_options *registry;
    bool limits_downloads; /* the user says how many at once */
    struct wfe_progress *progress;
};

/*
 * Why the daemon can't do this pull as our own client would; NULL: nothing is known to be in the
 * way. *ret is a constant. Errors: as those of the credentials and of the hosts directory.
 */
int wfe_transfer_obstacle(
    const struct wfe_transfer_pull *pull, const char **ret, struct wfe_error *err);

/*
 * Pull, check that the image is whole and for the daemon's platform, and see that it is unpacked,
 * which Transfer leaves out, in silence, for a snapshotter that its configuration does not name.
 * After a failure the name stands for what it stood for before.
 *
 * Errors: WFE_ERROR_CONTAINERD (also a registry's refusal, in the daemon's words),
 * WFE_ERROR_CANCELLED; the credentials'; as wfe_image_find(), wfe_image_check(),
 * wfe_image_unpack().
 */
int wfe_transfer_pull(const struct wfe_transfer_pull *pull, struct wfe_error *err);

#endif
