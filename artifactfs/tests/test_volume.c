/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "artifactfs/volume.h"
#include "libcommon/cleanup.h"
#include "libcommon/tests/store_fixture.h"

static struct wfe_volume *open_volume(struct wfe_volume_options options)
{
    struct wfe_volume *volume;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_volume_open(&options, &volume, &err) < 0)
        fail_msg("%s", err.message);
    return volume;
}

static void assert_not_opened(
    struct wfe_volume_options options, enum wfe_error_kind kind, const char *text)
{
    struct wfe_volume *volume;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_volume_open(&options, &volume, &err) < 0);
    if (err.kind != kind || !strstr(err.message, text))
        fail_msg("'%s' is not in '%s', which is of kind %s", text, err.message,
            wfe_error_kind_name(err.kind));
}

/* The volume's names, joined by commas. */
static void assert_names(const struct wfe_volume *volume, const char *expected)
{
    char names[1024] = "";
    for (size_t i = 0; i < wfe_volume_count(volume); i++) {
        size_t used = strlen(names);
        snprintf(
            names + used, sizeof names - used, "%s%s", i ? "," : "", wfe_volume_name(volume, i));
    }
    assert_string_equal(names, expected);
}

static void assert_holds(struct wfe_volume *volume, const char *name, const char *text)
{
    size_t number;
    struct wfe_artifact *artifact;
    uint32_t inode;
    char buffer[256];
    assert_int_equal(wfe_volume_find(volume, name, &number), 0);
    assert_int_equal(wfe_volume_artifact(volume, number, &artifact), 0);
    assert_int_equal(
        wfe_index_lookup(wfe_artifact_index(artifact), WFE_INDEX_ROOT, "first", NULL, &inode), 0);
    ssize_t n = wfe_artifact_read(artifact, inode, buffer, sizeof buffer, 0, NULL, NULL);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buffer, text, (size_t)n);
}

static void a_store_has_an_artifact_for_each_blob_opened_when_it_is_looked_into(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry one = put(f, make_archive(f, "1.tar", "pax", NULL, "1").text, "one");
    put(f, make_archive(f, "2.tar", "pax", NULL, "2").text, "two");
    put(f, make_archive(f, "2.tar", "pax", NULL, "2").text, "again");
    struct wfe_volume *volume = open_volume((struct wfe_volume_options){.source = f->store_path});
    assert_false(wfe_volume_is_single(volume));
    assert_int_equal(wfe_volume_count(volume), 2);
    char name[13];
    snprintf(name, sizeof name, "%.12s", wfe_digest_hex(&one.digest));
    size_t number;
    assert_int_equal(wfe_volume_find(volume, name, &number), 0);
    assert_null(wfe_volume_opened(volume, number));
    struct wfe_digest digest;
    assert_int_equal(wfe_volume_find_digest(volume, number, NULL, &digest), 0);
    assert_string_equal(digest.text, one.digest.text);
    assert_string_equal(
        wfe_volume_media_type(volume, number), "application/vnd.oci.image.layer.v1.tar");
    assert_null(wfe_volume_opened(volume, number));
    assert_holds(volume, name, "1");
    assert_non_null(wfe_volume_opened(volume, number));
    assert_int_equal(wfe_volume_find(volume, "000000000000", &number), -ENOENT);

    WFE_FREE char *text = wfe_volume_describe(volume);
    assert_non_null(strstr(text, "unopened"));
    assert_non_null(strstr(text, "\"again\""));
    wfe_volume_free(volume);
}

/* Blobs whose digests begin alike can't be made, but a store lists any file with such a name. */
static void digests_that_begin_alike_have_longer_names(void **context)
{
    struct fixture *f = *context;
    static const char *const digests[] = {
        "aaaaaaaaaaaabbbb0000000000000000000000000000000000000000000000aa",
        "aaaaaaaaaaaabbbc0000000000000000000000000000000000000000000000aa",
        "aaaaaaaaaaaac00000000000000000000000000000000000000000000000000a",
        "ab00000000000000000000000000000000000000000000000000000000000000",
    };
    for (size_t i = 0; i < 4; i++)
        write_text(stored(f, "blobs/sha256/", digests[i], "").text, "bytes");
    struct wfe_volume *volume = open_volume((struct wfe_volume_options){.source = f->store_path});
    assert_names(volume, "aaaaaaaaaaaabbbb,aaaaaaaaaaaabbbc,aaaaaaaaaaaac,ab0000000000");
    wfe_volume_free(volume);
}

static void an_expired_artifact_is_left_out(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry;
    struct path path = make_archive(f, "1.tar", "pax", NULL, "1");
    assert_int_equal(wfe_store_put(f->store, path.text, "one", 1, &entry, NULL), 0);
    sleep(2);
    struct wfe_volume *volume = open_volume((struct wfe_volume_options){.source = f->store_path});
    assert_int_equal(wfe_volume_count(volume), 0);
    wfe_volume_free(volume);
}

static void an_archive_a_directory_and_a_stored_blob_are_single(void **context)
{
    struct fixture *f = *context;
    struct path archive = make_archive(f, "some name.tar.gz", "pax", "gzip", "1");
    struct wfe_store_entry entry = put(f, archive.text, "one");
    const char *const sources[] = {archive.text, f->directory, entry.digest.text};
    for (size_t i = 0; i < 3; i++) {
        struct wfe_volume *volume = open_volume(
            (struct wfe_volume_options){.source = sources[i], .store_path = f->store_path});
        assert_true(wfe_volume_is_single(volume));
        assert_int_equal(wfe_volume_count(volume), 1);
        assert_non_null(wfe_volume_opened(volume, 0));
        if (i == 0)
            assert_string_equal(wfe_volume_name(volume, 0), "some name");
        wfe_volume_free(volume);
    }
}

/* A tar of files, in the order of names, that ends with NULL. */
static struct path pack(
    struct fixture *f, const char *name, const char *filter, const char *const *members)
{
    struct path path = scratch(f, name);
    struct archive *writer = archive_write_new();
    archive_write_set_format_pax(writer);
    if (filter)
        archive_write_add_filter_by_name(writer, filter);
    assert_int_equal(archive_write_open_filename(writer, path.text), ARCHIVE_OK);
    for (; *members; members++) {
        size_t length;
        char *data = read_bytes(scratch(f, *members).text, &length);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, *members);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)length);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(writer, data, length), (int)length);
        archive_entry_free(entry);
        free(data);
    }
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return path;
}

static void a_package_has_an_artifact_for_each_member(void **context)
{
    struct fixture *f = *context;
    make_archive(f, "one.tar.gz", "pax", "gzip", "1");
    make_archive(f, "two.tar", "pax", NULL, "2");
    make_archive(f, "three.tar.zst", "pax", "zstd", "3");
    static const char *const members[] = {"one.tar.gz", "two.tar", "three.tar.zst", NULL};
    static const char *const filters[] = {NULL, "gzip", "xz"};
    for (size_t i = 0; i < 3; i++) {
        struct path package = pack(f, "package", filters[i], members);
        struct wfe_volume *volume =
            open_volume((struct wfe_volume_options){.source = package.text});
        assert_false(wfe_volume_is_single(volume));
        assert_names(volume, "one,three,two");
        assert_holds(volume, "one", "1");
        assert_holds(volume, "two", "2");
        assert_holds(volume, "three", "3");
        struct wfe_digest expected, found;
        digest_of_file(scratch(f, "two.tar").text, &expected);
        assert_int_equal(wfe_volume_find_digest(volume, 2, NULL, &found), 0);
        assert_string_equal(found.text, expected.text);
        wfe_volume_free(volume);
    }
}

static void a_package_that_is_too_large_to_be_copied_is_refused(void **context)
{
    struct fixture *f = *context;
    make_archive(f, "one.tar", "pax", NULL, "1");
    static const char *const members[] = {"one.tar", NULL};
    struct path package = pack(f, "package", "gzip", members);
    assert_not_opened((struct wfe_volume_options){.source = package.text, .max_spool_bytes = 1000},
        WFE_ERROR_LIMIT, "one");
}

static void a_tar_with_any_other_member_is_no_package(void **context)
{
    struct fixture *f = *context;
    make_archive(f, "one.tar.gz", "pax", "gzip", "1");
    write_text(scratch(f, "zzz").text, "text");
    write_text(scratch(f, ".tar").text, "text");
    static const char *const mixed[] = {"one.tar.gz", "zzz", NULL};
    static const char *const nameless[] = {".tar", NULL};
    struct path package = pack(f, "mixed.tar", NULL, mixed);
    struct wfe_volume *volume = open_volume((struct wfe_volume_options){.source = package.text});
    assert_true(wfe_volume_is_single(volume));
    wfe_volume_free(volume);
    package = pack(f, "nameless.tar", NULL, nameless);
    volume = open_volume((struct wfe_volume_options){.source = package.text});
    assert_true(wfe_volume_is_single(volume));
    wfe_volume_free(volume);
}

static void a_member_with_a_name_of_the_mounts_own_is_refused(void **context)
{
    struct fixture *f = *context;
    make_archive(f, ".wfe.tar", "pax", NULL, "1");
    static const char *const members[] = {".wfe.tar", NULL};
    struct path package = pack(f, "package.tar", NULL, members);
    assert_not_opened((struct wfe_volume_options){.source = package.text}, WFE_ERROR_INPUT, ".wfe");
}

/* Data in which "%1" and "%2" stand for two texts. */
static struct path write_data(struct fixture *f, const char *form, const char *a, const char *b)
{
    char text[2048];
    size_t used = 0;
    for (; *form && used + 100 < sizeof text; form++) {
        if (form[0] != '%') {
            text[used++] = *form;
            continue;
        }
        form++;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", *form == '1' ? a : b);
    }
    text[used] = '\0';
    struct path path = scratch(f, "data.json");
    write_text(path.text, text);
    return path;
}

static void references_in_data_are_found_at_any_depth(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry one = put(f, make_archive(f, "1.tar", "pax", NULL, "1").text, "one");
    struct wfe_store_entry two = put(f, make_archive(f, "2.tar", "pax", NULL, "2").text, "two");
    struct path data = write_data(f,
        "{\"a\":{\"__wfe_artifact\":\"%1\",\"note\":1},\"text\":\"x\","
        "\"outer\":{\"list\":[0,{\"__wfe_artifact\":\"%2\"}]},\"n\":{\"__wfe_artifact\":5}}",
        one.digest.text, two.digest.text);
    struct wfe_volume_options options = {.data_path = data.text, .store_path = f->store_path};
    struct wfe_volume *volume = open_volume(options);
    assert_names(volume, "a,outer.list.1");
    assert_holds(volume, "a", "1");
    assert_holds(volume, "outer.list.1", "2");
    assert_null(wfe_volume_prefix(volume, 0));
    wfe_volume_free(volume);

    /* A binding wins. */
    struct path archive = make_archive(f, "3.tar", "pax", NULL, "3");
    const struct wfe_volume_binding bindings[] = {{"a", archive.text}, {"b", two.digest.text}};
    options.bindings = bindings;
    options.binding_count = 2;
    volume = open_volume(options);
    assert_names(volume, "a,b,outer.list.1");
    assert_holds(volume, "a", "3");
    wfe_volume_free(volume);
}

static void inputs_choose_and_give_prefixes(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry one = put(f, make_archive(f, "1.tar", "pax", NULL, "1").text, "one");
    struct path data =
        write_data(f, "{\"a\":{\"__wfe_artifact\":\"%1\"},\"b\":{\"__wfe_artifact\":\"%2\"}}",
            one.digest.text, one.digest.text);
    static const char *const documents[] = {
        "image: x\ninputs: {b: /in/b}\n",
        "name: s\ntype: containerd\nconfig: {image: x, inputs: {b: /in/b}}\n",
        "workflow: {steps: [{name: s, config: {inputs: {b: /in/b}}}, {name: t}]}\n",
        "workflow: {steps: [{parallel: [{name: s, config: {inputs: {b: /in/b}}}]}]}\n",
        "workflows: [{steps: [{name: s, config: {inputs: {b: /in/b}}}]}]\n",
        "{\"image\":\"x\",\"inputs\":{\"b\":\"/in/b\"}}",
    };
    struct path step = scratch(f, "step.yaml");
    const struct wfe_volume_options options = {
        .data_path = data.text, .inputs_path = step.text, .store_path = f->store_path};
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        write_text(step.text, documents[i]);
        struct wfe_volume *volume = open_volume(options);
        assert_names(volume, "b");
        assert_string_equal(wfe_volume_prefix(volume, 0), "/in/b");
        wfe_volume_free(volume);
    }
    write_text(step.text, "inputs: {b: ((where))}\n");
    struct wfe_volume *volume = open_volume(options);
    assert_null(wfe_volume_prefix(volume, 0));
    wfe_volume_free(volume);

    write_text(step.text, "inputs: {c: /c}\n");
    assert_not_opened(options, WFE_ERROR_INPUT, "'c'");
    write_text(step.text, "image: x\n");
    assert_not_opened(options, WFE_ERROR_INPUT, "inputs");
    write_text(step.text, "inputs: [\n");
    assert_not_opened(options, WFE_ERROR_INPUT, "step.yaml");
    write_text(step.text, "- 1\n");
    assert_not_opened(options, WFE_ERROR_INPUT, "inputs");
}

static void data_that_are_none_are_refused(void **context)
{
    struct fixture *f = *context;
    struct path data = scratch(f, "data.json");
    const struct wfe_volume_options options = {.data_path = data.text, .store_path = f->store_path};
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"[]", "JSON object"},
        {"{} x", "not valid JSON"},
        {"{\n\n", "data.json:3"},
        {"{}", "no artifact reference"},
        {"{\"a\":{\"__wfe_artifact\":\"sha256:12\"}}", "no digest"},
        {"{\"a/b\":{\"__wfe_artifact\":"
         "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}}",
            "a/b"},
        {"{\"a\":{\"__wfe_artifact\":"
         "\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}}",
            "not in the store"},
        {"{\"a.b\":{\"__wfe_artifact\":\"x\"},\"a\":{\"b\":{\"__wfe_artifact\":\"y\"}}}", "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(data.text, cases[i].text);
        assert_not_opened(options, WFE_ERROR_INPUT, cases[i].expected);
    }
}

static void names_that_cannot_be_folders_are_refused(void **context)
{
    struct fixture *f = *context;
    static const char *const names[] = {".wfe", "a/b", ".", "..", "", "a\nb"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct wfe_volume_binding binding = {names[i], f->directory};
        assert_not_opened((struct wfe_volume_options){.bindings = &binding, .binding_count = 1},
            WFE_ERROR_INPUT, "name");
    }
    const struct wfe_volume_binding twice[] = {{"a", f->directory}, {"a", f->directory}};
    assert_not_opened((struct wfe_volume_options){.bindings = twice, .binding_count = 2},
        WFE_ERROR_INPUT, "twice");
}

static void places_that_would_wait_for_themselves_are_refused(void **context)
{
    struct fixture *f = *context;
    put(f, make_archive(f, "1.tar", "pax", NULL, "1").text, "one");
    struct path inside = scratch(f, "inside");
    assert_not_opened(
        (struct wfe_volume_options){.source = f->directory, .mountpoint = inside.text},
        WFE_ERROR_INPUT, "lies within");
    char outside[64];
    snprintf(outside, sizeof outside, "%s", f->directory);
    *strrchr(outside, '/') = '\0';
    assert_not_opened(
        (struct wfe_volume_options){.source = f->store_path, .mountpoint = f->store_path},
        WFE_ERROR_INPUT, "would hide");
    /* A file that is open before the mount may be hidden by it, and a directory too. */
    const struct wfe_volume_options options = {.source = f->directory, .mountpoint = outside};
    wfe_volume_free(open_volume(options));
}

static void sources_that_are_not_there_are_refused(void **context)
{
    struct fixture *f = *context;
    assert_not_opened((struct wfe_volume_options){.source = "/no/such"}, WFE_ERROR_SYSTEM, "/no");
    assert_not_opened((struct wfe_volume_options){.source = "-"}, WFE_ERROR_INPUT, "standard");
    assert_not_opened((struct wfe_volume_options){.source = "/dev/null"}, WFE_ERROR_INPUT, "file");
    assert_not_opened(
        (struct wfe_volume_options){.source = "sha256:0123", .store_path = f->store_path},
        WFE_ERROR_INPUT, "sha256:0123");
    const struct wfe_volume_binding binding = {"a", "/no/such"};
    assert_not_opened((struct wfe_volume_options){.bindings = &binding, .binding_count = 1},
        WFE_ERROR_SYSTEM, "artifact 'a'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_store_has_an_artifact_for_each_blob_opened_when_it_is_looked_into),
        WITH_STORE(digests_that_begin_alike_have_longer_names),
        WITH_STORE(an_expired_artifact_is_left_out),
        WITH_STORE(an_archive_a_directory_and_a_stored_blob_are_single),
        WITH_STORE(a_package_has_an_artifact_for_each_member),
        WITH_STORE(a_package_that_is_too_large_to_be_copied_is_refused),
        WITH_STORE(a_tar_with_any_other_member_is_no_package),
        WITH_STORE(a_member_with_a_name_of_the_mounts_own_is_refused),
        WITH_STORE(references_in_data_are_found_at_any_depth),
        WITH_STORE(inputs_choose_and_give_prefixes),
        WITH_STORE(data_that_are_none_are_refused),
        WITH_STORE(names_that_cannot_be_folders_are_refused),
        WITH_STORE(places_that_would_wait_for_themselves_are_refused),
        WITH_STORE(sources_that_are_not_there_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
