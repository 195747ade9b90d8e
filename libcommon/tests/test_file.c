/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static char base[64];
static int base_fd = -1;

static int make_base(void **state)
{
    (void)state;
    snprintf(base, sizeof base, "/tmp/wfe-test-file-XXXXXX");
    if (!mkdtemp(base))
        return -1;
    base_fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return base_fd < 0 ? -1 : 0;
}

static int remove_base(void **state)
{
    (void)state;
    close(base_fd);
    return wfe_remove_tree(base);
}

/* A path below the test's directory, good until the fourth call after. */
static const char *below(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static void put(const char *name, const char *contents)
{
    WFE_CLOSE int fd = open(below(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, contents, strlen(contents)), 0);
}

static void assert_contents(const char *name, const char *expected)
{
    WFE_FREE char *contents = NULL;
    size_t length = 0;
    assert_int_equal(wfe_read_file(below(name), 1000, &contents, &length, NULL), 0);
    assert_string_equal(contents, expected);
    assert_int_equal(length, strlen(expected));
}

static unsigned count_entries(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    unsigned count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

static void *drain_slowly(void *context)
{
    const int *fd = context;
    static char data[5000];
    size_t total = 0;
    ssize_t n;
    while ((n = wfe_read_full(*fd, data, sizeof data)) > 0) {
        total += (size_t)n;
        usleep(500);
    }
    return (void *)total;
}

static void writes_and_reads_go_on_after_signals(void **state)
{
    (void)state;
    enum { LENGTH = 1 << 20 };
    struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, drain_slowly, &ends[0]), 0);
    WFE_FREE char *data = calloc(1, LENGTH);
    assert_non_null(data);
    ualarm(1000, 1000);
    int r = wfe_write_all(ends[1], data, LENGTH);
    close(ends[1]);
    void *total = NULL;
    pthread_join(thread, &total);
    ualarm(0, 0);
    close(ends[0]);
    assert_int_equal(r, 0);
    assert_int_equal((size_t)total, LENGTH);
}

static void *write_in_two_pieces(void *context)
{
    const int *fd = context;
    assert_int_equal(wfe_write_all(*fd, "abc", 3), 0);
    usleep(20 * 1000);
    assert_int_equal(wfe_write_all(*fd, "defg", 4), 0);
    return NULL;
}

static void a_read_collects_the_pieces_of_a_pipe(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_in_two_pieces, &ends[1]), 0);
    char data[8] = "";
    assert_int_equal(wfe_read_full(ends[0], data, 6), 6);
    assert_string_equal(data, "abcdef");
    pthread_join(thread, NULL);
    close(ends[1]);
    assert_int_equal(wfe_read_full(ends[0], data, 6), 1);
    assert_int_equal(wfe_read_full(ends[0], data, 6), 0);
    close(ends[0]);
}

static void failed_reads_and_writes_return_the_errno(void **state)
{
    (void)state;
    char byte;
    assert_int_equal(wfe_write_all(-1, "x", 1), -EBADF);
    assert_int_equal(wfe_write_all(-1, "", 0), 0);
    assert_int_equal(wfe_read_full(base_fd, &byte, 1), -EISDIR);
}

static void a_file_is_read_whole_and_terminated(void **state)
{
    (void)state;
    put("empty", "");
    assert_contents("empty", "");
    put("f", "abc");
    assert_contents("f", "abc");
}

static void a_file_of_several_chunks_keeps_its_bytes(void **state)
{
    (void)state;
    enum { LENGTH = 16384 * 3 };
    WFE_FREE char *data = malloc(LENGTH);
    assert_non_null(data);
    for (size_t i = 0; i < LENGTH; i++)
        data[i] = (char)(i * 7 + i / 256);
    assert_int_equal(wfe_replace_file(base_fd, "f", data, LENGTH, 0644), 0);
    WFE_FREE char *back = NULL;
    size_t length = 0;
    assert_int_equal(wfe_read_file(below("f"), LENGTH, &back, &length, NULL), 0);
    assert_int_equal(length, LENGTH);
    assert_memory_equal(back, data, LENGTH);
}

static void a_file_above_the_limit_is_refused(void **state)
{
    (void)state;
    put("f", "abcd");
    char *contents = NULL;
    size_t length = 99;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_read_file(below("f"), 3, &contents, &length, &err), -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_null(contents);
    assert_int_equal(length, 99);
    assert_int_equal(wfe_read_file(below("f"), 4, &contents, &length, NULL), 0);
    free(contents);
}

static void a_missing_file_is_named_in_the_error(void **state)
{
    (void)state;
    char *contents = NULL;
    size_t length = 0;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_read_file("/nonexistent/f", 10, &contents, &length, &err), -ENOENT);
    assert_string_equal(err.message, "/nonexistent/f: No such file or directory");
}

static void directories_are_made_with_their_parents(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(wfe_make_directories(below("a//b/c/"), 0700), 0);
    assert_int_equal(wfe_make_directories(below("a/b/c"), 0700), 0);
    assert_int_equal(stat(below("a/b/c"), &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0700);
    assert_int_equal(wfe_make_directories("/", 0755), 0);
    assert_int_equal(wfe_make_directories("", 0755), -ENOENT);
}

static void a_file_in_the_way_of_a_directory_is_an_error(void **state)
{
    (void)state;
    put("f", "x");
    assert_int_equal(wfe_make_directories(below("f"), 0755), -ENOTDIR);
    assert_int_equal(wfe_make_directories(below("f/g"), 0755), -ENOTDIR);
}

static void a_replaced_file_has_the_new_contents_and_no_company(void **state)
{
    (void)state;
    assert_int_equal(wfe_replace_file(base_fd, "f", "old", 3, 0600), 0);
    assert_int_equal(wfe_replace_file(base_fd, "f", "newer", 5, 0600), 0);
    assert_contents("f", "newer");
    assert_int_equal(count_entries(base), 1);
    struct stat st;
    assert_int_equal(stat(below("f"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void a_failed_replacement_leaves_nothing_behind(void **state)
{
    (void)state;
    assert_int_equal(mkdir(below("d"), 0755), 0);
    assert_int_equal(wfe_replace_file(base_fd, "d", "x", 1, 0600), -EISDIR);
    assert_int_equal(count_entries(base), 1);
}

static void what_a_killed_writer_left_is_no_obstacle(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        char name[64];
        snprintf(name, sizeof name, ".f.%ld.%u.tmp", (long)getpid(), i);
        put(name, "left behind");
    }
    assert_int_equal(wfe_replace_file(base_fd, "f", "x", 1, 0600), 0);
    assert_contents("f", "x");
}

static void a_tree_is_removed_without_following_links(void **state)
{
    (void)state;
    assert_int_equal(wfe_make_directories(below("kept"), 0755), 0);
    put("kept/f", "x");
    assert_int_equal(wfe_make_directories(below("tree/a/b"), 0755), 0);
    put("tree/a/f", "x");
    assert_int_equal(symlink(below("kept"), below("tree/a/to-directory")), 0);
    assert_int_equal(symlink("nowhere", below("tree/dangling")), 0);
    assert_int_equal(wfe_remove_tree(below("tree")), 0);
    assert_int_equal(access(below("tree"), F_OK), -1);
    assert_contents("kept/f", "x");
    assert_int_equal(symlink(below("kept"), below("link")), 0);
    assert_int_equal(wfe_remove_tree(below("link")), 0);
    assert_contents("kept/f", "x");
}

static void removing_what_is_not_there_is_success(void **state)
{
    (void)state;
    assert_int_equal(wfe_remove_tree(below("missing")), 0);
    put("f", "x");
    assert_int_equal(wfe_remove_tree(below("f")), 0);
}

static void paths_are_joined_with_a_slash(void **state)
{
    (void)state;
    WFE_FREE char *path = wfe_path_join("a/b", "c");
    assert_string_equal(path, "a/b/c");
}

static void names_are_listed_in_the_order_of_their_bytes(void **state)
{
    (void)state;
    static const char *const expected[] = {".hidden", "B", "a", "b", "\xff"};
    static const char *const made[] = {"b", "\xff", "B", ".hidden", "a"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        put(made[i], "");
    /* Twice: the descriptor's own position does not count. */
    for (int round = 0; round < 2; round++) {
        char **names;
        size_t count;
        assert_int_equal(wfe_list_directory(base_fd, &names, &count), 0);
        assert_int_equal(count, sizeof expected / sizeof *expected);
        for (size_t i = 0; i < count; i++)
            assert_string_equal(names[i], expected[i]);
        wfe_names_free(names, count);
    }
}

static void what_is_no_directory_has_no_names(void **state)
{
    (void)state;
    put("file", "");
    WFE_CLOSE int fd = open(below("file"), O_RDONLY | O_CLOEXEC);
    char **names;
    size_t count;
    assert_int_equal(wfe_list_directory(fd, &names, &count), -ENOTDIR);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, make_base, remove_base)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(writes_and_reads_go_on_after_signals),
        TEST(a_read_collects_the_pieces_of_a_pipe),
        TEST(failed_reads_and_writes_return_the_errno),
        TEST(a_file_is_read_whole_and_terminated),
        TEST(a_file_of_several_chunks_keeps_its_bytes),
        TEST(a_file_above_the_limit_is_refused),
        TEST(a_missing_file_is_named_in_the_error),
        TEST(directories_are_made_with_their_parents),
        TEST(a_file_in_the_way_of_a_directory_is_an_error),
        TEST(a_replaced_file_has_the_new_contents_and_no_company),
        TEST(a_failed_replacement_leaves_nothing_behind),
        TEST(what_a_killed_writer_left_is_no_obstacle),
        TEST(a_tree_is_removed_without_following_links),
        TEST(removing_what_is_not_there_is_success),
        TEST(paths_are_joined_with_a_slash),
        TEST(names_are_listed_in_the_order_of_their_bytes),
        TEST(what_is_no_directory_has_no_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
