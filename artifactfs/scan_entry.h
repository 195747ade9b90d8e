/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_SCAN_ENTRY_H
#define WFE_ARTIFACTFS_SCAN_ENTRY_H

/* One entry of an archive on its way into the index: its attributes, and where its data lie. */

#include "artifactfs/index.h"
#include "artifactfs/scan_input.h"
#include "artifactfs/scan_spool.h"

struct archive;
struct archive_entry;

struct wfe_scan_entries {
    struct wfe_scan_input *input;
    struct archive *reader;
    int format; /* libarchive's code, without variant */
    struct wfe_index *index;
    struct wfe_scan_spool *spool;
    bool has_lost_data; /* of an entry that the index has */
    /* Of the entry at hand. */
    struct wfe_extent *extents;
    uint32_t extent_count, extents_allocated;
    struct wfe_xattr *xattrs;
    uint32_t xattr_count, xattrs_allocated;
};

void wfe_scan_entries_done(struct wfe_scan_entries *entries);

/* Whether the data of all of the format's files lie in the stream. */
bool wfe_scan_format_is_contiguous(int format);

/*
 * Add the entry whose header the reader has read. An entry that the archive breaks off in is added
 * all the same. Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_SYSTEM, WFE_ERROR_LIMIT, WFE_ERROR_CANCELLED,
 * WFE_ERROR_INTERNAL.
 */
int wfe_scan_entry_add(
    struct wfe_scan_entries *entries, struct archive_entry *entry, struct wfe_error *err);

/* Records what the reader's last call failed with: its own failure, or its input's. */
int wfe_scan_reader_failed(const struct wfe_scan_entries *entries, struct wfe_error *err);

#endif
