/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a file that an image is imported from. By the first byte, the rest is an archive of
 * docker's or of OCI's kind, or in an archive that is whole the file that tells of its images.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "executor/image/import_plan.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/layer_tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_TAR_BYTES = 4 << 20 };

#define DIFF_ID "sha256:0000000000000000000000000000000000000000000000000000000000000001"
#define CONFIG                                                                                     \
    "{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\","                \
    "\"diff_ids\":[\"" DIFF_ID "\"]}}"

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static int to_fd(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)err;
    return wfe_write_all(*(int *)context, data, length);
}

static void add_member(
    struct wfe_tar_writer *writer, const char *name, const void *data, size_t size)
{
    struct wfe_tar_header header = {
        .path = name, .typeflag = '0', .mode = 0644, .size_bytes = size};
    expect(wfe_tar_write_header(writer, &header, NULL) == 0);
    expect(wfe_tar_write_data(writer, data, size, NULL) == 0);
    expect(wfe_tar_write_padding(writer, NULL) == 0);
}

/* An archive with everything that the seeds refer to. */
static void write_archive(int fd, const char *name, const uint8_t *data, size_t size)
{
    static const char manifest[] =
        "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/"
        "vnd.oci.image.config.v1+json\""
        ",\"digest\":\"sha256:%s\",\"size\":%zu},\"layers\":[{\"mediaType\":"
        "\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"" DIFF_ID "\",\"size\":1024}]}";
    WFE_TAR_WRITER struct wfe_tar_writer writer;
    wfe_tar_writer_init_part(
        &writer, (struct wfe_sink){.write = to_fd, .context = &fd}, MAX_TAR_BYTES);
    struct wfe_digest digest;
    char text[1024], blob[128];
    wfe_digest_of(CONFIG, strlen(CONFIG), &digest);
    snprintf(text, sizeof text, manifest, wfe_digest_hex(&digest), strlen(CONFIG));
    snprintf(blob, sizeof blob, "blobs/sha256/%s", wfe_digest_hex(&digest));
    add_member(&writer, blob, CONFIG, strlen(CONFIG));
    wfe_digest_of(text, strlen(text), &digest);
    snprintf(blob, sizeof blob, "blobs/sha256/%s", wfe_digest_hex(&digest));
    add_member(&writer, blob, text, strlen(text));
    add_member(&writer, "config.json", CONFIG, strlen(CONFIG));
    add_member(&writer, "layer.tar", (const char[1024]){0}, 1024);
    add_member(&writer, name, data, size);
    expect(wfe_tar_finish(&writer, NULL) == 0);
}

static void plan_import(const char *transport, int fd)
{
    static const struct wfe_platform platform = {"linux", "amd64", ""};
    char source[96];
    snprintf(source, sizeof source, "%s:/proc/self/fd/%d", transport, fd);
    struct wfe_import_plan plan;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_import_plan_make(source, "fuzz", &platform, &plan, &err) < 0) {
        expect(err.kind != WFE_ERROR_NONE && err.kind != WFE_ERROR_INTERNAL && *err.message);
        return;
    }
    expect(plan.manifest.layer_count > 0 && plan.config.layer_count > 0);
    struct wfe_digest digest;
    wfe_digest_of(plan.manifest_json, (size_t)plan.manifest_descriptor.size_bytes, &digest);
    expect(wfe_digest_equal(&digest, &plan.manifest_descriptor.digest));
    for (size_t i = 0; i < plan.manifest.layer_count; i++)
        expect(plan.layer_members[i] && *plan.layer_members[i]);
    wfe_import_plan_done(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    WFE_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
    expect(fd >= 0);
    bool is_docker = data[0] & 1, is_document = data[0] & 2;
    if (is_document)
        write_archive(fd, is_docker ? "manifest.json" : "index.json", data + 1, size - 1);
    else
        expect(wfe_write_all(fd, data + 1, size - 1) == 0);
    plan_import(is_docker ? "docker-archive" : "oci-archive", fd);
    return 0;
}
