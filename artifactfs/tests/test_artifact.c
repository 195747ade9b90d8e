/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "artifactfs/artifact.h"
#include "libcommon/tests/store_fixture.h"

/* What the artifact's threads have told. */
static char told[4096];

static void listen(void *context, const char *message)
{
    (void)context;
    size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, "%s\n", message);
}

static struct wfe_artifact *open_artifact(struct wfe_artifact_options options)
{
    struct wfe_artifact *artifact;
    struct wfe_error err = WFE_ERROR_INIT;
    options.log = listen;
    told[0] = '\0';
    if (wfe_artifact_open(&options, &artifact, &err) < 0)
        fail_msg("%s", err.message);
    return artifact;
}

static enum wfe_artifact_state wait_for_state(
    struct wfe_artifact *artifact, char *reason, size_t reason_size)
{
    enum wfe_artifact_state state;
    while ((state = wfe_artifact_state(artifact, reason, reason_size)) == WFE_ARTIFACT_SCANNING)
        usleep(1000);
    return state;
}

static void assert_good(struct wfe_artifact *artifact)
{
    char reason[512];
    if (wait_for_state(artifact, reason, sizeof reason) != WFE_ARTIFACT_GOOD)
        fail_msg("%s", reason);
    assert_string_equal(told, "");
}

static uint32_t inode_of(struct wfe_artifact *artifact, const char *name)
{
    uint32_t inode;
    assert_int_equal(
        wfe_index_lookup(wfe_artifact_index(artifact), WFE_INDEX_ROOT, name, NULL, &inode), 0);
    return inode;
}

static void assert_holds(struct wfe_artifact *artifact, const char *name, const char *text)
{
    char buffer[256];
    struct wfe_error err = WFE_ERROR_INIT;
    ssize_t n =
        wfe_artifact_read(artifact, inode_of(artifact, name), buffer, sizeof buffer, 0, NULL, &err);
    if (n < 0)
        fail_msg("%s", err.message);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buffer, text, (size_t)n);
}

static void archives_are_read_in_every_form(void **context)
{
    static const struct {
        const char *name, *format, *filter, *type;
    } forms[] = {
        {"a.tar", "pax", NULL, "application/vnd.oci.image.layer.v1.tar"},
        {"a.tgz", "gnutar", "gzip", "application/vnd.oci.image.layer.v1.tar+gzip"},
        {"a.tzst", "ustar", "zstd", "application/vnd.oci.image.layer.v1.tar+zstd"},
        {"a.txz", "pax", "xz", "application/octet-stream"},
        {"a.zip", "zip", NULL, "application/zip"},
        {"a.7z", "7zip", NULL, "application/octet-stream"},
        {"a.cpio.gz", "cpio", "gzip", "application/octet-stream"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct path path =
            make_archive(*context, forms[i].name, forms[i].format, forms[i].filter, "text");
        struct wfe_artifact *artifact =
            open_artifact((struct wfe_artifact_options){.path = path.text});
        assert_holds(artifact, "first", "text");
        assert_holds(artifact, "second", "text");
        assert_good(artifact);
        assert_string_equal(wfe_artifact_media_type(artifact), forms[i].type);
        struct wfe_digest expected, found;
        digest_of_file(path.text, &expected);
        assert_true(wfe_artifact_digest(artifact, &found));
        assert_string_equal(found.text, expected.text);
        assert_int_equal(wfe_artifact_find_digest(artifact, NULL, &found), 0);
        assert_string_equal(found.text, expected.text);
        wfe_artifact_free(artifact);
    }
}

static void an_archive_inside_of_a_file_is_read_there(void **context)
{
    struct path inner = make_archive(*context, "inner", "pax", "gzip", "text");
    size_t length;
    char *data = read_bytes(inner.text, &length);
    struct path outer = scratch(*context, "outer");
    char *whole = calloc(1, length + 2000);
    assert_non_null(whole);
    memcpy(whole + 1000, data, length);
    write_bytes(outer.text, whole, length + 2000);
    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){
        .path = outer.text, .offset_bytes = 1000, .length_bytes = length});
    assert_holds(artifact, "second", "text");
    assert_good(artifact);
    assert_int_equal(wfe_artifact_size(artifact), length);
    struct wfe_digest expected, found;
    digest_of_file(inner.text, &expected);
    assert_int_equal(wfe_artifact_find_digest(artifact, NULL, &found), 0);
    assert_string_equal(found.text, expected.text);
    wfe_artifact_free(artifact);
    free(whole);
    free(data);
}

static void a_directory_is_read_in_its_place(void **context)
{
    struct path directory = scratch(*context, "tree");
    assert_int_equal(mkdir(directory.text, 0755), 0);
    write_text(scratch(*context, "tree/file").text, "text");
    struct wfe_artifact *artifact =
        open_artifact((struct wfe_artifact_options){.path = directory.text});
    assert_good(artifact);
    assert_holds(artifact, "file", "text");
    assert_string_equal(wfe_artifact_media_type(artifact), "inode/directory");
    assert_int_equal(wfe_artifact_size(artifact), 0);
    struct wfe_digest digest;
    assert_int_equal(wfe_artifact_find_digest(artifact, NULL, &digest), -ENODATA);
    uint64_t offset;
    size_t length;
    assert_int_equal(
        wfe_artifact_map(artifact, inode_of(artifact, "file"), 0, 4, &offset, &length), -1);

    /* A link put into the place of a file since must not lead out. */
    struct path file = scratch(*context, "tree/file");
    write_text(scratch(*context, "secret").text, "secret");
    assert_int_equal(unlink(file.text), 0);
    assert_int_equal(symlink("../secret", file.text), 0);
    char buffer[16];
    assert_int_equal(wfe_artifact_read(artifact, inode_of(artifact, "file"), buffer, sizeof buffer,
                         0, NULL, NULL),
        -EIO);
    wfe_artifact_free(artifact);
}

static void a_file_below_a_very_long_path_is_read(void **context)
{
    struct path root = scratch(*context, "deep");
    assert_int_equal(mkdir(root.text, 0755), 0);
    char component[201];
    memset(component, 'd', 200);
    component[200] = '\0';
    int at = open(root.text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int depth = 0; depth < 50; depth++) {
        assert_int_equal(mkdirat(at, component, 0755), 0);
        int next = openat(at, component, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    int fd = openat(at, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(wfe_write_all(fd, "deep", 4), 0);
    close(fd);
    close(at);

    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){.path = root.text});
    assert_good(artifact);
    uint32_t inode = WFE_INDEX_ROOT;
    for (int depth = 0; depth < 50; depth++)
        assert_int_equal(
            wfe_index_lookup(wfe_artifact_index(artifact), inode, component, NULL, &inode), 0);
    assert_int_equal(
        wfe_index_lookup(wfe_artifact_index(artifact), inode, "file", NULL, &inode), 0);
    char buffer[8];
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, sizeof buffer, 0, NULL, NULL), 4);
    assert_memory_equal(buffer, "deep", 4);
    wfe_artifact_free(artifact);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", root.text);
    assert_int_equal(system(command), 0);
}

static void files_that_lie_as_they_are_can_be_mapped(void **context)
{
    struct path path = make_archive(*context, "a.tar", "pax", NULL, "some text");
    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){.path = path.text});
    uint32_t inode = inode_of(artifact, "second");
    uint64_t offset;
    size_t length;
    char buffer[16];
    int fd = wfe_artifact_map(artifact, inode, 5, 100, &offset, &length);
    assert_true(fd >= 0);
    assert_int_equal(length, 4);
    assert_int_equal(pread(fd, buffer, length, (off_t)offset), 4);
    assert_memory_equal(buffer, "text", 4);
    assert_int_equal(wfe_artifact_map(artifact, inode, 9, 100, &offset, &length), -1);
    assert_int_equal(wfe_artifact_map(artifact, WFE_INDEX_ROOT, 0, 1, &offset, &length), -1);
    wfe_artifact_free(artifact);

    path = make_archive(*context, "a.tar.gz", "pax", "gzip", "some text");
    artifact = open_artifact((struct wfe_artifact_options){.path = path.text});
    assert_good(artifact);
    inode = inode_of(artifact, "second");
    assert_int_equal(wfe_artifact_map(artifact, inode, 0, 9, &offset, &length), -1);
    wfe_artifact_free(artifact);
}

static void reads_keep_to_files(void **context)
{
    struct path path = make_archive(*context, "a.tar", "pax", NULL, "text");
    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){.path = path.text});
    char buffer[16];
    uint32_t inode = inode_of(artifact, "first");
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, 2, 1, NULL, NULL), 2);
    assert_memory_equal(buffer, "ex", 2);
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, 16, 4, NULL, NULL), 0);
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, 16, UINT64_MAX, NULL, NULL), 0);
    assert_int_equal(
        wfe_artifact_read(artifact, WFE_INDEX_ROOT, buffer, 16, 0, NULL, NULL), -EISDIR);
    assert_int_equal(wfe_artifact_read(artifact, 12345, buffer, 16, 0, NULL, NULL), -ENOENT);
    wfe_artifact_free(artifact);
}

static void bytes_that_are_not_their_digest_are_refused(void **context)
{
    struct path path = make_archive(*context, "a.tar.gz", "pax", "gzip", "text");
    struct wfe_digest expected, found;
    wfe_digest_of("other", 5, &expected);
    digest_of_file(path.text, &found);
    struct wfe_artifact *artifact =
        open_artifact((struct wfe_artifact_options){.path = path.text, .digest = &expected});
    char reason[512];
    assert_int_equal(wait_for_state(artifact, reason, sizeof reason), WFE_ARTIFACT_BROKEN);
    assert_non_null(strstr(reason, expected.text));
    assert_non_null(strstr(reason, found.text));
    assert_non_null(strstr(told, expected.text));
    char buffer[16];
    uint32_t inode = inode_of(artifact, "first");
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, 16, 0, NULL, NULL), -EIO);
    assert_int_equal(wfe_artifact_find_digest(artifact, NULL, &found), -ENODATA);
    wfe_artifact_free(artifact);
}

static void a_truncated_archive_gives_what_it_has(void **context)
{
    struct path path = make_archive(*context, "a.tar", "ustar", NULL, "text");
    /* Two headers and two blocks of data, the last of which is cut. */
    assert_int_equal(truncate(path.text, 3 * 512 + 2), 0);
    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){.path = path.text});
    char reason[512], buffer[16];
    assert_int_equal(wait_for_state(artifact, reason, sizeof reason), WFE_ARTIFACT_BROKEN);
    assert_true(reason[0]);
    assert_holds(artifact, "first", "text");
    uint32_t inode = inode_of(artifact, "second");
    uint64_t offset;
    size_t length;
    assert_int_equal(wfe_artifact_map(artifact, inode, 0, 4, &offset, &length), -1);
    assert_int_equal(wfe_artifact_read(artifact, inode, buffer, 16, 0, NULL, NULL), -EIO);
    wfe_artifact_free(artifact);
}

static struct wfe_index_cache *open_cache(const char *directory)
{
    struct wfe_index_cache *cache;
    const struct wfe_index_cache_options options = {.directory = directory};
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_index_cache_open(&options, &cache, &err) < 0)
        fail_msg("%s", err.message);
    return cache;
}

static unsigned count_indexes(const char *directory)
{
    char command[300];
    snprintf(command, sizeof command, "ls '%s' | wc -l", directory);
    FILE *pipe = popen(command, "r");
    unsigned count = 99;
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    pclose(pipe);
    return count;
}

/* A file that is being written counts under its own name only. */
static void await_indexes(const char *directory, unsigned count)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    for (int tries = 0; count_indexes(directory) != count; tries++) {
        if (tries == 1000)
            fail_msg("there are %u indexes, not %u", count_indexes(directory), count);
        nanosleep(&pause, NULL);
    }
}

static void an_index_is_kept_once_and_used_then(void **context)
{
    struct path directory = scratch(*context, "cache");
    struct wfe_index_cache *cache = open_cache(directory.text);
    static const char *const names[] = {"a.tar", "a.tar.gz"};
    for (unsigned i = 0; i < 2; i++) {
        struct path path = make_archive(*context, names[i], "pax", i ? "gzip" : NULL, "text");
        struct wfe_digest digest;
        digest_of_file(path.text, &digest);
        const struct wfe_artifact_options options = {
            .path = path.text, .digest = &digest, .cache = cache};
        struct wfe_artifact *artifact = open_artifact(options);
        assert_good(artifact);
        /* It is kept a moment after it is known to be good, unless the artifact ends. */
        await_indexes(directory.text, i + 1);
        wfe_artifact_free(artifact);
        artifact = open_artifact(options);
        /* Nothing is scanned. */
        assert_true(wfe_index_is_complete(wfe_artifact_index(artifact)));
        assert_int_equal(wfe_artifact_state(artifact, NULL, 0), WFE_ARTIFACT_GOOD);
        assert_holds(artifact, "second", "text");
        wfe_artifact_free(artifact);
    }
    wfe_index_cache_free(cache);
}

static void an_index_of_a_broken_artifact_is_not_kept(void **context)
{
    struct path directory = scratch(*context, "cache");
    struct wfe_index_cache *cache = open_cache(directory.text);
    struct path path = make_archive(*context, "a.tar.gz", "pax", "gzip", "text");
    struct wfe_digest other;
    wfe_digest_of("other", 5, &other);
    struct wfe_artifact *artifact = open_artifact(
        (struct wfe_artifact_options){.path = path.text, .digest = &other, .cache = cache});
    assert_int_equal(wait_for_state(artifact, NULL, 0), WFE_ARTIFACT_BROKEN);
    wfe_artifact_free(artifact);
    assert_int_equal(count_indexes(directory.text), 0);
    wfe_index_cache_free(cache);
}

static void a_plain_file_is_shown_under_its_name(void **context)
{
    struct path path = scratch(*context, "notes.txt");
    write_text(path.text, "some notes");
    struct wfe_artifact *artifact = open_artifact((struct wfe_artifact_options){.path = path.text});
    assert_holds(artifact, "notes.txt", "some notes");
    assert_good(artifact);
    wfe_artifact_free(artifact);
    artifact = open_artifact(
        (struct wfe_artifact_options){.path = path.text, .file_name = "other.txt.gz"});
    /* It is not compressed, whatever its name says. */
    assert_holds(artifact, "other.txt.gz", "some notes");
    wfe_artifact_free(artifact);
}

static void what_is_neither_file_nor_directory_is_refused(void **context)
{
    struct path fifo = scratch(*context, "fifo");
    assert_int_equal(mkfifo(fifo.text, 0600), 0);
    const char *const paths[] = {fifo.text, "/dev/null", "/no/such/file"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct wfe_artifact *artifact;
        struct wfe_error err = WFE_ERROR_INIT;
        const struct wfe_artifact_options options = {.path = paths[i]};
        assert_true(wfe_artifact_open(&options, &artifact, &err) < 0);
        assert_int_equal(err.kind, i < 2 ? WFE_ERROR_INPUT : WFE_ERROR_SYSTEM);
    }
}

static void an_artifact_can_be_freed_while_it_is_scanned(void **context)
{
    struct path path = scratch(*context, "zeros.bz2");
    char command[400];
    snprintf(command, sizeof command, "head -c 30000000 /dev/zero | bzip2 -1 > '%s'", path.text);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < 3; i++) {
        struct wfe_artifact *artifact =
            open_artifact((struct wfe_artifact_options){.path = path.text});
        usleep((useconds_t)i * 2000);
        wfe_artifact_free(artifact);
        assert_string_equal(told, "");
    }
}

static bool is_over(void *context)
{
    return *(int *)context;
}

static void a_read_ends_with_its_patience(void **context)
{
    struct path path = scratch(*context, "zeros.bz2");
    char command[400];
    snprintf(command, sizeof command, "head -c 100000000 /dev/zero | bzip2 -1 > '%s'", path.text);
    assert_int_equal(system(command), 0);
    struct wfe_artifact *artifact =
        open_artifact((struct wfe_artifact_options){.path = path.text, .file_name = "zeros"});
    int over = 1;
    const struct wfe_index_patience patience = {.is_over = is_over, .context = &over};
    struct wfe_inode record;
    uint32_t inode = inode_of(artifact, "zeros");
    assert_int_equal(wfe_index_get(wfe_artifact_index(artifact), inode, &record), 0);
    char buffer[16];
    ssize_t n =
        wfe_artifact_read(artifact, inode, buffer, sizeof buffer, 99000000, &patience, NULL);
    /* The file's size may not be known before the end: then there is nothing to wait for. */
    assert_true(n == -EINTR || n == 16 || n == 0);
    wfe_artifact_free(artifact);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(archives_are_read_in_every_form),
        WITH_STORE(an_archive_inside_of_a_file_is_read_there),
        WITH_STORE(a_directory_is_read_in_its_place),
        WITH_STORE(a_file_below_a_very_long_path_is_read),
        WITH_STORE(files_that_lie_as_they_are_can_be_mapped),
        WITH_STORE(reads_keep_to_files),
        WITH_STORE(bytes_that_are_not_their_digest_are_refused),
        WITH_STORE(a_truncated_archive_gives_what_it_has),
        WITH_STORE(an_index_is_kept_once_and_used_then),
        WITH_STORE(an_index_of_a_broken_artifact_is_not_kept),
        WITH_STORE(a_plain_file_is_shown_under_its_name),
        WITH_STORE(what_is_neither_file_nor_directory_is_refused),
        WITH_STORE(an_artifact_can_be_freed_while_it_is_scanned),
        WITH_STORE(a_read_ends_with_its_patience),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
