/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_LIMITS_H
#define WFE_ARTIFACTFS_LIMITS_H

/*
 * What a mount takes of memory and disk at most, whatever an archive holds. An archive that wants
 * more is shown as far as the limit lets it; the reason is in the log and in .wfe/volume.json.
 */

#include <stdint.h>

/* Entries of one archive. */
#define WFE_MAX_ENTRIES 20000000
/* Directories that only the names below them tell of, beyond two for each entry. */
#define WFE_MAX_MADE_DIRECTORIES 250000
/* One component of a name (Linux's NAME_MAX), and a whole name: longer ones are left out. */
#define WFE_MAX_COMPONENT_BYTES 255
#define WFE_MAX_NAME_BYTES (64 * 1024)
/* The target of a symbolic link (Linux's PATH_MAX without its NUL). */
#define WFE_MAX_TARGET_BYTES 4095
/* One value of an xattr (Linux's XATTR_SIZE_MAX), and all of an entry's. */
#define WFE_MAX_XATTR_BYTES (64 * 1024)
#define WFE_MAX_XATTRS_BYTES (1024 * 1024)
/* Names, link targets and xattrs of one archive. */
#define WFE_MAX_TEXT_BYTES (UINT32_C(1) << 31)
/* Extents of one sparse file, and a file's size. */
#define WFE_MAX_EXTENTS 1000000
#define WFE_MAX_FILE_BYTES (UINT64_C(1) << 62)
/* Problems told one by one; more are only counted. */
#define WFE_MAX_PROBLEMS 100

/* Decoded bytes between two checkpoints at first, and how many there may be: beyond that every
 * other one is dropped and the spacing doubled. */
#define WFE_STREAM_SPACING_BYTES (UINT64_C(4) * 1024 * 1024)
#define WFE_STREAM_MAX_CHECKPOINTS 1024
/* The first frame of a zstd file and the blocks of an xz file, decoded: with larger ones, a read
 * would have too much to decode first, so the file is spooled. */
#define WFE_STREAM_MAX_FRAME_BYTES (UINT64_C(16) * 1024 * 1024)
#define WFE_STREAM_MAX_BLOCK_BYTES (UINT64_C(32) * 1024 * 1024)
/* What the list of an xz file's blocks takes, about 16 bytes each. */
#define WFE_STREAM_MAX_BLOCKS_BYTES (UINT64_C(8) * 1024 * 1024)
/* Decoders kept for a stream's sequential readers, and their memory, but for one of them. */
#define WFE_STREAM_MAX_DECODERS 8
#define WFE_STREAM_MAX_DECODERS_BYTES (UINT64_C(32) * 1024 * 1024)
/* Decoded bytes that a stream keeps at hand. */
#define WFE_STREAM_CACHE_BYTES (UINT64_C(16) * 1024 * 1024)
/* The window of a zstd frame, the dictionary of an xz block. */
#define WFE_STREAM_MAX_WINDOW_BYTES (UINT64_C(128) * 1024 * 1024)

/* The cache directory: indexes, and spool files while they are in use. */
#define WFE_CACHE_MAX_BYTES (UINT64_C(1) << 30)
#define WFE_CACHE_MAX_AGE_S (UINT64_C(90) * 24 * 3600)
#define WFE_SPOOL_MAX_BYTES (UINT64_C(16) << 30)
/* An index in the cache, before and after it is decompressed. */
#define WFE_CACHE_MAX_INDEX_BYTES (UINT64_C(4) << 30)

#endif
