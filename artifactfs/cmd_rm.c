/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "artifactfs/cli.h"

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    CLI_COMMON_OPTIONS,
};

static int remove_one(struct wfe_store *store, const char *text, struct wfe_error *err)
{
    struct wfe_digest digest;
    int r = wfe_store_resolve(store, text, &digest, err);
    if (r < 0)
        return r;
    if (strncmp(text, "sha256:", 7) == 0)
        return wfe_store_remove(store, &digest, err);
    return wfe_store_remove_name(store, text, err);
}

static enum cli_status rm(
    const struct cli_command *command, const char *store_path, char **operands)
{
    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_error open_err = WFE_ERROR_INIT;
    if (cli_open_store(store_path, false, &store, &open_err) < 0)
        return cli_fail(command, &open_err);
    enum cli_status status = CLI_OK;
    for (; *operands; operands++) {
        struct wfe_error err = WFE_ERROR_INIT;
        if (remove_one(store, *operands, &err) < 0)
            status = cli_fail(command, &err);
    }
    return status;
}

const struct cli_command cli_rm = {
    .name = "rm",
    .operands = "DIGEST|NAME...",
    .summary = "Remove artifacts; one that has several names stays until the last is removed",
    .min_operands = 1,
    .max_operands = -1,
    .options = OPTIONS,
    .main = rm,
};
