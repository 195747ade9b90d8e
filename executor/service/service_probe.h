/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SERVICE_PROBE_H
#define WFE_EXECUTOR_SERVICE_PROBE_H

/* Finding out whether a service is ready: a connection, an answer over HTTP, or a program that
 * succeeds inside of its container. */

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "executor/daemon/connect.h"
#include "executor/step/step.h"

#define WFE_PROBE_REASON_MAX 256

/* A TCP connection to an address, IPv4 or IPv6, within limit_ms. Of an HTTP probe: whether the
 * answer's status is 200 to 399. reason: what was found instead. */
bool wfe_probe_tcp(
    const char *address, uint16_t port, int64_t limit_ms, char reason[static WFE_PROBE_REASON_MAX]);
bool wfe_probe_http(const char *address, uint16_t port, const char *path, int64_t limit_ms,
    char reason[static WFE_PROBE_REASON_MAX]);

/*
 * One try, of at most limit_ms. `id` is the container's, `address` where it is found, `process` its
 * spec's, whose arguments are replaced, and `number` one that no other try has. Returns 1 when it
 * is ready, 0 when not (reason says why), or -ECANCELED or -ENOMEM.
 */
int wfe_probe_try(const struct wfe_session *session, const char *id, const char *address,
    const struct wfe_service_probe *probe, const cJSON *process, unsigned number, int64_t limit_ms,
    char reason[static WFE_PROBE_REASON_MAX]);

#endif
