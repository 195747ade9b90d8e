/* SPDX-License-Identifier: MIT */
#include "executor/run/output_artifacts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "executor/daemon/diff.h"
#include "executor/daemon/remote_file.h"
#include "executor/daemon/sharing.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/archive.h"
#include "libcommon/cleanup.h"
#include "libcommon/store.h"

#define REMOVE_TIMEOUT_MS 30000
#define WHITEOUT_PREFIX ".wh."

struct collection {
    const struct wfe_output_source *source;
    struct wfe_store *store;
    struct wfe_diff changes, whole;
    bool has_changes, has_whole;
};

/* One output on its way into a file. */
struct output {
    const char *path; /* in the container, without the leading slash */
    struct archive *writer;
    bool found;
};

/* The entry's path below the output's, or of the output's own; NULL when it is elsewhere. */
static const char *within(const struct output *output, const char *path)
{
    size_t length = strlen(output->path);
    if (length == 0)
        return path;
    if (strncmp(path, output->path, length) != 0)
        return NULL;
    if (path[length] == '/')
        return path + length + 1;
    return path[length] == '\0' ? path + length : NULL;
}

static int writer_failed(const struct output *output, struct wfe_error *err)
{
    int errnum = archive_errno(output->writer);
    return wfe_error_system(err, errnum > 0 ? errnum : EIO, "%s",
        archive_error_string(output->writer) ? archive_error_string(output->writer)
                                             : "not written");
}

static int copy_data(struct output *output, struct archive *reader, struct wfe_error *err)
{
    char data[64 * 1024];
    la_ssize_t length;
    while ((length = archive_read_data(reader, data, sizeof data)) > 0)
        if (archive_write_data(output->writer, data, (size_t)length) < 0)
            return writer_failed(output, err);
    return length < 0 ? wfe_archive_reader_failed(reader, err) : 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Give the entry its name in the artifact. */
static int rename_entry(const struct output *output, struct archive_entry *entry, const char *inner,
    struct wfe_error *err)
{
    WFE_FREE char *name = NULL;
    bool is_file = inner[0] == '\0' && archive_entry_filetype(entry) != AE_IFDIR;
    if (asprintf(&name, "%s%s", is_file ? "" : "./", is_file ? base_name(output->path) : inner) <
        0) {
        name = NULL;
        return wfe_error_nomem(err);
    }
    archive_entry_copy_pathname(entry, name);
    return 0;
}

static int relink_entry(
    const struct output *output, struct archive_entry *entry, struct wfe_error *err)
{
    const char *link = archive_entry_hardlink(entry);
    if (!link)
        return 0;
    const char *inner = within(output, link);
    if (!inner || !*inner)
        return wfe_error_set(err, WFE_ERROR_INPUT, EXDEV,
            "%s is a hard link to /%s, which lies outside of /%s", archive_entry_pathname(entry),
            link, output->path);
    WFE_FREE char *target = NULL;
    if (asprintf(&target, "./%s", inner) < 0) {
        target = NULL;
        return wfe_error_nomem(err);
    }
    archive_entry_copy_hardlink(entry, target);
    return 0;
}

static int check_type(struct archive_entry *entry, bool is_output, struct wfe_error *err)
{
    static const struct {
        mode_t type;
        const char *words;
        bool refused_inside;
    } refused[] = {
        {AE_IFCHR, "a device", true},
        {AE_IFBLK, "a device", true},
        {AE_IFLNK, "a symbolic link; name what it points to", false},
        {AE_IFIFO, "a named pipe", false},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (archive_entry_filetype(entry) == refused[i].type &&
            (is_output || refused[i].refused_inside))
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "/%s is %s; allowed: directories and files", archive_entry_pathname(entry),
                refused[i].words);
    return 0;
}

static int take_entry(
    void *context, struct archive *reader, struct archive_entry *entry, struct wfe_error *err)
{
    struct output *output = context;
    const char *path = archive_entry_pathname(entry);
    if (!path)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EILSEQ, "a file name of the container can't be read");
    WFE_FREE char *clean = strdup(path);
    if (!clean)
        return wfe_error_nomem(err);
    for (size_t length = strlen(clean); length > 0 && clean[length - 1] == '/'; length--)
        clean[length - 1] = '\0';
    const char *inner = within(output, clean);
    /* What the step has removed is not an entry of what there is. */
    if (!inner || strncmp(base_name(clean), WHITEOUT_PREFIX, strlen(WHITEOUT_PREFIX)) == 0)
        return 0;
    int r = check_type(entry, inner[0] == '\0', err);
    if (r == 0)
        r = relink_entry(output, entry, err);
    if (r == 0)
        r = rename_entry(output, entry, inner, err);
    if (r < 0)
        return r;
    output->found = true;
    if (archive_write_header(output->writer, entry) < ARCHIVE_WARN)
        return writer_failed(output, err);
    return copy_data(output, reader, err);
}

/* Whether the path was there before the step. */
static int was_there(
    const struct collection *collection, const char *path, bool *ret, struct wfe_error *err)
{
    const struct wfe_output_source *source = collection->source;
    struct wfe_error failure = WFE_ERROR_INIT;
    WFE_FREE char *data = NULL;
    size_t length;
    int r = wfe_remote_file_read(source->session, source->chain, path, 1, &data, &length, &failure);
    if (r < 0 && failure.kind != WFE_ERROR_INPUT && failure.kind != WFE_ERROR_LIMIT) {
        if (err)
            *err = failure;
        return r;
    }
    *ret = r != -ENOENT;
    return 0;
}

static int compare(struct collection *collection, struct wfe_error *err)
{
    const struct wfe_output_source *source = collection->source;
    if (collection->has_changes)
        return 0;
    WFE_FREE char *key = NULL;
    if (asprintf(&key, "%s-before", source->root_key) < 0) {
        key = NULL;
        return wfe_error_nomem(err);
    }
    WFE_MESSAGE Snapshots__ViewSnapshotResponse *before = NULL;
    int r = wfe_snapshot_view(source->session, key, source->chain->text, &before, err);
    if (r == 0)
        r = wfe_diff_compare(source->session, before->mounts, before->n_mounts,
            source->root->mounts, source->root->n_mounts, &collection->changes, err);
    wfe_snapshot_remove(source->session, key, REMOVE_TIMEOUT_MS, NULL);
    collection->has_changes = r == 0;
    return r;
}

static int copy_whole(struct collection *collection, struct wfe_error *err)
{
    const struct wfe_output_source *source = collection->source;
    if (collection->has_whole)
        return 0;
    int r = wfe_diff_make(
        source->session, source->root->mounts, source->root->n_mounts, &collection->whole, err);
    collection->has_whole = r == 0;
    return r;
}

/* The tar that all of the path is in. */
static int choose_diff(struct collection *collection, const char *path, const struct wfe_diff **ret,
    struct wfe_error *err)
{
    bool before = false;
    int r = was_there(collection, path, &before, err);
    if (r == 0)
        r = before ? copy_whole(collection, err) : compare(collection, err);
    *ret = before ? &collection->whole : &collection->changes;
    return r;
}

static struct archive *open_writer(int fd)
{
    struct archive *writer = archive_write_new();
    if (writer && archive_write_set_format_pax_restricted(writer) == ARCHIVE_OK &&
        archive_write_add_filter_gzip(writer) == ARCHIVE_OK &&
        archive_write_set_options(writer, "gzip:!timestamp,pax:hdrcharset=UTF-8") >= ARCHIVE_WARN &&
        archive_write_open_fd(writer, fd) == ARCHIVE_OK)
        return writer;
    archive_write_free(writer);
    return NULL;
}

static int write_output(
    struct collection *collection, const struct wfe_step_pair *pair, int fd, struct wfe_error *err)
{
    const struct wfe_diff *diff;
    int r = choose_diff(collection, pair->value, &diff, err);
    if (r < 0)
        return r;
    struct output output = {.path = pair->value + 1, .writer = open_writer(fd)};
    if (!output.writer)
        return wfe_error_nomem(err);
    r = wfe_diff_visit(collection->source->session, diff, take_entry, &output, err);
    if (r == 0 && !output.found)
        r = wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "the step has left no %s in the container's own file system", pair->value);
    if (r == 0 && archive_write_close(output.writer) != ARCHIVE_OK)
        r = writer_failed(&output, err);
    archive_write_free(output.writer);
    return r;
}

static int take_output(struct collection *collection, const struct wfe_step_pair *pair,
    cJSON *references, struct wfe_error *err)
{
    const char *directory = wfe_sharing_directory(NULL);
    WFE_CLOSE int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return wfe_error_system(err, errno, "temporary file in %s", directory);
    int r = write_output(collection, pair, fd, err);
    if (r < 0)
        return r;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct wfe_store_entry entry;
    r = wfe_store_put(collection->store, path, NULL, WFE_STORE_DEFAULT_EXPIRY_S, &entry, err);
    if (r < 0)
        return r;
    cJSON *reference = cJSON_AddObjectToObject(references, pair->name);
    return reference && cJSON_AddStringToObject(reference, "__wfe_artifact", entry.digest.text)
               ? 0
               : wfe_error_nomem(err);
}

int wfe_output_artifacts_take(const struct wfe_output_source *source,
    const struct wfe_step_pair *outputs, size_t count, const char *store_path, cJSON **ret,
    struct wfe_error *err)
{
    WFE_STORE struct wfe_store *store = NULL;
    int r = wfe_store_open(store_path, true, &store, err);
    if (r < 0)
        return r;
    WFE_JSON cJSON *references = cJSON_CreateObject();
    if (!references)
        return wfe_error_nomem(err);
    struct collection collection = {.source = source, .store = store};
    for (size_t i = 0; i < count && r == 0; i++) {
        r = take_output(&collection, &outputs[i], references, err);
        if (r < 0)
            wfe_error_prefix(err, "output '%s'", outputs[i].name);
    }
    if (collection.has_changes)
        wfe_diff_drop(source->session, &collection.changes, false);
    if (collection.has_whole)
        wfe_diff_drop(source->session, &collection.whole, false);
    if (r == 0)
        *ret = wfe_steal(&references);
    return r;
}
