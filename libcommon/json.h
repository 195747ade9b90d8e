/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_JSON_H
#define WFE_LIBCOMMON_JSON_H

/* Reads JSON so that exhausted memory is told from malformed text: cJSON itself says NULL to both.
 * Threads: calls are independent. */

#include <stddef.h>

#include <cjson/cJSON.h>

/*
 * The value at the start of text (length bytes, need not be NUL-terminated), which the caller
 * deletes. *ret_end (may be NULL) points behind it. Returns 0, -EINVAL (it begins with no JSON
 * value: *ret_end tells where it breaks) or -ENOMEM.
 */
int wfe_json_parse(const char *text, size_t length, const char **ret_end, cJSON **ret);

#endif
