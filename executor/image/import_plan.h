/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_IMPORT_PLAN_H
#define WFE_EXECUTOR_IMPORT_PLAN_H

/*
 * What an import will bring into containerd, found out before anything is sent: the image's
 * name, its manifest and configuration, and where each layer lies in the source.
 *
 * A docker archive has no manifest of OCI's kind: one is made for it, as other importers
 * do. A layer that is a plain tar has its diffID for digest; a compressed one is hashed first.
 *
 * Pure but for the files of the source. Threads: calls are independent.
 */

#include "executor/image/image.h"
#include "executor/image/import_source.h"

struct wfe_import_plan {
    struct wfe_import_source *source;
    char *name; /* normalized */
    char *manifest_json;
    struct wfe_descriptor manifest_descriptor; /* of manifest_json */
    struct wfe_image_manifest manifest;
    char *config_json; /* as long as manifest.config says */
    struct wfe_image_config config;
    char **layer_members; /* manifest.layer_count names in the source */
};

/*
 * Plan the import of "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]" or "docker-archive:FILE[:TAG]"
 * (or "[:@INDEX]") for a platform. Without a tag the source must hold one image. `name` (may be
 * NULL) is what the image shall be called. Digests of manifest and configuration are verified,
 * those of the layers are not.
 *
 * Errors: WFE_ERROR_INPUT (source or image not found, none for the platform, a wrong name),
 * WFE_ERROR_INTEGRITY, WFE_ERROR_ARCHIVE, WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM.
 */
int wfe_import_plan_make(const char *source, const char *name, const struct wfe_platform *platform,
    struct wfe_import_plan *ret, struct wfe_error *err);
void wfe_import_plan_done(struct wfe_import_plan *plan);

/*
 * The two kinds of source: with plan->source open they fill in the manifest, the
 * configuration and layer_members. *ret_stated_name (allocated, NULL for none) is what the source
 * calls the image: a reference, or only a tag. What they made before they failed is in the plan.
 */
int wfe_import_plan_layout(struct wfe_import_plan *plan, const char *tag,
    const struct wfe_platform *platform, char **ret_stated_name, struct wfe_error *err);
int wfe_import_plan_docker(
    struct wfe_import_plan *plan, const char *tag, char **ret_stated_name, struct wfe_error *err);

#endif
