/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TLS_H
#define WFE_EXECUTOR_TLS_H

/*
 * TLS to the daemon: whom we trust, who we are, and why a connection can't be made. gRPC C core
 * makes the connections themselves (libcommon/rpc.h), and does not tell what it did not like.
 */

#include "executor/daemon/address.h"
#include "libcommon/rpc.h"

/* Paths of PEM files. */
struct wfe_tls_files {
    const char *ca;         /* NULL: the system's certificate authorities */
    const char *cert, *key; /* of ours, for mutual TLS; both or none */
};

/*
 * Read the files and check that each holds what it should, and that the key is the certificate's.
 * The caller ends *ret with wfe_tls_done(). Errors: WFE_ERROR_INPUT that names the file, those of
 * wfe_read_file().
 */
int wfe_tls_load(const struct wfe_tls_files *files, struct wfe_rpc_tls *ret, struct wfe_error *err);
void wfe_tls_done(struct wfe_rpc_tls *tls);

/*
 * A connection to address has failed: try one by hand, for WFE_TLS_PROBE_MS at most, and see why.
 * tls is what the failed one used; NULL: it was a plain one. Returns true, and the reason in
 * why[size], when TLS is what is wrong: then no other try can succeed.
 */
#define WFE_TLS_PROBE_MS 5000
bool wfe_tls_explain(
    const struct wfe_address *address, const struct wfe_rpc_tls *tls, char *why, size_t size);

#endif
