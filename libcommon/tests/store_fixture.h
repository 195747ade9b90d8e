/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_TESTS_STORE_FIXTURE_H
#define WFE_LIBCOMMON_TESTS_STORE_FIXTURE_H

/* A scratch directory with a store in it, and sources to put. cmocka's headers come first. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <cjson/cJSON.h>

#include "libcommon/file.h"
#include "libcommon/store.h"

#define WEEK_S ((int64_t)WFE_STORE_DEFAULT_EXPIRY_S)

struct fixture {
    char directory[64];
    char store_path[96];
    struct wfe_store *store;
};

static inline int fixture_setup(void **context)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->directory, sizeof f->directory, "/tmp/wfe-store-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->store_path, sizeof f->store_path, "%s/store", f->directory);
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_open(f->store_path, true, &f->store, &err) < 0)
        fail_msg("%s", err.message);
    *context = f;
    return 0;
}

static inline int fixture_teardown(void **context)
{
    struct fixture *f = *context;
    wfe_store_free(f->store);
    int r = wfe_remove_tree(f->directory);
    free(f);
    return r;
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

struct path {
    char text[256];
};

/* Below the scratch directory. */
static inline struct path scratch(const struct fixture *f, const char *name)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s", f->directory, name);
    return path;
}

/* Below the store; part is "blobs/sha256/", "meta/" …, hex and suffix follow it. */
static inline struct path stored(
    const struct fixture *f, const char *part, const char *hex, const char *suffix)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s%s%s", f->store_path, part, hex, suffix);
    return path;
}

static inline struct path blob_path(const struct fixture *f, const struct wfe_digest *digest)
{
    return stored(f, "blobs/sha256/", wfe_digest_hex(digest), "");
}

static inline struct path meta_path(const struct fixture *f, const struct wfe_digest *digest)
{
    return stored(f, "meta/", wfe_digest_hex(digest), ".json");
}

static inline void write_bytes(const char *path, const void *data, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, data, length), 0);
    close(fd);
}

static inline void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static inline char *read_bytes(const char *path, size_t *ret_length)
{
    char *data;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_read_file(path, 64 * 1024 * 1024, &data, ret_length, &err) < 0)
        fail_msg("%s", err.message);
    return data;
}

static inline cJSON *read_json(const char *path)
{
    size_t length;
    char *text = read_bytes(path, &length);
    cJSON *json = cJSON_ParseWithLength(text, length);
    assert_non_null(json);
    free(text);
    return json;
}

static inline void digest_of_file(const char *path, struct wfe_digest *ret)
{
    size_t length;
    char *data = read_bytes(path, &length);
    wfe_digest_of(data, length, ret);
    free(data);
}

/* An archive by libarchive's names of format and filter (NULL: none) with two files. */
static inline struct path make_archive(const struct fixture *f, const char *name,
    const char *format, const char *filter, const char *contents)
{
    struct path path = scratch(f, name);
    struct archive *writer = archive_write_new();
    assert_int_equal(archive_write_set_format_by_name(writer, format), ARCHIVE_OK);
    if (filter)
        assert_int_equal(archive_write_add_filter_by_name(writer, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(writer, path.text), ARCHIVE_OK);
    static const char *const names[] = {"first", "second"};
    for (size_t i = 0; i < 2; i++) {
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, names[i]);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)strlen(contents));
        archive_entry_set_mtime(entry, 1000000000, 0);
        assert_int_equal(archive_write_header(writer, entry), ARCHIVE_OK);
        assert_int_equal(
            archive_write_data(writer, contents, strlen(contents)), (int)strlen(contents));
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(writer), ARCHIVE_OK);
    archive_write_free(writer);
    return path;
}

static inline struct wfe_store_entry put(
    const struct fixture *f, const char *path, const char *name)
{
    struct wfe_store_entry entry;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_put(f->store, path, name, WEEK_S, &entry, &err) < 0)
        fail_msg("%s", err.message);
    return entry;
}

static inline void assert_refused(
    const struct fixture *f, const char *path, enum wfe_error_kind kind, const char *text)
{
    struct wfe_store_entry entry;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_store_put(f->store, path, NULL, WEEK_S, &entry, &err) < 0);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, text))
        fail_msg("'%s' is not in '%s'", text, err.message);
}

static inline size_t count_entries(const struct fixture *f)
{
    struct wfe_store_entry *entries;
    size_t count;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_list(f->store, &entries, &count, &err) < 0)
        fail_msg("%s", err.message);
    free(entries);
    return count;
}

/* How many files a directory of the store has. */
static inline int count_files(const struct fixture *f, const char *part)
{
    struct path path = stored(f, part, "", "");
    char command[512];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", path.text);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    int count = -1;
    assert_int_equal(fscanf(pipe, "%d", &count), 1);
    pclose(pipe);
    return count;
}

static inline void assert_got(const struct fixture *f, const struct wfe_digest *digest)
{
    char *path;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_get(f->store, digest, &path, &err) < 0)
        fail_msg("%s", err.message);
    free(path);
}

static inline void assert_not_got(const struct fixture *f, const struct wfe_digest *digest,
    enum wfe_error_kind kind, const char *text)
{
    char *path;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_store_get(f->store, digest, &path, &err) < 0);
    assert_int_equal(err.kind, kind);
    if (!strstr(err.message, text))
        fail_msg("'%s' is not in '%s'", text, err.message);
}

#endif
