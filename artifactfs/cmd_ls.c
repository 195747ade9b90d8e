/* SPDX-License-Identifier: MIT */
#include <string.h>
#include <time.h>

#include "artifactfs/cli.h"
#include "libcommon/cleanup.h"

/* Of the digest's 64 digits; `get` and `rm` take that much. */
#define SHORT_DIGEST_LENGTH (7 + 12)

enum { JSON = CLI_OWN };

static const struct wfe_option OPTIONS[] = {
    CLI_STORE_OPTION,
    {"json", 0, NULL, "print a JSON array, with whole digests and sizes in bytes", JSON},
    CLI_COMMON_OPTIONS,
};

static bool as_json;

static int take(void *context, int id, const char *value, struct wfe_error *err)
{
    (void)id;
    (void)value;
    (void)err;
    *(bool *)context = true;
    return 0;
}

struct stamp {
    char text[32];
};

/* ISO 8601 in UTC, for people or for programs. */
static struct stamp format_time(int64_t seconds, bool machine)
{
    struct stamp stamp = {.text = "-"};
    time_t moment = (time_t)seconds;
    struct tm utc;
    if (!gmtime_r(&moment, &utc))
        return stamp;
    if (machine)
        strftime(stamp.text, sizeof stamp.text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    else
        strftime(stamp.text, sizeof stamp.text, "%Y-%m-%d %H:%MZ", &utc);
    return stamp;
}

static cJSON *entry_to_json(const struct wfe_store_entry *entry, int64_t now)
{
    WFE_JSON cJSON *object = cJSON_CreateObject();
    const cJSON *name = entry->name[0] ? cJSON_AddStringToObject(object, "name", entry->name)
                                       : cJSON_AddNullToObject(object, "name");
    if (!name || !cJSON_AddStringToObject(object, "digest", entry->digest.text) ||
        !cJSON_AddNumberToObject(object, "size", (double)entry->size_bytes) ||
        !cJSON_AddStringToObject(object, "mediaType", entry->media_type) ||
        !cJSON_AddStringToObject(object, "created", format_time(entry->created_s, true).text) ||
        !cJSON_AddStringToObject(object, "expires", format_time(entry->expires_s, true).text) ||
        !cJSON_AddBoolToObject(object, "expired", entry->expires_s <= now))
        return NULL;
    return wfe_steal(&object);
}

static int print_json(const struct wfe_store_entry *entries, size_t count, struct wfe_error *err)
{
    int64_t now = time(NULL);
    WFE_JSON cJSON *list = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        cJSON *object = entry_to_json(&entries[i], now);
        if (!object || !cJSON_AddItemToArray(list, object)) {
            cJSON_Delete(object);
            return wfe_error_nomem(err);
        }
    }
    WFE_FREE char *text = cJSON_Print(list);
    if (!text)
        return wfe_error_nomem(err);
    puts(text);
    return 0;
}

/* Characters, not bytes, so that columns stay straight. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static void print_table(const struct wfe_store_entry *entries, size_t count)
{
    int name_width = (int)strlen("NAME");
    for (size_t i = 0; i < count; i++) {
        int width = width_of(entries[i].name);
        if (width > name_width)
            name_width = width;
    }
    int64_t now = time(NULL);
    printf("%-*s  %-*s  %10s  %-17s  %s\n", name_width, "NAME", SHORT_DIGEST_LENGTH, "DIGEST",
        "SIZE", "CREATED", "EXPIRES");
    for (size_t i = 0; i < count; i++) {
        const struct wfe_store_entry *entry = &entries[i];
        const char *name = entry->name[0] ? entry->name : "-";
        printf("%s%*s  %.*s  %10s  %-17s  %s\n", name, name_width - width_of(name), "",
            SHORT_DIGEST_LENGTH, entry->digest.text, cli_format_size(entry->size_bytes).text,
            format_time(entry->created_s, false).text,
            entry->expires_s <= now ? "expired" : format_time(entry->expires_s, false).text);
    }
}

static enum cli_status ls(
    const struct cli_command *command, const char *store_path, char **operands)
{
    (void)operands;
    WFE_STORE struct wfe_store *store = NULL;
    WFE_FREE struct wfe_store_entry *entries = NULL;
    size_t count = 0;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = cli_open_store(store_path, false, &store, &err);
    if (r == 0)
        r = wfe_store_list(store, &entries, &count, &err);
    if (r == 0 && as_json)
        r = print_json(entries, count, &err);
    else if (r == 0)
        print_table(entries, count);
    return r < 0 ? cli_fail(command, &err) : cli_finish(command);
}

const struct cli_command cli_ls = {
    .name = "ls",
    .operands = "",
    .summary = "List the store's artifacts: name, digest, size, when they were put and when they "
               "expire",
    .options = OPTIONS,
    .take = take,
    .state = &as_json,
    .main = ls,
};
