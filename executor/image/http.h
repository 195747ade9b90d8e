/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_HTTP_H
#define WFE_EXECUTOR_HTTP_H

/*
 * HTTP and HTTPS requests, on libcurl. It is loaded when the first client is made: a step whose
 * image is there must not wait for the loader to find the many libraries that libcurl stands on.
 *
 * A request follows no redirect and is not repeated: both are the caller's to decide. Proxies are
 * taken from the environment (http_proxy, HTTPS_PROXY, NO_PROXY), as curl(1) does, but not for this
 * machine.
 *
 * Threads: a client belongs to one thread at a time; it keeps its connections for the next request.
 */

#include <stdbool.h>
#include <stdint.h>

#include "libcommon/cancel.h"
#include "libcommon/error.h"
#include "libcommon/sink.h"

struct wfe_http;

/* Whom to trust, and who we are. All may be NULL. */
struct wfe_http_tls {
    char *ca_pem;      /* certificates in addition to the system's */
    char *certificate; /* paths of PEM files, both or neither */
    char *key;
    bool skip_verify;
};

struct wfe_http_request {
    const char *url;
    bool head;                      /* else GET, or POST with a form */
    const char *form;               /* application/x-www-form-urlencoded */
    const char *accept;             /* a header's value; NULL: none */
    const char *authorization;      /* the same */
    uint64_t offset_bytes;          /* ask for what follows them (a Range) */
    const struct wfe_http_tls *tls; /* NULL: the system's certificates */
    struct wfe_sink body;           /* gets that of an answer 2xx */
    struct wfe_cancel *cancel;      /* may be NULL */
};

struct wfe_http_response {
    int status; /* 0 as long as there is no answer */
    char content_type[256];
    char content_digest[128]; /* Docker-Content-Digest */
    int64_t range_start;      /* Content-Range; -1 without */
    int64_t retry_after_s;    /* -1 without */
    char *redirect;           /* the absolute URL of a 3xx; NULL without */
    char *challenges;         /* the values of WWW-Authenticate, one a line; NULL without */
    char detail[512];         /* how the body of any other answer starts */
};

/* Errors: WFE_ERROR_SYSTEM (ENOENT: libcurl isn't installed), WFE_ERROR_INTERNAL. */
int wfe_http_new(struct wfe_http **ret, struct wfe_error *err);
/* NULL is fine. */
void wfe_http_free(struct wfe_http *http);

/*
 * Carry a request out. Any answer, whatever its status, is success. The response is valid in any
 * case, as far as it came, and the caller's to release.
 *
 * Errors: what the sink returned; WFE_ERROR_CANCELLED; WFE_ERROR_SYSTEM, with errnum ECONNRESET
 * (the connection broke) or ETIMEDOUT (nothing came for a minute) when trying again may help,
 * ECONNREFUSED, EHOSTUNREACH (no such host, no way to it) and EPROTO (TLS, a certificate, no HTTP)
 * when it may not.
 */
int wfe_http_perform(struct wfe_http *http, const struct wfe_http_request *request,
    struct wfe_http_response *ret, struct wfe_error *err);
void wfe_http_response_done(struct wfe_http_response *response);

/* Whether two URLs have the same scheme, host and port. */
bool wfe_http_same_origin(const char *a, const char *b);

/* Whether host, with or without a port, is this machine: localhost, 127.0.0.0/8, [::1]. */
bool wfe_http_is_loopback(const char *host);

#endif
