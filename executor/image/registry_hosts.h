/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REGISTRY_HOSTS_H
#define WFE_EXECUTOR_REGISTRY_HOSTS_H

/*
 * Where a registry's images are to be had: containerd's hosts directory, DIRECTORY/HOST/hosts.toml
 * (containerd's docs/hosts.md), else the registry itself.
 *
 *     server = "https://registry.example.org"      the registry itself
 *     [host."https://mirror.example.org"]          tried before it, in order
 *       capabilities = ["pull", "resolve"]         what it is asked for
 *       ca = "mirror.crt"                          PEM file, or a list of them
 *       client = ["mirror.cert", "mirror.key"]     or one file with both
 *       skip_verify = true
 *       override_path = true                       the URL's path is all of the API's
 *
 * The last five also stand at the top, for `server`. Other keys are passed over. The directory of
 * host:port is "host_port_" or "host:port"; that of every host without one is "_default".
 */

#include <stdbool.h>
#include <stddef.h>

#include "executor/image/http.h"

#define WFE_REGISTRY_HOSTS_DIRECTORY "/etc/containerd/certs.d"
#define WFE_REGISTRY_MAX_ENDPOINTS 32

struct wfe_registry_endpoint {
    char *base; /* "https://host:5000/v2" */
    char *
        host; /* "host:5000": whose credentials it gets; the registry's own name for the registry */
    bool mirror;
    bool resolves; /* may be asked what a tag is */
    bool pulls;    /* may be asked for what has a digest */
    /* On this machine plain HTTP is tried first, and TLS if that is not spoken there. */
    bool tls_fallback;
    struct wfe_http_tls tls;
};

/*
 * The endpoints for a registry's host as references name it, in the order in which they are to be
 * asked; at least one. Errors: WFE_ERROR_INPUT that names the file (malformed, a certificate isn't
 * there), WFE_ERROR_LIMIT, WFE_ERROR_SYSTEM.
 */
int wfe_registry_endpoints_load(const char *host, const char *directory,
    struct wfe_registry_endpoint **ret, size_t *ret_count, struct wfe_error *err);
/* *ret: whether a hosts.toml in the directory is for the host. Errors: the same. */
int wfe_registry_hosts_configured(
    const char *host, const char *directory, bool *ret, struct wfe_error *err);
void wfe_registry_endpoints_free(struct wfe_registry_endpoint *endpoints, size_t count);

#endif
