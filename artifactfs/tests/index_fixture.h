/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_TESTS_INDEX_FIXTURE_H
#define WFE_ARTIFACTFS_TESTS_INDEX_FIXTURE_H

/* An index that a test fills by hand, and asks by path. */

#include "artifactfs/index.h"

/* Setup and teardown of a test: *state is an index of WFE_INDEX_STREAM. */
int index_setup(void **state);
int index_teardown(void **state);

/* Each must succeed. */
void add_entry(struct wfe_index *index, struct wfe_index_entry entry);
void add_file(struct wfe_index *index, const char *name, uint64_t size, uint64_t data);
void add_directory(struct wfe_index *index, const char *name, uint32_t mode);
void add_link(struct wfe_index *index, const char *name, const char *target);
void add_symlink(struct wfe_index *index, const char *name, const char *target);
void finish(struct wfe_index *index);

/* Waits for nothing. */
extern const struct wfe_index_patience no_patience;

/* The inode at a path, or a negative errno. */
int64_t find(struct wfe_index *index, const char *path);
struct wfe_inode get(struct wfe_index *index, const char *path);

void assert_problem(struct wfe_index *index, const char *part);

#endif
