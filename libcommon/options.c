/* SPDX-License-Identifier: MIT */
#include "libcommon/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>

/* Values of getopt_long() for long options: beyond any letter. */
#define FIRST_VALUE 1000

static const struct wfe_option *find_letter(const struct wfe_option *table, int letter)
{
    for (const struct wfe_option *option = table; option->name; option++)
        if (option->letter && option->letter == letter)
            return option;
    return NULL;
}

/* getopt's view of the table. */
static void translate(const struct wfe_option *table, bool stop_at_operand,
    struct option *long_options, char *short_options)
{
    size_t length = 0;
    if (stop_at_operand)
        short_options[length++] = '+';
    short_options[length++] = ':';
    size_t count = 0;
    for (; table[count].name; count++) {
        assert(count < WFE_OPTIONS_MAX);
        long_options[count] = (struct option){
            .name = table[count].name,
            .has_arg = table[count].argument ? required_argument : no_argument,
            .val = FIRST_VALUE + (int)count,
        };
        if (table[count].letter) {
            short_options[length++] = table[count].letter;
            if (table[count].argument)
                short_options[length++] = ':';
        }
    }
    long_options[count] = (struct option){0};
    short_options[length] = '\0';
}

static int refuse(int found, char **argv, struct wfe_error *err)
{
    const char *what = found == ':' ? "needs an argument" : "is not an option";
    if (optopt > 0 && optopt < FIRST_VALUE)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "-%c %s", optopt, what);
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s %s", argv[optind - 1], what);
}

int wfe_options_parse(const struct wfe_option *table, int argc, char **argv, bool stop_at_operand,
    int (*take)(void *context, int id, const char *value, struct wfe_error *err), void *context,
    int *ret_operand, struct wfe_error *err)
{
    struct option long_options[WFE_OPTIONS_MAX + 1];
    char short_options[2 * WFE_OPTIONS_MAX + 3];
    translate(table, stop_at_operand, long_options, short_options);
    optind = 0; /* glibc: start anew */
    opterr = 0;
    for (;;) {
        int found = getopt_long(argc, argv, short_options, long_options, NULL);
        if (found == -1)
            break;
        if (found == '?' || found == ':')
            return refuse(found, argv, err);
        const struct wfe_option *option =
            found >= FIRST_VALUE ? &table[found - FIRST_VALUE] : find_letter(table, found);
        assert(option);
        int r = take(context, option->id, optarg, err);
        if (r < 0)
            return r;
    }
    *ret_operand = optind;
    return 0;
}

void wfe_options_print(const struct wfe_option *table, FILE *to)
{
    for (const struct wfe_option *option = table; option->name; option++) {
        char text[80];
        int length = option->letter ? snprintf(text, sizeof text, "-%c, ", option->letter)
                                    : snprintf(text, sizeof text, "    ");
        snprintf(text + length, sizeof text - (size_t)length, "--%s%s%s", option->name,
            option->argument ? " " : "", option->argument ? option->argument : "");
        fprintf(to, "  %-30s %s\n", text, option->help);
    }
}
