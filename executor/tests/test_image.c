/* SPDX-License-Identifier: MIT */
#include "executor/image/image.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "executor/daemon/platform.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static const struct wfe_platform AMD64 = {"linux", "amd64", ""};

static char *read_data(const char *name, size_t *ret_length)
{
    const char *directory = getenv("WFE_TEST_DATA");
    if (!directory)
        fail_msg("WFE_TEST_DATA must name the directory of test data");
    WFE_FREE char *folder = wfe_path_join(directory, "fuzz-image");
    WFE_FREE char *path = wfe_path_join(folder, name);
    char *text = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_read_file(path, WFE_IMAGE_JSON_MAX_BYTES, &text, ret_length, &err) < 0)
        fail_msg("%s", err.message);
    return text;
}

/* A digest made of one digit, as the data have them. */
static struct wfe_digest digest_of(char digit)
{
    char text[] = "sha256:________________________________________________________________";
    memset(text + 7, digit, WFE_DIGEST_HEX_LENGTH);
    struct wfe_digest digest;
    assert_int_equal(wfe_digest_parse(text, &digest), 0);
    return digest;
}

static void assert_digest(const struct wfe_digest *digest, char digit)
{
    struct wfe_digest expected = digest_of(digit);
    assert_string_equal(digest->text, expected.text);
}

static void parse_manifest(const char *name, struct wfe_image_manifest *ret)
{
    size_t length;
    WFE_FREE char *json = read_data(name, &length);
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_image_manifest_parse(json, length, ret, &err) < 0)
        fail_msg("%s: %s", name, err.message);
}

static void parse_config(const char *name, struct wfe_image_config *ret)
{
    size_t length;
    WFE_FREE char *json = read_data(name, &length);
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_image_config_parse(json, length, ret, &err) < 0)
        fail_msg("%s: %s", name, err.message);
}

static int select_from(const char *name, const struct wfe_platform *platform,
    struct wfe_descriptor *ret, struct wfe_error *err)
{
    size_t length;
    WFE_FREE char *json = read_data(name, &length);
    return wfe_image_index_select(json, length, platform, ret, err);
}

/* One parser on one file; true when it took it. */
static bool accepts(const char *kind, const char *json, size_t length, struct wfe_error *err)
{
    if (strncmp(kind, "manifest-", 9) == 0) {
        struct wfe_image_manifest manifest;
        if (wfe_image_manifest_parse(json, length, &manifest, err) < 0)
            return false;
        wfe_image_manifest_done(&manifest);
        return true;
    }
    if (strncmp(kind, "config-", 7) == 0) {
        struct wfe_image_config config;
        if (wfe_image_config_parse(json, length, &config, err) < 0)
            return false;
        wfe_image_config_done(&config);
        return true;
    }
    if (strncmp(kind, "reference-", 10) == 0) {
        WFE_FREE char *full = NULL;
        return wfe_image_normalize(json, &full, err) == 0;
    }
    assert_int_equal(strncmp(kind, "index-", 6), 0);
    struct wfe_descriptor descriptor;
    return wfe_image_index_select(json, length, &AMD64, &descriptor, err) == 0;
}

static void the_documents_of_the_data_folder_are_taken_or_refused_as_they_are_named(void **state)
{
    (void)state;
    const char *directory = getenv("WFE_TEST_DATA");
    if (!directory)
        fail_msg("WFE_TEST_DATA must name the directory of test data");
    WFE_FREE char *folder = wfe_path_join(directory, "fuzz-image");
    DIR *stream = opendir(folder);
    assert_non_null(stream);
    int ok = 0, refused = 0;
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        bool should_pass = strncmp(entry->d_name, "ok-", 3) == 0;
        bool should_fail = strncmp(entry->d_name, "should-fail-", 12) == 0;
        if (!should_pass && !should_fail)
            continue;
        size_t length;
        WFE_FREE char *json = read_data(entry->d_name, &length);
        struct wfe_error err = WFE_ERROR_INIT;
        const char *kind = entry->d_name + (should_pass ? 3 : 12);
        bool taken = accepts(kind, json, length, &err);
        if (taken != should_pass)
            fail_msg("%s: %s", entry->d_name, taken ? "was taken" : err.message);
        if (!taken) {
            assert_true(err.kind == WFE_ERROR_INPUT || err.kind == WFE_ERROR_LIMIT);
            assert_non_null(strstr(err.message, "image "));
        }
        ok += taken;
        refused += !taken;
    }
    closedir(stream);
    assert_true(ok >= 12);
    assert_true(refused >= 38);
}

static void a_manifest_has_a_config_and_layers_in_order(void **state)
{
    (void)state;
    struct wfe_image_manifest manifest;
    parse_manifest("ok-manifest-oci.json", &manifest);
    assert_digest(&manifest.config.digest, '1');
    assert_int_equal(manifest.config.size_bytes, 702);
    assert_int_equal(manifest.layer_count, 2);
    assert_digest(&manifest.layers[0].digest, '2');
    assert_int_equal(manifest.layers[0].size_bytes, 32654);
    assert_string_equal(
        manifest.layers[0].media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_digest(&manifest.layers[1].digest, '3');
    wfe_image_manifest_done(&manifest);
    assert_null(manifest.layers);
}

static void a_docker_manifest_is_one_too(void **state)
{
    (void)state;
    struct wfe_image_manifest manifest;
    parse_manifest("ok-manifest-docker.json", &manifest);
    assert_digest(&manifest.layers[0].digest, 'b');
    assert_true(manifest.layers[0].size_bytes == INT64_C(9007199254740992));
    wfe_image_manifest_done(&manifest);
}

static void a_refused_manifest_is_told_by_its_field(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"should-fail-manifest-size-negative.json", "layers[0]: size"},
        {"should-fail-manifest-digest-path.json", "layers[0]: digest"},
        {"should-fail-manifest-size-missing.json", "config: size"},
        {"should-fail-manifest-schema-1.json", "schemaVersion"},
        {"should-fail-manifest-cut-off.json", "malformed JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length;
        WFE_FREE char *json = read_data(cases[i][0], &length);
        struct wfe_image_manifest manifest = {.layer_count = 7};
        struct wfe_error err = WFE_ERROR_INIT;
        assert_true(wfe_image_manifest_parse(json, length, &manifest, &err) < 0);
        assert_non_null(strstr(err.message, cases[i][1]));
        assert_int_equal(manifest.layer_count, 7);
    }
}

static void too_many_layers_are_a_limit(void **state)
{
    (void)state;
    struct wfe_digest digest = digest_of('2');
    WFE_BUFFER struct wfe_buffer json = WFE_BUFFER_INIT(WFE_IMAGE_JSON_MAX_BYTES);
    wfe_buffer_puts(
        &json, "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[");
    for (int i = 0; i < WFE_IMAGE_MAX_LAYERS; i++)
        wfe_buffer_printf(&json, "%s\"%s\"", i > 0 ? "," : "", digest.text);
    size_t most = json.length;
    wfe_buffer_puts(&json, "]}}");
    struct wfe_image_config config;
    assert_int_equal(wfe_image_config_parse(json.data, json.length, &config, NULL), 0);
    assert_int_equal(config.layer_count, WFE_IMAGE_MAX_LAYERS);
    wfe_image_config_done(&config);

    json.length = most;
    wfe_buffer_printf(&json, ",\"%s\"]}}", digest.text);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_image_config_parse(json.data, json.length, &config, &err), -E2BIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
}

static void a_document_beyond_the_size_limit_is_not_parsed(void **state)
{
    (void)state;
    size_t length = WFE_IMAGE_JSON_MAX_BYTES + 1;
    WFE_FREE char *json = malloc(length);
    assert_non_null(json);
    memset(json, ' ', length);
    struct wfe_image_config config;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_image_config_parse(json, length, &config, &err), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
}

static void a_config_has_what_a_step_needs(void **state)
{
    (void)state;
    struct wfe_image_config config;
    parse_config("ok-config-full.json", &config);
    assert_string_equal(config.env[0], "PATH=/usr/bin");
    assert_string_equal(config.env[1], "LANG=C");
    assert_null(config.env[2]);
    assert_string_equal(config.entrypoint[0], "/entry");
    assert_null(config.entrypoint[1]);
    assert_string_equal(config.cmd[1], "-v");
    assert_null(config.cmd[2]);
    assert_string_equal(config.working_dir, "/srv");
    assert_string_equal(config.user, "1000:2000");
    assert_string_equal(config.os, "linux");
    assert_string_equal(config.architecture, "amd64");
    assert_string_equal(config.variant, "v2");
    assert_int_equal(config.layer_count, 2);
    assert_digest(&config.diff_ids[0], '4');
    assert_digest(&config.diff_ids[1], '5');
    wfe_image_config_done(&config);
}

static void what_a_config_leaves_out_or_sets_to_null_is_empty(void **state)
{
    (void)state;
    static const char *const names[] = {"ok-config-nulls.json", "ok-config-without-execution.json"};
    for (size_t i = 0; i < 2; i++) {
        struct wfe_image_config config;
        parse_config(names[i], &config);
        assert_non_null(config.env);
        assert_null(config.env[0]);
        assert_non_null(config.entrypoint);
        assert_null(config.entrypoint[0]);
        assert_non_null(config.cmd);
        assert_null(config.cmd[0]);
        assert_null(config.working_dir);
        assert_null(config.user);
        assert_null(config.variant);
        wfe_image_config_done(&config);
    }
}

static void an_index_gives_the_manifest_of_the_platform(void **state)
{
    (void)state;
    static const struct {
        struct wfe_platform platform;
        char digit;
    } cases[] = {
        {{"linux", "amd64", ""}, '8'},
        {{"linux", "amd64", "v1"}, '8'},
        {{"linux", "amd64", "v3"}, '8'},
        {{"linux", "386", ""}, '2'},
        {{"linux", "arm", "v5"}, '3'},
        {{"linux", "arm", "v6"}, '4'},
        {{"linux", "arm", "v7"}, '5'},
        {{"linux", "arm", "v8"}, '5'},
        {{"linux", "arm64", ""}, '6'},
        {{"linux", "arm64", "v8"}, '6'},
        {{"windows", "amd64", ""}, '7'},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wfe_descriptor descriptor;
        struct wfe_error err = WFE_ERROR_INIT;
        if (select_from("ok-index-multi-platform.json", &cases[i].platform, &descriptor, &err) < 0)
            fail_msg("%s", err.message);
        assert_digest(&descriptor.digest, cases[i].digit);
    }
}

static void an_item_with_a_platform_goes_before_one_without(void **state)
{
    (void)state;
    static const char *const names[] = {"ok-index-platform-before-none.json",
        "ok-index-without-platform.json", "ok-index-nested.json", "ok-index-docker-list.json",
        "ok-index-not-an-image-beside.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct wfe_descriptor descriptor;
        assert_int_equal(select_from(names[i], &AMD64, &descriptor, NULL), 0);
        assert_digest(&descriptor.digest, '8');
    }
}

static void a_platform_without_image_is_told_what_there_is(void **state)
{
    (void)state;
    struct wfe_descriptor descriptor;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(
        select_from("should-fail-index-other-platforms.json", &AMD64, &descriptor, &err), -ENOENT);
    assert_non_null(strstr(err.message, "linux/amd64"));
    assert_non_null(strstr(err.message, "linux/s390x, linux/arm/v7, windows/amd64"));

    struct wfe_error other = WFE_ERROR_INIT;
    assert_int_equal(
        select_from("should-fail-index-attestations-only.json", &AMD64, &descriptor, &other),
        -ENOENT);
    assert_null(strstr(other.message, "unknown"));
}

static void variants_rank_exact_then_lower_then_none(void **state)
{
    (void)state;
    static const struct wfe_platform v7 = {"linux", "arm", "v7"};
    unsigned exact = wfe_platform_rank(&v7, "linux", "arm", "v7");
    unsigned v6 = wfe_platform_rank(&v7, "linux", "arm", "v6");
    unsigned v5 = wfe_platform_rank(&v7, "linux", "arm", "v5");
    unsigned none = wfe_platform_rank(&v7, "linux", "arm", NULL);
    assert_true(exact > v6 && v6 > v5 && v5 > none && none > 0);
    assert_int_equal(wfe_platform_rank(&v7, "linux", "arm", "v8"), 0);
    assert_int_equal(wfe_platform_rank(&v7, "linux", "arm", "odd"), 0);
    assert_int_equal(wfe_platform_rank(&v7, "linux", "arm64", "v7"), 0);
    assert_int_equal(wfe_platform_rank(&v7, "freebsd", "arm", "v7"), 0);
    assert_int_equal(wfe_platform_rank(&AMD64, "linux", "amd64", "v1"),
        wfe_platform_rank(&AMD64, "linux", "amd64", ""));
    assert_int_equal(wfe_platform_rank(&AMD64, "linux", "amd64", "v2"), 0);
}

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void references_are_completed_as_docker_does(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"busybox", "docker.io/library/busybox:latest"},
        {"busybox:1.36", "docker.io/library/busybox:1.36"},
        {"user/app", "docker.io/user/app:latest"},
        {"docker.io/busybox", "docker.io/library/busybox:latest"},
        {"docker.io/library/busybox:latest", "docker.io/library/busybox:latest"},
        {"index.docker.io/busybox", "docker.io/library/busybox:latest"},
        {"ghcr.io/a/b/c:v1", "ghcr.io/a/b/c:v1"},
        {"localhost/app", "localhost/app:latest"},
        {"localhost:5000", "docker.io/library/localhost:5000"},
        {"localhost:5000/app", "localhost:5000/app:latest"},
        {"registry:5000/app:2", "registry:5000/app:2"},
        {"Registry.Example:443/app", "Registry.Example:443/app:latest"},
        {"[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest"},
        {"[::1]/app", "[::1]/app:latest"},
        {"a.b/c__d/e-f---g.h_i", "a.b/c__d/e-f---g.h_i:latest"},
        {"busybox@sha256:" HEX, "docker.io/library/busybox@sha256:" HEX},
        {"busybox:1@sha256:" HEX, "docker.io/library/busybox:1@sha256:" HEX},
        {"user/" HEX, "docker.io/user/" HEX ":latest"},
        {"app:_T.-9", "docker.io/library/app:_T.-9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        WFE_FREE char *full = NULL;
        struct wfe_error err = WFE_ERROR_INIT;
        if (wfe_image_normalize(cases[i][0], &full, &err) < 0)
            fail_msg("%s", err.message);
        assert_string_equal(full, cases[i][1]);
        WFE_FREE char *again = NULL;
        assert_int_equal(wfe_image_normalize(full, &again, NULL), 0);
        assert_string_equal(again, full);
    }
}

static void what_is_no_reference_is_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"", ":", "/", "@", "busybox:", "busybox@", "/busybox",
        "busybox/", "a//b", "BusyBox", "ghcr.io/User/app", "Foo/bar", "a..b", "a._b", "a___b", "-a",
        "a-", "a_", ".a", "a b", "a\n", "caf\xc3\xa9", "busybox:.tag", "busybox:-tag",
        "busybox:ta/g", "busybox:a:b", "busybox@sha256:12", "busybox@sha256:" HEX "0",
        "busybox@md5:" HEX, "busybox@sha256:" HEX "@sha256:" HEX, HEX, "host:port/app", "host:/app",
        "ex ample.com/app", "-a.com/app", "a-.com/app", "a..com/app", "a.com./app", "[::1/app.x",
        "[]:1/app", "[::1]x/app", "[::1]:/app", "localhost/", "docker.io/",
        "https://docker.io/busybox"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *full = NULL;
        struct wfe_error err = WFE_ERROR_INIT;
        int r = wfe_image_normalize(cases[i], &full, &err);
        if (r != -EINVAL)
            fail_msg("'%s' became '%s'", cases[i], full);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
        assert_null(full);
    }
}

static void an_upper_case_repository_is_told_so(void **state)
{
    (void)state;
    char *full = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_image_normalize("BusyBox", &full, &err), -EINVAL);
    assert_non_null(strstr(err.message, "lower case"));
}

static void names_and_tags_have_limits(void **state)
{
    (void)state;
    char reference[2048];
    memset(reference, 'a', sizeof reference);
    char *full = NULL;
    /* "docker.io/library/" is 18 of the 255 bytes. */
    reference[237] = '\0';
    assert_int_equal(wfe_image_normalize(reference, &full, NULL), 0);
    free(full);
    reference[237] = 'a';
    reference[238] = '\0';
    assert_int_equal(wfe_image_normalize(reference, &full, NULL), -EINVAL);
    reference[238] = 'a';

    reference[1] = ':';
    reference[2 + 128] = '\0';
    assert_int_equal(wfe_image_normalize(reference, &full, NULL), 0);
    free(full);
    reference[2 + 128] = 'a';
    reference[2 + 129] = '\0';
    assert_int_equal(wfe_image_normalize(reference, &full, NULL), -EINVAL);
    reference[2 + 129] = 'a';
    reference[sizeof reference - 1] = '\0';
    assert_int_equal(wfe_image_normalize(reference, &full, NULL), -EINVAL);
}

static void assert_split(
    const char *text, const char *host, const char *repository, const char *tag, const char *digest)
{
    struct wfe_reference reference;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_image_split(text, &reference, &err), 0);
    assert_string_equal(reference.host, host);
    assert_string_equal(reference.repository, repository);
    assert_string_equal(reference.tag, tag);
    assert_string_equal(reference.digest, digest);
}

static void a_reference_is_split_into_its_parts(void **state)
{
    (void)state;
#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    assert_split("busybox", "docker.io", "library/busybox", "latest", "");
    assert_split("team/app:1", "docker.io", "team/app", "1", "");
    assert_split("localhost:5000/a/b/c", "localhost:5000", "a/b/c", "latest", "");
    assert_split("[::1]:5000/a:b", "[::1]:5000", "a", "b", "");
    assert_split("r.example.org/a@" DIGEST, "r.example.org", "a", "", DIGEST);
    assert_split("r.example.org/a:b@" DIGEST, "r.example.org", "a", "b", DIGEST);
#undef DIGEST
    struct wfe_reference reference;
    assert_int_equal(wfe_image_split("a:b:c", &reference, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reference_is_split_into_its_parts),
        cmocka_unit_test(the_documents_of_the_data_folder_are_taken_or_refused_as_they_are_named),
        cmocka_unit_test(a_manifest_has_a_config_and_layers_in_order),
        cmocka_unit_test(a_docker_manifest_is_one_too),
        cmocka_unit_test(a_refused_manifest_is_told_by_its_field),
        cmocka_unit_test(too_many_layers_are_a_limit),
        cmocka_unit_test(a_document_beyond_the_size_limit_is_not_parsed),
        cmocka_unit_test(a_config_has_what_a_step_needs),
        cmocka_unit_test(what_a_config_leaves_out_or_sets_to_null_is_empty),
        cmocka_unit_test(an_index_gives_the_manifest_of_the_platform),
        cmocka_unit_test(an_item_with_a_platform_goes_before_one_without),
        cmocka_unit_test(a_platform_without_image_is_told_what_there_is),
        cmocka_unit_test(variants_rank_exact_then_lower_then_none),
        cmocka_unit_test(references_are_completed_as_docker_does),
        cmocka_unit_test(what_is_no_reference_is_refused),
        cmocka_unit_test(an_upper_case_repository_is_told_so),
        cmocka_unit_test(names_and_tags_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
