/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_TESTS_STREAM_FIXTURE_H
#define WFE_ARTIFACTFS_TESTS_STREAM_FIXTURE_H

/* Compressed files for the tests of artifactfs/stream.h, made by the libraries themselves. A
 * failure in here ends the test program. */

#include <stddef.h>
#include <stdint.h>

#include "artifactfs/stream.h"

struct bytes {
    unsigned char *data;
    size_t length;
    size_t capacity;
};

void bytes_done(struct bytes *bytes);
#define BYTES __attribute__((cleanup(bytes_done)))

void bytes_append(struct bytes *to, const void *data, size_t length);
/* Words in some order, with stretches of noise and of one letter; the same for the same seed. */
struct bytes make_plain(size_t length, unsigned seed);

/* Each appends a member, or frames, or a stream. */
void add_gzip(struct bytes *to, const void *data, size_t length);
/* As add_gzip(), of blocks of a few hundred bytes; other_strategy: fixed codes and stored ones. */
void add_gzip_small_blocks(struct bytes *to, const void *data, size_t length, int other_strategy);
void add_zstd(struct bytes *to, const void *data, size_t length, size_t frame_bytes);
/* One frame that doesn't say how long it is, and asks for a window of 2^window_log bytes. */
void add_zstd_streamed(struct bytes *to, const void *data, size_t length, int window_log);
void add_xz(struct bytes *to, const void *data, size_t length, size_t block_bytes);
void add_bzip2(struct bytes *to, const void *data, size_t length, int level);
void add_lz4(struct bytes *to, const void *data, size_t length);

/* How each of them makes a whole file that is not solid, or is. */
struct packing {
    const char *name;
    enum wfe_stream_filter filter;
    int solid;
    void (*pack)(struct bytes *to, const void *data, size_t length);
};
extern const struct packing packings[];
extern const size_t packing_count;

/* A file with these bytes, in memory. */
int bytes_to_file(const struct bytes *bytes);
struct wfe_stream *open_bytes(const struct bytes *bytes, uint64_t spacing_bytes);

/* Run the pass to its end; what came is appended to `to`, which may be NULL. Returns
 * wfe_stream_next()'s last. */
int run_pass(struct wfe_stream *stream, struct bytes *to, struct wfe_error *err);

/* What a stream saves; empty before save_stream(). */
struct saved {
    struct bytes places;
    struct bytes windows;
};

void saved_done(struct saved *saved);
#define SAVED __attribute__((cleanup(saved_done)))

/* wfe_stream_save() and wfe_stream_save_windows(), and wfe_stream_load() of that. */
int save_stream(const struct wfe_stream *stream, struct saved *saved);
int load_stream(struct wfe_stream *stream, const struct saved *saved, struct wfe_error *err);

/* A small generator of numbers. */
uint32_t next_random(uint32_t *state);

#endif
