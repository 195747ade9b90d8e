/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_TESTS_LAYER_FIXTURE_H
#define WFE_LIBCOMMON_TESTS_LAYER_FIXTURE_H

/* Tars made byte by byte, layers as text, and a scratch directory: for tests of layers. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libcommon/buffer.h"
#include "libcommon/layer.h"

/* A directory that is gone after the test; setup and teardown of a group or a test. */
int scratch_setup(void **state);
int scratch_teardown(void **state);
/* "SCRATCH/NAME"; a static buffer that holds until the fourth next call. */
const char *scratch_path(const char *name);
void scratch_write(const char *name, const void *data, size_t length);

/* What a tar's entry is made of. Zero fields: mode 0644, owner 0:0, mtime 0, type '0'. */
struct tar_entry {
    const char *name;
    char type;
    const char *target;
    const char *data;
    size_t data_length; /* 0: strlen(data) */
    unsigned mode;
    uint64_t uid, gid;
    uint64_t mtime_s;
    uint64_t size;   /* what the header says, when it is to lie */
    const char *pax; /* "key=value" lines that go into a pax header before it */
};

/* Append an entry, or the end of a tar, to the tar in buffer. */
void tar_add(struct wfe_buffer *tar, const struct tar_entry *entry);
void tar_end(struct wfe_buffer *tar);
/* A pax record with any bytes; for struct tar_entry.pax see there. */
void tar_add_pax(struct wfe_buffer *tar, const void *records, size_t length);

/* The tar of some entries, in the scratch file "a.tar"; the list ends with a NULL name. */
void write_tar(const struct tar_entry *entries);

#define TAR_BUFFER(name) WFE_BUFFER struct wfe_buffer name = WFE_BUFFER_INIT(256 << 20)

/* The layer of a path in memory. Returns what wfe_layer_write() returned. */
int make_layer(const char *path, const struct wfe_layer_options *options, struct wfe_buffer *layer,
    struct wfe_layer_result *ret, struct wfe_error *err);

/* A sink's function: appends to the context, a struct wfe_buffer. */
int to_buffer(void *context, const void *data, size_t length, struct wfe_error *err);

/*
 * What a layer holds, one line an entry, as libarchive reads it:
 *     d 755 0:0 0 in/
 *     - 644 1000:1000 12 in/file 5 hello user.x=1
 *     h in/link > in/file
 *     l 777 0:0 0 in/symlink > ../target
 *     p 644 0:0 0 in/fifo
 * Long data are shown by size and digest. Fails the test when the layer is malformed.
 */
void list_layer(const struct wfe_buffer *layer, struct wfe_buffer *ret);

/* The layer of scratch file "a.tar" is made under `prefix` and must list as expected. */
void assert_layer(const char *prefix, const char *expected);
/* It is refused with that kind, and a message that holds each of the words. */
void assert_refused(enum wfe_error_kind kind, const char *word, const char *other_word);

#endif
