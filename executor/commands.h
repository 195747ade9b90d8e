/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_COMMANDS_H
#define WFE_EXECUTOR_COMMANDS_H

/*
 * The commands of wfe-containerd: one file each (cmd_NAME.c), listed in main.c.
 */

#include <stdbool.h>

#include "executor/daemon/connect.h"
#include "libcommon/cancel.h"
#include "libcommon/options.h"

/* Exit status of a wrong command line, a wrong document, and of every failure of ours. */
#define WFE_EXIT_FAILURE 125

/* Options before the command, and what main() set up. */
struct wfe_globals {
    struct wfe_connect_options daemon;
};

/* One of them. main() parses its options, shows its help, and sees to its operand. */
struct wfe_command {
    const char *name;
    const char *operand; /* what the one operand is called in the help; NULL: takes none */
    const char *summary;
    const struct wfe_option *options; /* ends with WFE_OPTIONS_END */
    /* Gets the options (see libcommon/options.h) with `state`; NULL when there are none but
     * --help. */
    int (*take)(void *state, int id, const char *value, struct wfe_error *err);
    void *state;
    /* operand is NULL when it takes none. Returns the exit status. */
    int (*main)(const struct wfe_globals *globals, const char *operand);
    /* Of a command that takes more of them: how many, and what gets them all, in the place of
     * main. */
    int operand_count;
    int (*main_all)(const struct wfe_globals *globals, char *const *operands);
};

extern const struct wfe_command wfe_command_run;
extern const struct wfe_command wfe_command_pull;
extern const struct wfe_command wfe_command_service;
extern const struct wfe_command wfe_command_gc;
extern const struct wfe_command wfe_command_check;

/* The last rows of every command's table. */
#define WFE_OPTION_HELP_ID 'h'
#define WFE_OPTIONS_END                                                                            \
    {"help", 'h', NULL, "show this help", WFE_OPTION_HELP_ID},                                     \
    {                                                                                              \
        NULL, 0, NULL, NULL, 0                                                                     \
    }

/* Print "wfe-containerd COMMAND: message"; returns WFE_EXIT_FAILURE. */
int wfe_command_fail(const struct wfe_command *command, const struct wfe_error *err);

/* The signal that asked to stop, 0 when none did. */
int wfe_stop_signal(void);

/* Whether we were started by nohup(1), or the like: to go on when the terminal or the parent goes.
 */
bool wfe_hangup_is_ignored(void);

/* The value of --max-concurrent-downloads. Errors: WFE_ERROR_INPUT. */
int wfe_command_take_downloads(const char *value, unsigned *ret, struct wfe_error *err);

/* Connect as the globals and the environment say. Errors: as wfe_connect(). */
int wfe_command_connect(
    const struct wfe_globals *globals, struct wfe_session *ret, struct wfe_error *err);

#endif
