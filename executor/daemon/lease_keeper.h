/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_LEASE_KEEPER_H
#define WFE_EXECUTOR_LEASE_KEEPER_H

/*
 * Renews a lease for as long as its executor lives.
 *
 * containerd knows no such thing, so another lease is made before the old one is deleted: "ID" and
 * "ID-renewed" in turns. It holds nothing: by then there is a container, which holds all that the
 * step needs.
 */

#include "executor/daemon/connect.h"

struct wfe_lease_keeper;

/* Begin, in a thread of its own, a third of the lease's time from now. `id` and session are
 * borrowed. NULL: it can't be, which is logged. */
struct wfe_lease_keeper *wfe_lease_keep(const struct wfe_session *session, const char *id);

/* End it. "ID" is the caller's to delete, as before. NULL is fine. */
void wfe_lease_keeper_stop(struct wfe_lease_keeper *keeper);

#endif
