/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/virtual.h"

/* A file that holds one letter, repeated. */
struct letters {
    struct wfe_virtual_content head;
    char letter;
};

static unsigned living;

static int read_letters(struct wfe_virtual_content *content, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience)
{
    (void)offset;
    (void)patience;
    memset(buffer, ((const struct letters *)content)->letter, length);
    return 0;
}

static bool equal_letters(
    const struct wfe_virtual_content *content, const struct wfe_virtual_content *other)
{
    return ((const struct letters *)content)->letter == ((const struct letters *)other)->letter;
}

static void free_letters(struct wfe_virtual_content *content)
{
    living--;
    free(content);
}

static int open_letters(
    void *context, const struct wfe_index_patience *patience, struct wfe_virtual_content **ret)
{
    (void)patience;
    const char *letter = context;
    if (*letter == '!')
        return -EIO;
    struct letters *letters = malloc(sizeof *letters);
    assert_non_null(letters);
    *letters = (struct letters){
        .head = {.size_bytes = 10,
            .read = read_letters,
            .equals = equal_letters,
            .free = free_letters},
        .letter = *letter,
    };
    living++;
    *ret = &letters->head;
    return 0;
}

static struct wfe_virtual *new_tree(char *letter)
{
    struct wfe_virtual *tree;
    assert_int_equal(wfe_virtual_new(&tree, NULL), 0);
    const struct wfe_virtual_file file = {
        .name = "letters", .open = open_letters, .context = letter};
    assert_int_equal(wfe_virtual_add(tree, WFE_VIRTUAL_TOP, &file, NULL), 0);
    living = 0;
    return tree;
}

static uint64_t look_up(struct wfe_virtual *tree)
{
    uint64_t number;
    assert_int_equal(wfe_virtual_lookup(tree, WFE_VIRTUAL_TOP, "letters", NULL, &number), 0);
    return number;
}

static void a_file_keeps_its_inode_as_long_as_it_holds_the_same(void **context)
{
    (void)context;
    char letter = 'a';
    struct wfe_virtual *tree = new_tree(&letter);
    uint64_t first = look_up(tree);
    assert_true(first >= WFE_VIRTUAL_FIRST_CONTENT);
    assert_true(look_up(tree) == first);
    assert_int_equal(living, 1);
    letter = 'b';
    uint64_t second = look_up(tree);
    assert_true(second != first);
    assert_int_equal(living, 2);

    char buffer[32];
    assert_int_equal(wfe_virtual_read(tree, first, buffer, sizeof buffer, 0, NULL), 10);
    assert_memory_equal(buffer, "aaaaaaaaaa", 10);
    assert_int_equal(wfe_virtual_read(tree, second, buffer, sizeof buffer, 8, NULL), 2);
    assert_memory_equal(buffer, "bb", 2);
    assert_int_equal(wfe_virtual_read(tree, second, buffer, sizeof buffer, 10, NULL), 0);
    assert_int_equal(wfe_virtual_read(tree, second, buffer, sizeof buffer, UINT64_MAX, NULL), 0);
    wfe_virtual_free(tree);
    assert_int_equal(living, 0);
}

static void a_content_goes_when_the_kernel_has_forgotten_all_lookups(void **context)
{
    (void)context;
    char letter = 'a';
    struct wfe_virtual *tree = new_tree(&letter);
    uint64_t number = look_up(tree);
    look_up(tree);
    wfe_virtual_forget(tree, number, 1);
    assert_int_equal(living, 1);
    wfe_virtual_forget(tree, number, 1);
    assert_int_equal(living, 0);
    struct stat st;
    assert_int_equal(wfe_virtual_stat(tree, number, &st), -ENOENT);
    char buffer[1];
    assert_int_equal(wfe_virtual_read(tree, number, buffer, 1, 0, NULL), -ENOENT);
    /* A number is not given out again. */
    assert_true(look_up(tree) != number);
    wfe_virtual_forget(tree, number, 1);
    wfe_virtual_forget(tree, 12345, 1);
    assert_int_equal(living, 1);
    wfe_virtual_free(tree);
}

static void attributes_are_those_of_files_and_directories(void **context)
{
    (void)context;
    char letter = 'a';
    struct wfe_virtual *tree = new_tree(&letter);
    struct stat st;
    uint64_t number = look_up(tree);
    assert_int_equal(wfe_virtual_stat(tree, number, &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 0444);
    assert_int_equal(st.st_size, 10);
    assert_true(st.st_ino == number);
    assert_int_equal(wfe_virtual_stat(tree, WFE_VIRTUAL_LAYERS, &st), 0);
    assert_int_equal(st.st_mode, S_IFDIR | 0555);
    assert_int_equal(wfe_virtual_read(tree, WFE_VIRTUAL_TOP, &st, 1, 0, NULL), -EISDIR);
    wfe_virtual_free(tree);
}

static void names_are_found_and_listed(void **context)
{
    (void)context;
    char letter = 'a';
    struct wfe_virtual *tree = new_tree(&letter);
    uint64_t number;
    assert_int_equal(wfe_virtual_lookup(tree, WFE_VIRTUAL_TOP, "layers", NULL, &number), 0);
    assert_true(number == WFE_VIRTUAL_LAYERS);
    assert_int_equal(wfe_virtual_lookup(tree, WFE_VIRTUAL_TOP, "other", NULL, &number), -ENOENT);
    assert_int_equal(
        wfe_virtual_lookup(tree, WFE_VIRTUAL_LAYERS, "letters", NULL, &number), -ENOENT);
    bool is_directory;
    assert_string_equal(wfe_virtual_name(tree, WFE_VIRTUAL_TOP, 0, &is_directory), "layers");
    assert_true(is_directory);
    assert_string_equal(wfe_virtual_name(tree, WFE_VIRTUAL_TOP, 1, &is_directory), "letters");
    assert_false(is_directory);
    assert_null(wfe_virtual_name(tree, WFE_VIRTUAL_TOP, 2, &is_directory));
    assert_null(wfe_virtual_name(tree, WFE_VIRTUAL_LAYERS, 0, &is_directory));
    wfe_virtual_free(tree);
}

static void a_file_that_cannot_be_opened_says_so(void **context)
{
    (void)context;
    char letter = '!';
    struct wfe_virtual *tree = new_tree(&letter);
    uint64_t number;
    assert_int_equal(wfe_virtual_lookup(tree, WFE_VIRTUAL_TOP, "letters", NULL, &number), -EIO);
    wfe_virtual_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_keeps_its_inode_as_long_as_it_holds_the_same),
        cmocka_unit_test(a_content_goes_when_the_kernel_has_forgotten_all_lookups),
        cmocka_unit_test(attributes_are_those_of_files_and_directories),
        cmocka_unit_test(names_are_found_and_listed),
        cmocka_unit_test(a_file_that_cannot_be_opened_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
