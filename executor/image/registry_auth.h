/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_REGISTRY_AUTH_H
#define WFE_EXECUTOR_REGISTRY_AUTH_H

/*
 * How a registry wants to be shown who asks: the challenge of a 401 (RFC 9110, section 11.6.1), and
 * the Authorization that answers it: Basic (RFC 7617), or Bearer with a token that is fetched from
 * the challenge's realm (the distribution project's "Token Authentication Specification"; with an
 * identity token its OAuth2 variant).
 */

#include <stdbool.h>

#include "executor/image/http.h"

/* Who asks. All NULL: anonymous. */
struct wfe_registry_credentials {
    char *username;
    char *password;
    char *identity_token; /* an OAuth2 refresh token, in place of the two */
};

void wfe_registry_credentials_done(struct wfe_registry_credentials *credentials);

enum wfe_challenge_scheme { WFE_CHALLENGE_NONE, WFE_CHALLENGE_BASIC, WFE_CHALLENGE_BEARER };

/* Parameters are allocated, NULL when not given. */
struct wfe_challenge {
    enum wfe_challenge_scheme scheme;
    char *realm;
    char *service;
    char *scope;
};

/*
 * The strongest challenge that we can answer in the values of WWW-Authenticate, one a line: Bearer
 * (with a realm) before Basic. None that we know, or malformed: WFE_CHALLENGE_NONE. Returns 0 or
 * -ENOMEM.
 */
int wfe_challenge_parse(const char *values, struct wfe_challenge *ret);
void wfe_challenge_done(struct wfe_challenge *challenge);

/*
 * The Authorization header's value that answers a challenge of the endpoint at `url`; allocated.
 * scope is asked for when the challenge names none. With Bearer, the realm is asked for a token:
 * over the endpoint's own TLS settings, and never without TLS when the endpoint has it.
 *
 * Errors: WFE_ERROR_INPUT (EACCES) without credentials that it needs, or when they are refused;
 * WFE_ERROR_SYSTEM (EPROTO: an unusable realm or token; EAGAIN: try later; else as
 * wfe_http_perform()).
 */
int wfe_registry_authorize(struct wfe_http *http, const struct wfe_challenge *challenge,
    const struct wfe_registry_credentials *credentials, const char *url, const char *scope,
    const struct wfe_http_tls *tls, struct wfe_cancel *cancel, char **ret, struct wfe_error *err);

#endif
