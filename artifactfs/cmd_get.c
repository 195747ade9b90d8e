/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "artifactfs/cli.h"
#include "artifactfs/extract.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define COPY_BYTES (256 * 1024)

enum { OUTPUT = CLI_OWN, DIRECTORY };

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    {"output", 'o', "FILE", "write the artifact's bytes to FILE (default: standard output)",
        OUTPUT},
    {"directory", 'C', "DIR", "extract it into DIR, which is made if need be", DIRECTORY},
    CLI_COMMON_OPTIONS,
};

static struct state {
    const char *output;
    const char *directory;
} state;

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    (void)err;
    struct state *s = context;
    if (id == OUTPUT)
        s->output = value;
    else
        s->directory = value;
    return 0;
}

static int copy(int in, int out, const char *name, struct wfe_error *err)
{
    WFE_FREE char *chunk = malloc(COPY_BYTES);
    if (!chunk)
        return wfe_error_nomem(err);
    for (;;) {
        ssize_t n = wfe_read_full(in, chunk, COPY_BYTES);
        if (n < 0)
            return wfe_error_system(err, (int)-n, "read");
        if (n == 0)
            return 0;
        int r = wfe_write_all(out, chunk, (size_t)n);
        if (r < 0)
            return wfe_error_system(err, -r, "%s", name);
    }
}

/* Under a name of its own until it is whole. */
static int copy_to_new_file(int in, const char *path, struct wfe_error *err)
{
    WFE_FREE char *temporary = NULL;
    if (asprintf(&temporary, "%s.%ld.part", path, (long)getpid()) < 0)
        return wfe_error_nomem(err);
    WFE_CLOSE int out = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (out < 0)
        return wfe_error_system(err, errno, "%s", temporary);
    int r = copy(in, out, path, err);
    if (r == 0 && rename(temporary, path) < 0)
        r = wfe_error_system(err, errno, "%s", path);
    if (r < 0)
        unlink(temporary);
    return r;
}

static int copy_to(int in, const char *path, struct wfe_error *err)
{
    if (!path || strcmp(path, "-") == 0)
        return copy(in, STDOUT_FILENO, "stdout", err);
    struct stat st;
    if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
        return copy_to_new_file(in, path, err);
    WFE_CLOSE int out = open(path, O_WRONLY | O_CLOEXEC);
    if (out < 0)
        return wfe_error_system(err, errno, "%s", path);
    return copy(in, out, path, err);
}

static enum cli_status get(
    const struct cli_command *command, const char *store_path, char **operands)
{
    if (state.output && state.directory)
        return cli_usage(command, "--output and --directory exclude each other");
    bool to_stdout = !state.directory && (!state.output || strcmp(state.output, "-") == 0);
    if (to_stdout && isatty(STDOUT_FILENO))
        return cli_usage(
            command, "no archive is written to a terminal: use --output, --directory or a pipe");

    WFE_STORE struct wfe_store *store = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_digest digest;
    WFE_FREE char *path = NULL;
    int r = cli_open_store(store_path, false, &store, &err);
    if (r == 0)
        r = wfe_store_resolve(store, operands[0], &digest, &err);
    if (r == 0)
        r = wfe_store_get(store, &digest, &path, &err);
    if (r < 0)
        return cli_fail(command, &err);
    assert(path);
    WFE_CLOSE int in = open(path, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        r = wfe_error_system(&err, errno, "%s", path);
    else if (state.directory)
        r = extract_archive(in, state.directory, &err);
    else
        r = copy_to(in, state.output, &err);
    return r < 0 ? cli_fail(command, &err) : CLI_OK;
}

const struct cli_command cli_get = {
    .name = "get",
    .operands = "DIGEST|NAME",
    .summary = "Check an artifact's bytes against its digest, then write or extract them",
    .min_operands = 1,
    .max_operands = 1,
    .options = OPTIONS,
    .take = take,
    .state = &state,
    .main = get,
};
