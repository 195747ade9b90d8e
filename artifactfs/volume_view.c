/* SPDX-License-Identifier: MIT */
#include "artifactfs/volume_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

struct text_content {
    struct wfe_virtual_content head;
    char *text;
};

static int read_text(struct wfe_virtual_content *content, void *buffer, size_t length,
    uint64_t offset, const struct wfe_index_patience *patience)
{
    (void)patience;
    const struct text_content *text = (const struct text_content *)content;
    memcpy(buffer, text->text + offset, length);
    return 0;
}

static bool equals(
    const struct wfe_virtual_content *content, const struct wfe_virtual_content *other)
{
    return strcmp(((const struct text_content *)content)->text,
               ((const struct text_content *)other)->text) == 0;
}

static void free_text(struct wfe_virtual_content *content)
{
    struct text_content *text = (struct text_content *)content;
    free(text->text);
    free(text);
}

static int open_description(
    void *context, const struct wfe_index_patience *patience, struct wfe_virtual_content **ret)
{
    (void)patience;
    WFE_FREE char *json = wfe_volume_describe(context);
    WFE_FREE char *text = NULL;
    if (!json || asprintf(&text, "%s\n", json) < 0) {
        text = NULL;
        return -ENOMEM;
    }
    struct text_content *content = malloc(sizeof *content);
    if (!content)
        return -ENOMEM;
    *content = (struct text_content){
        .head = {.size_bytes = strlen(text),
            .read = read_text,
            .equals = equals,
            .free = free_text},
        .text = wfe_steal(&text),
    };
    *ret = &content->head;
    return 0;
}

int wfe_volume_view_add(struct wfe_virtual *tree, struct wfe_volume *volume, struct wfe_error *err)
{
    const struct wfe_virtual_file file = {
        .name = "volume.json",
        .open = open_description,
        .context = volume,
    };
    return wfe_virtual_add(tree, WFE_VIRTUAL_TOP, &file, err);
}
