/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "artifactfs/volume.h"
#include "libcommon/cleanup.h"
#include "libcommon/tests/faults.h"
#include "libcommon/tests/store_fixture.h"

/* Open it, look into every artifact, and tell of it. */
static int open_volume(void *context, struct wfe_error *err)
{
    const struct wfe_volume_options *options = context;
    WFE_VOLUME struct wfe_volume *volume = NULL;
    int r = wfe_volume_open(options, &volume, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < wfe_volume_count(volume); i++) {
        struct wfe_artifact *artifact;
        if (wfe_volume_artifact(volume, i, &artifact) == 0)
            wfe_index_wait(wfe_artifact_index(artifact), NULL);
    }
    WFE_FREE char *description = wfe_volume_describe(volume);
    return description ? 0 : wfe_error_nomem(err);
}

/* What fails while an archive is read makes it a broken one, which is told in its place. */
static void try_volume(struct wfe_volume_options options)
{
    struct fault_case tried = {.run = open_volume, .context = &options, .may_pass = true};
    options.quiet_ms = 1;
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

static struct path make_package(const struct fixture *f, const char *name, const char *filter)
{
    size_t length;
    WFE_FREE char *member =
        read_bytes(make_archive(f, "member.tar", "ustar", NULL, "contents\n").text, &length);
    struct path path = scratch(f, name);
    struct archive *writer = archive_write_new();
    assert_int_equal(archive_write_set_format_pax(writer), ARCHIVE_OK);
    if (filter)
        assert_int_equal(archive_write_add_filter_by_name(writer, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, path.text), ARCHIVE_OK);
    static const char *const names[] = {"one.tar", "two.tar"};
    for (size_t i = 0; i < 2; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, names[i]);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)length);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(writer, member, length), (int)length);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return path;
}

static void a_package_can_fail_at_any_point(void **state)
{
    const struct fixture *f = *state;
    try_volume((struct wfe_volume_options){.source = make_package(f, "plain.tar", NULL).text});
    try_volume((struct wfe_volume_options){.source = make_package(f, "p.tar.gz", "gzip").text});
}

static void a_volume_of_data_can_fail_at_any_point(void **state)
{
    const struct fixture *f = *state;
    struct wfe_store_entry stored =
        put(f, make_archive(f, "a.tar.gz", "pax", "gzip", "contents\n").text, "a");
    struct path data = scratch(f, "data.json"), inputs = scratch(f, "step.yaml");
    char text[512];
    snprintf(text, sizeof text, "{\"a\":{\"__wfe_artifact\":\"%s\"},\"x\":[{\"b\":1}]}",
        stored.digest.text);
    write_text(data.text, text);
    write_text(inputs.text, "image: busybox\nrun: \"true\"\ninputs: {a: /in/a, bound: /in/b}\n");
    const struct wfe_volume_binding binding = {"bound", f->directory};
    try_volume((struct wfe_volume_options){.store_path = f->store_path,
        .data_path = data.text,
        .inputs_path = inputs.text,
        .bindings = &binding,
        .binding_count = 1});
}

static void a_store_s_volume_can_fail_at_any_point(void **state)
{
    const struct fixture *f = *state;
    put(f, make_archive(f, "a.tar.gz", "pax", "gzip", "contents\n").text, "a");
    put(f, make_archive(f, "b.tar", "pax", NULL, "others\n").text, "b");
    try_volume((struct wfe_volume_options){.source = f->store_path});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_package_can_fail_at_any_point),
        WITH_STORE(a_volume_of_data_can_fail_at_any_point),
        WITH_STORE(a_store_s_volume_can_fail_at_any_point),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
