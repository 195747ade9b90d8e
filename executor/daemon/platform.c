/* SPDX-License-Identifier: MIT */
#include "executor/daemon/platform.h"

#include <assert.h>
#include <string.h>

enum {
    RANK_NONE = 0,
    RANK_NO_VARIANT = 1, /* a lower variant has RANK_NO_VARIANT + its level */
    RANK_EXACT = 100,
};

/* "v7" → 7; 0 for what is no numbered variant. */
static unsigned variant_level(const char *variant)
{
    if (variant[0] == 'v' && variant[1] >= '1' && variant[1] <= '9' && variant[2] == '\0')
        return (unsigned)(variant[1] - '0');
    return 0;
}

/* The variant that an architecture has when none is named; "" when that says nothing. */
static const char *implied_variant(const char *architecture)
{
    if (strcmp(architecture, "arm64") == 0)
        return "v8";
    if (strcmp(architecture, "amd64") == 0)
        return "v1";
    return "";
}

unsigned wfe_platform_rank(const struct wfe_platform *platform, const char *os,
    const char *architecture, const char *variant)
{
    assert(platform && os && architecture);
    if (strcmp(platform->os, os) != 0 || strcmp(platform->architecture, architecture) != 0)
        return RANK_NONE;
    const char *have = platform->variant[0] ? platform->variant : implied_variant(architecture);
    const char *want = variant && variant[0] ? variant : implied_variant(architecture);
    if (strcmp(have, want) == 0)
        return RANK_EXACT;
    if (!variant || !variant[0])
        return RANK_NO_VARIANT;
    unsigned have_level = variant_level(have);
    unsigned want_level = variant_level(want);
    if (want_level == 0 || want_level > have_level)
        return RANK_NONE;
    return RANK_NO_VARIANT + want_level;
}
