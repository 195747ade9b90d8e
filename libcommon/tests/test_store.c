/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <zlib.h>

#include "libcommon/layer.h"
#include "libcommon/tests/store_fixture.h"

static void a_directory_is_put_listed_got_and_removed(void **context)
{
    struct fixture *f = *context;
    assert_int_equal(mkdir(scratch(f, "tree").text, 0755), 0);
    write_text(scratch(f, "tree/file").text, "hello\n");
    time_t before = time(NULL);
    struct wfe_store_entry entry = put(f, scratch(f, "tree").text, "tree");
    assert_string_equal(entry.name, "tree");
    assert_string_equal(entry.media_type, WFE_LAYER_MEDIA_TYPE_GZIP);
    assert_true(entry.created_s >= before && entry.created_s <= time(NULL));
    assert_int_equal(entry.expires_s, entry.created_s + WEEK_S);

    struct wfe_store_entry *entries;
    size_t count;
    assert_int_equal(wfe_store_list(f->store, &entries, &count, NULL), 0);
    assert_int_equal(count, 1);
    assert_string_equal(entries[0].digest.text, entry.digest.text);
    assert_string_equal(entries[0].name, "tree");
    assert_int_equal(entries[0].size_bytes, entry.size_bytes);
    assert_string_equal(entries[0].media_type, WFE_LAYER_MEDIA_TYPE_GZIP);
    assert_int_equal(entries[0].created_s, entry.created_s);
    assert_int_equal(entries[0].expires_s, entry.expires_s);
    free(entries);

    char *path;
    assert_true(wfe_store_exists(f->store, &entry.digest));
    assert_int_equal(wfe_store_get(f->store, &entry.digest, &path, NULL), 0);
    assert_string_equal(path, blob_path(f, &entry.digest).text);
    free(path);

    assert_int_equal(wfe_store_remove(f->store, &entry.digest, NULL), 0);
    assert_false(wfe_store_exists(f->store, &entry.digest));
    assert_int_equal(count_entries(f), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
    assert_int_equal(count_files(f, "meta"), 0);
    assert_int_equal(count_files(f, "tmp"), 0);
    assert_int_equal(wfe_store_remove(f->store, &entry.digest, NULL), -ENOENT);
}

static void a_tar_is_kept_byte_for_byte(void **context)
{
    struct fixture *f = *context;
    static const struct {
        const char *filter;
        const char *media_type;
    } cases[] = {
        {NULL, WFE_LAYER_MEDIA_TYPE_TAR},
        {"gzip", WFE_LAYER_MEDIA_TYPE_GZIP},
        {"zstd", WFE_LAYER_MEDIA_TYPE_ZSTD},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct path source = make_archive(f, "archive", "ustar", cases[i].filter, "contents\n");
        struct wfe_digest expected;
        digest_of_file(source.text, &expected);
        struct wfe_store_entry entry = put(f, source.text, NULL);
        assert_string_equal(entry.digest.text, expected.text);
        assert_string_equal(entry.media_type, cases[i].media_type);
        struct wfe_digest kept;
        digest_of_file(blob_path(f, &entry.digest).text, &kept);
        assert_string_equal(kept.text, expected.text);
    }
    assert_int_equal(count_entries(f), 3);
}

static void a_tar_of_many_megabytes_is_kept_too(void **context)
{
    struct fixture *f = *context;
    size_t length = 3 * 1024 * 1024 + 17;
    char *contents = malloc(length + 1);
    assert_non_null(contents);
    uint32_t state = 12345;
    for (size_t i = 0; i < length; i++) {
        state = state * 1664525 + 1013904223;
        contents[i] = (char)('a' + (state >> 24) % 26);
    }
    contents[length] = '\0';
    static const char *const filters[] = {NULL, "gzip", "zstd"};
    for (size_t i = 0; i < 3; i++) {
        struct path source = make_archive(f, "archive", "pax", filters[i], contents);
        struct wfe_store_entry entry = put(f, source.text, NULL);
        assert_got(f, &entry.digest);
    }
    free(contents);
}

static void a_gzip_of_several_members_is_one_tar(void **context)
{
    struct fixture *f = *context;
    struct path tar = make_archive(f, "tar", "ustar", NULL, "contents\n");
    struct path both = scratch(f, "members");
    char command[1024];
    snprintf(command, sizeof command, "(head -c 700 %s | gzip; tail -c +701 %s | gzip) >%s",
        tar.text, tar.text, both.text);
    assert_int_equal(system(command), 0);
    put(f, both.text, NULL);
}

/* The first entry's name in a gzip-compressed tar. */
static void assert_first_entry(const char *path, const char *name)
{
    struct archive *reader = archive_read_new();
    archive_read_support_filter_gzip(reader);
    archive_read_support_format_tar(reader);
    assert_int_equal(archive_read_open_filename(reader, path, 4096), ARCHIVE_OK);
    struct archive_entry *entry;
    assert_int_equal(archive_read_next_header(reader, &entry), ARCHIVE_OK);
    assert_string_equal(archive_entry_pathname(entry), name);
    archive_read_free(reader);
}

static void another_archive_format_becomes_a_layer(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive.zip", "zip", NULL, "contents\n");
    struct wfe_store_entry entry = put(f, source.text, NULL);
    assert_string_equal(entry.media_type, WFE_LAYER_MEDIA_TYPE_GZIP);
    assert_first_entry(blob_path(f, &entry.digest).text, "first");
}

static void decompress(const char *from, const char *to)
{
    gzFile in = gzopen(from, "rb");
    assert_non_null(in);
    static char data[64 * 1024];
    int length = gzread(in, data, sizeof data);
    assert_in_range(length, 1, sizeof data - 1);
    assert_int_equal(gzclose(in), Z_OK);
    write_bytes(to, data, (size_t)length);
}

static struct wfe_digest diff_id_of(struct fixture *f, const struct wfe_digest *digest)
{
    struct wfe_store_status status;
    assert_int_equal(wfe_store_stat(f->store, digest, &status, NULL), 0);
    return status.diff_id;
}

static void the_tars_digest_is_told_of_layers_made_here(void **context)
{
    struct fixture *f = *context;
    struct path zip = make_archive(f, "archive.zip", "zip", NULL, "contents\n");
    struct wfe_store_entry made = put(f, zip.text, NULL);
    struct path tar = scratch(f, "layer.tar");
    struct wfe_digest expected;
    decompress(blob_path(f, &made.digest).text, tar.text);
    digest_of_file(tar.text, &expected);
    assert_string_equal(diff_id_of(f, &made.digest).text, expected.text);

    struct wfe_store_entry kept = put(f, tar.text, NULL);
    assert_string_equal(kept.digest.text, expected.text);
    assert_string_equal(diff_id_of(f, &kept.digest).text, "");

    /* The same bytes, taken over: they are what they were. */
    struct path copy = scratch(f, "layer.tar.gz");
    assert_int_equal(link(blob_path(f, &made.digest).text, copy.text), 0);
    assert_string_equal(put(f, copy.text, NULL).digest.text, made.digest.text);
    assert_string_equal(diff_id_of(f, &made.digest).text, expected.text);

    write_text(meta_path(f, &made.digest).text,
        "{\"created_at\":{\"secs_since_epoch\":1,\"nanos_since_epoch\":0},"
        "\"expires_at\":{\"secs_since_epoch\":9e9,\"nanos_since_epoch\":0},"
        "\"diff_id\":\"sha256:../x\"}");
    assert_string_equal(diff_id_of(f, &made.digest).text, "");
}

static void a_plain_file_becomes_a_layer_of_one_file(void **context)
{
    struct fixture *f = *context;
    write_text(scratch(f, "notes.txt").text, "no archive\n");
    struct wfe_store_entry entry = put(f, scratch(f, "notes.txt").text, "other");
    assert_first_entry(blob_path(f, &entry.digest).text, "notes.txt");
}

/* Runs a put of "-" with the file as stdin, through a pipe. */
static struct wfe_store_entry put_piped(const struct fixture *f, const char *path, const char *name)
{
    char command[512];
    snprintf(command, sizeof command, "cat '%s'", path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    int saved = dup(STDIN_FILENO);
    assert_int_equal(dup2(fileno(pipe), STDIN_FILENO), STDIN_FILENO);
    struct wfe_store_entry entry;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_store_put(f->store, "-", name, WEEK_S, &entry, &err);
    if (saved >= 0) {
        dup2(saved, STDIN_FILENO);
        close(saved);
    }
    pclose(pipe);
    if (r < 0)
        fail_msg("%s", err.message);
    return entry;
}

static void standard_input_is_put_through_a_pipe(void **context)
{
    struct fixture *f = *context;
    struct path tar = make_archive(f, "archive", "ustar", "gzip", "contents\n");
    struct wfe_digest expected;
    digest_of_file(tar.text, &expected);
    assert_string_equal(put_piped(f, tar.text, "tar").digest.text, expected.text);

    struct path zip = make_archive(f, "archive", "zip", NULL, "contents\n");
    struct wfe_store_entry entry = put_piped(f, zip.text, "zip");
    assert_first_entry(blob_path(f, &entry.digest).text, "first");

    write_text(scratch(f, "plain").text, "no archive\n");
    entry = put_piped(f, scratch(f, "plain").text, "log");
    assert_first_entry(blob_path(f, &entry.digest).text, "log");
    assert_int_equal(count_files(f, "tmp"), 0);
}

static void what_is_neither_file_nor_directory_is_refused(void **context)
{
    struct fixture *f = *context;
    assert_refused(f, scratch(f, "missing").text, WFE_ERROR_SYSTEM, "missing: No such file");
    assert_int_equal(mknod(scratch(f, "socket").text, S_IFSOCK | 0600, 0), 0);
    assert_refused(f, scratch(f, "socket").text, WFE_ERROR_INPUT, "neither a file nor");
}

/* A copy of the file, cut at `length`. */
static struct path cut(const struct fixture *f, const char *path, const char *name, size_t length)
{
    size_t all;
    char *data = read_bytes(path, &all);
    assert_true(length < all);
    struct path to = scratch(f, name);
    write_bytes(to.text, data, length);
    free(data);
    return to;
}

static size_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void an_archive_that_is_cut_off_is_refused(void **context)
{
    struct fixture *f = *context;
    struct path tar = make_archive(f, "tar", "ustar", NULL, "contents\n");
    struct path gzip = make_archive(f, "tar.gz", "ustar", "gzip", "contents\n");
    struct path zstd = make_archive(f, "tar.zst", "ustar", "zstd", "contents\n");
    /* Header, data block, header, data block, end. */
    assert_refused(f, cut(f, tar.text, "cut", 600).text, WFE_ERROR_ARCHIVE, "malformed tar");
    assert_refused(f, cut(f, tar.text, "cut", 1024).text, WFE_ERROR_ARCHIVE, "no end-of-archive");
    assert_refused(f, cut(f, tar.text, "cut", 1300).text, WFE_ERROR_ARCHIVE, "malformed tar");
    assert_refused(f, cut(f, tar.text, "cut", 2048).text, WFE_ERROR_ARCHIVE, "no end-of-archive");
    for (size_t off = 1; off <= 12; off++) {
        assert_refused(f, cut(f, gzip.text, "cut", size_of(gzip.text) - off).text,
            WFE_ERROR_ARCHIVE, "the compressed stream has no end");
    }
    assert_refused(f, cut(f, zstd.text, "cut", size_of(zstd.text) - 1).text, WFE_ERROR_ARCHIVE,
        "the compressed stream has no end");
    assert_int_equal(count_entries(f), 0);
    assert_int_equal(count_files(f, "tmp"), 0);
    assert_int_equal(count_files(f, "blobs/sha256"), 0);
}

/* A copy of the file with one byte changed; at counts from the end when negative. */
static struct path flip(const struct fixture *f, const char *path, const char *name, long at)
{
    size_t length;
    char *data = read_bytes(path, &length);
    data[at < 0 ? (long)length + at : at] ^= 1;
    struct path to = scratch(f, name);
    write_bytes(to.text, data, length);
    free(data);
    return to;
}

static void a_malformed_archive_is_refused(void **context)
{
    struct fixture *f = *context;
    struct path tar = make_archive(f, "tar", "ustar", NULL, "contents\n");
    struct path gzip = make_archive(f, "tar.gz", "ustar", "gzip", "contents\n");
    assert_refused(f, flip(f, tar.text, "bad", 1024 + 5).text, WFE_ERROR_ARCHIVE, "malformed tar");
    assert_refused(
        f, flip(f, gzip.text, "bad", -8).text, WFE_ERROR_ARCHIVE, "incorrect data check");
    assert_refused(
        f, flip(f, gzip.text, "bad", -1).text, WFE_ERROR_ARCHIVE, "incorrect length check");

    struct path trailing = scratch(f, "trailing");
    char command[1024];
    snprintf(command, sizeof command, "(cat %s; echo more) >%s", gzip.text, trailing.text);
    assert_int_equal(system(command), 0);
    assert_refused(f, trailing.text, WFE_ERROR_ARCHIVE, "incorrect header check");

    write_text(scratch(f, "text.tar.gz").text, "no archive\n");
    assert_refused(f, scratch(f, "text.tar.gz").text, WFE_ERROR_ARCHIVE, "named like an archive");
    assert_int_equal(count_files(f, "tmp"), 0);
}

static void the_layers_policy_does_not_bind_a_tar(void **context)
{
    struct fixture *f = *context;
    struct path tar = scratch(f, "whiteout.tar");
    char command[1024];
    snprintf(command, sizeof command, "cd %s && mkdir w && touch w/.wh.gone && tar cf %s -C w .",
        f->directory, tar.text);
    assert_int_equal(system(command), 0);
    put(f, tar.text, NULL);
    assert_refused(f, scratch(f, "w").text, WFE_ERROR_ARCHIVE, ".wh.gone");
}

static void a_flipped_bit_is_found_on_get_and_healed_by_put(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive", "ustar", NULL, "contents\n");
    struct wfe_store_entry entry = put(f, source.text, NULL);
    struct path blob = blob_path(f, &entry.digest);
    struct path damaged = flip(f, blob.text, "damaged", 700);
    assert_int_equal(rename(damaged.text, blob.text), 0);
    struct wfe_digest found;
    digest_of_file(blob.text, &found);
    assert_not_got(f, &entry.digest, WFE_ERROR_INTEGRITY, entry.digest.text);
    assert_not_got(f, &entry.digest, WFE_ERROR_INTEGRITY, found.text);
    assert_true(wfe_store_exists(f->store, &entry.digest));

    put(f, source.text, NULL);
    assert_got(f, &entry.digest);
}

static void a_blob_that_is_no_regular_file_is_not_there(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive", "ustar", NULL, "contents\n");
    struct wfe_store_entry entry = put(f, source.text, NULL);
    struct path blob = blob_path(f, &entry.digest);
    assert_int_equal(unlink(blob.text), 0);
    assert_int_equal(symlink(source.text, blob.text), 0);
    assert_not_got(f, &entry.digest, WFE_ERROR_INPUT, "is not in the store");
    assert_int_equal(unlink(blob.text), 0);
    assert_int_equal(mkfifo(blob.text, 0600), 0);
    assert_not_got(f, &entry.digest, WFE_ERROR_INPUT, "is not in the store");
    assert_int_equal(count_entries(f), 0);
}

static void text_that_is_no_digest_is_refused(void **context)
{
    struct fixture *f = *context;
    struct wfe_store_entry entry =
        put(f, make_archive(f, "archive", "ustar", NULL, "contents\n").text, "name");
    static const char *const bad[] = {
        "sha256:../../x",
        "sha256:",
        "sha256:0123456",
        "sha256:0123456789ABCDEF",
        "sha256:00000000000000000000000000000000000000000000000000000000000000000",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000/",
    };
    struct wfe_digest digest;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(wfe_store_resolve(f->store, bad[i], &digest, &err), -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
        assert_non_null(strstr(err.message, "is not a digest: expected sha256: and 64"));
    }
    assert_int_equal(wfe_store_resolve(f->store, "../../x", &digest, NULL), -EINVAL);
    assert_int_equal(wfe_store_resolve(f->store, "nothing", &digest, NULL), -ENOENT);

    assert_int_equal(wfe_store_resolve(f->store, entry.digest.text, &digest, NULL), 0);
    assert_int_equal(wfe_store_resolve(f->store, "name", &digest, NULL), 0);
    assert_string_equal(digest.text, entry.digest.text);
    char abbreviated[32];
    snprintf(abbreviated, sizeof abbreviated, "%.15s", entry.digest.text);
    memset(&digest, 0, sizeof digest);
    assert_int_equal(wfe_store_resolve(f->store, abbreviated, &digest, NULL), 0);
    assert_string_equal(digest.text, entry.digest.text);
    abbreviated[14] = abbreviated[14] == '0' ? '1' : '0';
    assert_int_equal(wfe_store_resolve(f->store, abbreviated, &digest, NULL), -ENOENT);
}

static void names_that_would_confuse_are_refused(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive", "ustar", NULL, "contents\n");
    char long_name[257];
    memset(long_name, 'x', 256);
    long_name[256] = '\0';
    const char *const bad[] = {"", ".", "..", "a/b", "a\nb", "\033[2J", "\xc2\x9b", "\xff",
        "sha256:x", "sha256-x", long_name};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct wfe_store_entry entry;
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(
            wfe_store_put(f->store, source.text, bad[i], WEEK_S, &entry, &err), -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
    }
    long_name[255] = '\0';
    const char *const good[] = {"a", "my data", "größe", "_x", "...", "-", long_name};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        put(f, source.text, good[i]);
        struct wfe_digest digest;
        assert_int_equal(wfe_store_resolve(f->store, good[i], &digest, NULL), 0);
    }
    assert_int_equal(count_entries(f), sizeof good / sizeof *good);
}

static void a_path_suggests_a_name(void **context)
{
    (void)context;
    static const char *const cases[][2] = {
        {"data", "data"},
        {"/a/b/data.tar.gz", "data"},
        {"DATA.TGZ", "DATA"},
        {"./x.tar/", "x"},
        {"a.b.zip", "a.b"},
        {".tar.gz", ".tar.gz"},
        {"notes.txt", "notes.txt"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[256] = "";
        assert_int_equal(wfe_store_suggest_name(cases[i][0], name), 0);
        assert_string_equal(name, cases[i][1]);
    }
    char name[256];
    assert_int_equal(wfe_store_suggest_name(".", name), -EINVAL);
    assert_int_equal(wfe_store_suggest_name("a/..", name), -EINVAL);
    assert_int_equal(wfe_store_suggest_name("/", name), -EINVAL);
    assert_int_equal(wfe_store_suggest_name("", name), -EINVAL);
}

static void a_store_is_made_where_nothing_is(void **context)
{
    struct fixture *f = *context;
    struct path path = scratch(f, "a/b/c");
    struct wfe_store *store;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_store_open(path.text, false, &store, &err), -ENOENT);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_int_equal(wfe_store_open(path.text, true, &store, NULL), 0);
    wfe_store_free(store);
    assert_int_equal(wfe_store_open(path.text, false, &store, NULL), 0);
    wfe_store_free(store);
    size_t length;
    char *text = read_bytes(scratch(f, "a/b/c/oci-layout").text, &length);
    assert_string_equal(text, "{\"imageLayoutVersion\":\"1.0.0\"}");
    free(text);
}

static void a_directory_that_is_no_store_is_left_alone(void **context)
{
    struct fixture *f = *context;
    struct wfe_store *store;
    struct path home = scratch(f, "home");
    assert_int_equal(mkdir(home.text, 0755), 0);
    write_text(scratch(f, "home/letter").text, "dear\n");
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_store_open(home.text, true, &store, &err), -ENOTEMPTY);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_int_equal(access(scratch(f, "home/blobs").text, F_OK), -1);
    assert_int_equal(wfe_store_open(home.text, false, &store, NULL), -EINVAL);

    write_text(stored(f, "oci-layout", "", "").text, "{\"imageLayoutVersion\":\"2.0.0\"}");
    struct wfe_error version_err = WFE_ERROR_INIT;
    assert_int_equal(wfe_store_open(f->store_path, true, &store, &version_err), -EINVAL);
    assert_non_null(strstr(version_err.message, "2.0.0"));
    write_text(stored(f, "oci-layout", "", "").text, "{{{");
    assert_int_equal(wfe_store_open(f->store_path, true, &store, NULL), -EINVAL);
}

static void the_default_path_follows_the_environment(void **context)
{
    (void)context;
    setenv("WFE_ARTIFACT_STORE", "/some/store", 1);
    setenv("XDG_DATA_HOME", "/data", 1);
    setenv("HOME", "/home/me", 1);
    char *path = wfe_store_default_path();
    assert_string_equal(path, "/some/store");
    free(path);
    unsetenv("WFE_ARTIFACT_STORE");
    path = wfe_store_default_path();
    assert_string_equal(path, "/data/wfe/artifacts");
    free(path);
    setenv("XDG_DATA_HOME", "relative", 1);
    path = wfe_store_default_path();
    assert_string_equal(path, "/home/me/.local/share/wfe/artifacts");
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_directory_is_put_listed_got_and_removed),
        WITH_STORE(a_tar_is_kept_byte_for_byte),
        WITH_STORE(a_tar_of_many_megabytes_is_kept_too),
        WITH_STORE(a_gzip_of_several_members_is_one_tar),
        WITH_STORE(another_archive_format_becomes_a_layer),
        WITH_STORE(the_tars_digest_is_told_of_layers_made_here),
        WITH_STORE(a_plain_file_becomes_a_layer_of_one_file),
        WITH_STORE(standard_input_is_put_through_a_pipe),
        WITH_STORE(what_is_neither_file_nor_directory_is_refused),
        WITH_STORE(an_archive_that_is_cut_off_is_refused),
        WITH_STORE(a_malformed_archive_is_refused),
        WITH_STORE(the_layers_policy_does_not_bind_a_tar),
        WITH_STORE(a_flipped_bit_is_found_on_get_and_healed_by_put),
        WITH_STORE(a_blob_that_is_no_regular_file_is_not_there),
        WITH_STORE(text_that_is_no_digest_is_refused),
        WITH_STORE(names_that_would_confuse_are_refused),
        cmocka_unit_test(a_path_suggests_a_name),
        WITH_STORE(a_store_is_made_where_nothing_is),
        WITH_STORE(a_directory_that_is_no_store_is_left_alone),
        cmocka_unit_test(the_default_path_follows_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
