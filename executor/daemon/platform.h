/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_PLATFORM_H
#define WFE_EXECUTOR_PLATFORM_H

/* Which images a daemon's platform can run, and which of them is the best. */

#include "executor/daemon/connect.h"

/*
 * How well an image for os, architecture and variant (NULL or "": none) suits the platform: 0
 * when it does not run there, otherwise the higher the better. The platform's own variant is
 * best, then the next lower one that a processor of that variant runs as well ("v6" on
 * "v7"), and last an image that names no variant. arm64 without a variant is v8, amd64 v1
 * (OCI image index, "platform"; the values are GOOS, GOARCH and its variants).
 */
unsigned wfe_platform_rank(const struct wfe_platform *platform, const char *os,
    const char *architecture, const char *variant);

#endif
