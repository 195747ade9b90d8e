/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_TESTS_SCAN_FIXTURE_H
#define WFE_ARTIFACTFS_TESTS_SCAN_FIXTURE_H

/* Scans of files in the scratch directory (libcommon/tests/layer_fixture.h), and what they found.
 */

#include "artifactfs/index.h"
#include "artifactfs/scan.h"
#include "artifactfs/stream.h"

struct scanned {
    struct wfe_stream *stream;
    struct wfe_index *index;
    int spool;  /* -1: none */
    int result; /* of wfe_scan_run() */
    struct wfe_error err;
};

/* Scan the file at path; what options lacks is filled in, they may be NULL. */
void scan_path(const char *path, const struct wfe_scan_options *options, struct scanned *ret);
void scanned_done(struct scanned *scanned);
#define SCANNED __attribute__((cleanup(scanned_done)))

/* The inode at a path, or a negative errno. */
int64_t scanned_find(const struct scanned *scanned, const char *path);
struct wfe_inode scanned_inode(const struct scanned *scanned, const char *path);

/* As wfe_artifact_read() does it: the bytes read, or -EIO. */
ssize_t scanned_read(
    const struct scanned *scanned, uint32_t inode, void *buffer, size_t length, uint64_t offset);

void assert_contents(const struct scanned *scanned, const char *path, const char *data);
void assert_problem(const struct scanned *scanned, const char *part);
void assert_broken(const struct scanned *scanned, const char *part);

/* "PATH.gz", a gzip of the file. */
const char *gzip_path(const char *path);

/* A file of tests/data, unpacked. */
const char *gunzip_data(const char *name);

/* Whatever libarchive reads from the file, up to a failure, the scan has found too: names,
 * attributes, contents, holes; and broken is the index where libarchive fails. */
void compare_with_libarchive(const char *path);

struct archive;

/* A libarchive writer of the scratch file, in a format and with options by name ("" for none). */
struct archive *start_archive(const char *name, const char *format, const char *options);
/* Append a file with `length` bytes that depend on seed. */
void write_file(struct archive *archive, const char *name, size_t length, unsigned seed);
void write_directory(struct archive *archive, const char *name);
void write_symlink(struct archive *archive, const char *name, const char *target);
void write_hardlink(struct archive *archive, const char *name, const char *target);
void end_archive(struct archive *archive);

#endif
