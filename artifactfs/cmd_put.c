/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/cli.h"
#include "libcommon/cleanup.h"

enum { NAME = CLI_OWN, EXPIRES, LIMIT };

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    {"name", 0, "N",
        "the artifact's name (default: PATH's last part, without .tar.gz and the like)", NAME},
    {"expires", 0, "DURATION", "how long it is kept: 90s, 15m, 12h, 7d (default: 7d)", EXPIRES},
    CLI_LIMIT_OPTION(LIMIT),
    CLI_COMMON_OPTIONS,
};

static struct state {
    const char *name;
    int64_t expiry_s;
    struct wfe_layer_limits limits;
} state = {.expiry_s = WFE_STORE_DEFAULT_EXPIRY_S};

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    struct state *s = context;
    if (id == LIMIT)
        return wfe_layer_limits_set(&s->limits, value, err);
    if (id == NAME) {
        s->name = value;
        return wfe_store_check_name(value, err);
    }
    if (cli_parse_duration(value, &s->expiry_s) < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "--expires '%s': expected a number and s, m, h or d, as in 12h", value);
    return 0;
}

/* "." and ".." have a name elsewhere. */
static int suggest_name(const char *path, char ret[256])
{
    if (wfe_store_suggest_name(path, ret) == 0)
        return 0;
    WFE_FREE char *real = realpath(path, NULL);
    return real ? wfe_store_suggest_name(real, ret) : -EINVAL;
}

static int print_reference(const struct wfe_store_entry *entry, struct wfe_error *err)
{
    WFE_JSON cJSON *result = cJSON_CreateObject();
    cJSON *reference = result ? cJSON_AddObjectToObject(result, entry->name) : NULL;
    if (!reference || !cJSON_AddStringToObject(reference, "__wfe_artifact", entry->digest.text))
        return wfe_error_nomem(err);
    WFE_FREE char *text = cJSON_PrintUnformatted(result);
    if (!text)
        return wfe_error_nomem(err);
    puts(text);
    return 0;
}

static enum cli_status put(
    const struct cli_command *command, const char *store_path, char **operands)
{
    const char *path = operands[0];
    char suggested[256];
    const char *name = state.name;
    if (!name && strcmp(path, "-") == 0)
        return cli_usage(command, "standard input has no name: give it one with --name");
    if (!name && suggest_name(path, suggested) < 0)
        return cli_usage(command, "no name can be made of '%s': give it one with --name", path);
    if (!name)
        name = suggested;

    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_store_entry entry;
    int r = cli_open_store(store_path, true, &store, &err);
    if (r == 0) {
        wfe_store_set_limits(store, &state.limits);
        r = wfe_store_put(store, path, name, state.expiry_s, &entry, &err);
    }
    if (r == 0)
        r = print_reference(&entry, &err);
    return r < 0 ? cli_fail(command, &err) : cli_finish(command);
}

const struct cli_command cli_put = {
    .name = "put",
    .operands = "PATH",
    .summary = "Put a directory, an archive, a file or - (standard input) into the store and print "
               "its reference",
    .min_operands = 1,
    .max_operands = 1,
    .options = OPTIONS,
    .take = take,
    .state = &state,
    .main = put,
};
