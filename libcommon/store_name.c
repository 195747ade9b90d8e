/* SPDX-License-Identifier: MIT */
#include "libcommon/store_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "libcommon/store.h"
#include "libcommon/utf8.h"

#define NAME_BYTES sizeof((struct wfe_store_entry *)NULL)->name

/* The longer one first where one ends like another. */
static const char *const SUFFIXES[] = {".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz",
    ".txz", ".tar.bz2", ".tbz2", ".tbz", ".tar.lz4", ".tar.lzma", ".tar.Z", ".zip", ".7z", ".cpio"};

size_t wfe_store_archive_suffix(const char *file_name)
{
    size_t length = strlen(file_name);
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        size_t suffix = strlen(SUFFIXES[i]);
        if (length > suffix && strcasecmp(file_name + length - suffix, SUFFIXES[i]) == 0)
            return suffix;
    }
    return 0;
}

/* What terminals act upon: C0, DEL and, as UTF-8, C1. */
static bool is_control(const unsigned char *text)
{
    return text[0] < 0x20 || text[0] == 0x7F || (text[0] == 0xC2 && text[1] < 0xA0);
}

static const char *fault_of(const char *name)
{
    if (!name[0])
        return "it is empty";
    if (strlen(name) >= NAME_BYTES)
        return "it is longer than 255 bytes";
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return "it is a directory's own";
    if (strncmp(name, "sha256:", 7) == 0 || strncmp(name, "sha256-", 7) == 0)
        return "it looks like a digest";
    if (wfe_utf8_span(name, strlen(name)) != strlen(name))
        return "it is not UTF-8";
    for (const unsigned char *at = (const unsigned char *)name; *at; at++) {
        if (*at == '/' || is_control(at))
            return "it has a slash or a control character";
    }
    return NULL;
}

int wfe_store_check_name(const char *name, struct wfe_error *err)
{
    const char *fault = fault_of(name);
    if (!fault)
        return 0;
    return wfe_error_set(
        err, WFE_ERROR_INPUT, EINVAL, "'%.255s' can't be an artifact's name: %s", name, fault);
}

int wfe_store_suggest_name(const char *path, char ret[256])
{
    size_t end = strlen(path);
    while (end > 0 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    char name[NAME_BYTES];
    if (end - start >= sizeof name)
        return -EINVAL;
    snprintf(name, sizeof name, "%.*s", (int)(end - start), path + start);
    name[strlen(name) - wfe_store_archive_suffix(name)] = '\0';
    if (fault_of(name))
        return -EINVAL;
    memcpy(ret, name, sizeof name);
    return 0;
}
