/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/cleanup.h"
#include "libcommon/document.h"
#include "libcommon/file.h"

/* A path that only the workflow's engine can fill in is none. */
static const char *container_path(const struct wfe_node *value)
{
    if (!wfe_node_is_scalar(value) || value->text[0] != '/' || strstr(value->text, "(("))
        return NULL;
    return value->text;
}

/* What several steps name is one artifact; the first one's path counts. */
static int add_inputs(const struct wfe_node *config, cJSON *inputs)
{
    const struct wfe_node *map = wfe_node_get(config, "inputs");
    if (!map || map->kind != WFE_NODE_MAP)
        return 0;
    for (size_t i = 0; i < map->count; i++) {
        const char *name = map->members[i].key->text;
        const char *path = container_path(map->members[i].value);
        if (cJSON_GetObjectItemCaseSensitive(inputs, name))
            continue;
        if (path ? !cJSON_AddStringToObject(inputs, name, path)
                 : !cJSON_AddNullToObject(inputs, name))
            return -ENOMEM;
    }
    return 0;
}

static int read_steps(const struct wfe_node *list, cJSON *inputs)
{
    if (!list || list->kind != WFE_NODE_LIST)
        return 0;
    int r = 0;
    for (size_t i = 0; i < list->count && r == 0; i++) {
        const struct wfe_node *step = list->items[i];
        const struct wfe_node *config = wfe_node_get(step, "config");
        r = config ? add_inputs(config, inputs) : 0;
        if (r == 0)
            r = read_steps(wfe_node_get(step, "parallel"), inputs);
    }
    return r;
}

/* The shapes of a step document: a configuration, a step, a workflow, several workflows. */
static int read_document(const struct wfe_node *root, cJSON *inputs)
{
    const struct wfe_node *config = wfe_node_get(root, "config");
    int r = add_inputs(config ? config : root, inputs);
    const struct wfe_node *workflow = wfe_node_get(root, "workflow");
    if (r == 0 && workflow)
        r = read_steps(wfe_node_get(workflow, "steps"), inputs);
    const struct wfe_node *workflows = wfe_node_get(root, "workflows");
    for (size_t i = 0;
         r == 0 && workflows && workflows->kind == WFE_NODE_LIST && i < workflows->count; i++)
        r = read_steps(wfe_node_get(workflows->items[i], "steps"), inputs);
    return r;
}

static const char *first_error(const struct wfe_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        if (!problems->items[i].warning)
            return problems->items[i].text;
    }
    return "the step document can't be read";
}

int wfe_volume_read_inputs(const char *path, cJSON **ret, struct wfe_error *err)
{
    WFE_FREE char *text = NULL;
    size_t length;
    int r = wfe_read_file(path, WFE_DOCUMENT_MAX_BYTES, &text, &length, err);
    if (r < 0)
        return r;
    WFE_JSON cJSON *inputs = cJSON_CreateObject();
    if (!inputs)
        return wfe_error_nomem(err);
    WFE_DOCUMENT struct wfe_document *document = NULL;
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    r = wfe_document_parse(path, text, length, &document, &problems);
    if (r == -ENOMEM)
        wfe_error_nomem(err);
    else if (r < 0 || problems.errors > 0)
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s", first_error(&problems));
    wfe_problems_done(&problems);
    if (r < 0)
        return r;
    if (read_document(wfe_document_root(document), inputs) < 0)
        return wfe_error_nomem(err);
    if (!inputs->child)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "%s: no step in it has inputs", path);
    *ret = wfe_steal(&inputs);
    return 0;
}
