/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_CLI_H
#define WFE_ARTIFACTFS_CLI_H

/*
 * What the subcommands share: their description, from which parsing and --help are made,
 * and the options that several of them have.
 *
 * A subcommand's main returns the exit status: CLI_OK, CLI_FAILED after it has called
 * cli_fail(), or what cli_usage() returned.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "libcommon/error.h"
#include "libcommon/options.h"
#include "libcommon/store.h"

#define CLI_PROGRAM "wfe-artifactfs"

enum cli_status {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
};

/* Ids of the options that every subcommand has; a subcommand's own begin at CLI_OWN. */
enum cli_option_id {
    CLI_STORE = 1,
    CLI_LOG_LEVEL,
    CLI_VERSION,
    CLI_HELP,
    CLI_OWN,
};

#define CLI_STORE_OPTION                                                                           \
    {                                                                                              \
        "store", 0, "DIR",                                                                         \
            "the artifact store (default: $WFE_ARTIFACT_STORE, else the XDG data directory)",      \
            CLI_STORE                                                                              \
    }
#define CLI_LIMIT_OPTION(id)                                                                       \
    {                                                                                              \
        "limit", 0, "NAME=N",                                                                      \
            "refuse what has more entries, bytes or the like than N: see the manual", id           \
    }
/* The end of every table. */
#define CLI_COMMON_OPTIONS                                                                         \
    {"log-level", 0, "L", "error, warn, info or debug (default: warn)", CLI_LOG_LEVEL},            \
        {"version", 0, NULL, "show the version", CLI_VERSION},                                     \
        {"help", 'h', NULL, "show this help", CLI_HELP},                                           \
    {                                                                                              \
        NULL, 0, NULL, NULL, 0                                                                     \
    }

struct cli_command {
    const char *name;
    const char *operands; /* as the usage line shows them */
    const char *summary;  /* a sentence without its full stop */
    int min_operands;
    int max_operands; /* -1: any number */
    const struct wfe_option *options;
    /* An option of the subcommand's own; NULL when it has none. As in wfe_options_parse(). */
    int (*take)(void *state, int id, const char *value, struct wfe_error *err);
    void *state;
    enum cli_status (*main)(const struct cli_command *command, const char *store, char **operands);
};

extern const struct cli_command cli_gc;
extern const struct cli_command cli_get;
extern const struct cli_command cli_layer;
extern const struct cli_command cli_ls;
extern const struct cli_command cli_mount;
extern const struct cli_command cli_put;
extern const struct cli_command cli_rm;

/* Parse argv[1…] and run the command. */
enum cli_status cli_run(const struct cli_command *command, int argc, char **argv);

/* One line on stderr: the error; the first also a hint at --help. */
enum cli_status cli_usage(const struct cli_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum cli_status cli_fail(const struct cli_command *command, const struct wfe_error *err);

/* Flush stdout: CLI_FAILED (and said) when what was printed could not be written. */
enum cli_status cli_finish(const struct cli_command *command);

/* Open the store at path, NULL for the default one. Errors: as wfe_store_open(). */
int cli_open_store(const char *path, bool create, struct wfe_store **ret, struct wfe_error *err);

/* "90s", "15m", "12h", "7d" → seconds, more than 0. Returns 0 or -EINVAL (ret untouched). */
int cli_parse_duration(const char *text, int64_t *ret_seconds);

/* "512 B", "1.5 KiB", "20.0 MiB". */
struct cli_size {
    char text[32];
};
struct cli_size cli_format_size(uint64_t bytes);

#endif
