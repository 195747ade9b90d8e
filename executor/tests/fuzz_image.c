/* SPDX-License-Identifier: MIT */
/* Any bytes as an image's configuration, manifest, index and reference. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/image/image.h"
#include "libcommon/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void parse_documents(const char *text, size_t length)
{
    static const struct wfe_platform arm = {"linux", "arm", "v7"};
    struct wfe_image_config config;
    if (wfe_image_config_parse(text, length, &config, NULL) == 0) {
        require(config.layer_count > 0 && config.layer_count <= WFE_IMAGE_MAX_LAYERS);
        require(config.env && config.entrypoint && config.cmd);
        require(config.os && config.architecture);
        wfe_image_config_done(&config);
    }
    struct wfe_image_manifest manifest;
    if (wfe_image_manifest_parse(text, length, &manifest, NULL) == 0) {
        require(manifest.layer_count > 0 && manifest.layer_count <= WFE_IMAGE_MAX_LAYERS);
        for (size_t i = 0; i < manifest.layer_count; i++)
            require(manifest.layers[i].size_bytes >= 0);
        wfe_image_manifest_done(&manifest);
    }
    struct wfe_descriptor descriptor;
    if (wfe_image_index_select(text, length, &arm, &descriptor, NULL) == 0) {
        struct wfe_digest digest;
        require(wfe_digest_parse(descriptor.digest.text, &digest) == 0);
    }
}

/* What is a full name stays as it is. */
static void normalize(const char *text)
{
    WFE_FREE char *full = NULL, *again = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_image_normalize(text, &full, &err) < 0) {
        require(err.kind == WFE_ERROR_INPUT);
        return;
    }
    require(wfe_image_normalize(full, &again, NULL) == 0);
    require(strcmp(full, again) == 0);
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
    parse_documents(text, size);
    normalize(terminated);
    return 0;
}
