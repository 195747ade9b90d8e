/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/document.h"
#include "libcommon/layer.h"
#include "libcommon/tests/faults.h"
#include "libcommon/tests/store_fixture.h"

#define DAY_S (24 * 3600)

/* Documents */

struct text {
    char *data;
    size_t length;
};

static struct text read_data(const char *name)
{
    struct text text;
    char path[512];
    snprintf(path, sizeof path, "%s/document/%s", getenv("WFE_TEST_DATA"), name);
    text.data = read_bytes(path, &text.length);
    return text;
}

static int parse(void *context, struct wfe_error *err)
{
    const struct text *text = context;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    int r = wfe_document_parse("a", text->data, text->length, &document, &problems);
    if (r == 0) {
        WFE_JSON cJSON *json = wfe_node_to_json(wfe_document_root(document));
        r = json ? 0 : -ENOMEM;
    }
    wfe_problems_done(&problems);
    return r == -ENOMEM ? wfe_error_nomem(err) : r == -EINVAL ? 0 : r;
}

static void a_document_for_which_memory_runs_out_is_not_read(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ok-json.json",
        "ok-merge-keys.yaml",
        "ok-aliases.yaml",
        "should-fail-duplicate-key.yaml",
        "should-fail-unclosed-list.yaml",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct text text = read_data(names[i]);
        /* A problem that can't be told is still counted. */
        fault_each(FAULT_MEMORY, &(struct fault_case){.run = parse,
                                     .context = &text,
                                     .may_pass = strncmp(names[i], "should-fail", 11) == 0});
        free(text.data);
    }
}

static int read_workflow_data(void *context, struct wfe_error *err)
{
    WFE_JSON cJSON *data = NULL;
    return wfe_data_read(((const struct path *)context)->text, &data, err);
}

static void workflow_data_for_which_memory_runs_out_are_not_read(void **state)
{
    const struct fixture *f = *state;
    struct path path = scratch(f, "data.json");
    write_text(path.text, "{\"a\":{\"__wfe_artifact\":\"x\"},\"b\":[1,\"two\",null]}");
    struct fault_case tried = {.run = read_workflow_data, .context = &path};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

/* Layers */

struct layer_case {
    const char *path;
    struct wfe_layer_options options;
};

static int to_nowhere(void *context, const void *data, size_t length, struct wfe_error *err)
{
    (void)context;
    (void)data;
    (void)length;
    (void)err;
    return 0;
}

static int write_layer(void *context, struct wfe_error *err)
{
    const struct layer_case *tried = context;
    struct wfe_layer_result result;
    return wfe_layer_write(
        tried->path, &tried->options, (struct wfe_sink){.write = to_nowhere}, &result, err);
}

static void make_tree(const struct fixture *f, const char *name)
{
    assert_int_equal(mkdir(scratch(f, name).text, 0755), 0);
    char part[64];
    snprintf(part, sizeof part, "%s/sub", name);
    assert_int_equal(mkdir(scratch(f, part).text, 0755), 0);
    snprintf(part, sizeof part, "%s/sub/file", name);
    write_text(scratch(f, part).text, "contents\n");
    snprintf(part, sizeof part, "%s/link", name);
    assert_int_equal(symlink("sub/file", scratch(f, part).text), 0);
    snprintf(part, sizeof part, "%s/hard", name);
    char target[64];
    snprintf(target, sizeof target, "%s/sub/file", name);
    assert_int_equal(link(scratch(f, target).text, scratch(f, part).text), 0);
}

static void add_entry(
    struct archive *writer, const char *name, unsigned type, const char *target, const char *data)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_perm(entry, 0755);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_size(entry, (la_int64_t)strlen(data));
    if (type == AE_IFLNK)
        archive_entry_set_symlink(entry, target);
    else if (target)
        archive_entry_set_hardlink(entry, target);
    else
        archive_entry_xattr_add_entry(entry, "user.key", "value", 5);
    assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(writer, data, strlen(data)), (int)strlen(data));
    archive_entry_free(entry);
}

/* One of each kind, and one that replaces another. */
static struct path make_tar(const struct fixture *f)
{
    char long_name[300] = "long/";
    for (size_t i = strlen(long_name); i < sizeof long_name - 1; i++)
        long_name[i] = i % 20 == 0 ? '/' : 'x';
    struct path path = scratch(f, "kinds.tar");
    struct archive *writer = archive_write_new();
    assert_int_equal(archive_write_set_format_pax(writer), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, path.text), ARCHIVE_OK);
    add_entry(writer, "dir", AE_IFDIR, NULL, "");
    add_entry(writer, "dir/file", AE_IFREG, NULL, "one");
    add_entry(writer, "dir/file", AE_IFREG, NULL, "two");
    add_entry(writer, "hard", AE_IFREG, "dir/file", "");
    add_entry(writer, "soft", AE_IFLNK, "hard", "");
    add_entry(writer, long_name, AE_IFREG, NULL, "three");
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return path;
}

static void a_layer_for_which_memory_or_descriptors_run_out_is_not_written(void **state)
{
    const struct fixture *f = *state;
    make_tree(f, "tree");
    const struct path paths[] = {
        make_tar(f), scratch(f, "tree"), make_archive(f, "a.cpio", "newc", NULL, "hello\n")};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        for (int compression = WFE_LAYER_NONE; compression <= WFE_LAYER_ZSTD; compression++) {
            struct layer_case layer = {paths[i].text,
                {.prefix = "in/data", .compression = (enum wfe_layer_compression)compression}};
            struct fault_case tried = {.run = write_layer, .context = &layer};
            fault_each(FAULT_MEMORY, &tried);
            fault_each(FAULT_FILE, &tried);
        }
    }
}

/* The store */

struct store_case {
    const struct fixture *f;
    struct path source;
    struct wfe_digest old;     /* in the store all the time, under the name "old" */
    struct wfe_digest subject; /* what is put or removed */
};

/* An artifact that is older than the default expiry, and shall live longer than that. */
static void put_old(struct store_case *tried)
{
    const struct fixture *f = tried->f;
    struct wfe_store_entry entry;
    struct path source = make_archive(f, "old.tar", "ustar", NULL, "old\n");
    assert_int_equal(wfe_store_put(f->store, source.text, "old", 100 * DAY_S, &entry, NULL), 0);
    tried->old = entry.digest;
    const struct timespec times[2] = {
        {.tv_sec = time(NULL) - 30 * DAY_S}, {.tv_sec = time(NULL) - 30 * DAY_S}};
    assert_int_equal(utimensat(AT_FDCWD, blob_path(f, &entry.digest).text, times, 0), 0);
}

static struct store_case store_case(const struct fixture *f)
{
    struct store_case tried = {.f = f};
    put_old(&tried);
    tried.source = make_archive(f, "new.tar", "ustar", "gzip", "new\n");
    digest_of_file(tried.source.text, &tried.subject);
    return tried;
}

/* Whatever happened: no staging file, everything that is listed is whole, the old one is there. */
static void assert_sound(const struct store_case *tried)
{
    const struct fixture *f = tried->f;
    struct wfe_digest digest;
    /* ENOTEMPTY: it is not. */
    assert_int_equal(rmdir(stored(f, "tmp", "", "").text), 0);
    assert_int_equal(mkdir(stored(f, "tmp", "", "").text, 0755), 0);
    struct wfe_store_entry *entries;
    size_t count;
    assert_int_equal(wfe_store_list(f->store, &entries, &count, NULL), 0);
    for (size_t i = 0; i < count; i++)
        assert_got(f, &entries[i].digest);
    free(entries);
    assert_int_equal(wfe_store_resolve(f->store, "old", &digest, NULL), 0);
    assert_string_equal(digest.text, tried->old.text);
    assert_got(f, &digest);
}

static int put_new(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    struct wfe_store_entry entry;
    return wfe_store_put(tried->f->store, tried->source.text, "new", WEEK_S, &entry, err);
}

static void after_put(void *context, const struct wfe_error *err)
{
    const struct store_case *tried = context;
    assert_sound(tried);
    bool is_there = wfe_store_exists(tried->f->store, &tried->subject);
    struct wfe_digest digest;
    if (!err)
        assert_int_equal(wfe_store_resolve(tried->f->store, "new", &digest, NULL), 0);
    assert_true(err || is_there);
    if (is_there)
        assert_int_equal(wfe_store_remove(tried->f->store, &tried->subject, NULL), 0);
}

static void a_put_that_fails_leaves_the_store_as_it_was(void **state)
{
    const struct fixture *f = *state;
    struct store_case store = store_case(f);
    make_tree(f, "tree");
    write_text(scratch(f, "plain").text, "just text\n");
    const struct path sources[] = {store.source, make_archive(f, "a.zip", "zip", NULL, "zip\n"),
        scratch(f, "tree"), scratch(f, "plain")};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        store.source = sources[i];
        struct wfe_store_entry entry;
        assert_int_equal(wfe_store_put(f->store, store.source.text, NULL, WEEK_S, &entry, NULL), 0);
        store.subject = entry.digest;
        assert_int_equal(wfe_store_remove(f->store, &store.subject, NULL), 0);
        struct fault_case tried = {.run = put_new, .check = after_put, .context = &store};
        fault_each(FAULT_MEMORY, &tried);
        fault_each(FAULT_FILE, &tried);
    }
}

static int take_name(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    struct wfe_store_entry entry;
    return wfe_store_put(tried->f->store, tried->source.text, "taken", WEEK_S, &entry, err);
}

/* A name belongs to its old artifact or to the new one, never to none. */
static void after_taking(void *context, const struct wfe_error *err)
{
    const struct store_case *tried = context;
    assert_sound(tried);
    struct wfe_digest digest;
    assert_int_equal(wfe_store_resolve(tried->f->store, "taken", &digest, NULL), 0);
    assert_true(err || wfe_digest_equal(&digest, &tried->subject));
    put(tried->f, scratch(tried->f, "holder.tar").text, "taken");
}

static void a_name_is_taken_over_whole_or_not_at_all(void **state)
{
    const struct fixture *f = *state;
    struct store_case store = store_case(f);
    put(f, make_archive(f, "holder.tar", "ustar", NULL, "holder\n").text, "taken");
    struct fault_case tried = {.run = take_name, .check = after_taking, .context = &store};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

static int remove_new(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    return wfe_store_remove(tried->f->store, &tried->subject, err);
}

static int remove_new_name(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    return wfe_store_remove_name(tried->f->store, "new", err);
}

static void after_removal(void *context, const struct wfe_error *err)
{
    const struct store_case *tried = context;
    assert_sound(tried);
    assert_true(err || !wfe_store_exists(tried->f->store, &tried->subject));
    put(tried->f, tried->source.text, "new");
}

static void a_removal_that_fails_leaves_other_artifacts_alone(void **state)
{
    struct store_case store = store_case(*state);
    put(store.f, store.source.text, "new");
    int (*const removals[])(void *, struct wfe_error *) = {remove_new, remove_new_name};
    for (size_t i = 0; i < 2; i++) {
        struct fault_case tried = {.run = removals[i], .check = after_removal, .context = &store};
        fault_each(FAULT_MEMORY, &tried);
        fault_each(FAULT_FILE, &tried);
    }
}

static void put_expired(const struct store_case *tried)
{
    struct wfe_store_entry entry;
    assert_int_equal(wfe_store_put(tried->f->store, tried->source.text, "new", 0, &entry, NULL), 0);
    write_text(stored(tried->f, "tmp/", "wfe-0000000000000000", "").text, "left behind");
}

static int collect(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    return wfe_store_gc(tried->f->store, NULL, NULL, err);
}

static void after_collection(void *context, const struct wfe_error *err)
{
    const struct store_case *tried = context;
    if (err)
        assert_int_equal(wfe_store_gc(tried->f->store, NULL, NULL, NULL), 0);
    else
        unlink(stored(tried->f, "tmp/", "wfe-0000000000000000", "").text);
    assert_sound(tried);
    assert_int_not_equal(access(blob_path(tried->f, &tried->subject).text, F_OK), 0);
    put_expired(tried);
}

static void a_collection_that_fails_takes_nothing_that_has_to_stay(void **state)
{
    struct store_case store = store_case(*state);
    put_expired(&store);
    struct fault_case tried = {
        .run = collect, .check = after_collection, .context = &store, .may_pass = true};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

static int read_store(void *context, struct wfe_error *err)
{
    const struct store_case *tried = context;
    WFE_STORE struct wfe_store *store = NULL;
    WFE_FREE struct wfe_store_entry *entries = NULL;
    WFE_FREE char *path = NULL;
    size_t count;
    struct wfe_digest digest;
    struct wfe_store_status status;
    int r = wfe_store_open(tried->f->store_path, false, &store, err);
    if (r == 0)
        r = wfe_store_list(store, &entries, &count, err);
    if (r == 0)
        r = wfe_store_resolve(store, "old", &digest, err);
    if (r == 0)
        r = wfe_store_get(store, &digest, &path, err);
    return r == 0 ? wfe_store_stat(store, &digest, &status, err) : r;
}

static void a_store_that_can_t_be_read_is_not_taken_for_an_empty_one(void **state)
{
    struct store_case store = store_case(*state);
    struct fault_case tried = {.run = read_store, .context = &store};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

static int make_store(void *context, struct wfe_error *err)
{
    WFE_STORE struct wfe_store *store = NULL;
    return wfe_store_open(((const struct path *)context)->text, true, &store, err);
}

/* What was begun can be finished. */
static void after_making(void *context, const struct wfe_error *err)
{
    const struct path *path = context;
    WFE_STORE struct wfe_store *store = NULL;
    assert_int_equal(wfe_store_open(path->text, true, &store, NULL), 0);
    (void)err;
    assert_int_equal(wfe_remove_tree(path->text), 0);
}

static void a_store_half_made_can_be_made(void **state)
{
    struct path path = scratch(*state, "a/fresh/one");
    struct fault_case tried = {.run = make_store, .check = after_making, .context = &path};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_for_which_memory_runs_out_is_not_read),
        WITH_STORE(workflow_data_for_which_memory_runs_out_are_not_read),
        WITH_STORE(a_layer_for_which_memory_or_descriptors_run_out_is_not_written),
        WITH_STORE(a_put_that_fails_leaves_the_store_as_it_was),
        WITH_STORE(a_name_is_taken_over_whole_or_not_at_all),
        WITH_STORE(a_removal_that_fails_leaves_other_artifacts_alone),
        WITH_STORE(a_collection_that_fails_takes_nothing_that_has_to_stay),
        WITH_STORE(a_store_that_can_t_be_read_is_not_taken_for_an_empty_one),
        WITH_STORE(a_store_half_made_can_be_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
