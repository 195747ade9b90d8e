/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_IMPORT_H
#define WFE_EXECUTOR_IMPORT_H

/*
 * Brings an image into containerd from a file: oci:DIR[:TAG], oci-archive:FILE[:TAG],
 * docker-archive:FILE[:TAG] (the transports of containers-transports(5)).
 */

#include <stdbool.h>

#include "executor/daemon/connect.h"

/* True when the text names one of the three transports. */
bool wfe_import_is_source(const char *text);

/*
 * Upload the image's blobs for the daemon's platform, each verified against its digest,
 * create or replace its record in the image store, and unpack it. The record's
 * name is `name` when given, else what the source says (the annotation
 * io.containerd.image.name or org.opencontainers.image.ref.name, docker's RepoTags), normalized.
 * Labels and GC references are containerd's own, so that `ctr images ls` and `ctr run` accept it
 * and the collector keeps it. The session must hold a lease.
 *
 * ret_name is allocated. Errors: WFE_ERROR_INPUT (no such image, no platform),
 * WFE_ERROR_INTEGRITY, WFE_ERROR_ARCHIVE, WFE_ERROR_CONTAINERD, WFE_ERROR_SYSTEM.
 */
int wfe_import(const struct wfe_session *session, const char *source, const char *name,
    char **ret_name, struct wfe_error *err);

#endif
