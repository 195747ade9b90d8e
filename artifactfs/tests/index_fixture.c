/* SPDX-License-Identifier: MIT */
#include "artifactfs/tests/index_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

int index_setup(void **state)
{
    struct wfe_index *index;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_index_new(WFE_INDEX_STREAM, &index, &err) < 0)
        return -1;
    *state = index;
    return 0;
}

int index_teardown(void **state)
{
    wfe_index_free(*state);
    return 0;
}

void add_entry(struct wfe_index *index, struct wfe_index_entry entry)
{
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_index_add(index, &entry, &err), 0);
    assert_int_equal(err.kind, WFE_ERROR_NONE);
}

void add_file(struct wfe_index *index, const char *name, uint64_t size, uint64_t data)
{
    add_entry(index, (struct wfe_index_entry){
                         .name = name, .mode = S_IFREG | 0644, .size_bytes = size, .data = data});
}

void add_directory(struct wfe_index *index, const char *name, uint32_t mode)
{
    add_entry(index, (struct wfe_index_entry){.name = name, .mode = S_IFDIR | mode});
}

void add_link(struct wfe_index *index, const char *name, const char *target)
{
    add_entry(index, (struct wfe_index_entry){.name = name, .hardlink = target});
}

void add_symlink(struct wfe_index *index, const char *name, const char *target)
{
    add_entry(
        index, (struct wfe_index_entry){.name = name, .mode = S_IFLNK | 0777, .symlink = target});
}

void finish(struct wfe_index *index)
{
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_index_finish(index, &err), 0);
    assert_true(wfe_index_is_complete(index));
}

static bool is_over_at_once(void *context)
{
    (void)context;
    return true;
}

const struct wfe_index_patience no_patience = {.is_over = is_over_at_once};

int64_t find(struct wfe_index *index, const char *path)
{
    uint32_t inode = WFE_INDEX_ROOT;
    struct wfe_layer_component next;
    while (wfe_layer_component_next(&path, &next)) {
        char name[WFE_MAX_COMPONENT_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)next.length, next.text);
        int r = wfe_index_lookup(index, inode, name, &no_patience, &inode);
        if (r < 0)
            return r;
    }
    return inode;
}

struct wfe_inode get(struct wfe_index *index, const char *path)
{
    int64_t inode = find(index, path);
    assert_true(inode >= 0);
    struct wfe_inode record;
    assert_int_equal(wfe_index_get(index, (uint32_t)inode, &record), 0);
    return record;
}

void assert_problem(struct wfe_index *index, const char *part)
{
    bool found = false;
    for (uint64_t i = 0; i < index->problem_count; i++)
        found |= strstr(index->problems[i], part) != NULL;
    if (!found)
        print_error("no problem says '%s'\n", part);
    assert_true(found);
}
