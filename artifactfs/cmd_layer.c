/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "artifactfs/cli.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer.h"

enum { PREFIX = CLI_OWN, COMPRESSION, DESCRIPTOR, LIMIT };

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    {"prefix", 0, "P", "the container path below which the tree goes, / for the root", PREFIX},
    {"compression", 0, "C", "gzip, none or zstd (default: gzip)", COMPRESSION},
    {"descriptor", 0, "FILE", "write the layer's descriptor to FILE: a JSON object", DESCRIPTOR},
    CLI_LIMIT_OPTION(LIMIT),
    CLI_COMMON_OPTIONS,
};

static struct state {
    const char *prefix;
    const char *descriptor;
    enum wfe_layer_compression compression;
    struct wfe_layer_limits limits;
} state = {.compression = WFE_LAYER_GZIP};

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    struct state *s = context;
    if (id == LIMIT)
        return wfe_layer_limits_set(&s->limits, value, err);
    if (id == PREFIX)
        s->prefix = value;
    else if (id == DESCRIPTOR)
        s->descriptor = value;
    else if (strcmp(value, "gzip") == 0)
        s->compression = WFE_LAYER_GZIP;
    else if (strcmp(value, "none") == 0)
        s->compression = WFE_LAYER_NONE;
    else if (strcmp(value, "zstd") == 0)
        s->compression = WFE_LAYER_ZSTD;
    else
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "--compression '%s': expected gzip, none or zstd", value);
    return 0;
}

/* sha256:… is the store's, anything else a path. Allocates *ret_path. */
static int find_source(
    const char *store_path, const char *source, char **ret_path, struct wfe_error *err)
{
    if (strncmp(source, "sha256:", 7) != 0) {
        char *path = strdup(source);
        if (!path)
            return wfe_error_nomem(err);
        *ret_path = path;
        return 0;
    }
    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_digest digest;
    int r = cli_open_store(store_path, false, &store, err);
    if (r == 0)
        r = wfe_store_resolve(store, source, &digest, err);
    return r < 0 ? r : wfe_store_get(store, &digest, ret_path, err);
}

static int write_layer(const char *path, struct wfe_layer_result *ret, struct wfe_error *err)
{
    static const int out = STDOUT_FILENO;
    struct wfe_sink sink = wfe_sink_to_fd(&out);
    struct wfe_layer_options options = {
        .prefix = state.prefix, .compression = state.compression, .limits = state.limits};
    struct stat st;
    if (stat(path, &st) < 0)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, errno, "%s", strerror(errno));
    enum wfe_archive_form form = WFE_ARCHIVE_OTHER;
    if (S_ISREG(st.st_mode)) {
        int r = wfe_archive_probe(path, &form, err);
        if (r < 0)
            return r;
    }
    if (form != WFE_ARCHIVE_NONE)
        return wfe_layer_write(path, &options, sink, ret, err);
    const char *slash = strrchr(path, '/');
    return wfe_layer_write_file(path, slash ? slash + 1 : path, &options, sink, ret, err);
}

static char *format_descriptor(const struct wfe_layer_result *layer)
{
    WFE_JSON cJSON *object = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(object, "mediaType", layer->media_type) ||
        !cJSON_AddStringToObject(object, "digest", layer->digest.text) ||
        !cJSON_AddNumberToObject(object, "size", (double)layer->size_bytes) ||
        !cJSON_AddStringToObject(object, "diffID", layer->diff_id.text) ||
        !cJSON_AddNumberToObject(object, "tarSize", (double)layer->tar_bytes) ||
        !cJSON_AddNumberToObject(object, "entries", (double)layer->entries))
        return NULL;
    return cJSON_Print(object);
}

static int write_descriptor(
    const char *path, const struct wfe_layer_result *layer, struct wfe_error *err)
{
    WFE_FREE char *text = format_descriptor(layer);
    if (!text)
        return wfe_error_nomem(err);
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return wfe_error_system(err, errno, "%s", path);
    int r = wfe_write_all(fd, text, strlen(text));
    if (r == 0)
        r = wfe_write_all(fd, "\n", 1);
    return r < 0 ? wfe_error_system(err, -r, "%s", path) : 0;
}

static enum cli_status layer(
    const struct cli_command *command, const char *store_path, char **operands)
{
    const char *source = operands[0];
    if (!state.prefix)
        return cli_usage(command, "--prefix is missing: where in the container is the tree to be?");
    if (strcmp(source, "-") == 0)
        return cli_usage(command, "a source is read twice, so it can't be standard input");
    if (isatty(STDOUT_FILENO))
        return cli_usage(command, "no layer is written to a terminal: redirect it or use a pipe");
    struct wfe_error err = WFE_ERROR_INIT;
    WFE_FREE char *path = NULL;
    struct wfe_layer_result result;
    int r = find_source(store_path, source, &path, &err);
    if (r < 0)
        return cli_fail(command, &err);
    r = write_layer(path, &result, &err);
    if (r < 0)
        wfe_error_prefix(&err, "%s", source);
    else if (state.descriptor)
        r = write_descriptor(state.descriptor, &result, &err);
    return r < 0 ? cli_fail(command, &err) : CLI_OK;
}

const struct cli_command cli_layer = {
    .name = "layer",
    .operands = "SOURCE",
    .summary = "Write an archive, a directory, a file or sha256:DIGEST from the store as an image "
               "layer to standard output",
    .min_operands = 1,
    .max_operands = 1,
    .options = OPTIONS,
    .take = take,
    .state = &state,
    .main = layer,
};
