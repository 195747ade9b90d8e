/* SPDX-License-Identifier: MIT */
#include "executor/image/import.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "executor/image/import_plan.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define OCI "application/vnd.oci.image."
#define MAX_FILES 32

static const struct wfe_platform AMD64 = {"linux", "amd64", ""};

/* An image's files before they go to disk, as a directory or as a tar. */
struct file {
    char name[160];
    char *data;
    const char *symlink, *hardlink;
};

struct files {
    struct file items[MAX_FILES];
    size_t count;
};

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/wfe-test-import-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    return wfe_remove_tree(folder);
}

static struct file *add_file(struct files *files, const char *name, const char *data)
{
    assert_true(files->count < MAX_FILES);
    struct file *file = &files->items[files->count++];
    snprintf(file->name, sizeof file->name, "%s", name);
    file->data = strdup(data);
    assert_non_null(file->data);
    return file;
}

static struct wfe_digest add_blob(struct files *files, const char *data)
{
    struct wfe_digest digest;
    wfe_digest_of(data, strlen(data), &digest);
    char name[160];
    snprintf(name, sizeof name, "blobs/sha256/%s", wfe_digest_hex(&digest));
    add_file(files, name, data);
    return digest;
}

static struct file *find_file(struct files *files, const char *name)
{
    for (size_t i = 0; i < files->count; i++)
        if (strcmp(files->items[i].name, name) == 0)
            return &files->items[i];
    fail_msg("no file %s", name);
    return NULL;
}

static void files_done(struct files *files)
{
    for (size_t i = 0; i < files->count; i++)
        free(files->items[i].data);
}
#define FILES WFE_CLEANUP(files_done)

static char *path_of(const char *name)
{
    char *path = wfe_path_join(folder, name);
    assert_non_null(path);
    return path;
}

static void write_directory(const struct files *files, const char *name)
{
    WFE_FREE char *top = path_of(name);
    WFE_FREE char *blobs = wfe_path_join(top, "blobs/sha256");
    assert_int_equal(wfe_make_directories(blobs, 0755), 0);
    for (size_t i = 0; i < files->count; i++) {
        WFE_FREE char *path = wfe_path_join(top, files->items[i].name);
        FILE *stream = fopen(path, "w");
        assert_non_null(stream);
        fputs(files->items[i].data, stream);
        assert_int_equal(fclose(stream), 0);
    }
}

static void write_tar(const struct files *files, const char *name, bool gzip)
{
    WFE_FREE char *path = path_of(name);
    struct archive *archive = archive_write_new();
    archive_write_set_format_pax_restricted(archive);
    if (gzip)
        archive_write_add_filter_gzip(archive);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    for (size_t i = 0; i < files->count; i++) {
        const struct file *file = &files->items[i];
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, file->name);
        archive_entry_set_filetype(entry, file->symlink ? AE_IFLNK : AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        size_t size = file->symlink || file->hardlink ? 0 : strlen(file->data);
        archive_entry_set_size(entry, (la_int64_t)size);
        if (file->symlink)
            archive_entry_set_symlink(entry, file->symlink);
        if (file->hardlink)
            archive_entry_set_hardlink(entry, file->hardlink);
        assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(archive, file->data, size), size);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
}

/* A configuration of two layers whose diffIDs are the layers' own digests. */
static char *config_json(const char *architecture)
{
    struct wfe_digest one, two;
    wfe_digest_of("layer one", 9, &one);
    wfe_digest_of("layer two", 9, &two);
    char *json = NULL;
    assert_true(asprintf(&json,
                    "{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{\"Cmd\":[\"sh\"]},"
                    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\",\"%s\"]}}",
                    architecture, one.text, two.text) > 0);
    return json;
}

/* The blobs of an image of two layers; the descriptor of its manifest, with `more` members. */
static void add_image(
    struct files *files, const char *architecture, const char *more, char *ret, size_t size)
{
    WFE_FREE char *config = config_json(architecture);
    struct wfe_digest one = add_blob(files, "layer one"), two = add_blob(files, "layer two");
    struct wfe_digest config_digest = add_blob(files, config);
    WFE_FREE char *manifest = NULL;
    assert_true(asprintf(&manifest,
                    "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI "config.v1+json\","
                    "\"digest\":\"%s\",\"size\":%zu},\"layers\":[{\"mediaType\":\"" OCI
                    "layer.v1.tar\",\"digest\":\"%s\",\"size\":9},{\"mediaType\":\"" OCI
                    "layer.v1.tar\",\"digest\":\"%s\",\"size\":9}]}",
                    config_digest.text, strlen(config), one.text, two.text) > 0);
    struct wfe_digest digest = add_blob(files, manifest);
    snprintf(ret, size,
        "{\"mediaType\":\"" OCI "manifest.v1+json\",\"digest\":\"%s\",\"size\":%zu%s%s}",
        digest.text, strlen(manifest), *more ? "," : "", more);
}

static void add_index(struct files *files, const char *items)
{
    WFE_FREE char *index = NULL;
    assert_true(asprintf(&index, "{\"schemaVersion\":2,\"manifests\":[%s]}", items) > 0);
    add_file(files, "index.json", index);
}

static void add_layout(struct files *files, const char *more)
{
    char item[1024];
    add_image(files, "amd64", more, item, sizeof item);
    add_index(files, item);
    add_file(files, "oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
}

static int plan_as(const char *transport, const char *location, const char *name,
    struct wfe_import_plan *ret, struct wfe_error *err)
{
    WFE_FREE char *source = NULL;
    assert_true(asprintf(&source, "%s:%s/%s", transport, folder, location) > 0);
    return wfe_import_plan_make(source, name, &AMD64, ret, err);
}

static void must_plan(
    const char *transport, const char *location, const char *name, struct wfe_import_plan *ret)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (plan_as(transport, location, name, ret, &err) < 0)
        fail_msg("%s", err.message);
}

static void assert_refused(const char *transport, const char *location, const char *name,
    enum wfe_error_kind kind, const char *text)
{
    struct wfe_import_plan plan;
    struct wfe_error err = WFE_ERROR_INIT;
    if (plan_as(transport, location, name, &plan, &err) == 0)
        fail_msg("%s:%s was taken", transport, location);
    if (err.kind != kind || !strstr(err.message, text))
        fail_msg("%s", err.message);
}

static void assert_name(const char *transport, const char *location, const char *expected)
{
    struct wfe_import_plan plan;
    must_plan(transport, location, NULL, &plan);
    assert_string_equal(plan.name, expected);
    wfe_import_plan_done(&plan);
}

/* Collects "INDEX=CONTENT;" in the order of the visits. */
static int collect(
    void *context, size_t index, struct wfe_import_member *member, struct wfe_error *err)
{
    char data[64];
    ssize_t n = wfe_import_member_read(member, data, sizeof data, err);
    if (n < 0)
        return (int)n;
    assert_int_equal(n, wfe_import_member_size(member));
    return wfe_buffer_printf(context, "%zu=%.*s;", index, (int)n, data);
}

static void assert_layers(const struct wfe_import_plan *plan, const char *expected)
{
    WFE_BUFFER struct wfe_buffer seen = WFE_BUFFER_INIT(4096);
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_import_source_visit(plan->source, (const char *const *)plan->layer_members,
            plan->manifest.layer_count, collect, &seen, &err) < 0)
        fail_msg("%s", err.message);
    assert_string_equal(seen.data, expected);
}

static void the_three_transports_are_known_by_their_prefix(void **state)
{
    (void)state;
    assert_true(wfe_import_is_source("oci:x"));
    assert_true(wfe_import_is_source("oci-archive:x"));
    assert_true(wfe_import_is_source("docker-archive:x"));
    assert_false(wfe_import_is_source("oci"));
    assert_false(wfe_import_is_source("busybox:latest"));
    assert_false(wfe_import_is_source("oci-dir:x"));
    assert_false(wfe_import_is_source("localhost:5000/oci:x"));
}

static void a_layout_is_read_as_directory_and_as_tar(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "\"annotations\":{\"org.opencontainers.image.ref.name\":\"1.0\"}");
    write_directory(&files, "app");
    write_tar(&files, "app.tar", false);
    write_tar(&files, "app.tar.gz", true);
    static const char *const sources[][2] = {
        {"oci", "app"}, {"oci-archive", "app.tar"}, {"oci-archive", "app.tar.gz"}};
    for (size_t i = 0; i < 3; i++) {
        struct wfe_import_plan plan;
        must_plan(sources[i][0], sources[i][1], NULL, &plan);
        assert_string_equal(plan.name, "docker.io/library/app:1.0");
        assert_int_equal(plan.manifest.layer_count, 2);
        assert_string_equal(plan.config.cmd[0], "sh");
        struct wfe_digest digest;
        wfe_digest_of(plan.manifest_json, (size_t)plan.manifest_descriptor.size_bytes, &digest);
        assert_true(wfe_digest_equal(&digest, &plan.manifest_descriptor.digest));
        wfe_digest_of(plan.config_json, (size_t)plan.manifest.config.size_bytes, &digest);
        assert_true(wfe_digest_equal(&digest, &plan.manifest.config.digest));
        assert_layers(&plan, "0=layer one;1=layer two;");
        wfe_import_plan_done(&plan);
    }
}

static void an_image_is_named_by_option_then_annotation_then_file_name(void **state)
{
    (void)state;
    static const struct {
        const char *directory, *more, *expected;
    } cases[] = {
        {"a", "", "docker.io/library/a:latest"},
        {"b", "\"annotations\":{\"org.opencontainers.image.ref.name\":\"v2\"}",
            "docker.io/library/b:v2"},
        {"c", "\"annotations\":{\"org.opencontainers.image.ref.name\":\"ghcr.io/x/y\"}",
            "ghcr.io/x/y:latest"},
        {"d",
            "\"annotations\":{\"org.opencontainers.image.ref.name\":\"v2\","
            "\"io.containerd.image.name\":\"docker.io/x/z:3\"}",
            "docker.io/x/z:3"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILES struct files files = {.count = 0};
        add_layout(&files, cases[i].more);
        write_directory(&files, cases[i].directory);
        assert_name("oci", cases[i].directory, cases[i].expected);
        struct wfe_import_plan plan;
        must_plan("oci", cases[i].directory, "mine:7", &plan);
        assert_string_equal(plan.name, "docker.io/library/mine:7");
        wfe_import_plan_done(&plan);
    }
    assert_name("oci", "a/", "docker.io/library/a:latest");
    assert_refused("oci", "a", "No Name", WFE_ERROR_INPUT, "not an image reference");
}

static void a_source_whose_file_name_is_no_image_name_needs_an_option(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "");
    write_directory(&files, "My Image");
    assert_refused("oci", "My Image", NULL, WFE_ERROR_INPUT, "--name");
    struct wfe_import_plan plan;
    must_plan("oci", "My Image", "mine", &plan);
    wfe_import_plan_done(&plan);
}

static void a_path_may_hold_a_colon(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "\"annotations\":{\"org.opencontainers.image.ref.name\":\"v2\"}");
    write_directory(&files, "with:colon");
    struct wfe_import_plan plan;
    must_plan("oci", "with:colon", "x", &plan);
    wfe_import_plan_done(&plan);
    must_plan("oci", "with:colon:v2", "x", &plan);
    wfe_import_plan_done(&plan);
    assert_refused("oci", "with:colon:v3", "x", WFE_ERROR_INPUT, "there is no image 'v3'");
}

static void one_of_several_images_is_chosen_by_its_tag(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    char one[1024], two[1024], both[2100];
    add_image(&files, "amd64", "\"annotations\":{\"org.opencontainers.image.ref.name\":\"one\"}",
        one, sizeof one);
    add_image(&files, "amd64",
        "\"annotations\":{\"io.containerd.image.name\":\"docker.io/library/two:latest\"}", two,
        sizeof two);
    snprintf(both, sizeof both, "%s,%s", one, two);
    add_index(&files, both);
    write_directory(&files, "several");
    assert_name("oci", "several:one", "docker.io/library/several:one");
    assert_name("oci", "several:docker.io/library/two:latest", "docker.io/library/two:latest");
    assert_name("oci", "several:two", "docker.io/library/two:latest");
    assert_refused("oci", "several", NULL, WFE_ERROR_INPUT, "one, docker.io/library/two:latest");
    assert_refused("oci", "several:three", NULL, WFE_ERROR_INPUT, "there is no image 'three'");
}

static void one_image_for_several_platforms_is_chosen_by_platform(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    char arm[1024], amd[1024], both[2100];
    add_image(&files, "arm64", "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}", arm,
        sizeof arm);
    add_image(&files, "amd64", "\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}", amd,
        sizeof amd);
    snprintf(both, sizeof both, "%s,%s", arm, amd);
    add_index(&files, both);
    write_directory(&files, "flat");
    struct wfe_import_plan plan;
    must_plan("oci", "flat", NULL, &plan);
    assert_string_equal(plan.config.architecture, "amd64");
    wfe_import_plan_done(&plan);

    WFE_FREE char *nested = NULL;
    assert_true(asprintf(&nested, "{\"schemaVersion\":2,\"manifests\":[%s]}", both) > 0);
    struct wfe_digest digest = add_blob(&files, nested);
    char item[1024];
    snprintf(item, sizeof item,
        "{\"mediaType\":\"" OCI "index.v1+json\",\"digest\":\"%s\",\"size\":%zu}", digest.text,
        strlen(nested));
    struct file *index = find_file(&files, "index.json");
    free(index->data);
    assert_true(asprintf(&index->data, "{\"manifests\":[%s]}", item) > 0);
    write_directory(&files, "nested");
    must_plan("oci", "nested", NULL, &plan);
    assert_string_equal(plan.config.architecture, "amd64");
    assert_int_equal(
        strncmp(plan.manifest_descriptor.media_type, OCI "manifest", strlen(OCI "manifest")), 0);
    wfe_import_plan_done(&plan);
}

static void an_image_for_another_platform_is_refused(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    char item[1024];
    add_image(&files, "riscv64", "", item, sizeof item);
    add_index(&files, item);
    write_directory(&files, "foreign");
    assert_refused("oci", "foreign", NULL, WFE_ERROR_INPUT, "linux/riscv64");
}

static void a_changed_blob_is_an_integrity_error(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "");
    /* The blobs are the two layers, the configuration and the manifest, in this order. */
    struct file *config = &files.items[2], *manifest = &files.items[3];
    config->data[2] ^= 1;
    write_directory(&files, "config");
    assert_refused("oci", "config", NULL, WFE_ERROR_INTEGRITY, config->name);
    config->data[2] ^= 1;
    size_t length = strlen(manifest->data);
    manifest->data[length - 1] = '\0';
    write_directory(&files, "manifest");
    assert_refused("oci", "manifest", NULL, WFE_ERROR_INTEGRITY, manifest->name);
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "");
    char kept[160];
    struct file *config = &files.items[2];
    memcpy(kept, config->name, sizeof kept);
    snprintf(config->name, sizeof config->name, "elsewhere");
    write_directory(&files, "no-config");
    assert_refused("oci", "no-config", NULL, WFE_ERROR_INPUT, kept);
    write_tar(&files, "no-config.tar", false);
    assert_refused("oci-archive", "no-config.tar", NULL, WFE_ERROR_INPUT, kept);
    memcpy(config->name, kept, sizeof kept);

    memcpy(kept, files.items[1].name, sizeof kept);
    snprintf(files.items[1].name, sizeof files.items[1].name, "elsewhere");
    write_tar(&files, "no-layer.tar", false);
    struct wfe_import_plan plan;
    must_plan("oci-archive", "no-layer.tar", NULL, &plan);
    WFE_BUFFER struct wfe_buffer seen = WFE_BUFFER_INIT(4096);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_import_source_visit(plan.source, (const char *const *)plan.layer_members,
                         2, collect, &seen, &err),
        -ENOENT);
    assert_non_null(strstr(err.message, kept));
    assert_int_equal(seen.length, 0);
    wfe_import_plan_done(&plan);

    assert_refused("oci", "nowhere:tag", NULL, WFE_ERROR_INPUT, "there is no");
    assert_refused("oci", "no-config/blobs", NULL, WFE_ERROR_INPUT, "not an OCI image layout");
}

static void a_path_of_the_wrong_kind_is_refused(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "");
    write_directory(&files, "kind");
    write_tar(&files, "kind.tar", false);
    assert_refused("oci", "kind.tar", NULL, WFE_ERROR_INPUT, "expected a directory");
    assert_refused("oci-archive", "kind", NULL, WFE_ERROR_INPUT, "expected a tar");
    assert_refused("docker-archive", "kind", NULL, WFE_ERROR_INPUT, "expected a tar");
    assert_refused("docker-archive", "kind.tar", NULL, WFE_ERROR_INPUT, "`docker save`");
    assert_refused("oci-archive", "kind/index.json", NULL, WFE_ERROR_ARCHIVE, "index.json");
    WFE_FREE char *index = path_of("kind/index.json");
    assert_int_equal(remove(index), 0);
    assert_int_equal(mkfifo(index, 0600), 0);
    assert_refused("oci", "kind", NULL, WFE_ERROR_INPUT, "expected a regular file");
}

static void a_malformed_index_is_refused(void **state)
{
    (void)state;
    static const char *const indexes[] = {"", "[]", "{\"manifests\":{}}", "{\"manifests\":[]}",
        "{\"manifests\":[1]}", "{\"manifests\":[{\"annotations\":5}]}", "{\"manifests\":["};
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        FILES struct files files = {.count = 0};
        add_file(&files, "index.json", indexes[i]);
        write_directory(&files, "malformed");
        assert_refused("oci", "malformed", NULL, WFE_ERROR_INPUT, "index");
    }
}

static void an_index_that_holds_itself_ends(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    char item[1024];
    add_image(&files, "amd64", "", item, sizeof item);
    for (int i = 0; i < 6; i++) {
        WFE_FREE char *index = NULL;
        assert_true(asprintf(&index, "{\"manifests\":[%s]}", item) > 0);
        struct wfe_digest digest = add_blob(&files, index);
        snprintf(item, sizeof item,
            "{\"mediaType\":\"" OCI "index.v1+json\",\"digest\":\"%s\",\"size\":%zu}", digest.text,
            strlen(index));
    }
    add_index(&files, item);
    write_directory(&files, "deep");
    assert_refused("oci", "deep", NULL, WFE_ERROR_INPUT, "indexes in one another");
}

static void add_docker(struct files *files, const char *manifest)
{
    WFE_FREE char *config = config_json("amd64");
    add_file(files, "manifest.json", manifest);
    add_file(files, "0123.json", config);
    add_file(files, "aa/layer.tar", "layer one");
    add_file(files, "bb/layer.tar", "layer two");
}

#define DOCKER_IMAGE "\"Config\":\"0123.json\",\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]"

static void a_docker_archive_gets_a_manifest(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_docker(&files, "[{\"RepoTags\":[\"busybox:1.36\",\"other:1\"]," DOCKER_IMAGE "}]");
    write_tar(&files, "saved.tar", false);
    write_tar(&files, "saved.tgz", true);
    struct wfe_import_plan plan, again;
    must_plan("docker-archive", "saved.tar", NULL, &plan);
    assert_string_equal(plan.name, "docker.io/library/busybox:1.36");
    assert_layers(&plan, "0=layer one;1=layer two;");

    struct wfe_image_manifest manifest;
    size_t length = (size_t)plan.manifest_descriptor.size_bytes;
    assert_int_equal(strlen(plan.manifest_json), length);
    assert_int_equal(wfe_image_manifest_parse(plan.manifest_json, length, &manifest, NULL), 0);
    assert_int_equal(manifest.layer_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(wfe_digest_equal(&manifest.layers[i].digest, &plan.config.diff_ids[i]));
        assert_int_equal(manifest.layers[i].size_bytes, 9);
        assert_string_equal(manifest.layers[i].media_type, OCI "layer.v1.tar");
    }
    struct wfe_digest digest;
    wfe_digest_of(plan.config_json, strlen(plan.config_json), &digest);
    assert_true(wfe_digest_equal(&manifest.config.digest, &digest));
    wfe_image_manifest_done(&manifest);

    must_plan("docker-archive", "saved.tgz", NULL, &again);
    assert_string_equal(plan.manifest_json, again.manifest_json);
    wfe_import_plan_done(&again);
    wfe_import_plan_done(&plan);
}

static void a_compressed_layer_of_a_docker_archive_has_its_own_digest(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_docker(&files, "[{\"RepoTags\":null," DOCKER_IMAGE "}]");
    static const char gzip[] = "\x1f\x8b and so on", zstd[] = "\x28\xb5\x2f\xfd and so on";
    free(files.items[2].data);
    files.items[2].data = strdup(gzip);
    free(files.items[3].data);
    files.items[3].data = strdup(zstd);
    write_tar(&files, "app.tar", false);
    struct wfe_import_plan plan;
    must_plan("docker-archive", "app.tar", NULL, &plan);
    assert_string_equal(plan.name, "docker.io/library/app:latest");
    struct wfe_digest digest;
    wfe_digest_of(gzip, strlen(gzip), &digest);
    assert_true(wfe_digest_equal(&plan.manifest.layers[0].digest, &digest));
    assert_string_equal(plan.manifest.layers[0].media_type, OCI "layer.v1.tar+gzip");
    wfe_digest_of(zstd, strlen(zstd), &digest);
    assert_true(wfe_digest_equal(&plan.manifest.layers[1].digest, &digest));
    assert_string_equal(plan.manifest.layers[1].media_type, OCI "layer.v1.tar+zstd");
    wfe_import_plan_done(&plan);
}

static void an_image_of_a_docker_archive_is_chosen_by_tag_or_place(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_docker(&files, "[{\"RepoTags\":[\"a:1\",\"b:2\"]," DOCKER_IMAGE "},"
                       "{\"RepoTags\":null," DOCKER_IMAGE "}]");
    write_tar(&files, "two.tar", false);
    assert_name("docker-archive", "two.tar:b:2", "docker.io/library/b:2");
    assert_name("docker-archive", "two.tar:docker.io/library/a:1", "docker.io/library/a:1");
    assert_name("docker-archive", "two.tar:@0", "docker.io/library/a:1");
    assert_name("docker-archive", "two.tar:@1", "docker.io/library/two:latest");
    assert_refused("docker-archive", "two.tar", NULL, WFE_ERROR_INPUT, "a:1, @1");
    assert_refused("docker-archive", "two.tar:c", NULL, WFE_ERROR_INPUT, "there is no image 'c'");
    assert_refused("docker-archive", "two.tar:@2", NULL, WFE_ERROR_INPUT, "there is no image '@2'");
    assert_refused("docker-archive", "two.tar:@x", NULL, WFE_ERROR_INPUT, "no place");
}

static void links_between_the_layers_of_a_docker_archive_are_followed(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_docker(&files, "[{\"Config\":\"0123.json\",\"Layers\":[\"cc/layer.tar\",\"dd\"]}]");
    add_file(&files, "./cc/layer.tar", "")->symlink = "../aa/./layer.tar";
    add_file(&files, "dd", "")->hardlink = "bb/layer.tar";
    write_tar(&files, "links.tar", false);
    struct wfe_import_plan plan;
    must_plan("docker-archive", "links.tar", NULL, &plan);
    assert_layers(&plan, "0=layer one;1=layer two;");
    wfe_import_plan_done(&plan);
}

static void names_of_one_file_are_each_shown(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_file(&files, "a", "one");
    add_file(&files, "b", "")->symlink = "a";
    add_file(&files, "c", "two");
    write_tar(&files, "same.tar", false);
    WFE_FREE char *path = path_of("same.tar");
    struct wfe_import_source *source = NULL;
    assert_int_equal(wfe_import_source_open(path, true, &source, NULL), 0);
    static const char *const names[] = {"c", "b", "a", "b"};
    WFE_BUFFER struct wfe_buffer seen = WFE_BUFFER_INIT(4096);
    assert_int_equal(wfe_import_source_visit(source, names, 4, collect, &seen, NULL), 0);
    assert_string_equal(seen.data, "1=one;0=two;2=one;3=one;");
    wfe_import_source_free(source);
}

static int read_from_tar(const struct files *files, const char *name, size_t max_bytes, char **ret,
    struct wfe_error *err)
{
    write_tar(files, "read.tar", false);
    WFE_FREE char *path = path_of("read.tar");
    struct wfe_import_source *source = NULL;
    int r = wfe_import_source_open(path, true, &source, err);
    size_t length;
    if (r == 0)
        r = wfe_import_source_read(source, name, max_bytes, ret, &length, err);
    wfe_import_source_free(source);
    return r;
}

static void the_last_member_of_a_name_counts(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_file(&files, "a", "old");
    add_file(&files, "./a", "new");
    WFE_FREE char *text = NULL;
    assert_int_equal(read_from_tar(&files, "a", 100, &text, NULL), 0);
    assert_string_equal(text, "new");
}

static void a_hard_link_stands_for_an_earlier_member(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_file(&files, "a", "text");
    add_file(&files, "a", "")->hardlink = "a";
    WFE_FREE char *text = NULL;
    assert_int_equal(read_from_tar(&files, "a", 100, &text, NULL), 0);
    assert_string_equal(text, "text");
}

static void a_member_beyond_the_limit_is_refused(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_file(&files, "a", "12345");
    char *text = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(read_from_tar(&files, "a", 4, &text, &err), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_null(text);
}

static void links_that_lead_nowhere_are_refused(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_file(&files, "loop", "")->symlink = "pool";
    add_file(&files, "pool", "")->symlink = "loop";
    add_file(&files, "out", "")->symlink = "../etc/passwd";
    add_file(&files, "gone", "")->symlink = "nothing";
    add_file(&files, "early", "")->hardlink = "late";
    add_file(&files, "late", "text");
    static const struct {
        const char *name;
        int errnum;
    } cases[] = {{"loop", ELOOP}, {"out", ENOENT}, {"gone", ENOENT}, {"early", ENOENT},
        {"etc/passwd", ENOENT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(read_from_tar(&files, cases[i].name, 100, &text, &err), -cases[i].errnum);
        assert_null(text);
    }
}

static void a_sparse_member_is_refused(void **state)
{
    (void)state;
    WFE_FREE char *path = path_of("sparse.tar");
    struct archive *archive = archive_write_new();
    archive_write_set_format_pax(archive);
    assert_int_equal(archive_write_open_filename(archive, path), ARCHIVE_OK);
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, "hole");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, 1 << 20);
    archive_entry_sparse_add_entry(entry, 0, 512);
    assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
    char data[512] = "x";
    archive_write_data(archive, data, sizeof data);
    archive_entry_free(entry);
    archive_write_close(archive);
    archive_write_free(archive);

    struct wfe_import_source *source = NULL;
    assert_int_equal(wfe_import_source_open(path, true, &source, NULL), 0);
    char *text = NULL;
    size_t length;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_import_source_read(source, "hole", 2 << 20, &text, &length, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_ARCHIVE);
    assert_non_null(strstr(err.message, "sparse"));
    wfe_import_source_free(source);
}

static void a_malformed_docker_manifest_is_refused(void **state)
{
    (void)state;
    static const char *const manifests[] = {"{}", "[", "[1]", "[]", "[{}]",
        "[{\"Config\":\"0123.json\"}]",
        "[{\"Config\":\"0123.json\",\"Layers\":[\"aa/layer.tar\"]}]",
        "[{\"Config\":\"0123.json\",\"Layers\":[1,2]}]",
        "[{\"Config\":\"nowhere\",\"Layers\":[\"aa/layer.tar\",\"bb/layer.tar\"]}]",
        "[{\"Config\":\"0123.json\",\"Layers\":[\"aa/layer.tar\",\"/etc/passwd\"]}]",
        "[{\"Config\":\"0123.json\",\"Layers\":[\"aa/layer.tar\",\"../bb/layer.tar\"]}]"};
    for (size_t i = 0; i < sizeof manifests / sizeof *manifests; i++) {
        FILES struct files files = {.count = 0};
        add_docker(&files, manifests[i]);
        write_tar(&files, "malformed.tar", false);
        assert_refused("docker-archive", "malformed.tar", NULL, WFE_ERROR_INPUT, "malformed.tar");
    }
}

static void a_truncated_tar_is_an_archive_error(void **state)
{
    (void)state;
    FILES struct files files = {.count = 0};
    add_layout(&files, "");
    write_tar(&files, "whole.tar.gz", true);
    WFE_FREE char *whole = path_of("whole.tar.gz"), *cut = path_of("cut.tar.gz");
    char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(whole, 1 << 20, &data, &length, NULL), 0);
    FILE *stream = fopen(cut, "w");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, length / 2, stream), length / 2);
    fclose(stream);
    free(data);
    assert_refused("oci-archive", "cut.tar.gz", NULL, WFE_ERROR_ARCHIVE, "cut.tar.gz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_three_transports_are_known_by_their_prefix),
        cmocka_unit_test(a_layout_is_read_as_directory_and_as_tar),
        cmocka_unit_test(an_image_is_named_by_option_then_annotation_then_file_name),
        cmocka_unit_test(a_source_whose_file_name_is_no_image_name_needs_an_option),
        cmocka_unit_test(a_path_may_hold_a_colon),
        cmocka_unit_test(one_of_several_images_is_chosen_by_its_tag),
        cmocka_unit_test(one_image_for_several_platforms_is_chosen_by_platform),
        cmocka_unit_test(an_image_for_another_platform_is_refused),
        cmocka_unit_test(a_changed_blob_is_an_integrity_error),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_path_of_the_wrong_kind_is_refused),
        cmocka_unit_test(a_malformed_index_is_refused),
        cmocka_unit_test(an_index_that_holds_itself_ends),
        cmocka_unit_test(a_docker_archive_gets_a_manifest),
        cmocka_unit_test(a_compressed_layer_of_a_docker_archive_has_its_own_digest),
        cmocka_unit_test(an_image_of_a_docker_archive_is_chosen_by_tag_or_place),
        cmocka_unit_test(links_between_the_layers_of_a_docker_archive_are_followed),
        cmocka_unit_test(names_of_one_file_are_each_shown),
        cmocka_unit_test(the_last_member_of_a_name_counts),
        cmocka_unit_test(a_hard_link_stands_for_an_earlier_member),
        cmocka_unit_test(a_member_beyond_the_limit_is_refused),
        cmocka_unit_test(links_that_lead_nowhere_are_refused),
        cmocka_unit_test(a_sparse_member_is_refused),
        cmocka_unit_test(a_malformed_docker_manifest_is_refused),
        cmocka_unit_test(a_truncated_tar_is_an_archive_error),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
