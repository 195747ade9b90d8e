/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a file of a store: it is refused, or the store can be listed, read and swept. The
 * first byte says which file the rest is.
 */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/store.h"
#include "libcommon/store_layout.h"
#include "libcommon/store_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The artifact, and the manifest that the index of the seeds names. */
#define ARTIFACT "0000000000000000000000000000000000000000000000000000000000000001"
#define MANIFEST "0000000000000000000000000000000000000000000000000000000000000002"
#define DESCRIPTOR "{\"digest\":\"sha256:%s\",\"size\":1}"

enum part { LAYOUT, INDEX, IMAGE, META, TAR, TAR_GZIP, TAR_ZSTD, PARTS };

static char directory[256];

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static void clean_up(void)
{
    wfe_remove_tree(directory);
}

static void write_file(const char *name, const void *data, size_t length)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    expect(fd >= 0 && wfe_write_all(fd, data, length) == 0);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

/* A store of one artifact whose bytes are no tar, which only a put would find out. */
static void fill(void)
{
    char text[512];
    write_text("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    snprintf(text, sizeof text, "{\"manifests\":[" DESCRIPTOR "]}", MANIFEST);
    write_text("index.json", text);
    snprintf(text, sizeof text, "{\"config\":" DESCRIPTOR ",\"layers\":[" DESCRIPTOR "]}", MANIFEST,
        ARTIFACT);
    write_text("blobs/sha256/" MANIFEST, text);
    write_text("blobs/sha256/" ARTIFACT, "artifact");
    write_text("meta/" ARTIFACT ".json",
        "{\"created_at\":{\"secs_since_epoch\":1,\"nanos_since_epoch\":0},"
        "\"expires_at\":{\"secs_since_epoch\":4000000000,\"nanos_since_epoch\":0}}");
}

static void make_store(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%s/wfe-fuzz-XXXXXX", parent ? parent : "/tmp");
    expect(mkdtemp(directory));
    atexit(clean_up);
    struct wfe_store *store;
    expect(wfe_store_open(directory, true, &store, NULL) == 0);
    wfe_store_free(store);
}

static void look_at(struct wfe_store *store, const struct wfe_store_entry *entry)
{
    struct wfe_digest digest;
    expect(wfe_digest_parse(entry->digest.text, &digest) == 0);
    WFE_FREE char *path = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_get(store, &digest, &path, &err) < 0)
        expect(err.kind == WFE_ERROR_INTEGRITY || err.kind == WFE_ERROR_INPUT);
    if (!entry->name[0])
        return;
    expect(wfe_store_check_name(entry->name, NULL) == 0);
    expect(wfe_store_resolve(store, entry->name, &digest, NULL) == 0);
}

static void use_store(void)
{
    WFE_STORE struct wfe_store *store = NULL;
    WFE_FREE struct wfe_store_entry *entries = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    size_t count;
    if (wfe_store_open(directory, false, &store, &err) < 0 ||
        wfe_store_list(store, &entries, &count, &err) < 0) {
        expect(err.kind == WFE_ERROR_INPUT && *err.message);
        return;
    }
    for (size_t i = 0; i < count; i++)
        look_at(store, &entries[i]);
    /* What an index means to gc is told by a reader of its own. */
    if (wfe_store_gc(store, NULL, NULL, &err) < 0)
        expect(err.kind == WFE_ERROR_INPUT && *err.message);
}

static void scan(enum wfe_archive_form form, const uint8_t *data, size_t size)
{
    WFE_CLOSE int fd = memfd_create("tar", MFD_CLOEXEC);
    expect(fd >= 0 && wfe_write_all(fd, data, size) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    struct wfe_scan_result result;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_scan_tar(fd, -1, form, 0, &result, &err);
    struct wfe_digest digest;
    wfe_digest_of(data, size, &digest);
    if (r < 0)
        expect(err.kind == WFE_ERROR_ARCHIVE && r == -err.errnum);
    else
        expect(result.size_bytes == size && wfe_digest_equal(&result.digest, &digest));
    enum wfe_archive_form found = WFE_ARCHIVE_NONE;
    expect(lseek(fd, 0, SEEK_SET) == 0);
    (void)wfe_scan_probe(fd, &found, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[PARTS] = {
        [LAYOUT] = "oci-layout",
        [INDEX] = "index.json",
        [IMAGE] = "blobs/sha256/" MANIFEST,
        [META] = "meta/" ARTIFACT ".json",
    };
    static const enum wfe_archive_form forms[PARTS] = {
        [TAR] = WFE_ARCHIVE_TAR,
        [TAR_GZIP] = WFE_ARCHIVE_TAR_GZIP,
        [TAR_ZSTD] = WFE_ARCHIVE_TAR_ZSTD,
    };
    if (size == 0)
        return 0;
    enum part part = (enum part)(data[0] % PARTS);
    if (!names[part]) {
        scan(forms[part], data + 1, size - 1);
        return 0;
    }
    if (!directory[0])
        make_store();
    fill();
    write_file(names[part], data + 1, size - 1);
    use_store();
    return 0;
}
