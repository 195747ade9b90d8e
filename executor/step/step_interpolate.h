/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_STEP_INTERPOLATE_H
#define WFE_EXECUTOR_STEP_INTERPOLATE_H

/*
 * `((a.b.c))` in the values of a step document, replaced from the workflow data:
 *
 *     reference := "((" path "))"
 *     path      := name { "." name },  name := letters, digits, "_", "-"; the first no digit or "-"
 *
 * A value that is a reference and nothing else takes the data's value with its type; inside of
 * text a string stands raw, a number, true, false and null as JSON, an object or list as compact
 * JSON. A path is looked up member by member; a member whose own name has dots in it
 * ("build.stdout") is found too. What is put in is not searched for references again.
 *
 * Left alone: anything between the parentheses that is no path, such as shell arithmetic with
 * blanks or operators, and whatever follows a "$": `$((n))` is the shell's.
 *
 * Limits: the text and the values put in, over the whole document: as much as a document
 * may hold.
 */

#include "executor/step/step_reader.h"

/*
 * The node with each reference below it replaced: node itself when there was none, else a new one
 * of reader's document. A reference that the data can't answer is told, and a reported null
 * stands in its place; so it does for all of node when memory ran out.
 */
const struct wfe_node *wfe_step_interpolate(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path);

#endif
