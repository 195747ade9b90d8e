/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as what a volume is made of. By the first byte, the rest is a source (a package of
 * artifacts, or one of them), workflow data, or a step document for data that hold everything.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "artifactfs/volume.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_SPOOL_BYTES = 4 << 20, PATH_BYTES = 64 };

#define ABSENT "sha256:0000000000000000000000000000000000000000000000000000000000000001"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* The file is path as long as the descriptor is open. */
static int file_of(const void *data, size_t size, char path[static PATH_BYTES])
{
    int fd = memfd_create("volume", MFD_CLOEXEC);
    expect(fd >= 0 && wfe_write_all(fd, data, size) == 0);
    snprintf(path, PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

static void log_nothing(void *context, const char *name, const char *message)
{
    (void)context;
    expect(*name && *message);
}

static void look_into(struct wfe_volume *volume)
{
    for (size_t i = 0; i < wfe_volume_count(volume); i++) {
        size_t number;
        struct wfe_artifact *artifact;
        const char *name = wfe_volume_name(volume, i);
        expect(*name && !strchr(name, '/') && strcmp(name, WFE_VOLUME_CONTROL_NAME) != 0);
        expect(wfe_volume_find(volume, name, &number) == 0 && number == i);
        if (wfe_volume_artifact(volume, i, &artifact) == 0)
            wfe_index_wait(wfe_artifact_index(artifact), NULL);
    }
    WFE_FREE char *description = wfe_volume_describe(volume);
    WFE_JSON cJSON *parsed = cJSON_Parse(description);
    const cJSON *artifacts = cJSON_GetObjectItemCaseSensitive(parsed, "artifacts");
    expect((size_t)cJSON_GetArraySize(artifacts) == wfe_volume_count(volume));
}

static void open_volume(struct wfe_volume_options options)
{
    WFE_VOLUME struct wfe_volume *volume = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    options.store_path = "/nonexistent";
    options.max_spool_bytes = MAX_SPOOL_BYTES;
    options.log = log_nothing;
    if (wfe_volume_open(&options, &volume, &err) < 0)
        expect(!volume && err.kind != WFE_ERROR_NONE && err.kind != WFE_ERROR_INTERNAL &&
               *err.message);
    else
        look_into(volume);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char all[] = "{\"a\":{\"__wfe_artifact\":\"" ABSENT "\"}}";
    static const struct wfe_volume_binding bindings[] = {{"bound", "/dev/null"}};
    if (size == 0)
        return 0;
    char path[PATH_BYTES], data_path[PATH_BYTES];
    int fd = file_of(data + 1, size - 1, path);
    int data_fd = file_of(all, sizeof all - 1, data_path);
    switch (data[0] % 3) {
    case 0:
        open_volume((struct wfe_volume_options){.source = path});
        break;
    case 1:
        open_volume((struct wfe_volume_options){
            .data_path = path, .bindings = bindings, .binding_count = 1});
        break;
    default:
        open_volume((struct wfe_volume_options){.data_path = data_path, .inputs_path = path});
    }
    close(fd);
    close(data_fd);
    return 0;
}
