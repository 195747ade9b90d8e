/* SPDX-License-Identifier: MIT */
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/cli.h"

static const struct cli_command *const commands[] = {
    &cli_put,
    &cli_get,
    &cli_ls,
    &cli_rm,
    &cli_gc,
    &cli_layer,
    &cli_mount,
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)

static enum cli_status print_help(void)
{
    printf("Usage: " CLI_PROGRAM " COMMAND [OPTION...] [ARGUMENT...]\n\n"
           "Keeps artifacts in a store, makes image layers of them and mounts them as files.\n\n"
           "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    printf("\nOptions:\n"
           "  %-30s show this help\n"
           "  %-30s show the version\n"
           "\n" CLI_PROGRAM " COMMAND --help tells of one command.\n",
        "-h, --help", "    --version");
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static enum cli_status refuse(const char *what, const char *why)
{
    fprintf(stderr, CLI_PROGRAM ": %s %s (see '" CLI_PROGRAM " --help')\n", what, why);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    /* A reader that went away is an error like any other, not a silent end. */
    signal(SIGPIPE, SIG_IGN);
    /* libarchive names entries in the locale's encoding; everything else stays as in C. */
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        setlocale(LC_CTYPE, "");
    /* It also takes a zip's times in the local time zone, and a layer must not depend on that. */
    setenv("TZ", "UTC0", 1);
    if (argc < 2)
        return refuse("a command", "is missing");
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return print_help();
    if (strcmp(name, "--version") == 0) {
        printf(CLI_PROGRAM " %s\n", WFE_VERSION);
        return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return cli_run(commands[i], argc - 1, argv + 1);
    }
    return refuse(name, name[0] == '-' ? "is not an option" : "is not a command");
}
