/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "artifactfs/tests/index_fixture.h"
#include "libcommon/cleanup.h"

static ssize_t get_xattr(
    struct wfe_index *index, const char *path, const char *name, char *value, size_t size)
{
    return wfe_index_getxattr(index, (uint32_t)find(index, path), name, value, size);
}

static void xattrs_are_as_archived(void **state)
{
    struct wfe_index *index = *state;
    const struct wfe_xattr xattrs[] = {
        {.name = "user.b", .value = "old", .value_length = 3},
        {.name = "user.a", .value = "x\0y", .value_length = 3},
        {.name = "user.b", .value = "new!", .value_length = 4},
        {.name = "security.capability", .value = "", .value_length = 0},
    };
    struct wfe_index_entry entry = {
        .name = "f", .mode = S_IFREG, .xattrs = xattrs, .xattr_count = 4};
    add_entry(index, entry);
    uint32_t length = index->texts_length;
    entry.name = "same";
    add_entry(index, entry);
    assert_int_equal(index->texts_length, length);
    entry.name = "link";
    entry.mode = S_IFLNK;
    entry.symlink = "f";
    add_entry(index, entry);
    char value[8];
    assert_int_equal(get_xattr(index, "f", "user.a", value, sizeof value), 3);
    assert_memory_equal(value, "x\0y", 3);
    assert_int_equal(get_xattr(index, "f", "user.b", value, sizeof value), 4);
    assert_memory_equal(value, "new!", 4);
    assert_int_equal(get_xattr(index, "f", "user.b", NULL, 0), 4);
    assert_int_equal(get_xattr(index, "f", "user.b", value, 3), -ERANGE);
    assert_int_equal(get_xattr(index, "f", "user.c", value, 3), -ENODATA);
    assert_int_equal(get_xattr(index, "same", "security.capability", value, 3), 0);
    assert_int_equal(get_xattr(index, "", "user.a", value, 3), -ENODATA);
    char list[64];
    const char expected[] = "security.capability\0user.a\0user.b";
    uint32_t inode = (uint32_t)find(index, "f");
    assert_int_equal(wfe_index_listxattr(index, inode, NULL, 0), sizeof expected);
    assert_int_equal(wfe_index_listxattr(index, inode, list, sizeof list), sizeof expected);
    assert_memory_equal(list, expected, sizeof expected);
    assert_int_equal(wfe_index_listxattr(index, inode, list, 8), -ERANGE);
    inode = (uint32_t)find(index, "link");
    assert_int_equal(wfe_index_listxattr(index, inode, NULL, 0), sizeof "security.capability");
    assert_int_equal(index->problem_count, 0);
}

static void xattrs_beyond_the_limits_are_left_out(void **state)
{
    struct wfe_index *index = *state;
    WFE_FREE char *value = calloc(1, WFE_MAX_XATTR_BYTES + 1);
    char name[300];
    memset(name, 'n', sizeof name);
    name[256] = '\0';
    struct wfe_xattr xattrs[20] = {
        {.name = "user.big", .value = value, .value_length = WFE_MAX_XATTR_BYTES + 1},
        {.name = "user.ok", .value = value, .value_length = WFE_MAX_XATTR_BYTES},
        {.name = name, .value = "", .value_length = 0},
        {.name = "", .value = "", .value_length = 0},
    };
    struct wfe_index_entry entry = {
        .name = "f", .mode = S_IFREG, .xattrs = xattrs, .xattr_count = 4};
    add_entry(index, entry);
    assert_int_equal(get_xattr(index, "f", "user.ok", NULL, 0), WFE_MAX_XATTR_BYTES);
    assert_int_equal(
        wfe_index_listxattr(index, (uint32_t)find(index, "f"), NULL, 0), sizeof "user.ok");
    assert_int_equal(index->problem_count, 1);
    char names[20][8];
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof names[i], "user.%c", 'a' + i);
        xattrs[i] = (struct wfe_xattr){
            .name = names[i], .value = value, .value_length = WFE_MAX_XATTR_BYTES};
    }
    entry.name = "g";
    entry.xattr_count = 20;
    add_entry(index, entry);
    assert_int_equal(get_xattr(index, "g", "user.o", NULL, 0), WFE_MAX_XATTR_BYTES);
    assert_int_equal(get_xattr(index, "g", "user.p", NULL, 0), -ENODATA);
    assert_problem(index, "'g': xattrs are left out: there are too many");
}

static void malformed_xattrs_are_not_trusted(void **state)
{
    struct wfe_index *index = *state;
    const struct wfe_xattr xattr = {.name = "user.a", .value = "value", .value_length = 5};
    add_entry(index,
        (struct wfe_index_entry){.name = "f", .mode = S_IFREG, .xattrs = &xattr, .xattr_count = 1});
    finish(index);
    uint32_t at = get(index, "f").xattrs;
    char saved[64];
    uint32_t length = index->texts_length - at;
    assert_true(length <= sizeof saved);
    memcpy(saved, index->texts + at, length);
    for (uint32_t i = 0; i < length; i++) {
        for (int bit = 0; bit < 8; bit++) {
            index->texts[at + i] ^= (char)(1 << bit);
            char value[64];
            get_xattr(index, "f", "user.a", value, sizeof value);
            wfe_index_listxattr(index, (uint32_t)find(index, "f"), value, sizeof value);
            memcpy(index->texts + at, saved, length);
        }
    }
    index->inodes[find(index, "f")].xattrs = index->texts_length - 3;
    assert_int_equal(get_xattr(index, "f", "user.a", NULL, 0), -ENODATA);
}

static void assert_located(struct wfe_index *index, const char *path, uint64_t offset, bool is_hole,
    uint64_t data, uint64_t length)
{
    bool found_hole;
    uint64_t found_data, found_length;
    assert_int_equal(wfe_index_locate(index, (uint32_t)find(index, path), offset, &found_hole,
                         &found_data, &found_length),
        0);
    assert_int_equal(found_hole, is_hole);
    assert_int_equal(found_length, length);
    if (!is_hole)
        assert_int_equal(found_data, data);
}

static int64_t seek(struct wfe_index *index, const char *path, int64_t offset, int whence)
{
    return wfe_index_seek(index, (uint32_t)find(index, path), offset, whence);
}

static void bytes_of_a_plain_file_are_located(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1000, 512);
    add_file(index, "empty", 0, 512);
    add_directory(index, "d", 0755);
    assert_located(index, "f", 0, false, 512, 1000);
    assert_located(index, "f", 999, false, 1511, 1);
    bool is_hole;
    uint64_t data, length;
    uint32_t inode = (uint32_t)find(index, "f");
    assert_int_equal(wfe_index_locate(index, inode, 1000, &is_hole, &data, &length), -ENXIO);
    inode = (uint32_t)find(index, "empty");
    assert_int_equal(wfe_index_locate(index, inode, 0, &is_hole, &data, &length), -ENXIO);
    inode = (uint32_t)find(index, "d");
    assert_int_equal(wfe_index_locate(index, inode, 0, &is_hole, &data, &length), -EINVAL);
    assert_int_equal(wfe_index_locate(index, 99, 0, &is_hole, &data, &length), -ENOENT);
    assert_int_equal(seek(index, "f", 5, SEEK_DATA), 5);
    assert_int_equal(seek(index, "f", 5, SEEK_HOLE), 1000);
    assert_int_equal(seek(index, "f", 1000, SEEK_HOLE), -ENXIO);
    assert_int_equal(seek(index, "f", -1, SEEK_DATA), -ENXIO);
    assert_int_equal(seek(index, "f", 0, SEEK_SET), -EINVAL);
    assert_int_equal(seek(index, "d", 0, SEEK_DATA), -EINVAL);
}

static void holes_are_found(void **state)
{
    struct wfe_index *index = *state;
    const struct wfe_extent extents[] = {
        {.offset_bytes = 10, .length_bytes = 10, .data = 500},
        {.offset_bytes = 20, .length_bytes = 5, .data = 900},
        {.offset_bytes = 30, .length_bytes = 10, .data = 510},
    };
    add_entry(index, (struct wfe_index_entry){.name = "f",
                         .mode = S_IFREG,
                         .size_bytes = 2000,
                         .extents = extents,
                         .extent_count = 3});
    add_entry(index, (struct wfe_index_entry){
                         .name = "hole", .mode = S_IFREG, .size_bytes = 100, .extents = extents});
    for (int pass = 0; pass < 2; pass++) {
        assert_located(index, "f", 0, true, 0, 10);
        assert_located(index, "f", 10, false, 500, 10);
        assert_located(index, "f", 24, false, 904, 1);
        assert_located(index, "f", 25, true, 0, 5);
        assert_located(index, "f", 35, false, 515, 5);
        assert_located(index, "f", 40, true, 0, 1960);
        assert_located(index, "hole", 0, true, 0, 100);
        assert_located(index, "hole", 99, true, 0, 1);
        assert_int_equal(seek(index, "f", 0, SEEK_DATA), 10);
        assert_int_equal(seek(index, "f", 0, SEEK_HOLE), 0);
        assert_int_equal(seek(index, "f", 12, SEEK_HOLE), 25);
        assert_int_equal(seek(index, "f", 26, SEEK_DATA), 30);
        assert_int_equal(seek(index, "f", 40, SEEK_DATA), -ENXIO);
        assert_int_equal(seek(index, "f", 1999, SEEK_HOLE), 1999);
        assert_int_equal(seek(index, "hole", 0, SEEK_DATA), -ENXIO);
        assert_int_equal(seek(index, "hole", 0, SEEK_HOLE), 0);
        struct stat st;
        assert_int_equal(wfe_index_stat(index, (uint32_t)find(index, "f"), &st), 0);
        assert_int_equal(st.st_blocks, 1);
        assert_int_equal(wfe_index_stat(index, (uint32_t)find(index, "hole"), &st), 0);
        assert_int_equal(st.st_blocks, 0);
        if (pass == 0)
            finish(index);
    }
}

static void extents_out_of_order_are_left_out(void **state)
{
    struct wfe_index *index = *state;
    struct wfe_extent extents[] = {
        {.offset_bytes = 10, .length_bytes = 10},
        {.offset_bytes = 19, .length_bytes = 5},
    };
    struct wfe_index_entry entry = {
        .name = "f", .mode = S_IFREG, .size_bytes = 24, .extents = extents, .extent_count = 2};
    add_entry(index, entry);
    extents[1].offset_bytes = 20;
    add_entry(index, entry);
    extents[1].length_bytes = UINT64_MAX;
    add_entry(index, entry);
    assert_int_equal(index->item_count, 0);
    assert_int_equal(index->problem_count, 3);
}

static void lost_data_are_an_error(void **state)
{
    struct wfe_index *index = *state;
    const struct wfe_extent extents[] = {
        {.offset_bytes = 0, .length_bytes = 10, .data = WFE_INDEX_IN_SPOOL | 7},
        {.offset_bytes = 10, .length_bytes = 90, .data = WFE_INDEX_NO_DATA},
    };
    add_file(index, "f", 10, WFE_INDEX_NO_DATA);
    add_entry(index, (struct wfe_index_entry){.name = "g",
                         .mode = S_IFREG,
                         .size_bytes = 100,
                         .extents = extents,
                         .extent_count = 2});
    bool is_hole;
    uint64_t data, length;
    uint32_t inode = (uint32_t)find(index, "f");
    assert_int_equal(wfe_index_locate(index, inode, 3, &is_hole, &data, &length), -EIO);
    inode = (uint32_t)find(index, "g");
    assert_int_equal(wfe_index_locate(index, inode, 10, &is_hole, &data, &length), -EIO);
    assert_located(index, "g", 3, false, WFE_INDEX_IN_SPOOL | 10, 7);
    assert_int_equal(seek(index, "g", 0, SEEK_HOLE), 100);
}

static void children_come_in_the_order_of_their_entries(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "d/z", 1, 0);
    add_file(index, "b", 1, 0);
    add_file(index, "d/gone/x", 1, 0);
    add_file(index, "a", 1, 0);
    add_file(index, "d/y", 1, 0);
    add_file(index, "d/gone", 1, 0);
    finish(index);
    const char *expected[] = {"z", "y", "gone"};
    uint32_t directory = (uint32_t)find(index, "d");
    const char *name;
    size_t length;
    uint32_t inode;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(wfe_index_child(index, directory, i, &name, &length, &inode), 0);
        assert_int_equal(length, strlen(expected[i]));
        assert_memory_equal(name, expected[i], length);
        char path[16];
        snprintf(path, sizeof path, "d/%s", expected[i]);
        assert_int_equal(inode, find(index, path));
    }
    assert_int_equal(wfe_index_child(index, directory, 3, &name, &length, &inode), -ENOENT);
    assert_int_equal(wfe_index_child(index, inode, 0, &name, &length, &inode), -ENOENT);
    assert_int_equal(index->child_count, 6);
    assert_int_equal(wfe_index_parent(index, directory), WFE_INDEX_ROOT);
    assert_int_equal(wfe_index_parent(index, WFE_INDEX_ROOT), WFE_INDEX_ROOT);
}

static void paths_are_told(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "a/b/c", 1, 0);
    char path[16];
    assert_int_equal(wfe_index_path(index, (uint32_t)find(index, "a/b/c"), path, 6), 5);
    assert_string_equal(path, "a/b/c");
    assert_int_equal(wfe_index_path(index, (uint32_t)find(index, "a/b/c"), path, 5), -ENAMETOOLONG);
    assert_int_equal(wfe_index_path(index, WFE_INDEX_ROOT, path, sizeof path), 0);
    assert_string_equal(path, "");
    assert_int_equal(wfe_index_path(index, 99, path, sizeof path), -ENOENT);
    assert_int_equal(wfe_index_node_path(index, index->items[0].node, path, sizeof path), 5);
}

static void a_lookup_of_something_else_than_a_directory_fails(void **state)
{
    struct wfe_index *index = *state;
    add_file(index, "f", 1, 0);
    uint32_t inode;
    assert_int_equal(wfe_index_lookup(index, 1, "x", NULL, &inode), -ENOTDIR);
    assert_int_equal(wfe_index_lookup(index, 9, "x", NULL, &inode), -ENOENT);
    assert_int_equal(wfe_index_lookup(index, 0, "x", &no_patience, &inode), -EINTR);
}

enum { FILES = 20000, READERS = 4 };

struct reader {
    struct wfe_index *index;
    unsigned seed;
    int failures;
};

/* Looks up names that may not be there yet, each of which must come. */
static void *read_names(void *context)
{
    struct reader *reader = context;
    for (int i = 0; i < 2000; i++) {
        int file = (int)(rand_r(&reader->seed) % FILES);
        char name[32];
        snprintf(name, sizeof name, "d%d", file / 100);
        uint32_t inode;
        struct wfe_inode record;
        int r = wfe_index_lookup(reader->index, WFE_INDEX_ROOT, name, NULL, &inode);
        snprintf(name, sizeof name, "f%d", file);
        if (r == 0)
            r = wfe_index_lookup(reader->index, inode, name, NULL, &inode);
        if (r == 0)
            r = wfe_index_get(reader->index, inode, &record);
        if (r < 0 || record.size_bytes != (uint64_t)file + 1)
            reader->failures++;
        struct stat st;
        char value[8];
        if (wfe_index_stat(reader->index, inode, &st) < 0 || st.st_size != file + 1 ||
            wfe_index_getxattr(reader->index, inode, "user.x", value, sizeof value) != 1)
            reader->failures++;
    }
    uint32_t inode;
    if (wfe_index_lookup(reader->index, WFE_INDEX_ROOT, "never", NULL, &inode) != -ENOENT ||
        wfe_index_wait(reader->index, NULL) < 0)
        reader->failures++;
    return NULL;
}

static void names_are_waited_for_by_many(void **state)
{
    struct wfe_index *index = *state;
    struct reader readers[READERS];
    pthread_t threads[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.index = index, .seed = (unsigned)i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_names, &readers[i]), 0);
    }
    const struct wfe_xattr xattr = {.name = "user.x", .value = "y", .value_length = 1};
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", i / 100, i);
        add_entry(index, (struct wfe_index_entry){.name = name,
                             .mode = S_IFREG | 0644,
                             .size_bytes = (uint64_t)i + 1,
                             .xattrs = &xattr,
                             .xattr_count = 1});
        if (i % 100 == 0)
            wfe_index_report(index, name, "something");
    }
    finish(index);
    for (int i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].failures, 0);
    }
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

struct late {
    struct wfe_index *index;
    char name[16];
    int64_t found_us; /* when it was found; 0: it was not */
};

static void *look_up_late(void *context)
{
    struct late *late = context;
    uint32_t inode;
    if (wfe_index_lookup(late->index, WFE_INDEX_ROOT, late->name, NULL, &inode) == 0)
        late->found_us = now_us();
    return NULL;
}

/* One that only looked again now and then would take 70 ms each time. */
static void a_waiter_is_woken_by_its_name(void **state)
{
    struct wfe_index *index = *state;
    int64_t shortest_us = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        struct late late = {.index = index};
        snprintf(late.name, sizeof late.name, "late%d", i);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, look_up_late, &late), 0);
        usleep(30000);
        add_file(index, "other", 1, 0);
        int64_t added_us = now_us();
        add_file(index, late.name, 1, 0);
        pthread_join(thread, NULL);
        assert_true(late.found_us >= added_us);
        if (late.found_us - added_us < shortest_us)
            shortest_us = late.found_us - added_us;
    }
    assert_true(shortest_us < 40000);
    assert_false(wfe_index_is_complete(index));
    assert_int_equal(wfe_index_wait(index, &no_patience), -EINTR);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, index_setup, index_teardown)
    const struct CMUnitTest tests[] = {
        TEST(xattrs_are_as_archived),
        TEST(xattrs_beyond_the_limits_are_left_out),
        TEST(malformed_xattrs_are_not_trusted),
        TEST(bytes_of_a_plain_file_are_located),
        TEST(holes_are_found),
        TEST(extents_out_of_order_are_left_out),
        TEST(lost_data_are_an_error),
        TEST(children_come_in_the_order_of_their_entries),
        TEST(paths_are_told),
        TEST(a_lookup_of_something_else_than_a_directory_fails),
        TEST(names_are_waited_for_by_many),
        TEST(a_waiter_is_woken_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
