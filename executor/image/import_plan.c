/* SPDX-License-Identifier: MIT */
#include "executor/image/import_plan.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor/image/import.h"
#include "libcommon/cleanup.h"

struct transport {
    const char *prefix;
    bool archive, docker;
};

static const struct transport TRANSPORTS[] = {
    {"oci:", false, false},
    {"oci-archive:", true, false},
    {"docker-archive:", true, true},
};

static const struct transport *find_transport(const char *text)
{
    for (size_t i = 0; i < sizeof TRANSPORTS / sizeof *TRANSPORTS; i++)
        if (strncmp(text, TRANSPORTS[i].prefix, strlen(TRANSPORTS[i].prefix)) == 0)
            return &TRANSPORTS[i];
    return NULL;
}

bool wfe_import_is_source(const char *text)
{
    return find_transport(text) != NULL;
}

/*
 * PATH[:TAG] → path (allocated) and tag (a view; NULL for none). The path ends at the first ':'
 * up to which something exists, so that a path may have a ':' as well.
 */
static int split_location(
    const char *location, char **ret_path, const char **ret_tag, struct wfe_error *err)
{
    size_t first = strcspn(location, ":");
    if (first == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "the path is missing");
    for (size_t end = first;; end += 1 + strcspn(location + end + 1, ":")) {
        WFE_FREE char *path = strndup(location, end);
        if (!path)
            return wfe_error_nomem(err);
        if (access(path, F_OK) == 0) {
            bool has_tag = location[end] == ':' && location[end + 1] != '\0';
            *ret_tag = has_tag ? location + end + 1 : NULL;
            *ret_path = wfe_steal(&path);
            return 0;
        }
        if (location[end] == '\0')
            break;
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "there is no %.*s", (int)first, location);
}

/* The last part of a path without an archive's suffix, allocated; NULL when memory ran out. */
static char *base_name(const char *path)
{
    static const char *const suffixes[] = {
        ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", NULL};
    /* "." and a trailing slash have no last part of their own. */
    WFE_FREE char *real = realpath(path, NULL);
    const char *full = real ? real : path;
    const char *slash = strrchr(full, '/');
    const char *base = slash ? slash + 1 : full;
    size_t length = strlen(base);
    for (const char *const *suffix = suffixes; *suffix; suffix++) {
        size_t suffix_length = strlen(*suffix);
        if (length > suffix_length && strcmp(base + length - suffix_length, *suffix) == 0) {
            length -= suffix_length;
            break;
        }
    }
    return strndup(base, length);
}

/*
 * The image's full name: `name`, else what the source states when that is a reference; a
 * mere tag goes with the source's own file name.
 */
static int choose_name(const char *name, const char *stated, const char *path, const char *tag,
    char **ret, struct wfe_error *err)
{
    if (name)
        return wfe_image_normalize(name, ret, err);
    if (!stated && tag && tag[0] != '@')
        stated = tag;
    if (stated && strpbrk(stated, "/:"))
        return wfe_image_normalize(stated, ret, err);
    WFE_FREE char *base = base_name(path);
    WFE_FREE char *reference = NULL;
    if (!base || asprintf(&reference, "%s:%s", base, stated ? stated : "latest") < 0) {
        reference = NULL;
        return wfe_error_nomem(err);
    }
    int r = wfe_image_normalize(reference, ret, err);
    if (r < 0)
        wfe_error_prefix(err, "the source does not name its image, choose a name with --name");
    return r;
}

static int make_plan(const struct transport *transport, const char *path, const char *tag,
    const char *name, const struct wfe_platform *platform, struct wfe_import_plan *plan,
    struct wfe_error *err)
{
    int r = wfe_import_source_open(path, transport->archive, &plan->source, err);
    if (r < 0)
        return r;
    WFE_FREE char *stated = NULL;
    if (transport->docker)
        r = wfe_import_plan_docker(plan, tag, &stated, err);
    else
        r = wfe_import_plan_layout(plan, tag, platform, &stated, err);
    if (r == 0)
        r = wfe_image_check(&plan->manifest, &plan->config, platform, err);
    if (r == 0)
        r = choose_name(name, stated, path, tag, &plan->name, err);
    return r;
}

int wfe_import_plan_make(const char *source, const char *name, const struct wfe_platform *platform,
    struct wfe_import_plan *ret, struct wfe_error *err)
{
    assert(source && platform && ret);
    const struct transport *transport = find_transport(source);
    if (!transport)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "'%.100s': expected oci:DIR, oci-archive:FILE or docker-archive:FILE", source);
    WFE_FREE char *path = NULL;
    const char *tag = NULL;
    struct wfe_import_plan plan = {.source = NULL};
    int r = split_location(source + strlen(transport->prefix), &path, &tag, err);
    if (r == 0)
        r = make_plan(transport, path, tag, name, platform, &plan, err);
    if (r < 0) {
        wfe_error_prefix(err, "%.100s", source);
        wfe_import_plan_done(&plan);
        return r;
    }
    *ret = plan;
    return 0;
}

void wfe_import_plan_done(struct wfe_import_plan *plan)
{
    wfe_import_source_free(plan->source);
    free(plan->name);
    free(plan->manifest_json);
    free(plan->config_json);
    for (size_t i = 0; plan->layer_members && i < plan->manifest.layer_count; i++)
        free(plan->layer_members[i]);
    free(plan->layer_members);
    wfe_image_manifest_done(&plan->manifest);
    wfe_image_config_done(&plan->config);
    *plan = (struct wfe_import_plan){.source = NULL};
}
