/* SPDX-License-Identifier: MIT */
/* Any bytes as a registry's challenge, as docker's configuration and as TOML. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/image/docker_config.h"
#include "executor/image/registry_auth.h"
#include "executor/image/toml.h"
#include "libcommon/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    return 0;
}
