/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "artifactfs/index_cache.h"
#include "artifactfs/index_form.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

enum { STREAM_BYTES = 1 << 28 };

struct fixture {
    char directory[64];
    char cache_path[96];
    struct wfe_index_cache *cache;
    struct wfe_stream *stream;
    struct wfe_index *index;
    struct wfe_digest key;
    struct stat st;
};

static struct wfe_stream *open_stream(void)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, STREAM_BYTES), 0);
    struct wfe_stream_options options = {.spool_directory = "/tmp", .max_spool_bytes = 1 << 20};
    struct wfe_stream *stream;
    assert_int_equal(wfe_stream_open(fd, &options, &stream, NULL), 0);
    return stream;
}

static void pass_over(struct wfe_stream *stream)
{
    const void *data;
    size_t length;
    assert_int_equal(wfe_stream_skip(stream, STREAM_BYTES), STREAM_BYTES);
    assert_int_equal(wfe_stream_next(stream, &data, &length, NULL), 0);
    assert_int_equal(length, 0);
}

static void open_cache(struct fixture *f, uint64_t max_bytes, uint64_t max_age_s)
{
    wfe_index_cache_free(f->cache);
    f->cache = NULL;
    struct wfe_index_cache_options options = {
        .directory = f->cache_path, .max_bytes = max_bytes, .max_age_s = max_age_s};
    assert_int_equal(wfe_index_cache_open(&options, &f->cache, NULL), 0);
}

static int set_up(void **context)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    snprintf(f->directory, sizeof f->directory, "/tmp/wfe-index-cache-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->cache_path, sizeof f->cache_path, "%s/below/cache", f->directory);
    open_cache(f, 0, 0);
    f->stream = open_stream();
    pass_over(f->stream);
    assert_int_equal(wfe_index_new(WFE_INDEX_STREAM, &f->index, NULL), 0);
    wfe_digest_of("key", 3, &f->key);
    f->st = (struct stat){.st_size = 4711, .st_mtim = {.tv_sec = 1700000000, .tv_nsec = 5}};
    *context = f;
    return 0;
}

static int tear_down(void **context)
{
    struct fixture *f = *context;
    wfe_index_cache_free(f->cache);
    wfe_index_free(f->index);
    wfe_stream_free(f->stream);
    int r = wfe_remove_tree(f->directory);
    free(f);
    return r;
}

#define WITH_CACHE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static struct wfe_index_entry file(const char *name, uint64_t data, uint64_t size)
{
    return (struct wfe_index_entry){.name = name,
        .mode = S_IFREG | 0644,
        .data = data,
        .size_bytes = size,
        .mtime_s = 1600000000,
        .uid = 1000,
        .gid = 100};
}

static void add(struct fixture *f, struct wfe_index_entry entry)
{
    assert_int_equal(wfe_index_add(f->index, &entry, NULL), 0);
}

/* A tree with something of everything. */
static void fill(struct fixture *f)
{
    static const struct wfe_extent extents[] = {
        {.offset_bytes = 4096, .length_bytes = 512, .data = 20480},
        {.offset_bytes = 65536, .length_bytes = 1024, .data = 20992},
    };
    static const struct wfe_extent other_extents[] = {
        {.offset_bytes = 0, .length_bytes = 512, .data = 40960},
    };
    static const struct wfe_xattr xattrs[] = {
        {.name = "user.colour", .value = "red\0blue", .value_length = 8},
        {.name = "user.empty", .value = "", .value_length = 0},
    };
    add(f, (struct wfe_index_entry){.name = "./", .mode = S_IFDIR | 0750, .mtime_s = 77});
    add(f, file("a", 512, 100));
    add(f, file("replaced", 1536, 100));
    add(f, (struct wfe_index_entry){.name = "link to replaced", .hardlink = "replaced"});
    add(f, file("replaced", 2560, 7));
    add(f, file("no/parent/of/this", 4096, 1));
    add(f, file("becomes/a/file", 5120, 1));
    add(f, file("becomes", 6144, 0));
    struct wfe_index_entry entry = file("sparse", 0, 100000);
    entry.extents = extents;
    entry.extent_count = 2;
    add(f, entry);
    entry = file("sparse too", 0, 512);
    entry.extents = other_extents;
    entry.extent_count = 1;
    add(f, entry);
    entry = file("caf\xe9", 7168, 3);
    entry.xattrs = xattrs;
    entry.xattr_count = 2;
    entry.mtime_s = -1;
    entry.mtime_ns = 999999999;
    add(f, entry);
    add(f, (struct wfe_index_entry){
               .name = "symlink", .symlink = "../x y", .mode = S_IFLNK | 0777, .size_bytes = 6});
    add(f, (struct wfe_index_entry){
               .name = "null", .mode = S_IFCHR | 0666, .rdev = (uint32_t)makedev(1, 3)});
    add(f, (struct wfe_index_entry){.name = "fifo", .mode = S_IFIFO | 0600});
    add(f, (struct wfe_index_entry){.name = "empty/", .mode = S_IFDIR | 01777});
    add(f, file("../clamped", 9216, 5));
    add(f, file("lost", WFE_INDEX_NO_DATA, 10));
    add(f, file("after lost", 10240, 10));
    add(f, (struct wfe_index_entry){.name = "dangling", .hardlink = "nowhere"});
    assert_int_equal(wfe_index_finish(f->index, NULL), 0);
}

static void expect_same_inode(const struct wfe_inode *a, const struct wfe_inode *b)
{
    assert_int_equal(a->size_bytes, b->size_bytes);
    if (wfe_index_form_has_place(a, a->count > 0))
        assert_int_equal(a->data, b->data);
    assert_int_equal(a->mtime_s, b->mtime_s);
    assert_int_equal(a->mtime_ns, b->mtime_ns);
    assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_int_equal(a->nlink, b->nlink);
    assert_int_equal(a->rdev, b->rdev);
    assert_int_equal(a->node, b->node);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->target, b->target);
    assert_int_equal(a->xattrs, b->xattrs);
}

static void expect_same_tree(const struct wfe_tree *a, const struct wfe_tree *b)
{
    assert_int_equal(a->node_count, b->node_count);
    for (uint32_t i = 0; i < a->node_count; i++) {
        const struct wfe_tree_node *x = &a->nodes[i], *y = &b->nodes[i];
        assert_int_equal(x->parent, y->parent);
        assert_int_equal(x->name_length, y->name_length);
        assert_memory_equal(a->names + x->name, b->names + y->name, x->name_length);
        assert_int_equal(x->is_directory, y->is_directory);
        assert_int_equal(x->is_dead, y->is_dead);
        assert_int_equal(x->entry, y->entry);
        assert_int_equal(x->content, y->content);
    }
}

static void expect_same(struct wfe_index *a, struct wfe_index *b)
{
    assert_true(wfe_index_is_complete(b));
    expect_same_tree(&a->tree, &b->tree);
    assert_int_equal(a->inode_count, b->inode_count);
    for (uint32_t i = 0; i < a->inode_count; i++) {
        const struct wfe_inode *x = &a->inodes[i], *y = &b->inodes[i];
        expect_same_inode(x, y);
        if (S_ISREG(x->mode) && x->count > 0)
            assert_memory_equal(
                &a->extents[x->first], &b->extents[y->first], x->count * sizeof *a->extents);
        for (uint32_t j = 0; S_ISDIR(x->mode) && j < x->count; j++)
            assert_int_equal(a->children[x->first + j], b->children[y->first + j]);
    }
    assert_int_equal(a->item_count, b->item_count);
    assert_memory_equal(a->items, b->items, a->item_count * sizeof *a->items);
    assert_int_equal(a->texts_length, b->texts_length);
    if (a->texts_length > 0)
        assert_memory_equal(a->texts, b->texts, a->texts_length);
    assert_int_equal(a->problem_count, b->problem_count);
    for (uint64_t i = 0; i < a->problem_count && i < WFE_MAX_PROBLEMS; i++)
        assert_string_equal(a->problems[i], b->problems[i]);
    assert_int_equal(a->has_clamped_names, b->has_clamped_names);
    assert_int_equal(a->place, b->place);
}

static void store(struct fixture *f)
{
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_index_cache_store(f->cache, &f->key, &f->st, f->index, f->stream, &err) < 0)
        fail_msg("%s", err.message);
}

static int load(struct fixture *f, struct wfe_index **ret)
{
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_stream *stream = open_stream();
    int r = wfe_index_cache_load(f->cache, &f->key, &f->st, stream, ret, &err);
    if (r == 0)
        assert_int_equal(wfe_stream_length(stream), STREAM_BYTES);
    assert_int_equal(err.kind, WFE_ERROR_NONE);
    wfe_stream_free(stream);
    return r;
}

static void expect_absent(struct fixture *f)
{
    struct wfe_index *index = NULL;
    assert_int_equal(load(f, &index), -ENOENT);
    assert_null(index);
}

static struct wfe_index *expect_present(struct fixture *f)
{
    struct wfe_index *index;
    assert_int_equal(load(f, &index), 0);
    return index;
}

static size_t count_files(const struct fixture *f)
{
    size_t count = 0;
    DIR *directory = opendir(f->cache_path);
    assert_non_null(directory);
    for (struct dirent *found; (found = readdir(directory));)
        count += strcmp(found->d_name, ".") != 0 && strcmp(found->d_name, "..") != 0;
    closedir(directory);
    return count;
}

struct path {
    char text[256];
};

static struct path index_path(const struct fixture *f)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s.v%d.idx", f->cache_path, wfe_digest_hex(&f->key),
        WFE_INDEX_FORMAT_VERSION);
    return path;
}

static void write_file(const char *path, const void *data, size_t length)
{
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, data, length), 0);
}

static void make_old(const char *path, time_t age_s)
{
    struct timespec then = {.tv_sec = time(NULL) - age_s};
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){then, then}, 0), 0);
}

static void an_index_comes_back_as_it_was(void **context)
{
    struct fixture *f = *context;
    fill(f);
    assert_true(f->index->problem_count > 0 && f->index->has_clamped_names);
    store(f);
    struct wfe_index *index = expect_present(f);
    expect_same(f->index, index);
    uint32_t inode;
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, "replaced", NULL, &inode), 0);
    assert_int_equal(index->inodes[inode].size_bytes, 7);
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, "link to replaced", NULL, &inode), 0);
    assert_int_equal(index->inodes[inode].size_bytes, 100);
    char value[8];
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, "caf\xe9", NULL, &inode), 0);
    assert_int_equal(wfe_index_getxattr(index, inode, "user.colour", value, sizeof value), 8);
    assert_memory_equal(value, "red\0blue", 8);
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, "becomes", NULL, &inode), 0);
    assert_true(S_ISREG(index->inodes[inode].mode));
    assert_int_equal(wfe_index_lookup(index, WFE_INDEX_ROOT, "dangling", NULL, &inode), -ENOENT);
    wfe_index_free(index);
}

static void an_index_of_an_empty_archive_comes_back(void **context)
{
    struct fixture *f = *context;
    assert_int_equal(wfe_index_finish(f->index, NULL), 0);
    store(f);
    struct wfe_index *index = expect_present(f);
    expect_same(f->index, index);
    wfe_index_free(index);
}

static void what_was_never_stored_is_absent(void **context)
{
    struct fixture *f = *context;
    expect_absent(f);
}

static void an_index_of_an_earlier_state_of_the_file_is_removed(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    f->st.st_mtim.tv_nsec++;
    expect_absent(f);
    assert_int_equal(count_files(f), 0);
    store(f);
    f->st.st_size++;
    expect_absent(f);
    store(f);
    /* A copy of the store has other inodes. */
    f->st.st_ino++;
    f->st.st_ctim.tv_sec++;
    wfe_index_free(expect_present(f));
}

static void a_truncated_index_is_removed(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    struct path path = index_path(f);
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(path.text, 1 << 20, &data, &length, NULL), 0);
    for (size_t i = 0; i < length; i++) {
        write_file(path.text, data, i);
        expect_absent(f);
        assert_int_equal(count_files(f), 0);
    }
    write_file(path.text, data, length);
    wfe_index_free(expect_present(f));
}

static void an_altered_index_is_removed(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    struct path path = index_path(f);
    WFE_FREE char *data = NULL;
    size_t length;
    assert_int_equal(wfe_read_file(path.text, 1 << 20, &data, &length, NULL), 0);
    for (size_t i = 0; i < length; i++) {
        data[i] ^= (char)(1 << i % 8);
        write_file(path.text, data, length);
        expect_absent(f);
        assert_int_equal(count_files(f), 0);
        data[i] ^= (char)(1 << i % 8);
    }
}

static void bytes_behind_an_index_are_refused(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    WFE_CLOSE int fd = open(index_path(f).text, O_WRONLY | O_APPEND);
    assert_true(fd >= 0);
    assert_int_equal(wfe_write_all(fd, "", 1), 0);
    expect_absent(f);
    assert_int_equal(count_files(f), 0);
}

static int to_buffer(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

static int encode_and_decode(struct fixture *f, struct wfe_index **ret, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer buffer = WFE_BUFFER_INIT(1 << 24);
    struct wfe_sink sink = {.write = to_buffer, .context = &buffer};
    assert_int_equal(wfe_index_encode(f->index, f->stream, &f->st, sink, NULL), 0);
    WFE_CLOSE int fd = memfd_create("index", MFD_CLOEXEC);
    assert_int_equal(wfe_write_all(fd, buffer.data, buffer.length), 0);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return wfe_index_decode(fd, &f->st, NULL, ret, err);
}

static uint32_t inode_called(struct fixture *f, const char *name)
{
    uint32_t inode;
    assert_int_equal(wfe_index_lookup(f->index, WFE_INDEX_ROOT, name, NULL, &inode), 0);
    return inode;
}

static void expect_refused(
    struct fixture *f, void *at, size_t bytes, uint64_t value, const char *message)
{
    char kept[8];
    memcpy(kept, at, bytes);
    memcpy(at, &value, bytes);
    struct wfe_error err = WFE_ERROR_INIT;
    struct wfe_index *index = NULL;
    if (encode_and_decode(f, &index, &err) == 0)
        fail_msg("accepted, expected: %s", message);
    assert_int_equal(err.kind, WFE_ERROR_INTEGRITY);
    assert_string_equal(err.message, message);
    memcpy(at, kept, bytes);
    assert_int_equal(encode_and_decode(f, &index, NULL), 0);
    wfe_index_free(index);
}

#define EXPECT_REFUSED(field, value, message)                                                      \
    expect_refused(f, &(field), sizeof(field), (uint64_t)(value), "index: " message)

static void numbers_that_point_outside_of_their_tables_are_refused(void **context)
{
    struct fixture *f = *context;
    fill(f);
    struct wfe_index *x = f->index;
    struct wfe_tree_node *nodes = x->tree.nodes;
    struct wfe_inode *symlink = &x->inodes[inode_called(f, "symlink")];
    struct wfe_inode *plain = &x->inodes[inode_called(f, "a")];
    uint32_t count = x->tree.node_count;
    EXPECT_REFUSED(nodes[2].parent, count, "a node comes before its parent");
    EXPECT_REFUSED(nodes[2].parent, 2, "a node comes before its parent");
    EXPECT_REFUSED(nodes[2].parent, plain->node, "a node is below one that is no directory");
    EXPECT_REFUSED(nodes[2].entry, x->item_count, "a node's item does not exist");
    EXPECT_REFUSED(nodes[2].content, x->inode_count, "a node's inode does not exist");
    EXPECT_REFUSED(nodes[0].content, 1, "the root is not the first inode");
    EXPECT_REFUSED(nodes[plain->node].content, inode_called(f, "empty"),
        "a node and its inode are not of one kind");
    EXPECT_REFUSED(nodes[x->inodes[inode_called(f, "empty")].node].content, inode_called(f, "no"),
        "a directory has two names");
    EXPECT_REFUSED(plain->node, count, "an inode's node does not exist");
    EXPECT_REFUSED(x->items[1].node, count, "an item's node or inode does not exist");
    EXPECT_REFUSED(x->items[1].inode, x->inode_count, "an item's node or inode does not exist");
    EXPECT_REFUSED(x->items[1].link_node, count, "an item's node or inode does not exist");
    EXPECT_REFUSED(symlink->target, x->texts_length, "a symbolic link's target is not a text");
    EXPECT_REFUSED(symlink->target, WFE_INDEX_NONE,
        "a symbolic link without target, or a target without link");
    EXPECT_REFUSED(plain->xattrs, x->texts_length, "an inode's xattrs are not in the texts");
}

static void attributes_that_no_file_has_are_refused(void **context)
{
    struct fixture *f = *context;
    fill(f);
    struct wfe_index *x = f->index;
    struct wfe_inode *plain = &x->inodes[inode_called(f, "a")];
    struct wfe_inode *sparse = &x->inodes[inode_called(f, "sparse")];
    struct wfe_extent *extent = &x->extents[sparse->first + 1];
    EXPECT_REFUSED(plain->mode, 0644, "an inode's mode stands for nothing");
    EXPECT_REFUSED(plain->mode, S_IFREG | 0200644, "an inode's mode stands for nothing");
    EXPECT_REFUSED(plain->mtime_ns, 1000000000, "a time has too many nanoseconds");
    EXPECT_REFUSED(plain->size_bytes, WFE_MAX_FILE_BYTES + 1, "a file is larger than its limit");
    EXPECT_REFUSED(plain->size_bytes, STREAM_BYTES, "a file's data are outside of the archive");
    EXPECT_REFUSED(plain->data, STREAM_BYTES - 99, "a file's data are outside of the archive");
    EXPECT_REFUSED(plain->data, UINT64_MAX - 1, "a file's data are outside of the archive");
    EXPECT_REFUSED(extent->offset_bytes, 4096, "an extent is not in its place");
    EXPECT_REFUSED(extent->offset_bytes, 99999, "an extent is not in its place");
    EXPECT_REFUSED(extent->offset_bytes, UINT64_MAX, "an extent is not in its place");
    EXPECT_REFUSED(extent->length_bytes, UINT64_MAX, "an extent is not in its place");
    EXPECT_REFUSED(extent->data, STREAM_BYTES, "an extent's data are outside of the archive");
}

static void names_that_no_file_has_are_refused(void **context)
{
    struct fixture *f = *context;
    fill(f);
    struct wfe_tree *tree = &f->index->tree;
    struct wfe_tree_node *node = &tree->nodes[f->index->inodes[inode_called(f, "a")].node];
    static const char wrong[] = {'/', '\0', '.'};
    for (size_t i = 0; i < sizeof wrong; i++)
        EXPECT_REFUSED(tree->names[node->name], wrong[i], "a name is not one that a file can have");
    EXPECT_REFUSED(node->name_length, 0, "a name is not one that a file can have");
}

static void indexes_that_are_no_use_later_are_not_kept(void **context)
{
    struct fixture *f = *context;
    assert_int_equal(
        wfe_index_cache_store(f->cache, &f->key, &f->st, f->index, f->stream, NULL), -ENOTSUP);
    wfe_index_break(f->index, "truncated");
    fill(f);
    assert_int_equal(
        wfe_index_cache_store(f->cache, &f->key, &f->st, f->index, f->stream, NULL), -ENOTSUP);
    struct wfe_index *spool;
    assert_int_equal(wfe_index_new(WFE_INDEX_SPOOL, &spool, NULL), 0);
    assert_int_equal(wfe_index_finish(spool, NULL), 0);
    assert_int_equal(
        wfe_index_cache_store(f->cache, &f->key, &f->st, spool, f->stream, NULL), -ENOTSUP);
    wfe_index_free(spool);
    assert_int_equal(count_files(f), 0);
}

static void a_full_disk_leaves_nothing_behind(void **context)
{
    struct fixture *f = *context;
    fill(f);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit limit = {.rlim_cur = 100, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_index_cache_store(f->cache, &f->key, &f->st, f->index, f->stream, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(r, -EFBIG);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    assert_int_equal(count_files(f), 0);
}

static void a_directory_that_went_away_is_an_error(void **context)
{
    struct fixture *f = *context;
    fill(f);
    assert_int_equal(rmdir(f->cache_path), 0);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(
        wfe_index_cache_store(f->cache, &f->key, &f->st, f->index, f->stream, &err), -ENOENT);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    expect_absent(f);
}

static void a_directory_is_made_for_the_user_alone(void **context)
{
    struct fixture *f = *context;
    struct stat st;
    assert_int_equal(stat(f->cache_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_string_equal(wfe_index_cache_directory(f->cache), f->cache_path);
}

static void a_file_in_the_place_of_the_directory_is_an_error(void **context)
{
    struct fixture *f = *context;
    char path[128];
    snprintf(path, sizeof path, "%s/file", f->directory);
    write_file(path, "", 0);
    struct wfe_index_cache_options options = {.directory = path};
    struct wfe_index_cache *cache = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    assert_true(wfe_index_cache_open(&options, &cache, &err) < 0);
    assert_int_equal(err.kind, WFE_ERROR_SYSTEM);
    assert_null(cache);
}

static void expect_default_directory(const char *expected)
{
    struct wfe_index_cache *cache;
    assert_int_equal(wfe_index_cache_open(&(struct wfe_index_cache_options){0}, &cache, NULL), 0);
    assert_string_equal(wfe_index_cache_directory(cache), expected);
    wfe_index_cache_free(cache);
}

static void the_default_directory_is_the_users(void **context)
{
    struct fixture *f = *context;
    char expected[128];
    setenv("HOME", f->directory, 1);
    setenv("XDG_CACHE_HOME", f->cache_path, 1);
    snprintf(expected, sizeof expected, "%s/wfe", f->cache_path);
    expect_default_directory(expected);
    setenv("XDG_CACHE_HOME", "relative", 1);
    snprintf(expected, sizeof expected, "%s/.cache/wfe", f->directory);
    expect_default_directory(expected);
    unsetenv("XDG_CACHE_HOME");
    expect_default_directory(expected);
}

static void what_is_in_use_is_kept_and_the_rest_evicted_by_age(void **context)
{
    struct fixture *f = *context;
    fill(f);
    open_cache(f, 0, 1000);
    store(f);
    struct path used = index_path(f);
    make_old(used.text, 900);
    wfe_index_free(expect_present(f));
    struct stat st;
    assert_int_equal(stat(used.text, &st), 0);
    assert_true(time(NULL) - st.st_mtim.tv_sec < 100);

    wfe_digest_of("unused", 6, &f->key);
    store(f);
    struct path unused = index_path(f);
    make_old(unused.text, 1100);
    wfe_digest_of("new", 3, &f->key);
    store(f);
    assert_int_equal(access(used.text, F_OK), 0);
    assert_int_equal(access(unused.text, F_OK), -1);
    assert_int_equal(count_files(f), 2);
}

static void the_longest_unused_are_evicted_when_there_is_too_much(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    struct stat st;
    assert_int_equal(stat(index_path(f).text, &st), 0);
    assert_int_equal(unlink(index_path(f).text), 0);
    open_cache(f, (uint64_t)st.st_size * 3, 0);
    struct path paths[5];
    for (int i = 0; i < 5; i++) {
        wfe_digest_of(&i, sizeof i, &f->key);
        paths[i] = index_path(f);
        if (i == 4)
            make_old(paths[1].text, 50);
        store(f);
        make_old(paths[i].text, 1000 - 100 * i);
    }
    static const bool expected[5] = {false, true, false, true, true};
    for (int i = 0; i < 5; i++)
        assert_int_equal(access(paths[i].text, F_OK) == 0, expected[i]);
}

static void files_that_are_not_ours_are_never_evicted(void **context)
{
    struct fixture *f = *context;
    fill(f);
    store(f);
    struct path ours = index_path(f);
    const char *hex = wfe_digest_hex(&f->key);
    char names[8][128];
    snprintf(names[0], sizeof *names, "notes.idx");
    snprintf(names[1], sizeof *names, "%s.vx.idx", hex);
    snprintf(names[2], sizeof *names, "%s.v1.idx.bak", hex);
    snprintf(names[3], sizeof *names, "%.63s.v1.idx", hex);
    snprintf(names[4], sizeof *names, ".%s.tmp", hex);
    /* These are: of another version, and what a killed writer left. */
    snprintf(names[5], sizeof *names, "%s.v987.idx", hex);
    snprintf(names[6], sizeof *names, ".%s.123-0.tmp", hex);
    /* A writer is at this one. */
    snprintf(names[7], sizeof *names, ".%s.124-0.tmp", hex);
    struct path paths[8];
    for (size_t i = 0; i < 8; i++) {
        snprintf(paths[i].text, sizeof paths[i].text, "%s/%s", f->cache_path, names[i]);
        write_file(paths[i].text, "text", 4);
        make_old(paths[i].text, i != 6 ? 1000L * 24 * 3600 : 0);
    }
    WFE_CLOSE int writer = open(paths[7].text, O_WRONLY | O_CLOEXEC);
    assert_int_equal(flock(writer, LOCK_EX), 0);
    open_cache(f, 1, 0);
    store(f);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(access(paths[i].text, F_OK) == 0, i < 5 || i == 7);
    assert_int_equal(access(ours.text, F_OK), -1);
}

static void *store_and_load(void *context)
{
    struct fixture *f = context;
    for (int i = 0; i < 50; i++) {
        store(f);
        wfe_index_free(expect_present(f));
    }
    return NULL;
}

static void many_may_write_and_read_the_same_index(void **context)
{
    struct fixture *f = *context;
    fill(f);
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, store_and_load, f), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(count_files(f), 1);
}

static void an_index_of_many_small_files_is_small(void **context)
{
    struct fixture *f = *context;
    enum { FILES = 20000 };
    uint64_t data = 512, total = 0;
    uint32_t random = 1;
    for (int i = 0; i < FILES; i++) {
        char name[64];
        snprintf(name, sizeof name, "tree/%03d/module_%05d.c", i / 100, i);
        random = random * 1103515245 + 12345;
        uint64_t size = 1024 + (random >> 16) % 3072;
        struct wfe_index_entry entry = file(name, data, size);
        entry.mtime_s += i / 50;
        add(f, entry);
        data += (size + 511) / 512 * 512 + 512;
        total += size;
    }
    assert_int_equal(wfe_index_finish(f->index, NULL), 0);
    store(f);
    struct stat st;
    assert_int_equal(stat(index_path(f).text, &st), 0);
    assert_true((uint64_t)st.st_size * 200 < total);
    struct wfe_index *index = expect_present(f);
    expect_same(f->index, index);
    wfe_index_free(index);
}

static void a_key_tells_files_and_parts_of_them_apart(void **context)
{
    (void)context;
    struct stat st = {.st_ino = 1, .st_size = 2, .st_mtim = {.tv_sec = 3}};
    struct wfe_digest keys[8];
    wfe_index_cache_key(&st, 0, 0, "name", &keys[0]);
    wfe_index_cache_key(&st, 512, 0, "name", &keys[1]);
    wfe_index_cache_key(&st, 0, 512, "name", &keys[2]);
    wfe_index_cache_key(&st, 0, 0, "other", &keys[3]);
    wfe_index_cache_key(&st, 0, 0, NULL, &keys[4]);
    st.st_mtim.tv_nsec = 1;
    wfe_index_cache_key(&st, 0, 0, "name", &keys[5]);
    st.st_ctim.tv_nsec = 1;
    wfe_index_cache_key(&st, 0, 0, "name", &keys[6]);
    st.st_ino = 2;
    wfe_index_cache_key(&st, 0, 0, "name", &keys[7]);
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(keys[i].text, keys[j].text);
    }
    struct wfe_digest again;
    wfe_index_cache_key(&st, 0, 0, "name", &again);
    assert_string_equal(again.text, keys[7].text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_CACHE(an_index_comes_back_as_it_was),
        WITH_CACHE(an_index_of_an_empty_archive_comes_back),
        WITH_CACHE(what_was_never_stored_is_absent),
        WITH_CACHE(an_index_of_an_earlier_state_of_the_file_is_removed),
        WITH_CACHE(a_truncated_index_is_removed),
        WITH_CACHE(an_altered_index_is_removed),
        WITH_CACHE(bytes_behind_an_index_are_refused),
        WITH_CACHE(numbers_that_point_outside_of_their_tables_are_refused),
        WITH_CACHE(attributes_that_no_file_has_are_refused),
        WITH_CACHE(names_that_no_file_has_are_refused),
        WITH_CACHE(indexes_that_are_no_use_later_are_not_kept),
        WITH_CACHE(a_full_disk_leaves_nothing_behind),
        WITH_CACHE(a_directory_that_went_away_is_an_error),
        WITH_CACHE(a_directory_is_made_for_the_user_alone),
        WITH_CACHE(a_file_in_the_place_of_the_directory_is_an_error),
        WITH_CACHE(the_default_directory_is_the_users),
        WITH_CACHE(what_is_in_use_is_kept_and_the_rest_evicted_by_age),
        WITH_CACHE(the_longest_unused_are_evicted_when_there_is_too_much),
        WITH_CACHE(files_that_are_not_ours_are_never_evicted),
        WITH_CACHE(many_may_write_and_read_the_same_index),
        WITH_CACHE(an_index_of_many_small_files_is_small),
        cmocka_unit_test(a_key_tells_files_and_parts_of_them_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
