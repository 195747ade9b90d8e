/* SPDX-License-Identifier: MIT */
/* Any bytes as a registry's challenge, as docker's configuration, as TOML and as a hosts.toml. */

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "executor/image/docker_config.h"
#include "executor/image/registry_auth.h"
#include "executor/image/registry_hosts.h"
#include "executor/image/toml.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char directory[256];

static void clean_up(void)
{
    wfe_remove_tree(directory);
}

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void read_challenge(const char *text)
{
    struct wfe_challenge challenge;
    require(wfe_challenge_parse(text, &challenge) == 0);
    require(challenge.scheme != WFE_CHALLENGE_BEARER || challenge.realm);
    wfe_challenge_done(&challenge);
}

static void read_config(const char *text, size_t length)
{
    struct wfe_registry_credentials credentials;
    WFE_FREE char *program = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_docker_config_parse(text, length, "docker.io", &credentials, &program, &err) < 0) {
        require(err.kind == WFE_ERROR_INPUT);
        return;
    }
    require(!program || !strchr(program, '/'));
    wfe_registry_credentials_done(&credentials);
}

static void read_toml(const char *text, size_t length)
{
    WFE_JSON cJSON *root = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_toml_parse(text, length, &root, &err) < 0)
        require(err.kind == WFE_ERROR_INPUT && !root);
    else
        require(cJSON_IsObject(root));
}

static void make_directory(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/wfe-fuzz-XXXXXX", parent ? parent : "/tmp");
    require(mkdtemp(directory));
    atexit(clean_up);
    char path[320];
    snprintf(path, sizeof path, "%s/_default", directory);
    require(mkdir(path, 0700) == 0);
}

static void read_hosts(const char *text, size_t length)
{
    if (!directory[0])
        make_directory();
    char path[320];
    snprintf(path, sizeof path, "%s/_default/hosts.toml", directory);
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && wfe_write_all(fd, text, length) == 0);
    struct wfe_registry_endpoint *endpoints;
    size_t count;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_registry_endpoints_load("example.org:5000", directory, &endpoints, &count, &err) < 0) {
        require(err.kind != WFE_ERROR_NONE && err.kind != WFE_ERROR_INTERNAL && *err.message);
        return;
    }
    require(count > 0 && count <= WFE_REGISTRY_MAX_ENDPOINTS);
    for (size_t i = 0; i < count; i++)
        require(endpoints[i].host[0] && strncmp(endpoints[i].base, "http", 4) == 0);
    wfe_registry_endpoints_free(endpoints, count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy of its own length shows a read beyond the end. */
    WFE_FREE char *text = malloc(size ? size : 1);
    WFE_FREE char *terminated = malloc(size + 1);
    if (!text || !terminated)
        return 0;
    if (size > 0) {
        memcpy(text, data, size);
        memcpy(terminated, data, size);
    }
    terminated[size] = '\0';
    read_challenge(terminated);
    read_config(text, size);
    read_toml(text, size);
    read_hosts(text, size);
    return 0;
}
