/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "libcommon/layer.h"
#include "libcommon/tests/store_fixture.h"

#define TAG "org.opencontainers.image.ref.name"
#define TITLE "org.opencontainers.image.title"

static struct wfe_store_entry put_contents(
    const struct fixture *f, const char *contents, const char *name)
{
    return put(f, make_archive(f, "archive", "ustar", NULL, contents).text, name);
}

static int64_t get_number(const cJSON *object, const char *first, const char *second)
{
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(object, first);
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(inner, second);
    assert_true(cJSON_IsNumber(number));
    return (int64_t)number->valuedouble;
}

static const char *get_string(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void metadata_has_the_reference_form(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    cJSON *meta = read_json(meta_path(f, &entry.digest).text);
    assert_int_equal(cJSON_GetArraySize(meta), 2);
    assert_int_equal(get_number(meta, "created_at", "secs_since_epoch"), entry.created_s);
    assert_int_equal(get_number(meta, "expires_at", "secs_since_epoch"), entry.expires_s);
    int64_t nanos = get_number(meta, "created_at", "nanos_since_epoch");
    assert_true(nanos >= 0 && nanos < 1000000000);
    assert_int_equal(get_number(meta, "expires_at", "nanos_since_epoch"), nanos);
    cJSON_Delete(meta);
}

static struct wfe_store_entry only_entry(const struct fixture *f)
{
    struct wfe_store_entry *entries;
    size_t count;
    assert_int_equal(wfe_store_list(f->store, &entries, &count, NULL), 0);
    assert_int_equal(count, 1);
    struct wfe_store_entry entry = entries[0];
    free(entries);
    return entry;
}

static void metadata_with_unknown_keys_is_read(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    write_text(meta_path(f, &entry.digest).text,
        "{\"more\":[1],\"created_at\":{\"secs_since_epoch\":7,\"nanos_since_epoch\":0,\"x\":1},"
        "\"expires_at\":{\"secs_since_epoch\":99999999999,\"nanos_since_epoch\":5}}");
    assert_int_equal(only_entry(f).created_s, 7);
    assert_int_equal(only_entry(f).expires_s, 99999999999);
    assert_true(wfe_store_exists(f->store, &entry.digest));
}

static void set_age(const char *path, time_t seconds)
{
    struct timespec times[2] = {{.tv_sec = time(NULL) - seconds}, {.tv_sec = time(NULL) - seconds}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void without_metadata_a_blob_is_as_old_as_its_file(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    struct path meta = meta_path(f, &entry.digest);
    static const char *const unreadable[] = {"", "{", "[]", "{\"created_at\":1,\"expires_at\":2}",
        "{\"created_at\":{\"secs_since_epoch\":-1,\"nanos_since_epoch\":0},"
        "\"expires_at\":{\"secs_since_epoch\":99999999999,\"nanos_since_epoch\":0}}",
        "{\"created_at\":{\"secs_since_epoch\":1,\"nanos_since_epoch\":0},"
        "\"expires_at\":{\"secs_since_epoch\":1e300,\"nanos_since_epoch\":0}}"};
    set_age(blob_path(f, &entry.digest).text, 1000);
    for (size_t i = 0; i < sizeof unreadable / sizeof *unreadable; i++) {
        write_text(meta.text, unreadable[i]);
        assert_in_range(time(NULL) - only_entry(f).created_s, 1000, 1005);
        assert_int_equal(only_entry(f).expires_s, only_entry(f).created_s + WEEK_S);
    }
    assert_int_equal(unlink(meta.text), 0);
    assert_in_range(time(NULL) - only_entry(f).created_s, 1000, 1005);
    assert_got(f, &entry.digest);
    set_age(blob_path(f, &entry.digest).text, WEEK_S + 1);
    assert_not_got(f, &entry.digest, WFE_ERROR_INPUT, "expired on");
}

static void set_expiry(const struct fixture *f, const struct wfe_digest *digest, time_t seconds)
{
    char text[256];
    snprintf(text, sizeof text,
        "{\"created_at\":{\"secs_since_epoch\":1000,\"nanos_since_epoch\":0},"
        "\"expires_at\":{\"secs_since_epoch\":%lld,\"nanos_since_epoch\":0}}",
        (long long)seconds);
    write_text(meta_path(f, digest).text, text);
}

static void what_has_expired_is_not_there_and_gc_removes_it(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry expired = put_contents(f, "a\n", "a");
    struct wfe_store_entry lives = put_contents(f, "b\n", "b");
    set_expiry(f, &expired.digest, time(NULL));
    assert_false(wfe_store_exists(f->store, &expired.digest));
    assert_not_got(f, &expired.digest, WFE_ERROR_INPUT, "expired on 20");
    assert_int_equal(count_entries(f), 2);

    size_t removed = 0;
    uint64_t bytes = 0;
    assert_int_equal(wfe_store_gc(f->store, &removed, &bytes, NULL), 0);
    assert_int_equal(removed, 1);
    assert_true(bytes > expired.size_bytes);
    assert_int_equal(count_entries(f), 1);
    assert_int_equal(count_files(f, "blobs/sha256"), 3);
    assert_int_equal(count_files(f, "meta"), 1);
    assert_got(f, &lives.digest);
    assert_int_equal(wfe_store_gc(f->store, &removed, &bytes, NULL), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(bytes, 0);
}

static void an_artifact_that_expires_at_once_is_gone(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive", "ustar", NULL, "a\n");
    struct wfe_store_entry entry;
    assert_int_equal(wfe_store_put(f->store, source.text, NULL, 0, &entry, NULL), 0);
    assert_false(wfe_store_exists(f->store, &entry.digest));
    assert_int_equal(wfe_store_put(f->store, source.text, NULL, INT64_MAX, &entry, NULL), 0);
    assert_true(wfe_store_exists(f->store, &entry.digest));
}

static void putting_again_renews_and_never_shortens(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    set_expiry(f, &entry.digest, time(NULL) + 10);
    struct wfe_store_entry renewed = put_contents(f, "a\n", "a");
    assert_int_equal(renewed.created_s, 1000);
    assert_true(renewed.expires_s > time(NULL) + WEEK_S - 60);

    set_expiry(f, &entry.digest, time(NULL) + 2 * WEEK_S);
    int64_t end = only_entry(f).expires_s;
    assert_int_equal(put_contents(f, "a\n", "a").expires_s, end);

    set_expiry(f, &entry.digest, time(NULL) - 10);
    assert_true(put_contents(f, "a\n", "a").created_s > 1000);
}

static cJSON *read_index(const struct fixture *f)
{
    return read_json(stored(f, "index.json", "", "").text);
}

/* The document that a descriptor refers to, after its digest and size were checked. */
static cJSON *follow(const struct fixture *f, const cJSON *descriptor)
{
    struct wfe_digest digest;
    struct wfe_digest found;
    assert_int_equal(wfe_digest_parse(get_string(descriptor, "digest"), &digest), 0);
    struct path path = blob_path(f, &digest);
    digest_of_file(path.text, &found);
    assert_string_equal(found.text, digest.text);
    struct stat st;
    assert_int_equal(stat(path.text, &st), 0);
    assert_int_equal(st.st_size, cJSON_GetObjectItemCaseSensitive(descriptor, "size")->valueint);
    return read_json(path.text);
}

static void the_index_lists_an_artifact_as_an_image_of_one_layer(void **context)
{
    struct fixture *f = *context;
    struct path tar = make_archive(f, "tar", "ustar", NULL, "a\n");
    struct wfe_digest diff_id;
    digest_of_file(tar.text, &diff_id);
    static const char *const filters[] = {"gzip", "zstd"};
    static const char *const types[] = {WFE_LAYER_MEDIA_TYPE_GZIP, WFE_LAYER_MEDIA_TYPE_ZSTD};
    for (size_t i = 0; i < 2; i++) {
        struct wfe_store_entry entry =
            put(f, make_archive(f, "archive", "ustar", filters[i], "a\n").text, "data");
        cJSON *index = read_index(f);
        assert_int_equal(cJSON_GetObjectItem(index, "schemaVersion")->valueint, 2);
        const cJSON *descriptor =
            cJSON_GetArrayItem(cJSON_GetObjectItem(index, "manifests"), (int)i);
        assert_string_equal(
            get_string(descriptor, "mediaType"), "application/vnd.oci.image.manifest.v1+json");
        assert_string_equal(
            get_string(cJSON_GetObjectItem(descriptor, "annotations"), TAG), "data");
        cJSON *manifest = follow(f, descriptor);
        const cJSON *layer = cJSON_GetArrayItem(cJSON_GetObjectItem(manifest, "layers"), 0);
        assert_string_equal(get_string(layer, "digest"), entry.digest.text);
        assert_string_equal(get_string(layer, "mediaType"), types[i]);
        cJSON *config = follow(f, cJSON_GetObjectItem(manifest, "config"));
        const cJSON *diff_ids =
            cJSON_GetObjectItem(cJSON_GetObjectItem(config, "rootfs"), "diff_ids");
        assert_string_equal(cJSON_GetStringValue(cJSON_GetArrayItem(diff_ids, 0)), diff_id.text);
        cJSON_Delete(config);
        cJSON_Delete(manifest);
        cJSON_Delete(index);
    }
}

static int count_tag(const struct fixture *f, const char *key, const char *value)
{
    cJSON *index = read_index(f);
    int count = 0;
    const cJSON *descriptor;
    cJSON_ArrayForEach(descriptor, cJSON_GetObjectItem(index, "manifests"))
    {
        const char *has = get_string(cJSON_GetObjectItem(descriptor, "annotations"), key);
        count += has && strcmp(has, value) == 0;
    }
    cJSON_Delete(index);
    return count;
}

static void every_artifact_has_a_tag(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", NULL);
    char anonymous[128];
    snprintf(anonymous, sizeof anonymous, "sha256-%s", wfe_digest_hex(&entry.digest));
    assert_int_equal(count_tag(f, TAG, anonymous), 1);
    assert_string_equal(only_entry(f).name, "");

    put_contents(f, "a\n", "no tag");
    assert_int_equal(count_tag(f, TAG, anonymous), 0);
    assert_int_equal(count_tag(f, TITLE, "no tag"), 1);
    assert_int_equal(count_tag(f, TAG, "no tag"), 0);
    assert_string_equal(only_entry(f).name, "no tag");

    static const char *const tags[] = {"a", "a-b", "a--b", "a_b.c+d", "A1"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        put_contents(f, "a\n", tags[i]);
        assert_int_equal(count_tag(f, TAG, tags[i]), 1);
        assert_int_equal(count_tag(f, TITLE, tags[i]), 0);
    }
    static const char *const titles[] = {"_a", "a-", "a..b", "a---b", "a:b", "a@b", "name-x", "ä"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        put_contents(f, "a\n", titles[i]);
        assert_int_equal(count_tag(f, TITLE, titles[i]), 1);
    }
}

static void a_name_moves_to_the_newest_artifact(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry old = put_contents(f, "a\n", "data");
    struct wfe_store_entry new = put_contents(f, "b\n", "data");
    struct wfe_digest digest;
    assert_int_equal(wfe_store_resolve(f->store, "data", &digest, NULL), 0);
    assert_string_equal(digest.text, new.digest.text);
    assert_int_equal(count_tag(f, TAG, "data"), 1);
    assert_int_equal(count_entries(f), 2);
    assert_got(f, &old.digest);
    char anonymous[128];
    snprintf(anonymous, sizeof anonymous, "sha256-%s", wfe_digest_hex(&old.digest));
    assert_int_equal(count_tag(f, TAG, anonymous), 1);
}

static void an_artifact_lives_until_its_last_name_is_removed(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "one");
    put_contents(f, "a\n", "two");
    put_contents(f, "a\n", "two");
    assert_int_equal(count_entries(f), 2);
    assert_int_equal(wfe_store_remove_name(f->store, "one", NULL), 0);
    assert_string_equal(only_entry(f).name, "two");
    assert_got(f, &entry.digest);
    assert_int_equal(wfe_store_remove_name(f->store, "one", NULL), -ENOENT);
    assert_int_equal(wfe_store_remove_name(f->store, "two", NULL), 0);
    assert_int_equal(count_entries(f), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
}

static void a_config_that_two_artifacts_share_stays(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry plain =
        put(f, make_archive(f, "archive", "ustar", NULL, "a\n").text, "plain");
    struct wfe_store_entry gzip =
        put(f, make_archive(f, "archive", "ustar", "gzip", "a\n").text, "gzip");
    assert_int_equal(count_files(f, "blobs/sha256"), 5);
    assert_int_equal(wfe_store_remove(f->store, &plain.digest, NULL), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 3);
    assert_int_equal(wfe_store_remove(f->store, &gzip.digest, NULL), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
}

static void manifests_and_configs_are_no_artifacts(void **context)
{
    struct fixture *f = *context;
    put_contents(f, "a\n", "a");
    assert_int_equal(count_entries(f), 1);
    assert_int_equal(count_files(f, "blobs/sha256"), 3);
    cJSON *index = read_index(f);
    const cJSON *descriptor = cJSON_GetArrayItem(cJSON_GetObjectItem(index, "manifests"), 0);
    struct wfe_digest digest;
    assert_int_equal(wfe_digest_parse(get_string(descriptor, "digest"), &digest), 0);
    cJSON_Delete(index);
    assert_false(wfe_store_exists(f->store, &digest));
    assert_not_got(f, &digest, WFE_ERROR_INPUT, "is not in the store");
    assert_int_equal(wfe_store_remove(f->store, &digest, NULL), -ENOENT);
}

/* The reference writes blobs and metadata, and no index. */
static void a_store_without_index_is_read_and_mended(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    assert_int_equal(unlink(stored(f, "index.json", "", "").text), 0);
    assert_string_equal(only_entry(f).name, "");
    assert_got(f, &entry.digest);
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_got(f, &entry.digest);
    put_contents(f, "a\n", "a");
    assert_string_equal(only_entry(f).name, "a");
}

static void an_index_that_is_none_stops_writers_only(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    static const char *const bad[] = {"{", "[]", "{\"manifests\":1}"};
    struct path index = stored(f, "index.json", "", "");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(index.text, bad[i]);
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(wfe_store_gc(f->store, NULL, NULL, &err), -EINVAL);
        assert_non_null(strstr(err.message, "index.json: not an OCI image index"));
        assert_refused(f, make_archive(f, "archive", "ustar", NULL, "new\n").text, WFE_ERROR_INPUT,
            "not an OCI image index");
        assert_got(f, &entry.digest);
    }
    assert_int_equal(count_files(f, "blobs/sha256"), 3);
    write_text(index.text, "{\"schemaVersion\":2,\"manifests\":null,\"kept\":true}");
    put_contents(f, "a\n", "a");
    cJSON *document = read_index(f);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(document, "kept")));
    cJSON_Delete(document);
}

/* As another tool would: blobs, and a descriptor at the index's end. */
static void add_foreign_image(const struct fixture *f, const char *tag,
    const struct wfe_digest *layers, int layer_count, struct wfe_digest *ret_manifest)
{
    char text[1024];
    int at = snprintf(text, sizeof text,
        "{\"schemaVersion\":2,\"config\":{\"digest\":\"%s\",\"size\":1},\"layers\":[",
        layers[0].text);
    for (int i = 0; i < layer_count; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s{\"digest\":\"%s\"}", i ? "," : "",
            layers[i].text);
    at += snprintf(text + at, sizeof text - (size_t)at, "]}");
    wfe_digest_of(text, (size_t)at, ret_manifest);
    write_text(blob_path(f, ret_manifest).text, text);
    cJSON *index = read_index(f);
    cJSON *descriptor = cJSON_CreateObject();
    cJSON_AddStringToObject(descriptor, "digest", ret_manifest->text);
    cJSON_AddStringToObject(cJSON_AddObjectToObject(descriptor, "annotations"), TAG, tag);
    cJSON_AddItemToArray(cJSON_GetObjectItem(index, "manifests"), descriptor);
    char *printed = cJSON_Print(index);
    write_text(stored(f, "index.json", "", "").text, printed);
    free(printed);
    cJSON_Delete(index);
}

static void an_image_of_one_layer_is_an_artifact_under_its_tag(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    struct wfe_digest manifest;
    add_foreign_image(f, "copied", &entry.digest, 1, &manifest);
    struct wfe_digest digest;
    assert_int_equal(wfe_store_resolve(f->store, "copied", &digest, NULL), 0);
    assert_string_equal(digest.text, entry.digest.text);
    assert_int_equal(count_entries(f), 2);
    assert_int_equal(wfe_store_remove(f->store, &digest, NULL), 0);
    assert_int_equal(count_tag(f, TAG, "copied"), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
}

static void gc_leaves_the_layers_of_other_images_alone(void **context)
{
    struct fixture *f = *context;
    struct wfe_digest layers[2] = {
        put_contents(f, "a\n", "a").digest, put_contents(f, "b\n", "b").digest};
    struct wfe_digest manifest;
    add_foreign_image(f, "image", layers, 2, &manifest);
    assert_int_equal(unlink(meta_path(f, &layers[0]).text), 0);
    set_age(blob_path(f, &layers[0]).text, 2 * WEEK_S);
    set_expiry(f, &layers[1], 2000);
    size_t removed = 0;
    assert_int_equal(wfe_store_gc(f->store, &removed, NULL, NULL), 0);
    assert_int_equal(removed, 1);
    assert_int_equal(access(blob_path(f, &layers[0]).text, F_OK), 0);
    assert_int_equal(access(blob_path(f, &manifest).text, F_OK), 0);
    assert_int_equal(count_tag(f, TAG, "image"), 1);
}

static void gc_forgets_what_another_tool_has_deleted(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry = put_contents(f, "a\n", "a");
    assert_int_equal(unlink(blob_path(f, &entry.digest).text), 0);
    set_age(meta_path(f, &entry.digest).text, 7200);
    size_t removed = 9;
    assert_int_equal(wfe_store_gc(f->store, &removed, NULL, NULL), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(count_tag(f, TAG, "a"), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
    assert_int_equal(count_files(f, "meta"), 0);
}

static void gc_removes_documents_that_no_index_names_once_they_are_old(void **context)
{
    struct fixture *f = *context;
    put_contents(f, "a\n", "a");
    write_text(stored(f, "index.json", "", "").text, "{\"schemaVersion\":2,\"manifests\":[]}");
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 3);
    char command[512];
    snprintf(command, sizeof command, "touch -d '2 hours ago' %s/blobs/sha256/*", f->store_path);
    assert_int_equal(system(command), 0);
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 1);
    assert_int_equal(count_entries(f), 1);
}

static void gc_removes_staging_files_that_nobody_writes(void **context)
{
    struct fixture *f = *context;
    write_text(stored(f, "tmp/", "wfe-0123456789abcdef", "").text, "left behind");
    write_text(stored(f, "tmp/", "foreign-young", "").text, "may be in use");
    write_text(stored(f, "tmp/", "foreign-old", "").text, "left behind");
    set_age(stored(f, "tmp/", "foreign-old", "").text, 7200);
    uint64_t bytes = 0;
    assert_int_equal(wfe_store_gc(f->store, NULL, &bytes, NULL), 0);
    assert_int_equal(bytes, 2 * strlen("left behind"));
    assert_int_equal(count_files(f, "tmp"), 1);
    assert_int_equal(access(stored(f, "tmp/", "foreign-young", "").text, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(metadata_has_the_reference_form),
        WITH_STORE(metadata_with_unknown_keys_is_read),
        WITH_STORE(without_metadata_a_blob_is_as_old_as_its_file),
        WITH_STORE(what_has_expired_is_not_there_and_gc_removes_it),
        WITH_STORE(an_artifact_that_expires_at_once_is_gone),
        WITH_STORE(putting_again_renews_and_never_shortens),
        WITH_STORE(the_index_lists_an_artifact_as_an_image_of_one_layer),
        WITH_STORE(every_artifact_has_a_tag),
        WITH_STORE(a_name_moves_to_the_newest_artifact),
        WITH_STORE(an_artifact_lives_until_its_last_name_is_removed),
        WITH_STORE(a_config_that_two_artifacts_share_stays),
        WITH_STORE(manifests_and_configs_are_no_artifacts),
        WITH_STORE(a_store_without_index_is_read_and_mended),
        WITH_STORE(an_index_that_is_none_stops_writers_only),
        WITH_STORE(an_image_of_one_layer_is_an_artifact_under_its_tag),
        WITH_STORE(gc_leaves_the_layers_of_other_images_alone),
        WITH_STORE(gc_forgets_what_another_tool_has_deleted),
        WITH_STORE(gc_removes_documents_that_no_index_names_once_they_are_old),
        WITH_STORE(gc_removes_staging_files_that_nobody_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
