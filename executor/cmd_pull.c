/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/commands.h"
#include "executor/image/import.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/sharing.h"
#include "executor/run/progress.h"
#include "executor/image/pull.h"
#include "executor/image/registry_hosts.h"
#include "libcommon/cleanup.h"

#define LEASE_DELETE_TIMEOUT_MS 30000

enum { NAME = 1, PULL, CREDS, HOSTS_DIR, DOWNLOADS, PROGRESS, QUIET };

static const struct wfe_option OPTIONS[] = {
    {"name", 0, "NAME", "the image's name in containerd (default: what the source says)", NAME},
    {"pull", 0, "POLICY", "always, if-not-present or never (default: always)", PULL},
    {"creds", 'u', "USER:PASSWORD", "for the registry (default: what `docker login` has kept)",
        CREDS},
    {"hosts-dir", 0, "DIR", "registries' hosts.toml (default: " WFE_REGISTRY_HOSTS_DIRECTORY ")",
        HOSTS_DIR},
    {"max-concurrent-downloads", 0, "N", "layers at once, 1 to 16 (default: 3)", DOWNLOADS},
    {"progress", 0, "KIND", "auto, plain or none (default: auto)", PROGRESS},
    {"quiet", 'q', NULL, "show no progress", QUIET},
    WFE_OPTIONS_END,
};

static struct {
    const char *name;
    enum wfe_step_pull policy;
    char *username; /* owns the text */
    const char *password;
    const char *hosts_directory;
    unsigned max_downloads;
    enum wfe_progress_mode progress;
    bool quiet;
} given;

static int take_creds(const char *value, struct wfe_error *err)
{
    const char *colon = strchr(value, ':');
    if (!colon || colon == value)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "--creds: expected USER:PASSWORD");
    free(given.username);
    given.username = strdup(value);
    if (!given.username)
        return wfe_error_nomem(err);
    given.username[colon - value] = '\0';
    given.password = given.username + (colon - value) + 1;
    return 0;
}

static int take_option(void *state, int id, const char *value, struct wfe_error *err)
{
    (void)state;
    switch (id) {
    case NAME:
        given.name = value;
        return 0;
    case PULL:
        if (wfe_pull_policy_parse(value, &given.policy) < 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "--pull '%s': expected always, if-not-present or never", value);
        return 0;
    case CREDS:
        return take_creds(value, err);
    case HOSTS_DIR:
        given.hosts_directory = value;
        return 0;
    case DOWNLOADS:
        return wfe_command_take_downloads(value, &given.max_downloads, err);
    case PROGRESS:
        if (wfe_progress_mode_parse(value, &given.progress) < 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "--progress '%s': expected auto, plain or none", value);
        return 0;
    case QUIET:
        given.quiet = true;
        return 0;
    }
    return 0;
}

/* With the policy if-not-present or never: whether the image is there, under *ret_name then. */
static int find_present(
    struct wfe_session *session, const char *reference, char **ret_name, struct wfe_error *err)
{
    struct wfe_image image;
    int r = wfe_image_find(session, given.name ? given.name : reference, &image, err);
    if (r < 0)
        return r;
    *ret_name = wfe_steal(&image.name);
    wfe_image_done(&image);
    return 0;
}

static int pull_from_registry(struct wfe_session *session, const char *reference,
    struct wfe_progress *progress, char **ret_name, struct wfe_error *err)
{
    struct wfe_reference parts;
    int r = wfe_image_split(reference, &parts, err);
    if (r < 0)
        return r;
    struct wfe_step_registry_auth login = {
        .host = parts.host, .username = given.username, .password = (char *)given.password};
    struct wfe_pull_options options = {
        .registry = {.hosts_directory = given.hosts_directory,
            .logins = &login,
            .login_count = given.username ? 1 : 0},
        .max_downloads = given.max_downloads,
        .name = given.name,
        .progress = progress,
    };
    return wfe_pull(session, reference, &options, ret_name, err);
}

/* Everything is made under a lease, so that a pull that dies leaves nothing for long. */
static int pull_leased(struct wfe_session *session, const char *lease, const char *source,
    struct wfe_progress *progress, char **ret_name, struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_lease_create_start(session, lease, &call, err);
    if (r == 0)
        r = wfe_lease_create_finish(call, err);
    if (r < 0)
        return r;
    session->lease = lease;
    if (wfe_import_is_source(source))
        r = wfe_import(session, source, given.name, ret_name, err);
    else
        r = pull_from_registry(session, source, progress, ret_name, err);
    session->lease = NULL;
    return r;
}

/* No reference begins like a path. */
static int check_source(const char *source, struct wfe_error *err)
{
    if (source[0] == '/' || source[0] == '.')
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "'%.200s' is not an image reference; of files, say what they are: oci:DIR, "
            "oci-archive:FILE or docker-archive:FILE",
            source);
    return 0;
}

/* As the policy says. */
static int bring_in(struct wfe_session *session, const char *source, struct wfe_progress *progress,
    char **ret_name, struct wfe_error *err)
{
    if (given.policy != WFE_PULL_ALWAYS && !wfe_import_is_source(source)) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = find_present(session, source, ret_name, &failure);
        if (r != -ENOENT || given.policy == WFE_PULL_NEVER) {
            if (r < 0)
                *err = failure;
            return r;
        }
    }
    char lease[WFE_UNIQUE_NAME_MAX];
    int r = wfe_unique_name(lease, err);
    if (r < 0)
        return r;
    r = pull_leased(session, lease, source, progress, ret_name, err);
    /* What it held is referred to by the image now, or is to go. */
    wfe_lease_delete(session, lease, r < 0, LEASE_DELETE_TIMEOUT_MS, NULL);
    return r;
}

static int main_pull(const struct wfe_globals *globals, const char *source)
{
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_session session;
    if (check_source(source, &err) < 0 || wfe_command_connect(globals, &session, &err) < 0)
        return wfe_command_fail(&wfe_command_pull, &err);
    struct wfe_progress *progress = NULL;
    WFE_FREE char *pulled = NULL;
    int r = 0;
    if (!given.quiet && (r = wfe_progress_new(given.progress, &progress)) < 0)
        wfe_error_system(&err, -r, "progress display");
    if (r == 0 && session.transfers)
        r = wfe_sharing_find(&session, wfe_sharing_io_directory(), WFE_SHARING_REMEMBERED, &err);
    if (r == 0)
        r = bring_in(&session, source, progress, &pulled, &err);
    wfe_progress_free(progress);
    wfe_session_done(&session);
    free(given.username);
    if (r < 0) {
        wfe_command_fail(&wfe_command_pull, &err);
        return wfe_stop_signal() != 0 ? 128 + wfe_stop_signal() : WFE_EXIT_FAILURE;
    }
    assert(pulled);
    puts(pulled);
    return 0;
}

const struct wfe_command wfe_command_pull = {
    .name = "pull",
    .operand = "IMAGE",
    .summary =
        "Bring an image in: a registry's, oci:DIR[:TAG], oci-archive:FILE, docker-archive:FILE",
    .options = OPTIONS,
    .take = take_option,
    .main = main_pull,
};
