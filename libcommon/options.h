/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_OPTIONS_H
#define WFE_LIBCOMMON_OPTIONS_H

/*
 * Command-line options out of one table, which is also the text of --help.
 *
 * Threads: the parser uses getopt's globals; one thread at a time.
 */

#include <stdbool.h>
#include <stdio.h>

#include "libcommon/error.h"

struct wfe_option {
    const char *name;     /* long name, without dashes; NULL ends a table */
    char letter;          /* short name, 0 for none */
    const char *argument; /* its name in the help; NULL: a flag */
    const char *help;
    int id; /* what `take` gets */
};

#define WFE_OPTIONS_MAX 32

/*
 * Parse argv[1…]; `take` gets each option's id and value (NULL for flags; a view into argv) and
 * returns 0, or -errno with err set, which ends it. With stop_at_operand the first
 * operand ends the options, else they may stand anywhere (argv is permuted). *ret_operand is the
 * index of the first operand. Errors: WFE_ERROR_INPUT (unknown option, missing argument), and
 * what `take` returned.
 */
int wfe_options_parse(const struct wfe_option *table, int argc, char **argv, bool stop_at_operand,
    int (*take)(void *context, int id, const char *value, struct wfe_error *err), void *context,
    int *ret_operand, struct wfe_error *err);

/* The table as help text: "  -q, --quiet        TEXT", one option a line. */
void wfe_options_print(const struct wfe_option *table, FILE *to);

#endif
