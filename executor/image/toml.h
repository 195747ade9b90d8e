/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_TOML_H
#define WFE_EXECUTOR_TOML_H

/*
 * TOML (v1.0) as configuration files of containerd use it → JSON values: tables become objects, in
 * the order in which they stand. Not read, and refused: multi-line strings, arrays of tables,
 * dates, numbers that are no decimal integers.
 *
 * Limits: WFE_TOML_MAX_BYTES of text, WFE_TOML_MAX_DEPTH levels. Threads: calls are independent.
 */

#include <stddef.h>

#include <cjson/cJSON.h>

#include "libcommon/error.h"

#define WFE_TOML_MAX_BYTES (1024 * 1024)
#define WFE_TOML_MAX_DEPTH 16

/* text need not be terminated. *ret is an object, the caller's to delete. Errors: WFE_ERROR_INPUT
 * that names the line, WFE_ERROR_LIMIT, WFE_ERROR_INTERNAL. */
int wfe_toml_parse(const char *text, size_t length, cJSON **ret, struct wfe_error *err);

#endif
