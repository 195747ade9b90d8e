/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_ADDRESS_H
#define WFE_EXECUTOR_ADDRESS_H

/*
 * A daemon's address as users write it: "/path" and "unix:///path", "tcp://host:port" and
 * "http://host:port", "https://host:port" with TLS. An IPv6 host stands in brackets.
 */

#include "libcommon/error.h"

enum wfe_address_kind {
    WFE_ADDRESS_UNIX,
    WFE_ADDRESS_TCP,
    WFE_ADDRESS_TLS,
};

struct wfe_address {
    enum wfe_address_kind kind;
    char *target; /* for wfe_rpc_connect() */
    char *path;   /* of the Unix socket, else NULL */
    char *host;   /* without brackets; NULL of a Unix socket */
    char *port;
};

/* The caller ends *ret with wfe_address_done(). Errors: WFE_ERROR_INPUT. */
int wfe_address_parse(const char *text, struct wfe_address *ret, struct wfe_error *err);
void wfe_address_done(struct wfe_address *address);

#define WFE_ADDRESS __attribute__((cleanup(wfe_address_done)))

#endif
