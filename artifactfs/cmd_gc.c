/* SPDX-License-Identifier: MIT */
#include "artifactfs/cli.h"

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    CLI_COMMON_OPTIONS,
};

static enum cli_status gc(
    const struct cli_command *command, const char *store_path, char **operands)
{
    (void)operands;
    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    size_t removed = 0;
    uint64_t bytes = 0;
    int r = cli_open_store(store_path, false, &store, &err);
    if (r == 0)
        r = wfe_store_gc(store, &removed, &bytes, &err);
    if (r < 0)
        return cli_fail(command, &err);
    printf("%zu artifact%s removed, %s freed\n", removed, removed == 1 ? "" : "s",
        cli_format_size(bytes).text);
    return cli_finish(command);
}

const struct cli_command cli_gc = {
    .name = "gc",
    .operands = "",
    .summary = "Remove expired artifacts and what dead processes left in the store",
    .options = OPTIONS,
    .main = gc,
};
