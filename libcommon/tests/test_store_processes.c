/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "libcommon/cleanup.h"
#include "libcommon/tests/store_fixture.h"

#define WRITERS 8
#define ROUNDS 6
#define KILLS 40
#define CROWD 32
#define CROWD_MS 1000

/* A child must not return into cmocka. */
#define CHILD_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "child: %s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static struct wfe_store *open_again(const struct fixture *f)
{
    struct wfe_store *store = NULL;
    CHILD_CHECK(wfe_store_open(f->store_path, true, &store, NULL) == 0);
    return store;
}

static void assert_exits_well(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Sources "own-W-R", one for each writer and round, and "shared". */
static struct path own_source(const struct fixture *f, int writer, int round)
{
    char name[64];
    snprintf(name, sizeof name, "own-%d-%d", writer, round);
    return scratch(f, name);
}

static void make_sources(const struct fixture *f)
{
    make_archive(f, "shared", "ustar", "gzip", "shared\n");
    for (int writer = 0; writer < WRITERS; writer++) {
        for (int round = 0; round < ROUNDS; round++) {
            char name[64];
            snprintf(name, sizeof name, "own-%d-%d", writer, round);
            make_archive(f, name, "ustar", "gzip", name);
        }
    }
}

static void write_as_child(const struct fixture *f, int writer)
{
    struct wfe_store *store = open_again(f);
    for (int round = 0; round < ROUNDS; round++) {
        struct wfe_error err = WFE_ERROR_INIT;
        struct wfe_store_entry entry;
        char name[64];
        snprintf(name, sizeof name, "w%d-r%d", writer, round);
        int r = wfe_store_put(store, own_source(f, writer, round).text, name, WEEK_S, &entry, &err);
        if (r == 0)
            r = wfe_store_put(store, scratch(f, "shared").text, "shared", WEEK_S, &entry, &err);
        if (r < 0)
            fprintf(stderr, "writer %d: %s\n", writer, err.message);
        CHILD_CHECK(r == 0);
    }
    wfe_store_free(store);
    _exit(0);
}

/* Whatever is listed can be got, at any moment; nothing here expires or is removed. */
static void read_as_child(const struct fixture *f)
{
    struct wfe_store *store = open_again(f);
    for (int round = 0; round < 15; round++) {
        struct wfe_store_entry *entries;
        size_t count;
        struct wfe_error err = WFE_ERROR_INIT;
        CHILD_CHECK(wfe_store_list(store, &entries, &count, &err) == 0);
        for (size_t i = 0; i < count; i++) {
            char *path;
            CHILD_CHECK(wfe_store_get(store, &entries[i].digest, &path, &err) == 0);
            free(path);
        }
        free(entries);
        if (round % 5 == 0)
            CHILD_CHECK(wfe_store_gc(store, NULL, NULL, &err) == 0);
    }
    wfe_store_free(store);
    _exit(0);
}

static void many_processes_write_and_read_at_once(void **context)
{
    struct fixture *f = *context;
    make_sources(f);
    pid_t children[WRITERS + 2];
    for (int i = 0; i < WRITERS + 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0 && i < WRITERS)
            write_as_child(f, i);
        if (children[i] == 0)
            read_as_child(f);
    }
    for (int i = 0; i < WRITERS + 2; i++)
        assert_exits_well(children[i]);

    assert_int_equal(count_entries(f), WRITERS * ROUNDS + 1);
    for (int writer = 0; writer < WRITERS; writer++) {
        for (int round = 0; round < ROUNDS; round++) {
            char name[64];
            snprintf(name, sizeof name, "w%d-r%d", writer, round);
            struct wfe_digest expected;
            struct wfe_digest digest;
            digest_of_file(own_source(f, writer, round).text, &expected);
            assert_int_equal(wfe_store_resolve(f->store, name, &digest, NULL), 0);
            assert_string_equal(digest.text, expected.text);
            assert_got(f, &digest);
        }
    }
    assert_int_equal(count_files(f, "tmp"), 0);
}

static void many_processes_make_the_same_store(void **context)
{
    struct fixture *f = *context;
    for (int round = 0; round < 20; round++) {
        char name[32];
        snprintf(name, sizeof name, "fresh-%d", round);
        struct path path = scratch(f, name);
        pid_t children[4];
        for (int i = 0; i < 4; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                struct wfe_store *store = NULL;
                struct wfe_error err = WFE_ERROR_INIT;
                int r = wfe_store_open(path.text, true, &store, &err);
                if (r < 0)
                    fprintf(stderr, "%s\n", err.message);
                _exit(r < 0);
            }
        }
        for (int i = 0; i < 4; i++)
            assert_exits_well(children[i]);
    }
}

static void wait_for_staging_file(const struct fixture *f)
{
    for (int i = 0; i < 1000 && count_files(f, "tmp") == 0; i++)
        usleep(10000);
    assert_int_equal(count_files(f, "tmp"), 1);
}

static void gc_leaves_a_living_put_alone(void **context)
{
    struct fixture *f = *context;
    struct path source = make_archive(f, "archive", "ustar", NULL, "slow\n");
    struct path fifo = scratch(f, "fifo");
    assert_int_equal(mkfifo(fifo.text, 0600), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct wfe_store *store = open_again(f);
        struct wfe_store_entry entry;
        int r = wfe_store_put(store, fifo.text, "slow", WEEK_S, &entry, NULL);
        wfe_store_free(store);
        _exit(r < 0);
    }
    int fd = open(fifo.text, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    wait_for_staging_file(f);
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "tmp"), 1);
    size_t length;
    char *data = read_bytes(source.text, &length);
    assert_int_equal(wfe_write_all(fd, data, length), 0);
    free(data);
    close(fd);
    assert_exits_well(child);
    struct wfe_digest digest;
    assert_int_equal(wfe_store_resolve(f->store, "slow", &digest, NULL), 0);
    assert_got(f, &digest);
}

static void gc_removes_what_a_killed_put_staged(void **context)
{
    struct fixture *f = *context;
    struct path fifo = scratch(f, "fifo");
    assert_int_equal(mkfifo(fifo.text, 0600), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct wfe_store_entry entry;
        wfe_store_put(open_again(f), fifo.text, "slow", WEEK_S, &entry, NULL);
        _exit(0);
    }
    int fd = open(fifo.text, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    wait_for_staging_file(f);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(fd);
    assert_int_equal(count_files(f, "tmp"), 1);
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "tmp"), 0);
}

static void put_and_remove_for_ever(const struct fixture *f)
{
    struct wfe_store *store = open_again(f);
    for (int i = 0;; i++) {
        struct wfe_store_entry entry;
        char name[32];
        snprintf(name, sizeof name, "name-%d", i % 5);
        struct path source = own_source(f, i % WRITERS, i % ROUNDS);
        CHILD_CHECK(wfe_store_put(store, source.text, name, WEEK_S, &entry, NULL) == 0);
        if (i % 3 == 2)
            CHILD_CHECK(wfe_store_remove(store, &entry.digest, NULL) == 0);
    }
}

static void a_process_killed_at_random_leaves_a_store_that_works(void **context)
{
    struct fixture *f = *context;
    make_sources(f);
    unsigned seed = 4711;
    for (int round = 0; round < KILLS; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            put_and_remove_for_ever(f);
        usleep(500 + (useconds_t)(rand_r(&seed) % 30000));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));

        struct wfe_store_entry *entries;
        size_t count;
        struct wfe_error err = WFE_ERROR_INIT;
        if (wfe_store_list(f->store, &entries, &count, &err) < 0)
            fail_msg("%s", err.message);
        for (size_t i = 0; i < count; i++)
            assert_got(f, &entries[i].digest);
        free(entries);
    }
    put(f, scratch(f, "shared").text, "shared");
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "tmp"), 0);
    struct wfe_digest digest;
    assert_int_equal(wfe_store_resolve(f->store, "shared", &digest, NULL), 0);
    assert_got(f, &digest);
}

/* Puts the same and other artifacts, until it is killed. */
static void put_for_ever(const struct fixture *f, int writer)
{
    struct wfe_store *store = open_again(f);
    for (int i = 0;; i++) {
        struct wfe_store_entry entry;
        struct path source =
            i % 2 ? scratch(f, "shared") : own_source(f, writer % WRITERS, i % ROUNDS);
        CHILD_CHECK(
            wfe_store_put(store, source.text, i % 2 ? "shared" : NULL, WEEK_S, &entry, NULL) == 0);
    }
}

/* Every blob is whole as soon as it can be seen; until there is `end`. */
static void check_as_child(const struct fixture *f)
{
    struct wfe_store *store = open_again(f);
    while (access(scratch(f, "end").text, F_OK) < 0) {
        struct wfe_store_entry *entries;
        size_t count;
        CHILD_CHECK(wfe_store_list(store, &entries, &count, NULL) == 0);
        for (size_t i = 0; i < count; i++) {
            struct wfe_digest found;
            digest_of_file(blob_path(f, &entries[i].digest).text, &found);
            CHILD_CHECK(wfe_digest_equal(&found, &entries[i].digest));
        }
        free(entries);
    }
    wfe_store_free(store);
    _exit(0);
}

static pid_t start_writer(const struct fixture *f, int writer)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        put_for_ever(f, writer);
    }
    return child;
}

static void a_crowd_of_writers_is_killed_at_random(void **context)
{
    struct fixture *f = *context;
    make_sources(f);
    pid_t writers[CROWD], reader = fork();
    assert_true(reader >= 0);
    if (reader == 0)
        check_as_child(f);
    for (int i = 0; i < CROWD; i++)
        writers[i] = start_writer(f, i);
    unsigned seed = 4712;
    for (int passed_ms = 0; passed_ms < CROWD_MS; passed_ms += 10) {
        int victim = rand_r(&seed) % CROWD, status;
        usleep(10000);
        kill(writers[victim], SIGKILL);
        assert_int_equal(waitpid(writers[victim], &status, 0), writers[victim]);
        assert_true(WIFSIGNALED(status));
        writers[victim] = start_writer(f, victim);
    }
    for (int i = 0; i < CROWD; i++) {
        kill(writers[i], SIGKILL);
        assert_int_equal(waitpid(writers[i], NULL, 0), writers[i]);
    }
    write_text(scratch(f, "end").text, "");
    assert_exits_well(reader);
    assert_int_equal(wfe_store_gc(f->store, NULL, NULL, NULL), 0);
    assert_int_equal(count_files(f, "tmp"), 0);
    assert_true(count_entries(f) > 0);
}

/* Puts with more and more room left, so that the disk is full at one file of a put after the other:
 * each one is there as a whole with its name, or not at all, and the old one stays. */
static void put_with_little_room(
    const struct fixture *f, struct wfe_store *store, const struct path *disk)
{
    struct path ballast;
    snprintf(ballast.text, sizeof ballast.text, "%.200s/ballast", disk->text);
    bool has_failed = false, has_passed = false;
    for (int room_pages = 0; !has_passed; room_pages++) {
        struct statvfs space;
        CHILD_CHECK(room_pages < 100);
        unlink(ballast.text);
        CHILD_CHECK(statvfs(disk->text, &space) == 0);
        int fd = open(ballast.text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        CHILD_CHECK(fd >= 0);
        CHILD_CHECK(
            posix_fallocate(fd, 0,
                (off_t)(space.f_bavail - (fsblkcnt_t)room_pages) * (off_t)space.f_bsize) == 0);
        close(fd);
        struct wfe_store_entry late;
        struct wfe_error err = WFE_ERROR_INIT;
        struct wfe_digest digest;
        int r = wfe_store_put(store, scratch(f, "late").text, "late", WEEK_S, &late, &err);
        CHILD_CHECK(r == 0 || (r == -ENOSPC && err.kind == WFE_ERROR_SYSTEM));
        CHILD_CHECK((wfe_store_resolve(store, "late", &digest, NULL) == 0) == (r == 0));
        CHILD_CHECK(wfe_store_resolve(store, "t", &digest, NULL) == 0);
        WFE_FREE char *path = NULL;
        CHILD_CHECK(wfe_store_get(store, &digest, &path, NULL) == 0);
        has_failed |= r < 0;
        has_passed = r == 0;
    }
    CHILD_CHECK(has_failed);
    unlink(ballast.text);
}

/* In a mount namespace of its own; exit status 77: not allowed to mount. */
static void fill_a_disk_as_child(const struct fixture *f)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
        _exit(77);
    struct path disk = scratch(f, "disk");
    CHILD_CHECK(mkdir(disk.text, 0755) == 0);
    if (mount("tmpfs", disk.text, "tmpfs", 0, "size=1m") < 0)
        _exit(77);
    struct wfe_store *store = NULL;
    CHILD_CHECK(wfe_store_open(disk.text, true, &store, NULL) == 0);
    struct wfe_store_entry small;
    struct wfe_store_entry big;
    CHILD_CHECK(wfe_store_put(store, scratch(f, "small").text, "s", WEEK_S, &small, NULL) == 0);
    static const char *const sources[] = {"big", "big-file"};
    for (size_t i = 0; i < 2; i++) {
        struct wfe_error err = WFE_ERROR_INIT;
        CHILD_CHECK(
            wfe_store_put(store, scratch(f, sources[i]).text, "b", WEEK_S, &big, &err) == -ENOSPC);
        CHILD_CHECK(err.kind == WFE_ERROR_SYSTEM);
        CHILD_CHECK(strstr(err.message, "No space left on device"));
    }
    char *path;
    CHILD_CHECK(wfe_store_get(store, &small.digest, &path, NULL) == 0);
    uint64_t bytes = 1;
    CHILD_CHECK(wfe_store_gc(store, NULL, &bytes, NULL) == 0 && bytes == 0);
    CHILD_CHECK(wfe_store_put(store, scratch(f, "small").text, "t", WEEK_S, &small, NULL) == 0);
    put_with_little_room(f, store, &disk);
    CHILD_CHECK(wfe_store_gc(store, NULL, &bytes, NULL) == 0 && bytes == 0);
    _exit(0);
}

static void a_full_disk_fails_the_put_and_leaves_nothing(void **context)
{
    struct fixture *f = *context;
    make_archive(f, "small", "ustar", NULL, "small\n");
    make_archive(f, "late", "ustar", NULL, "late\n");
    size_t length = 2 * 1024 * 1024;
    char *contents = malloc(length + 1);
    assert_non_null(contents);
    unsigned seed = 1;
    for (size_t i = 0; i < length; i++)
        contents[i] = (char)(1 + rand_r(&seed) % 255);
    contents[length] = '\0';
    make_archive(f, "big", "ustar", NULL, contents);
    write_text(scratch(f, "big-file").text, contents);
    free(contents);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        fill_a_disk_as_child(f);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        WITH_STORE(many_processes_write_and_read_at_once),
        WITH_STORE(many_processes_make_the_same_store),
        WITH_STORE(gc_leaves_a_living_put_alone),
        WITH_STORE(gc_removes_what_a_killed_put_staged),
        WITH_STORE(a_process_killed_at_random_leaves_a_store_that_works),
        WITH_STORE(a_crowd_of_writers_is_killed_at_random),
        WITH_STORE(a_full_disk_fails_the_put_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
