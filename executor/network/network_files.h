/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_NETWORK_FILES_H
#define WFE_EXECUTOR_NETWORK_FILES_H

/*
 * What a container knows of its network: /etc/resolv.conf and /etc/hosts.
 */

#include <stdbool.h>
#include <stddef.h>

#include <cjson/cJSON.h>

#include "executor/spec/spec.h"
#include "libcommon/buffer.h"

#define WFE_NETWORK_FILES_MAX 2
#define WFE_NETWORK_FILE_MAX_BYTES (64 * 1024)
#define WFE_NETWORK_ADDRESSES_MAX 16
#define WFE_NETWORK_ADDRESS_MAX 64

/*
 * The files of network host: the daemon's host's own. Of a local daemon only those that are there.
 * Returns their count; views.
 */
size_t wfe_network_host_files(bool local, struct wfe_spec_file ret[static WFE_NETWORK_FILES_MAX]);

/*
 * A container's own resolv.conf (resolv.conf(5)). `dns` is that of a CNI result, may be NULL: when
 * it names servers, it is all there is. Else the host's text counts, without the servers that the
 * container would not reach: loopback addresses, and IPv6 ones unless the container has_ipv6.
 * *ret_servers counts the servers that are in it. Returns 0, -ENOMEM or -EMSGSIZE.
 */
int wfe_network_resolv_conf(const char *host_text, const cJSON *dns, bool has_ipv6,
    struct wfe_buffer *to, size_t *ret_servers);

/* The addresses of a CNI result, without the prefix's length. */
struct wfe_network_addresses {
    size_t count;
    char text[WFE_NETWORK_ADDRESSES_MAX][WFE_NETWORK_ADDRESS_MAX];
};

/* What is no address is passed over, and what is too much. */
void wfe_network_addresses_read(const cJSON *result, struct wfe_network_addresses *ret);
/* The first IPv4 one, else the first; NULL when there is none. A view. */
const char *wfe_network_addresses_main(const struct wfe_network_addresses *addresses);

/* A container's own hosts(5): localhost, and then each address with a name. Both return 0, -ENOMEM
 * or -EMSGSIZE. */
int wfe_network_hosts(struct wfe_buffer *to);
int wfe_network_hosts_add(
    const struct wfe_network_addresses *addresses, const char *name, struct wfe_buffer *to);

#endif
