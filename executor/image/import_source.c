/* SPDX-License-Identifier: MIT */
#include "executor/image/import_source.h"

#include <archive.h>
#include <archive_entry.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define READ_BLOCK_BYTES (256 * 1024)

/* One header of the tar; what is neither file nor link has no path. */
struct listed {
    char *path;
    char *link; /* the member that it stands for; NULL for a file */
    bool hard;  /* that member comes earlier */
};

struct wfe_import_source {
    char *path;
    int directory; /* -1 for a tar */
    struct listed *listed;
    size_t listed_count, listed_room;
};

struct wfe_import_member {
    const char *name;
    int fd; /* -1 in a tar */
    struct archive *archive;
    int64_t size_bytes;
};

static void close_archive(struct archive **archive)
{
    archive_read_free(*archive);
}
#define ARCHIVE WFE_CLEANUP(close_archive)

static int archive_failure(
    const struct wfe_import_source *source, struct archive *archive, struct wfe_error *err)
{
    const char *text = archive_error_string(archive);
    int errnum = archive_errno(archive);
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, errnum > 0 ? errnum : EBADMSG, "%s: %s",
        source->path, text ? text : "unreadable archive");
}

static int open_archive(
    const struct wfe_import_source *source, struct archive **ret, struct wfe_error *err)
{
    ARCHIVE struct archive *archive = archive_read_new();
    if (!archive)
        return wfe_error_nomem(err);
    /* Named one by one: the others would start programs. */
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_bzip2(archive);
    archive_read_support_filter_xz(archive);
    archive_read_support_filter_zstd(archive);
    archive_read_support_format_tar(archive);
    if (archive_read_open_filename(archive, source->path, READ_BLOCK_BYTES) != ARCHIVE_OK)
        return archive_failure(source, archive, err);
    *ret = wfe_steal(&archive);
    return 0;
}

/* Returns 1 with the next header, 0 at the end. */
static int next_header(const struct wfe_import_source *source, struct archive *archive,
    struct archive_entry **ret, struct wfe_error *err)
{
    int r;
    do {
        r = archive_read_next_header(archive, ret);
    } while (r == ARCHIVE_RETRY);
    if (r == ARCHIVE_EOF)
        return 0;
    if (r < ARCHIVE_WARN)
        return archive_failure(source, archive, err);
    return 1;
}

/*
 * `path` as seen from the directory of `from` ("" for the top), with ".", ".." and double
 * slashes resolved by their text. NULL with errno: EINVAL when it leaves the tree, ENOMEM.
 */
static char *resolve_path(const char *from, const char *path)
{
    const char *slash = strrchr(from, '/');
    size_t base = slash && path[0] != '/' ? (size_t)(slash - from) : 0;
    char *clean = malloc(base + 1 + strlen(path) + 1);
    if (!clean)
        return NULL;
    memcpy(clean, from, base);
    size_t length = base;
    while (*path) {
        size_t part = strcspn(path, "/");
        if (part == 2 && path[0] == '.' && path[1] == '.') {
            if (length == 0) {
                free(clean);
                errno = EINVAL;
                return NULL;
            }
            while (length > 0 && clean[--length] != '/')
                ;
        } else if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (length > 0)
                clean[length++] = '/';
            memcpy(clean + length, path, part);
            length += part;
        }
        path += part + (path[part] == '/');
    }
    clean[length] = '\0';
    return clean;
}

static int fill_listed(struct listed *listed, struct archive_entry *entry)
{
    const char *path = archive_entry_pathname(entry);
    const char *hardlink = archive_entry_hardlink(entry);
    const char *symlink =
        archive_entry_filetype(entry) == AE_IFLNK ? archive_entry_symlink(entry) : NULL;
    if (!path || !(hardlink || symlink || archive_entry_filetype(entry) == AE_IFREG))
        return 0;
    listed->path = resolve_path("", path);
    if (!listed->path)
        return errno == EINVAL ? 0 : -ENOMEM;
    if (hardlink || symlink) {
        listed->hard = hardlink != NULL;
        listed->link = resolve_path(hardlink ? "" : listed->path, hardlink ? hardlink : symlink);
        if (!listed->link) {
            free(wfe_steal(&listed->path));
            return errno == EINVAL ? 0 : -ENOMEM;
        }
    }
    return 0;
}

static int list_entry(
    struct wfe_import_source *source, struct archive_entry *entry, struct wfe_error *err)
{
    if (source->listed_count == WFE_IMPORT_MAX_MEMBERS)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "%s: more than %d members", source->path,
            WFE_IMPORT_MAX_MEMBERS);
    if (source->listed_count == source->listed_room) {
        size_t room = source->listed_room ? 2 * source->listed_room : 64;
        struct listed *grown = reallocarray(source->listed, room, sizeof *grown);
        if (!grown)
            return wfe_error_nomem(err);
        source->listed = grown;
        source->listed_room = room;
    }
    struct listed *listed = &source->listed[source->listed_count];
    *listed = (struct listed){.path = NULL};
    if (fill_listed(listed, entry) < 0)
        return wfe_error_nomem(err);
    source->listed_count++;
    return 0;
}

static int list_archive(struct wfe_import_source *source, struct wfe_error *err)
{
    ARCHIVE struct archive *archive = NULL;
    int r = open_archive(source, &archive, err);
    if (r < 0)
        return r;
    for (;;) {
        struct archive_entry *entry;
        r = next_header(source, archive, &entry, err);
        if (r <= 0)
            return r;
        r = list_entry(source, entry, err);
        if (r < 0)
            return r;
    }
}

static int open_path(struct wfe_import_source *source, bool archive, struct wfe_error *err)
{
    struct stat st;
    if (stat(source->path, &st) < 0)
        return wfe_error_system(err, errno, "%s", source->path);
    if (archive) {
        /* Read more than once, so a pipe will not do. */
        if (!S_ISREG(st.st_mode))
            return wfe_error_set(err, WFE_ERROR_INPUT, S_ISDIR(st.st_mode) ? EISDIR : EINVAL,
                "%s: expected a tar file", source->path);
        return list_archive(source, err);
    }
    if (!S_ISDIR(st.st_mode))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, ENOTDIR, "%s: expected a directory", source->path);
    source->directory = open(source->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return source->directory < 0 ? wfe_error_system(err, errno, "%s", source->path) : 0;
}

int wfe_import_source_open(
    const char *path, bool archive, struct wfe_import_source **ret, struct wfe_error *err)
{
    struct wfe_import_source *source = calloc(1, sizeof *source);
    if (!source)
        return wfe_error_nomem(err);
    source->directory = -1;
    source->path = strdup(path);
    int r = source->path ? open_path(source, archive, err) : wfe_error_nomem(err);
    if (r < 0) {
        wfe_import_source_free(source);
        return r;
    }
    *ret = source;
    return 0;
}

void wfe_import_source_free(struct wfe_import_source *source)
{
    if (!source)
        return;
    for (size_t i = 0; i < source->listed_count; i++) {
        free(source->listed[i].path);
        free(source->listed[i].link);
    }
    free(source->listed);
    wfe_cleanup_close(&source->directory);
    free(source->path);
    free(source);
}

static int no_such_member(
    const struct wfe_import_source *source, const char *name, struct wfe_error *err)
{
    return wfe_error_set(
        err, WFE_ERROR_INPUT, ENOENT, "%s: there is no %s in it", source->path, name);
}

/* The place of the header that holds the member's data. */
static int find_listed(
    const struct wfe_import_source *source, const char *name, size_t *ret, struct wfe_error *err)
{
    const char *wanted = name;
    size_t end = source->listed_count;
    for (int links = 0; links <= WFE_IMPORT_MAX_LINKS; links++) {
        size_t at = end;
        while (at > 0 &&
               (!source->listed[at - 1].path || strcmp(source->listed[at - 1].path, wanted) != 0))
            at--;
        if (at == 0)
            return no_such_member(source, name, err);
        const struct listed *found = &source->listed[at - 1];
        if (!found->link) {
            *ret = at - 1;
            return 0;
        }
        wanted = found->link;
        end = found->hard ? at - 1 : source->listed_count;
    }
    return wfe_error_set(err, WFE_ERROR_ARCHIVE, ELOOP, "%s: %s is a link to a link without end",
        source->path, name);
}

static int visit_directory(struct wfe_import_source *source, const char *const *names, size_t count,
    wfe_import_visitor *visitor, void *context, struct wfe_error *err)
{
    for (size_t i = 0; i < count; i++) {
        WFE_CLOSE int fd =
            openat(source->directory, names[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;
        if (fd < 0 && errno == ENOENT)
            return no_such_member(source, names[i], err);
        if (fd < 0 || fstat(fd, &st) < 0)
            return wfe_error_system(err, errno, "%s/%s", source->path, names[i]);
        if (!S_ISREG(st.st_mode))
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s/%s: expected a regular file",
                source->path, names[i]);
        struct wfe_import_member member = {
            .name = names[i], .fd = fd, .size_bytes = (int64_t)st.st_size};
        int r = visitor(context, i, &member, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What is left of a visit to a tar: places[i] is where names[i] lies, SIZE_MAX when it was
 * shown. */
struct tar_visit {
    struct wfe_import_source *source;
    const char *const *names;
    size_t *places;
    size_t count, left;
    wfe_import_visitor *visitor;
    void *context;
};

static int visit_entry(struct tar_visit *visit, size_t place, struct archive *archive,
    struct archive_entry *entry, struct wfe_error *err)
{
    size_t i = 0;
    while (i < visit->count && visit->places[i] != place)
        i++;
    if (i == visit->count)
        return 0;
    /* A hole of any length costs no byte in the tar: there is no bound on what it would become. */
    if (archive_entry_sparse_count(entry) > 0)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EINVAL, "%s: %s is a sparse file",
            visit->source->path, visit->names[i]);
    struct wfe_import_member member = {.name = visit->names[i],
        .fd = -1,
        .archive = archive,
        .size_bytes = archive_entry_size(entry)};
    visit->places[i] = SIZE_MAX;
    visit->left--;
    return visit->visitor(visit->context, i, &member, err);
}

/* One reading of the tar. Names that lie in one place take a reading each. */
static int visit_once(struct tar_visit *visit, struct wfe_error *err)
{
    ARCHIVE struct archive *archive = NULL;
    int r = open_archive(visit->source, &archive, err);
    if (r < 0)
        return r;
    size_t left_before = visit->left;
    for (size_t place = 0; visit->left > 0; place++) {
        struct archive_entry *entry;
        r = next_header(visit->source, archive, &entry, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        r = visit_entry(visit, place, archive, entry, err);
        if (r < 0)
            return r;
    }
    if (visit->left == left_before)
        return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG, "%s: it changed while it was read",
            visit->source->path);
    return 0;
}

static int visit_archive(struct wfe_import_source *source, const char *const *names, size_t count,
    wfe_import_visitor *visitor, void *context, struct wfe_error *err)
{
    WFE_FREE size_t *places = calloc(count ? count : 1, sizeof *places);
    if (!places)
        return wfe_error_nomem(err);
    int r = 0;
    for (size_t i = 0; i < count && r == 0; i++)
        r = find_listed(source, names[i], &places[i], err);
    struct tar_visit visit = {.source = source,
        .names = names,
        .places = places,
        .count = count,
        .left = count,
        .visitor = visitor,
        .context = context};
    while (r == 0 && visit.left > 0)
        r = visit_once(&visit, err);
    return r;
}

int wfe_import_source_visit(struct wfe_import_source *source, const char *const *names,
    size_t count, wfe_import_visitor *visitor, void *context, struct wfe_error *err)
{
    if (source->directory >= 0)
        return visit_directory(source, names, count, visitor, context, err);
    return visit_archive(source, names, count, visitor, context, err);
}

int64_t wfe_import_member_size(const struct wfe_import_member *member)
{
    return member->size_bytes;
}

ssize_t wfe_import_member_read(
    struct wfe_import_member *member, void *data, size_t length, struct wfe_error *err)
{
    if (member->fd >= 0) {
        ssize_t n = wfe_read_full(member->fd, data, length);
        return n < 0 ? wfe_error_system(err, (int)-n, "read %s", member->name) : n;
    }
    size_t done = 0;
    while (done < length) {
        la_ssize_t n = archive_read_data(member->archive, (char *)data + done, length - done);
        if (n == ARCHIVE_RETRY)
            continue;
        if (n < 0) {
            const char *text = archive_error_string(member->archive);
            return wfe_error_set(err, WFE_ERROR_ARCHIVE, EBADMSG, "%s: %s", member->name,
                text ? text : "unreadable");
        }
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* A member to be read whole. */
struct whole {
    size_t max_bytes;
    char *data;
    size_t length;
};

static int read_whole(
    void *context, size_t index, struct wfe_import_member *member, struct wfe_error *err)
{
    (void)index;
    struct whole *whole = context;
    if (member->size_bytes < 0 || (uint64_t)member->size_bytes > whole->max_bytes)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "%s: larger than %zu bytes", member->name,
            whole->max_bytes);
    size_t size = (size_t)member->size_bytes;
    WFE_FREE char *data = malloc(size + 1);
    if (!data)
        return wfe_error_nomem(err);
    ssize_t n = wfe_import_member_read(member, data, size, err);
    if (n < 0)
        return (int)n;
    data[n] = '\0';
    whole->length = (size_t)n;
    whole->data = wfe_steal(&data);
    return 0;
}

int wfe_import_source_read(struct wfe_import_source *source, const char *name, size_t max_bytes,
    char **ret, size_t *ret_length, struct wfe_error *err)
{
    struct whole whole = {.max_bytes = max_bytes};
    int r = wfe_import_source_visit(source, &name, 1, read_whole, &whole, err);
    if (r < 0)
        return r;
    *ret = whole.data;
    *ret_length = whole.length;
    return 0;
}
