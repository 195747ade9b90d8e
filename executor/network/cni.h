/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CNI_H
#define WFE_EXECUTOR_CNI_H

/*
 * The runtime's part of the Container Network Interface (CNI spec 1.0.0, and 0.3.0 to 0.4.0, whose
 * runtimes do the same): a list of plugins that attach a network namespace to a network one after
 * the other, each with the result of the one before, and detach it in reverse order.
 *
 * A list is kept as its JSON object: {cniVersion, name, plugins: [{type, …}]}.
 *
 * Limits: WFE_CNI_CONFIG_MAX_BYTES of a configuration, WFE_CNI_MAX_PLUGINS in a list; see
 * executor/network/cni_plugin.h. Threads: calls are independent.
 */

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "libcommon/cancel.h"
#include "libcommon/error.h"

/* Where plugins and configurations are when the environment ($CNI_PATH, $NETCONFPATH) does not
 * say. */
#define WFE_CNI_DEFAULT_PATH "/opt/cni/bin:/usr/lib/cni"
#define WFE_CNI_DEFAULT_DIRECTORY "/etc/cni/net.d"

#define WFE_CNI_CONFIG_MAX_BYTES (1024 * 1024)
#define WFE_CNI_MAX_PLUGINS 32

/* What is attached to what. */
struct wfe_cni_attachment {
    const char *path;         /* directories of plugins, ':' between them */
    const char *container_id; /* see the spec, section 2: letters, digits, '_', '.', '-' */
    const char *netns;        /* path of the network namespace */
    const char *interface;    /* to be made in it */
    const cJSON
        *capabilities; /* capability → argument, for the plugins that have it; may be NULL */
    int lock_fd;       /* see struct wfe_cni_plugin */
    struct wfe_cancel *cancel;
};

/*
 * Parse and check a list, or a single plugin's configuration, which becomes a list of one. `file`
 * is what messages call it. Errors: WFE_ERROR_INPUT, WFE_ERROR_INTERNAL.
 */
int wfe_cni_list_parse(const char *file, const char *text, cJSON **ret, struct wfe_error *err);

/*
 * The first of the directory's configurations: files that end in .conflist, .conf or .json, in the
 * order of their names. *ret (caller deletes) is NULL when there is none. Errors: WFE_ERROR_SYSTEM,
 * WFE_ERROR_LIMIT and those of wfe_cni_list_parse().
 */
int wfe_cni_list_load(const char *directory, cJSON **ret, struct wfe_error *err);

/* Whether all plugins of the list are there. Errors: WFE_ERROR_INPUT (one is not, with its name and
 * the path), WFE_ERROR_INTERNAL. */
int wfe_cni_list_check(const cJSON *list, const char *path, struct wfe_error *err);

bool wfe_cni_has_plugin(const char *path, const char *name);

/*
 * The configuration that a plugin gets (spec, section 4, "Deriving runtime configuration"): its own
 * with the list's name and version, the arguments of its capabilities, and the result of
 * the plugins before it (both may be NULL). NULL when memory ran out; the caller deletes.
 */
cJSON *wfe_cni_plugin_config(const cJSON *list, const cJSON *plugin, const cJSON *capabilities,
    const cJSON *previous_result);

/*
 * ADD, for each plugin in order. keep is called with the result after each of them, so that it can
 * be written down before the next one runs; what it returns below 0 ends it. Whatever was
 * returned, wfe_cni_del() has to follow some time. Errors: those of wfe_cni_plugin_run() with the
 * plugin's name, and of keep.
 */
int wfe_cni_add(const cJSON *list, const struct wfe_cni_attachment *attachment,
    int (*keep)(void *context, const cJSON *result, struct wfe_error *err), void *context,
    struct wfe_error *err);

/*
 * DEL, for each plugin in reverse order, with the last result that there was (may be NULL); what is
 * gone already is no error. A plugin that fails does not keep the others from running; err tells of
 * the first one.
 */
int wfe_cni_del(const cJSON *list, const struct wfe_cni_attachment *attachment, const cJSON *result,
    struct wfe_error *err);

#endif
