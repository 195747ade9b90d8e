/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_SCAN_ZIP_H
#define WFE_ARTIFACTFS_SCAN_ZIP_H

/* Files that a zip stores without compression (PKWARE's APPNOTE, 4.3.7 and 4.5.3). */

#include <stdbool.h>
#include <stdint.h>

#include "artifactfs/scan_input.h"

struct archive;
struct archive_entry;

/* Whether the data of the entry whose header the reader went over last lie as they are, and where
 * in the stream. */
bool wfe_scan_zip_is_stored(struct wfe_scan_input *input, struct archive *reader,
    struct archive_entry *entry, uint64_t *ret_data);

#endif
