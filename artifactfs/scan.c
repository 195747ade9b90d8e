/* SPDX-License-Identifier: MIT */
#include "artifactfs/scan.h"

#include <assert.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "artifactfs/scan_entry.h"
#include "artifactfs/scan_input.h"
#include "artifactfs/scan_spool.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/layer_name.h"

struct wfe_scan {
    struct wfe_scan_input input;
    struct wfe_scan_spool spool;
    struct wfe_index *index;
    bool index_is_taken;
    int format; /* libarchive's code, without variant; 0: no archive */
    locale_t locale;
    char *file_name;
    int64_t file_mtime_s;
    uint32_t file_mtime_ns;
};

void wfe_scan_free(struct wfe_scan *scan)
{
    if (!scan)
        return;
    wfe_scan_input_done(&scan->input);
    wfe_scan_spool_done(&scan->spool);
    if (!scan->index_is_taken)
        wfe_index_free(scan->index);
    if (scan->locale)
        freelocale(scan->locale);
    free(scan->file_name);
    free(scan);
}

static void cleanup_scan(struct wfe_scan **scan)
{
    wfe_scan_free(*scan);
}

/* libarchive converts names to the charset of the thread's locale. In the C locale it leaves those
 * of a tar alone, as it should; names that are Unicode by definition would be lost in it. */
static int set_locale(struct wfe_scan *scan, const char *name, struct wfe_error *err)
{
    locale_t locale = newlocale(LC_ALL_MASK, name, (locale_t)0);
    if (!locale)
        return wfe_error_system(err, errno, "locale %s", name);
    if (scan->locale)
        freelocale(scan->locale);
    scan->locale = locale;
    return 0;
}

static int find_format(struct wfe_scan *scan, struct wfe_error *err)
{
    int r = set_locale(scan, "C.UTF-8", err);
    if (r < 0)
        return r;
    locale_t saved = uselocale(scan->locale);
    r = wfe_scan_input_probe(&scan->input, &scan->format, err);
    uselocale(saved);
    if (r == 0 && scan->format == ARCHIVE_FORMAT_TAR)
        r = set_locale(scan, "C", err);
    return r;
}

int wfe_scan_open(struct wfe_stream *stream, const struct wfe_scan_options *options,
    struct wfe_scan **ret, struct wfe_error *err)
{
    assert(options->file_name && options->file_mtime_ns < 1000000000);
    WFE_CLEANUP(cleanup_scan) struct wfe_scan *scan = calloc(1, sizeof *scan);
    if (!scan)
        return wfe_error_nomem(err);
    *scan = (struct wfe_scan){
        .spool = WFE_SCAN_SPOOL_INIT,
        .file_name = strdup(options->file_name),
        .file_mtime_s = options->file_mtime_s,
        .file_mtime_ns = options->file_mtime_ns,
    };
    if (!scan->file_name)
        return wfe_error_nomem(err);
    int r = wfe_scan_input_open(&scan->input, stream, options->cancel, err);
    scan->input.pause = options->pause;
    scan->input.pause_context = options->pause_context;
    if (r == 0)
        r = find_format(scan, err);
    if (r < 0)
        return r;
    bool has_spool = scan->format != 0 && !wfe_scan_format_is_contiguous(scan->format);
    uint64_t max = options->max_spool_bytes ? options->max_spool_bytes : WFE_SPOOL_MAX_BYTES;
    if (has_spool)
        r = wfe_scan_spool_open(&scan->spool, options->spool_directory, max, err);
    if (r == 0)
        r = wfe_index_new(has_spool ? WFE_INDEX_SPOOL : WFE_INDEX_STREAM, &scan->index, err);
    if (r < 0)
        return r;
    *ret = wfe_steal(&scan);
    return 0;
}

struct wfe_index *wfe_scan_take_index(struct wfe_scan *scan)
{
    assert(!scan->index_is_taken);
    scan->index_is_taken = true;
    return scan->index;
}

int wfe_scan_take_spool(struct wfe_scan *scan)
{
    return wfe_steal_fd(&scan->spool.handed_fd);
}

static int cancelled(struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "the scan was cancelled");
}

/* Say behind which entry it happened. */
static void add_context(struct wfe_scan *scan, struct wfe_error *err)
{
    struct wfe_index *index = scan->index;
    WFE_FREE char *path = malloc(WFE_MAX_NAME_BYTES + 1);
    if (!path || index->item_count == 0)
        return;
    uint32_t node = index->items[index->item_count - 1].node;
    char shown[WFE_LAYER_SHOWN_BYTES];
    if (wfe_index_node_path(index, node, path, WFE_MAX_NAME_BYTES + 1) > 0)
        wfe_error_prefix(err, "after '%s'", wfe_layer_show(path, shown));
}

static int scan_entries(
    struct wfe_scan *scan, struct wfe_scan_entries *entries, struct wfe_error *err)
{
    for (;;) {
        if (wfe_cancel_requested(scan->input.cancel))
            return cancelled(err);
        struct archive_entry *entry;
        int status = archive_read_next_header(entries->reader, &entry);
        if (status == ARCHIVE_EOF)
            return 0;
        /* A warning is about an attribute that we drop, or a name, which is checked. */
        int r = status == ARCHIVE_OK || status == ARCHIVE_WARN
                    ? wfe_scan_entry_add(entries, entry, err)
                    : wfe_scan_reader_failed(entries, err);
        if (r < 0) {
            add_context(scan, err);
            return r;
        }
    }
}

static int scan_archive(struct wfe_scan *scan, struct wfe_error *err)
{
    WFE_ARCHIVE_READER struct archive *reader = NULL;
    int r = wfe_scan_input_reader(&scan->input, &reader, err);
    if (r < 0)
        return r;
    struct wfe_scan_entries entries = {
        .input = &scan->input,
        .reader = reader,
        .format = scan->format,
        .index = scan->index,
        .spool = &scan->spool,
    };
    r = scan_entries(scan, &entries, err);
    wfe_scan_entries_done(&entries);
    if (r == 0)
        r = wfe_scan_input_drain(&scan->input, err);
    if (scan->spool.length_bytes == 0 && !entries.has_lost_data)
        __atomic_store_n(&scan->index->place, WFE_INDEX_STREAM, __ATOMIC_RELAXED);
    return r;
}

/* What is no archive is one file, as far as it goes. */
static int scan_file(struct wfe_scan *scan, struct wfe_error *err)
{
    int r = wfe_scan_input_drain(&scan->input, err);
    struct wfe_index_entry file = {
        .name = scan->file_name,
        .size_bytes = wfe_stream_length(scan->input.stream),
        .mtime_s = scan->file_mtime_s,
        .mtime_ns = scan->file_mtime_ns,
        .mode = S_IFREG | 0644,
    };
    int added = wfe_index_add(scan->index, &file, r < 0 ? NULL : err);
    return r < 0 ? r : added;
}

static bool is_ours(enum wfe_error_kind kind)
{
    return kind == WFE_ERROR_CANCELLED || kind == WFE_ERROR_INTERNAL || kind == WFE_ERROR_LIMIT;
}

int wfe_scan_run(struct wfe_scan *scan, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    locale_t saved = uselocale(scan->locale);
    int r = scan->format != 0 ? scan_archive(scan, &failure) : scan_file(scan, &failure);
    uselocale(saved);
    if (r < 0)
        wfe_index_break(scan->index, failure.message);
    struct wfe_error finish_failure = WFE_ERROR_INIT;
    int finished = wfe_index_finish(scan->index, &finish_failure);
    if (r == 0 && finished < 0) {
        r = finished;
        failure = finish_failure;
    }
    if (r == 0 || !is_ours(failure.kind))
        return 0;
    if (err)
        *err = failure;
    return r;
}
