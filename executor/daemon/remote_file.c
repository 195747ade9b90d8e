/* SPDX-License-Identifier: MIT */
#include "executor/daemon/remote_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "executor/daemon/content.h"
#include "executor/daemon/diff.h"
#include "executor/daemon/snapshot.h"
#include "libcommon/archive.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/layer_tar.h"

#define MEDIA_TYPE "application/vnd.oci.image.layer.v1.tar"
#define TAR_MAX_BYTES (64 * 1024)
#define REMOVE_TIMEOUT_MS 30000
#define LINKS_MAX 40 /* as the kernel's */
#define PATH_BYTES_MAX 4096

struct lookup {
    const struct wfe_session *session;
    const struct wfe_digest *chain;
    size_t max_bytes;
    char path[PATH_BYTES_MAX];
    char key[WFE_UNIQUE_NAME_MAX]; /* of the snapshot, and of the directory in it */
    struct wfe_buffer data;
    bool found;
    char link[PATH_BYTES_MAX]; /* where a symbolic link points to, "" when it is none */
};

static int append(void *context, const void *data, size_t length, struct wfe_error *err)
{
    return wfe_buffer_append(context, data, length) < 0 ? wfe_error_nomem(err) : 0;
}

/* KEY/file, a hard link to the path. */
static int write_tar(const struct lookup *lookup, struct wfe_buffer *tar, struct wfe_error *err)
{
    char name[WFE_UNIQUE_NAME_MAX + 8];
    snprintf(name, sizeof name, "%s/file", lookup->key);
    struct wfe_tar_header header = {
        .path = name, .typeflag = '1', .target = lookup->path + 1, .mode = 0600};
    WFE_TAR_WRITER struct wfe_tar_writer writer;
    wfe_tar_writer_init_part(
        &writer, (struct wfe_sink){.write = append, .context = tar}, TAR_MAX_BYTES);
    int r = wfe_tar_write_header(&writer, &header, err);
    return r < 0 ? r : wfe_tar_finish(&writer, err);
}

/*
 * An overlay's options in one, or containerd would not mount it but write into its upper directory,
 * where the file is not. It must not begin with that directory, so it begins with an empty option,
 * which all kernels pass over ("rw" is refused by some). *ret_directory: the upper one.
 */
static int join_options(const Types__Mount *mount, struct wfe_buffer *joined,
    const char **ret_directory, struct wfe_error *err)
{
    int r = 0;
    for (size_t i = 0; i < mount->n_options && r == 0; i++) {
        if (strncmp(mount->options[i], "upperdir=", 9) == 0)
            *ret_directory = mount->options[i] + 9;
        r = wfe_buffer_printf(joined, ",%s", mount->options[i]);
    }
    return r < 0 ? wfe_error_nomem(err) : 0;
}

static int make_link_in(const struct lookup *lookup, Snapshots__PrepareSnapshotResponse *prepared,
    const struct wfe_buffer *tar, const char **ret_directory, struct wfe_error *err)
{
    Types__Mount *mount = prepared->n_mounts == 1 ? prepared->mounts[0] : NULL;
    WFE_BUFFER struct wfe_buffer joined = WFE_BUFFER_INIT(TAR_MAX_BYTES);
    const char *directory = NULL;
    if (mount && strcmp(mount->type, "bind") == 0) {
        directory = mount->source;
    } else if (mount && strcmp(mount->type, "overlay") == 0) {
        int r = join_options(mount, &joined, &directory, err);
        if (r < 0)
            return r;
    }
    if (!directory)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, ENOTSUP,
            "the image's %s can't be read with the snapshotter '%s'", lookup->path,
            lookup->session->snapshotter);
    Types__Mount mounted = *mount;
    char *option = joined.data;
    if (option) {
        mounted.options = &option;
        mounted.n_options = 1;
    }
    Snapshots__PrepareSnapshotResponse root = *prepared;
    root.mounts = &(Types__Mount *){&mounted};
    *ret_directory = directory;
    struct wfe_descriptor blob = {.media_type = MEDIA_TYPE};
    int r = wfe_content_put(lookup->session, tar->data, tar->length, &blob.digest, err);
    if (r < 0)
        return r;
    blob.size_bytes = (int64_t)tar->length;
    r = wfe_snapshot_fill(lookup->session, &root, &blob, &blob.digest, err);
    wfe_diff_drop(lookup->session, &(struct wfe_diff){.digest = blob.digest}, true);
    return r;
}

/* The words of link(2), by way of the daemon. */
static int judge(const struct lookup *lookup, int r, struct wfe_error *failure)
{
    if (failure->kind != WFE_ERROR_CONTAINERD)
        return r;
    bool missing = strstr(failure->message, "no such file or directory") ||
                   strstr(failure->message, "not a directory");
    bool directory = strstr(failure->message, "operation not permitted") != NULL;
    if (!missing && !directory)
        return r;
    *failure = (struct wfe_error)WFE_ERROR_INIT;
    return missing ? wfe_error_set(
                         failure, WFE_ERROR_INPUT, ENOENT, "the image has no %s", lookup->path)
                   : wfe_error_set(failure, WFE_ERROR_INPUT, EINVAL,
                         "the image's %s is no regular file", lookup->path);
}

static int read_entry(struct lookup *lookup, struct archive *reader, struct wfe_error *err)
{
    char data[16 * 1024];
    la_ssize_t length;
    while ((length = archive_read_data(reader, data, sizeof data)) > 0) {
        int r = wfe_buffer_append(&lookup->data, data, (size_t)length);
        if (r == -EMSGSIZE)
            return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG,
                "the image's %s is larger than the %zu bytes that are allowed", lookup->path,
                lookup->max_bytes);
        if (r < 0)
            return wfe_error_nomem(err);
    }
    return length < 0 ? wfe_archive_reader_failed(reader, err) : 0;
}

static int take_entry(
    void *context, struct archive *reader, struct archive_entry *entry, struct wfe_error *err)
{
    struct lookup *lookup = context;
    if (strcmp(archive_entry_pathname(entry), "file") != 0)
        return 0;
    lookup->found = true;
    mode_t type = archive_entry_filetype(entry);
    if (type == S_IFREG)
        return read_entry(lookup, reader, err);
    const char *target = type == S_IFLNK ? archive_entry_symlink(entry) : NULL;
    if (!target || !*target || strlen(target) >= sizeof lookup->link)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "the image's %s is no regular file", lookup->path);
    snprintf(lookup->link, sizeof lookup->link, "%s", target);
    return 0;
}

static int read_copy(struct lookup *lookup, const char *upper, struct wfe_error *err)
{
    WFE_FREE char *directory = NULL;
    if (asprintf(&directory, "%s/%s", upper, lookup->key) < 0) {
        directory = NULL;
        return wfe_error_nomem(err);
    }
    Types__Mount mount = wfe_diff_bind(directory);
    struct wfe_diff diff;
    int r = wfe_diff_make(lookup->session, &(Types__Mount *){&mount}, 1, &diff, err);
    if (r < 0)
        return r;
    r = wfe_diff_visit(lookup->session, &diff, take_entry, lookup, err);
    wfe_diff_drop(lookup->session, &diff, false);
    if (r == 0 && !lookup->found)
        r = wfe_error_set(err, WFE_ERROR_CONTAINERD, EPROTO,
            "the daemon did not copy the image's %s", lookup->path);
    return r;
}

static int look(struct lookup *lookup, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer tar = WFE_BUFFER_INIT(TAR_MAX_BYTES);
    int r = wfe_unique_name(lookup->key, err);
    if (r == 0)
        r = write_tar(lookup, &tar, err);
    if (r < 0)
        return r;
    WFE_MESSAGE Snapshots__PrepareSnapshotResponse *prepared = NULL;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = wfe_snapshot_prepare(
        lookup->session, lookup->key, lookup->chain->text, NULL, 0, &prepared, &failure);
    const char *directory = NULL;
    if (r == 0) {
        r = make_link_in(lookup, prepared, &tar, &directory, &failure);
        if (r < 0)
            r = judge(lookup, r, &failure);
    }
    if (r == 0)
        r = read_copy(lookup, directory, &failure);
    wfe_snapshot_remove(lookup->session, lookup->key, REMOVE_TIMEOUT_MS, NULL);
    if (r < 0 && err)
        *err = failure;
    return r;
}

/* The path becomes what its symbolic link points to; ".." is the daemon's to bound. */
static int follow(struct lookup *lookup, struct wfe_error *err)
{
    char path[PATH_BYTES_MAX];
    size_t folder =
        lookup->link[0] == '/' ? 0 : (size_t)(strrchr(lookup->path, '/') - lookup->path);
    int length = snprintf(path, sizeof path, "%.*s%s%s", (int)folder, lookup->path,
        lookup->link[0] == '/' ? "" : "/", lookup->link);
    if (length < 0 || (size_t)length >= sizeof path)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENAMETOOLONG,
            "the image's %s points to a name that is too long", lookup->path);
    memcpy(lookup->path, path, (size_t)length + 1);
    lookup->link[0] = '\0';
    return 0;
}

int wfe_remote_file_read(const struct wfe_session *session, const struct wfe_digest *chain,
    const char *path, size_t max_bytes, char **ret, size_t *ret_length, struct wfe_error *err)
{
    assert(session->lease && path[0] == '/' && strlen(path) < PATH_BYTES_MAX);
    struct lookup lookup = {
        .session = session,
        .chain = chain,
        .max_bytes = max_bytes,
        .data = WFE_BUFFER_INIT(max_bytes),
    };
    snprintf(lookup.path, sizeof lookup.path, "%s", path);
    int r = look(&lookup, err);
    for (int links = 0; r == 0 && lookup.link[0]; links++) {
        if (links == LINKS_MAX)
            r = wfe_error_set(err, WFE_ERROR_INPUT, ELOOP,
                "the image's %s: it leads through too many symbolic links", path);
        if (r == 0)
            r = follow(&lookup, err);
        if (r == 0)
            r = look(&lookup, err);
    }
    size_t length = lookup.data.length;
    char *text = r == 0 ? wfe_buffer_steal(&lookup.data) : NULL;
    wfe_buffer_done(&lookup.data);
    if (r < 0)
        return r;
    if (!text)
        return wfe_error_nomem(err);
    *ret = text;
    *ret_length = length;
    return 0;
}
