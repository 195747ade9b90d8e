/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "artifactfs/tests/scan_fixture.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/tests/layer_fixture.h"

static void scan_directory(const char *path, struct scanned *ret)
{
    *ret = (struct scanned){.spool = -1, .err = WFE_ERROR_INIT};
    WFE_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(wfe_index_new(WFE_INDEX_FILES, &ret->index, &ret->err), 0);
    ret->result = wfe_scan_directory(fd, ret->index, NULL, &ret->err);
    assert_true(wfe_index_is_complete(ret->index));
    assert_true(fcntl(fd, F_GETFD) >= 0);
}

/* What lstat() says of a path is what the index says. */
static void compare_attributes(const struct scanned *scanned, const char *path, const char *name)
{
    struct stat real, found;
    assert_int_equal(lstat(path, &real), 0);
    int64_t inode = scanned_find(scanned, name);
    if (inode < 0)
        print_error("%s is not there\n", name);
    assert_true(inode >= 0);
    assert_int_equal(wfe_index_stat(scanned->index, (uint32_t)inode, &found), 0);
    assert_int_equal(found.st_mode, real.st_mode);
    assert_int_equal(found.st_uid, real.st_uid);
    assert_int_equal(found.st_gid, real.st_gid);
    assert_int_equal(found.st_rdev, real.st_rdev);
    assert_int_equal(found.st_mtim.tv_sec, real.st_mtim.tv_sec);
    assert_int_equal(found.st_mtim.tv_nsec, real.st_mtim.tv_nsec);
    if (!S_ISDIR(real.st_mode)) {
        assert_int_equal(found.st_size, real.st_size);
        assert_int_equal(found.st_nlink, real.st_nlink);
    }
    char target[WFE_MAX_TARGET_BYTES + 1], real_target[WFE_MAX_TARGET_BYTES + 1] = "";
    if (S_ISLNK(real.st_mode)) {
        assert_true(readlink(path, real_target, sizeof real_target - 1) > 0);
        assert_int_equal(wfe_index_readlink(scanned->index, (uint32_t)inode, target), 0);
        assert_string_equal(target, real_target);
    }
}

static size_t compare_tree(const struct scanned *scanned, const char *path, const char *name)
{
    compare_attributes(scanned, path, name);
    struct stat st;
    assert_int_equal(lstat(path, &st), 0);
    if (!S_ISDIR(st.st_mode))
        return 1;
    size_t count = 0, total = 1;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *found; (found = readdir(dir));) {
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        WFE_FREE char *below = wfe_path_join(path, found->d_name);
        WFE_FREE char *below_name = wfe_path_join(name, found->d_name);
        total += compare_tree(scanned, below, below_name);
        count++;
    }
    closedir(dir);
    assert_int_equal(scanned_inode(scanned, name).count, count);
    return total;
}

static void make(const char *name, const char *data)
{
    scratch_write(name, data, strlen(data));
}

static void a_directory_is_indexed_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("t"), 0750), 0);
    assert_int_equal(mkdir(scratch_path("t/b"), 0711), 0);
    assert_int_equal(mkdir(scratch_path("t/b/deep"), 0700), 0);
    assert_int_equal(mkdir(scratch_path("t/empty"), 01777), 0);
    make("t/b/deep/file", "hello");
    make("t/b/z", "last");
    make("t/a\xff", "not UTF-8");
    assert_int_equal(chmod(scratch_path("t/b/z"), 04711), 0);
    assert_int_equal(symlink("../nowhere", scratch_path("t/b/link")), 0);
    assert_int_equal(symlink("/", scratch_path("t/out")), 0);
    assert_int_equal(link(scratch_path("t/b/z"), scratch_path("t/c")), 0);
    assert_int_equal(link(scratch_path("t/b/link"), scratch_path("t/d")), 0);
    assert_int_equal(mkfifo(scratch_path("t/fifo"), 0600), 0);
    if (geteuid() == 0)
        mknod(scratch_path("t/device"), S_IFCHR | 0600, makedev(1, 3));
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = -100, .tv_nsec = 7}};
    assert_int_equal(utimensat(AT_FDCWD, scratch_path("t/b/z"), times, 0), 0);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_directory(scratch_path("t"), &scanned);
    assert_int_equal(scanned.result, 0);
    assert_null(scanned.index->broken);
    assert_int_equal(scanned.index->problem_count, 0);
    size_t count = compare_tree(&scanned, scratch_path("t"), "");
    assert_int_equal(scanned.index->item_count, count);
    assert_int_equal(scanned_find(&scanned, "c"), scanned_find(&scanned, "b/z"));
    assert_int_equal(scanned_find(&scanned, "d"), scanned_find(&scanned, "b/link"));
    char path[64];
    assert_true(wfe_index_path(scanned.index, (uint32_t)scanned_find(&scanned, "b/deep/file"), path,
                    sizeof path) > 0);
    assert_string_equal(path, "b/deep/file");
}

static void xattrs_are_taken(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("x"), 0755), 0);
    make("x/f", "data");
    if (setxattr(scratch_path("x/f"), "user.a", "one\0two", 7, 0) < 0)
        skip();
    assert_int_equal(setxattr(scratch_path("x"), "user.root", "r", 1, 0), 0);
    SCANNED struct scanned scanned = {.spool = -1};
    scan_directory(scratch_path("x"), &scanned);
    char value[16];
    uint32_t inode = (uint32_t)scanned_find(&scanned, "f");
    assert_int_equal(wfe_index_getxattr(scanned.index, inode, "user.a", value, sizeof value), 7);
    assert_memory_equal(value, "one\0two", 7);
    assert_int_equal(
        wfe_index_getxattr(scanned.index, WFE_INDEX_ROOT, "user.root", value, sizeof value), 1);
}

static void holes_are_told(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("s"), 0755), 0);
    WFE_CLOSE int fd = open(scratch_path("s/f"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(fd, 10 << 20), 0);
    assert_int_equal(pwrite(fd, "x", 1, 5 << 20), 1);
    WFE_CLOSE int hole_fd = open(scratch_path("s/hole"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(ftruncate(hole_fd, 1 << 20), 0);
    off_t data = lseek(fd, 0, SEEK_DATA);
    if (data <= 0)
        skip();
    SCANNED struct scanned scanned = {.spool = -1};
    scan_directory(scratch_path("s"), &scanned);
    uint32_t inode = (uint32_t)scanned_find(&scanned, "f");
    assert_int_equal(wfe_index_seek(scanned.index, inode, 0, SEEK_DATA), data);
    assert_int_equal(
        wfe_index_seek(scanned.index, inode, data, SEEK_HOLE), lseek(fd, data, SEEK_HOLE));
    bool is_hole;
    uint64_t place, length;
    assert_int_equal(wfe_index_locate(scanned.index, inode, 5 << 20, &is_hole, &place, &length), 0);
    assert_false(is_hole);
    assert_int_equal(place, 5 << 20);
    inode = (uint32_t)scanned_find(&scanned, "hole");
    assert_int_equal(wfe_index_seek(scanned.index, inode, 0, SEEK_DATA), -ENXIO);
}

/* Nothing else removes what lies so deep: each level comes up in turn. */
static void remove_nested(const char *name)
{
    char top[4200], below[4400], aside[4200];
    snprintf(top, sizeof top, "%s/%s", scratch_path("deep"), name);
    snprintf(below, sizeof below, "%s/%s", top, name);
    snprintf(aside, sizeof aside, "%s", scratch_path("deep/aside"));
    while (rename(below, aside) == 0) {
        assert_int_equal(rmdir(top), 0);
        assert_int_equal(rename(aside, top), 0);
    }
    assert_int_equal(rmdir(top), 0);
}

static void deep_nesting_ends_in_the_limit(void **state)
{
    (void)state;
    enum { DEPTH = 700 };
    char name[101];
    memset(name, 'n', 100);
    name[100] = '\0';
    assert_int_equal(mkdir(scratch_path("deep"), 0755), 0);
    int fd = open(scratch_path("deep"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < DEPTH; i++) {
        assert_int_equal(mkdirat(fd, name, 0755), 0);
        int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(below >= 0);
        close(fd);
        fd = below;
    }
    close(fd);
    make("deep/z", "after");
    SCANNED struct scanned scanned = {.spool = -1};
    scan_directory(scratch_path("deep"), &scanned);
    assert_int_equal(scanned.result, 0);
    assert_true(scanned_find(&scanned, "z") > 0);
    assert_int_equal(scanned.index->problem_count, 1);
    assert_problem(&scanned, "its name is too long");
    /* 101 bytes a level. */
    assert_int_equal(scanned.index->item_count, 2 + (WFE_MAX_NAME_BYTES + 1) / 101);
    remove_nested(name);
}

static void what_can_not_be_read_is_reported(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("u"), 0755), 0);
    assert_int_equal(mkdir(scratch_path("u/closed"), 0), 0);
    make("u/closed-file", "x");
    assert_int_equal(chmod(scratch_path("u/closed-file"), 0), 0);
    make("u/z", "after");
    if (geteuid() == 0) {
        assert_int_equal(chown(scratch_path("."), 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    SCANNED struct scanned scanned = {.spool = -1};
    scan_directory(scratch_path("u"), &scanned);
    if (getuid() == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(scanned.result, 0);
    assert_problem(&scanned, "'closed': it can't be read: Permission denied");
    assert_problem(&scanned, "'closed-file': it can't be read: Permission denied");
    assert_true(scanned_find(&scanned, "closed") > 0);
    assert_int_equal(scanned_inode(&scanned, "z").size_bytes, 5);
}

static void a_directory_scan_can_be_cancelled(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch_path("c"), 0755), 0);
    make("c/f", "x");
    struct wfe_cancel *cancel;
    assert_int_equal(wfe_cancel_new(&cancel), 0);
    wfe_cancel_trigger(cancel);
    WFE_CLOSE int fd = open(scratch_path("c"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    SCANNED struct scanned scanned = {.spool = -1};
    assert_int_equal(wfe_index_new(WFE_INDEX_FILES, &scanned.index, NULL), 0);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_scan_directory(fd, scanned.index, cancel, &err), -ECANCELED);
    assert_int_equal(err.kind, WFE_ERROR_CANCELLED);
    assert_true(wfe_index_is_complete(scanned.index));
    assert_broken(&scanned, "cancelled");
    wfe_cancel_free(cancel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_directory_is_indexed_as_it_is),
        cmocka_unit_test(xattrs_are_taken),
        cmocka_unit_test(holes_are_told),
        cmocka_unit_test(deep_nesting_ends_in_the_limit),
        cmocka_unit_test(what_can_not_be_read_is_reported),
        cmocka_unit_test(a_directory_scan_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
