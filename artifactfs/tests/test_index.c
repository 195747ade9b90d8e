/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "artifactfs/tests/index_fixture.h"
#include "libcommon/cleanup.h"

static void a_new_index_holds_the_root(void **state)
{
    struct wfe_index *index = *state;
    struct wfe_inode root = get(index, "");
    assert_int_equal(root.mode, S_IFDIR | 0755);
    finish(index);
    root = get(index, "");
    assert_int_equal(root.nlink, 2);
    assert_int_equal(root.count, 0);
    assert_int_equal(root.mtime_s, 0);
    assert_int_equal(index->problem_count, 0);
    assert_int_equal(find(index, "nothing"), -ENOENT);
}

static void names_are_cleaned(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "./a", 1, 0);
    add_file(index, "///b//./c", 2, 0);
    add_directory(index, "d/./", 0700);
    finish(index);
    assert_int_equal(get(index, "a").size_bytes, 1);
    assert_int_equal(get(index, "b/c").size_bytes, 2);
    assert_int_equal(get(index, "d").mode, S_IFDIR | 0700);
    assert_int_equal(index->problem_count, 0);
    assert_false(index->has_clamped_names);
}

static void dotdot_is_kept_within_the_tree(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "../../etc/passwd", 3, 0);
    add_file(index, "a/b/../../../c", 4, 0);
    add_file(index, "x/../y/z", 5, 0);
    add_file(index, "..a/b..", 6, 0);
    finish(index);
    assert_int_equal(get(index, "etc/passwd").size_bytes, 3);
    assert_int_equal(get(index, "c").size_bytes, 4);
    assert_int_equal(get(index, "y/z").size_bytes, 5);
    assert_int_equal(get(index, "..a/b..").size_bytes, 6);
    assert_int_equal(find(index, "a"), -ENOENT);
    assert_int_equal(find(index, "x"), -ENOENT);
    assert_int_equal(index->problem_count, 3);
    assert_problem(index, "'../../etc/passwd': '..' in its name");
    assert_true(index->has_clamped_names);
}

static void a_directory_without_a_name_is_the_root(void **state)
{
    struct wfe_index *index = *state;
    add_entry(
        index, (struct wfe_index_entry){
                   .name = "./", .mode = S_IFDIR | 01777, .uid = 7, .mtime_s = -5, .mtime_ns = 9});
    add_file(index, "", 1, 0);
    add_file(index, "a/..", 1, 0);
    finish(index);
    struct wfe_inode root = get(index, "");
    assert_int_equal(root.mode, S_IFDIR | 01777);
    assert_int_equal(root.uid, 7);
    assert_int_equal(root.mtime_s, -5);
    assert_int_equal(root.mtime_ns, 9);
    assert_int_equal(root.nlink, 2);
    assert_int_equal(index->item_count, 1);
    assert_problem(index, "'': left out: nothing is left of its name");
    assert_problem(index, "'a/..': left out: nothing is left of its name");
}

static void a_name_that_is_missing_is_left_out(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, NULL, 1, 0);
    finish(index);
    assert_int_equal(index->item_count, 0);
    assert_problem(index, "without a name");
}

static void names_that_are_too_long_are_left_out(void **state)
{
    struct wfe_index *index = *state;
    char component[WFE_MAX_COMPONENT_BYTES + 2];
    memset(component, 'x', sizeof component - 1);
    component[sizeof component - 1] = '\0';
    WFE_FREE char *name = malloc(WFE_MAX_NAME_BYTES + 2);
    for (size_t i = 0; i < WFE_MAX_NAME_BYTES + 1; i += 2)
        memcpy(name + i, "d/", 2);
    name[WFE_MAX_NAME_BYTES + 1] = '\0';
    add_file(index, component, 1, 0);
    add_file(index, name, 1, 0);
    add_link(index, "link", name);
    char below[sizeof component + 8];
    snprintf(below, sizeof below, "a/%s/b", component);
    add_file(index, below, 1, 0);
    assert_int_equal(index->item_count, 0);
    assert_int_equal(index->problem_count, 4);
    assert_int_equal(find(index, "a"), -EINTR);
    name[WFE_MAX_NAME_BYTES] = '\0';
    component[WFE_MAX_COMPONENT_BYTES] = '\0';
    add_file(index, component, 1, 0);
    add_directory(index, name, 0755);
    assert_int_equal(index->item_count, 2);
    assert_int_equal(index->problem_count, 4);
    finish(index);
    assert_int_equal(get(index, component).size_bytes, 1);
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, below + 2, NULL, NULL), -ENAMETOOLONG);
    /* The deepest of them can be named. */
    uint32_t deepest = index->items[1].inode;
    WFE_FREE char *path = malloc(WFE_MAX_NAME_BYTES + 1);
    assert_int_equal(
        wfe_index_path(index, deepest, path, WFE_MAX_NAME_BYTES + 1), WFE_MAX_NAME_BYTES - 1);
    assert_memory_equal(path, name, WFE_MAX_NAME_BYTES - 1);
    assert_int_equal(wfe_index_path(index, deepest, path, WFE_MAX_NAME_BYTES - 1), -ENAMETOOLONG);
}

static void missing_parents_are_made(void **state)
{
    struct wfe_index *index = *state;
    add_entry(
        index, (struct wfe_index_entry){.name = "a/b/c", .mode = S_IFREG, .uid = 5, .mtime_s = 5});
    finish(index);
    struct wfe_inode made = get(index, "a/b");
    assert_int_equal(made.mode, S_IFDIR | 0755);
    assert_int_equal(made.uid, 0);
    assert_int_equal(made.mtime_s, 0);
    assert_int_equal(made.nlink, 2);
    assert_int_equal(get(index, "a").nlink, 3);
    assert_int_equal(index->item_count, 1);
}

static void the_last_of_duplicates_counts(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "a", 1, 100);
    add_symlink(index, "b", "x");
    add_file(index, "a", 2, 200);
    add_file(index, "b", 3, 300);
    finish(index);
    assert_int_equal(get(index, "a").data, 200);
    assert_int_equal(get(index, "a").nlink, 1);
    assert_int_equal(get(index, "b").data, 300);
    assert_int_equal(get(index, "").count, 2);
    struct wfe_inode gone;
    assert_int_equal(wfe_index_get(index, index->items[0].inode, &gone), 0);
    assert_int_equal(gone.nlink, 0);
    assert_int_equal(gone.data, 100);
    assert_int_equal(index->tree.nodes[index->items[0].node].entry, 2);
}

static void a_directory_twice_has_its_last_attributes(void **state)
{
    struct wfe_index *index = *state;
    add_directory(index, "d", 0700);
    add_file(index, "d/f", 1, 0);
    uint32_t inode = (uint32_t)find(index, "d");
    add_directory(index, "d", 0511);
    add_file(index, "e/f", 1, 0);
    add_directory(index, "e", 0500);
    finish(index);
    assert_int_equal(find(index, "d"), inode);
    assert_int_equal(get(index, "d").mode, S_IFDIR | 0511);
    assert_int_equal(get(index, "d/f").size_bytes, 1);
    assert_int_equal(get(index, "e").mode, S_IFDIR | 0500);
    assert_int_equal(get(index, "e/f").size_bytes, 1);
}

static void another_kind_takes_the_place(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "d/e/f", 1, 0);
    uint32_t old = (uint32_t)find(index, "d"), below = (uint32_t)find(index, "d/e");
    add_file(index, "d", 2, 0);
    uint32_t inode;
    assert_int_equal(wfe_index_lookup(index, below, "f", &no_patience, &inode), -ENOENT);
    add_file(index, "x", 3, 0);
    add_file(index, "y", 3, 0);
    add_directory(index, "x", 0700);
    add_file(index, "x/z", 4, 0);
    add_symlink(index, "y", "d");
    finish(index);
    assert_int_equal(get(index, "d").size_bytes, 2);
    assert_int_equal(find(index, "d/e"), -ENOTDIR);
    assert_int_equal(get(index, "x/z").size_bytes, 4);
    assert_true(S_ISLNK(get(index, "y").mode));
    assert_int_equal(get(index, "").nlink, 3);
    assert_int_equal(wfe_index_lookup(index, old, "e", &no_patience, &inode), -ENOENT);
    assert_int_equal(wfe_index_lookup(index, below, "f", &no_patience, &inode), -ENOENT);
    struct wfe_inode gone;
    assert_int_equal(wfe_index_get(index, below, &gone), 0);
    assert_int_equal(gone.nlink, 0);
}

static void an_entry_below_a_file_or_symlink_is_left_out(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1, 0);
    add_symlink(index, "s", "f");
    add_file(index, "f/x", 1, 0);
    add_file(index, "f/x/y", 1, 0);
    add_directory(index, "s/x", 0755);
    finish(index);
    assert_int_equal(index->item_count, 2);
    assert_int_equal(index->tree.node_count, 3);
    assert_problem(index, "'f/x': left out: what is above it is no directory");
    assert_problem(index, "'s/x'");
}

static void hard_links_share_an_inode(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "a/f", 1, 10);
    add_link(index, "b/g", "./a//f");
    add_link(index, "h", "b/g");
    add_symlink(index, "s", "a");
    add_link(index, "t", "s");
    assert_int_equal(get(index, "h").nlink, 3);
    finish(index);
    assert_int_equal(find(index, "a/f"), find(index, "b/g"));
    assert_int_equal(find(index, "a/f"), find(index, "h"));
    assert_int_equal(get(index, "h").nlink, 3);
    assert_int_equal(find(index, "s"), find(index, "t"));
    assert_int_equal(get(index, "s").nlink, 2);
    assert_int_equal(index->items[1].link_node, index->items[0].node);
    assert_int_equal(index->problem_count, 0);
}

static void a_replaced_version_lives_on_under_its_link(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1, 10);
    add_link(index, "g", "f");
    add_file(index, "f", 2, 20);
    add_link(index, "h", "f");
    finish(index);
    assert_int_equal(get(index, "g").data, 10);
    assert_int_equal(get(index, "g").nlink, 1);
    assert_int_equal(get(index, "f").data, 20);
    assert_int_equal(get(index, "f").nlink, 2);
    char path[16];
    assert_int_equal(wfe_index_path(index, (uint32_t)find(index, "g"), path, sizeof path), 1);
    assert_string_equal(path, "g");
}

static void a_version_below_a_replaced_directory_lives_on_too(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "d/f", 1, 10);
    add_link(index, "g", "d/f");
    add_symlink(index, "d", "elsewhere");
    finish(index);
    assert_int_equal(get(index, "g").data, 10);
    assert_int_equal(get(index, "g").nlink, 1);
}

static void a_hard_link_that_leads_nowhere_is_left_out(void **state)
{
    struct wfe_index *index = *state;
    add_directory(index, "d", 0755);
    add_file(index, "e/f", 1, 10);
    add_link(index, "a", "nothing");
    add_link(index, "b", "e/f/g");
    add_link(index, "c", "");
    add_link(index, "x/y/z", "d");
    add_link(index, "e", "e/f");
    add_link(index, "", "e/f");
    finish(index);
    assert_int_equal(index->item_count, 2);
    assert_int_equal(index->problem_count, 6);
    assert_problem(index, "'a': left out: a hard link to what is not in the archive before it");
    assert_problem(index, "'x/y/z': left out: a hard link to a directory");
    assert_problem(index, "'e': left out: a hard link in the place of a directory above");
    assert_int_equal(find(index, "x"), -ENOENT);
    assert_int_equal(get(index, "e/f").data, 10);
}

static void a_hard_link_to_itself_is_nothing(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1, 10);
    add_link(index, "f", "./f");
    finish(index);
    assert_int_equal(index->item_count, 1);
    assert_int_equal(get(index, "f").nlink, 1);
    assert_int_equal(index->problem_count, 0);
}

static void a_hard_link_may_carry_the_data(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 0, 0);
    add_symlink(index, "s", "x");
    struct wfe_index_entry link = {.name = "g",
        .hardlink = "f",
        .has_data = true,
        .mode = S_IFREG | 0600,
        .size_bytes = 9,
        .data = 77,
        .uid = 3};
    add_entry(index, link);
    link.name = "t";
    link.hardlink = "s";
    add_entry(index, link);
    link.name = "f";
    link.hardlink = "f";
    link.data = 78;
    add_entry(index, link);
    finish(index);
    assert_int_equal(get(index, "f").size_bytes, 9);
    assert_int_equal(get(index, "f").data, 78);
    assert_int_equal(get(index, "f").uid, 3);
    assert_int_equal(get(index, "f").mode, S_IFREG | 0600);
    assert_int_equal(get(index, "f").nlink, 2);
    assert_int_equal(find(index, "f"), find(index, "g"));
    assert_problem(index, "'t': left out: a hard link with data, to something that is no file");
    assert_int_equal(index->item_count, 5);
    assert_int_equal(index->items[2].link_node, index->items[0].node);
    assert_int_equal(index->items[3].node, index->items[2].node);
    assert_int_equal(index->items[3].link_node, index->items[2].node);
    assert_int_equal(index->items[4].link_node, index->items[0].node);
}

static void a_link_replaces_another_link(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1, 10);
    add_file(index, "g", 1, 20);
    add_link(index, "l", "f");
    add_link(index, "l", "g");
    add_link(index, "l", "g");
    for (int pass = 0; pass < 2; pass++) {
        assert_int_equal(get(index, "f").nlink, 1);
        assert_int_equal(get(index, "g").nlink, 2);
        if (pass == 0)
            finish(index);
    }
}

static void symlinks_are_read(void **state)
{
    struct wfe_index *index = *state;
    char target[WFE_MAX_TARGET_BYTES + 2];
    memset(target, 't', sizeof target);
    target[WFE_MAX_TARGET_BYTES + 1] = '\0';
    add_symlink(index, "long", target);
    target[WFE_MAX_TARGET_BYTES] = '\0';
    add_symlink(index, "ok", target);
    add_symlink(index, "up", "../../x\xff");
    add_symlink(index, "empty", "");
    add_symlink(index, "none", NULL);
    add_file(index, "file", 1, 0);
    finish(index);
    char read[WFE_MAX_TARGET_BYTES + 1];
    assert_int_equal(wfe_index_readlink(index, (uint32_t)find(index, "ok"), read), 0);
    assert_string_equal(read, target);
    assert_int_equal(wfe_index_readlink(index, (uint32_t)find(index, "up"), read), 0);
    assert_string_equal(read, "../../x\xff");
    struct stat st;
    assert_int_equal(wfe_index_stat(index, (uint32_t)find(index, "up"), &st), 0);
    assert_int_equal(st.st_size, 8);
    assert_int_equal(wfe_index_readlink(index, (uint32_t)find(index, "file"), read), -EINVAL);
    assert_int_equal(wfe_index_readlink(index, 1000, read), -ENOENT);
    assert_int_equal(index->item_count, 3);
    assert_int_equal(index->problem_count, 3);
}

static void devices_and_fifos_are_shown(void **state)
{
    struct wfe_index *index = *state;
    add_entry(index, (struct wfe_index_entry){.name = "c", .mode = S_IFCHR | 0600, .rdev = 0x0105});
    add_entry(index, (struct wfe_index_entry){.name = "p", .mode = S_IFIFO | 0600, .rdev = 3});
    add_entry(index, (struct wfe_index_entry){.name = "s", .mode = S_IFSOCK | 0600});
    add_entry(index, (struct wfe_index_entry){.name = "odd", .mode = 0170000});
    finish(index);
    struct stat st;
    assert_int_equal(wfe_index_stat(index, (uint32_t)find(index, "c"), &st), 0);
    assert_int_equal(st.st_rdev, 0x0105);
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(get(index, "p").rdev, 0);
    assert_true(S_ISSOCK(get(index, "s").mode));
    assert_problem(index, "'odd': left out: it is of an unknown kind");
}

static void names_need_not_be_utf8(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "\xff\xfe/\xe9", 1, 0);
    finish(index);
    assert_int_equal(get(index, "\xff\xfe/\xe9").size_bytes, 1);
}

static void attributes_are_as_archived(void **state)
{
    struct wfe_index *index = *state;
    add_entry(index, (struct wfe_index_entry){.name = "f",
                         .mode = S_IFREG | 07751,
                         .uid = UINT32_MAX - 1,
                         .gid = 12,
                         .size_bytes = 1025,
                         .mtime_s = -1,
                         .mtime_ns = 999999999});
    struct stat st;
    assert_int_equal(wfe_index_stat(index, (uint32_t)find(index, "f"), &st), 0);
    assert_int_equal(st.st_mode, S_IFREG | 07751);
    assert_int_equal(st.st_uid, UINT32_MAX - 1);
    assert_int_equal(st.st_gid, 12);
    assert_int_equal(st.st_size, 1025);
    assert_int_equal(st.st_blocks, 3);
    assert_int_equal(st.st_mtim.tv_sec, -1);
    assert_int_equal(st.st_mtim.tv_nsec, 999999999);
    assert_int_equal(st.st_ctim.tv_sec, -1);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(wfe_index_stat(index, 99, &st), -ENOENT);
}

static void a_file_that_is_too_large_is_left_out(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", WFE_MAX_FILE_BYTES + 1, 0);
    add_file(index, "g", WFE_MAX_FILE_BYTES, 0);
    assert_int_equal(index->item_count, 1);
    assert_problem(index, "'f': left out: it is too large");
}

static void directories_that_no_entry_tells_of_are_limited(void **state)
{
    struct wfe_index *index = *state;
    WFE_FREE char *name = malloc(WFE_MAX_NAME_BYTES + 1);
    struct wfe_error err = WFE_ERROR_INIT;
    int r = 0;
    int added = 0;
    for (; r == 0 && added < 100; added++) {
        size_t length = (size_t)snprintf(name, 16, "%d/", added);
        while (length + 2 < WFE_MAX_NAME_BYTES) {
            memcpy(name + length, "d/", 2);
            length += 2;
        }
        name[length - 1] = '\0';
        struct wfe_index_entry entry = {.name = name, .mode = S_IFREG | 0644};
        r = wfe_index_add(index, &entry, &err);
    }
    assert_int_equal(r, -E2BIG);
    assert_int_equal(err.kind, WFE_ERROR_LIMIT);
    assert_true(added < 10);
    finish(index);
    assert_true(find(index, "0/d/d") > 0);
}

static void ten_thousand_nested_directories_are_fine(void **state)
{
    struct wfe_index *index = *state;
    enum { DEPTH = 10000 };
    WFE_FREE char *name = malloc(2 * DEPTH + 1);
    for (int i = 0; i < DEPTH; i++)
        memcpy(name + 2 * i, "n/", 3);
    add_directory(index, name, 0700);
    finish(index);
    uint32_t inode = WFE_INDEX_ROOT;
    for (int i = 0; i < DEPTH; i++)
        assert_int_equal(wfe_index_lookup(index, inode, "n", NULL, &inode), 0);
    for (int i = 0; i < DEPTH; i++)
        inode = wfe_index_parent(index, inode);
    assert_int_equal(inode, WFE_INDEX_ROOT);
}

static void only_so_many_problems_are_told(void **state)
{
    struct wfe_index *index = *state;
    for (int i = 0; i < WFE_MAX_PROBLEMS + 50; i++)
        wfe_index_report(index, "n\n", "problem %d", i);
    wfe_index_report(index, NULL, "of the whole");
    assert_int_equal(index->problem_count, WFE_MAX_PROBLEMS + 51);
    assert_string_equal(index->problems[0], "'n\\x0a': problem 0");
}

static void the_first_reason_for_being_broken_stays(void **state)
{
    struct wfe_index *index = *state;
    wfe_index_break(index, "one");
    wfe_index_break(index, "two");
    finish(index);
    assert_string_equal(index->broken, "one");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, index_setup, index_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_new_index_holds_the_root),
        TEST(names_are_cleaned),
        TEST(dotdot_is_kept_within_the_tree),
        TEST(a_directory_without_a_name_is_the_root),
        TEST(a_name_that_is_missing_is_left_out),
        TEST(names_that_are_too_long_are_left_out),
        TEST(missing_parents_are_made),
        TEST(the_last_of_duplicates_counts),
        TEST(a_directory_twice_has_its_last_attributes),
        TEST(another_kind_takes_the_place),
        TEST(an_entry_below_a_file_or_symlink_is_left_out),
        TEST(hard_links_share_an_inode),
        TEST(a_replaced_version_lives_on_under_its_link),
        TEST(a_version_below_a_replaced_directory_lives_on_too),
        TEST(a_hard_link_that_leads_nowhere_is_left_out),
        TEST(a_hard_link_to_itself_is_nothing),
        TEST(a_hard_link_may_carry_the_data),
        TEST(a_link_replaces_another_link),
        TEST(symlinks_are_read),
        TEST(devices_and_fifos_are_shown),
        TEST(names_need_not_be_utf8),
        TEST(attributes_are_as_archived),
        TEST(a_file_that_is_too_large_is_left_out),
        TEST(directories_that_no_entry_tells_of_are_limited),
        TEST(ten_thousand_nested_directories_are_fine),
        TEST(only_so_many_problems_are_told),
        TEST(the_first_reason_for_being_broken_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
