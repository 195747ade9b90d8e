/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_UNITS_H
#define WFE_LIBCOMMON_UNITS_H

/*
 * Texts with units. Each returns 0, -EINVAL (no such text) or -ERANGE (too large; for processors
 * also too small), and leaves the result alone on failure.
 */

#include <stdint.h>

/* "500ms", "30s", "5m", "1500" (milliseconds) → milliseconds, which as nanoseconds fit int64_t. */
int wfe_duration_parse(const char *text, uint64_t *ret_ms);
/* "512m", "1g", "64Ki", "1048576" → bytes, at most INT64_MAX. k, m, g, t in either case, with an
 * "i", a "b" or both behind it, are powers of 1024. */
int wfe_size_parse(const char *text, uint64_t *ret_bytes);
/* "0.5", "2", "1500m" → thousandths of a processor, at least one; further digits are cut. */
int wfe_cpu_parse(const char *text, uint32_t *ret_millis);

#endif
