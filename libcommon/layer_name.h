/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_LAYER_NAME_H
#define WFE_LIBCOMMON_LAYER_NAME_H

/* Names of a layer's entries: taken apart, judged by the path policy (libcommon/layer.h), shown. */

#include <stdbool.h>
#include <stddef.h>

/* Part of a name between slashes; a view into the name, without NUL. */
struct wfe_layer_component {
    const char *text;
    size_t length;
};

/* The next component of *name, which moves behind it; false when there is none. Empty ones and
 * "." are passed over. */
bool wfe_layer_component_next(const char **name, struct wfe_layer_component *ret);

/* NULL when component may stand in a layer, else the rule that it breaks (static). */
const char *wfe_layer_component_rule(const struct wfe_layer_component *component);

bool wfe_layer_is_utf8(const char *text);

/* Room for a name as wfe_layer_show() gives it. */
#define WFE_LAYER_SHOWN_BYTES 160

/*
 * A name from an archive, fit for a terminal and a message: controls, direction marks,
 * backslashes and what is no UTF-8 become \xNN, a long name loses its middle. Returns out.
 */
const char *wfe_layer_show(const char *name, char out[static WFE_LAYER_SHOWN_BYTES]);

#endif
