/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "artifactfs/volume_parts.h"
#include "libcommon/cleanup.h"
#include "libcommon/document.h"

#define REFERENCE_KEY "__wfe_artifact"

/* Collect the references below value as {name: digest}; name is the path of keys so far. */
static int collect(const cJSON *value, const char *name, cJSON *references, struct wfe_error *err)
{
    const char *reference =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(value, REFERENCE_KEY));
    if (cJSON_IsObject(value) && reference) {
        if (cJSON_GetObjectItemCaseSensitive(references, name))
            return wfe_error_set(
                err, WFE_ERROR_INPUT, EEXIST, "artifact name '%s' stands in the data twice", name);
        return cJSON_AddStringToObject(references, name, reference) ? 0 : wfe_error_nomem(err);
    }
    if (!cJSON_IsObject(value) && !cJSON_IsArray(value))
        return 0;
    int position = 0;
    for (const cJSON *child = value->child; child; child = child->next, position++) {
        char index[16];
        snprintf(index, sizeof index, "%d", position);
        const char *key = child->string ? child->string : index;
        WFE_FREE char *path = NULL;
        if (asprintf(&path, "%s%s%s", name, *name ? "." : "", key) < 0) {
            path = NULL;
            return wfe_error_nomem(err);
        }
        int r = collect(child, path, references, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_reference(
    struct wfe_volume *volume, const cJSON *reference, const char *prefix, struct wfe_error *err)
{
    struct wfe_digest digest;
    if (wfe_digest_parse(reference->valuestring, &digest) < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "artifact '%s': '%.100s' is no digest; expected sha256: and 64 hexadecimal digits",
            reference->string, reference->valuestring);
    struct wfe_volume_item *item;
    int r = wfe_volume_add(volume, reference->string, &item, err);
    if (r < 0)
        return r;
    if (prefix && !(item->prefix = strdup(prefix)))
        return wfe_error_nomem(err);
    r = wfe_volume_set_stored(volume, item, digest.text, err);
    if (r < 0)
        wfe_error_prefix(err, "artifact '%s'", reference->string);
    return r;
}

static const struct wfe_volume_binding *find_binding(
    const struct wfe_volume_options *options, const char *name)
{
    for (size_t i = 0; i < options->binding_count; i++) {
        if (strcmp(options->bindings[i].name, name) == 0)
            return &options->bindings[i];
    }
    return NULL;
}

static int add_bindings(struct wfe_volume *volume, const struct wfe_volume_options *options,
    const cJSON *inputs, struct wfe_error *err)
{
    for (size_t i = 0; i < options->binding_count; i++) {
        const struct wfe_volume_binding *binding = &options->bindings[i];
        const char *prefix =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(inputs, binding->name));
        struct wfe_volume_item *item;
        int r = wfe_volume_add(volume, binding->name, &item, err);
        if (r < 0)
            return r;
        if (prefix && !(item->prefix = strdup(prefix)))
            return wfe_error_nomem(err);
        r = wfe_volume_set_source(volume, item, binding->source, err);
        if (r < 0) {
            wfe_error_prefix(err, "artifact '%s'", binding->name);
            return r;
        }
    }
    return 0;
}

/* What the step's inputs name, which must all be there. */
static int add_inputs(struct wfe_volume *volume, const struct wfe_volume_options *options,
    const cJSON *references, const cJSON *inputs, struct wfe_error *err)
{
    const cJSON *input;
    cJSON_ArrayForEach(input, inputs)
    {
        if (find_binding(options, input->string))
            continue;
        const cJSON *reference = cJSON_GetObjectItemCaseSensitive(references, input->string);
        if (!reference)
            return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
                "input '%s': no such artifact in the workflow data; bind it with --artifact "
                "%s=SOURCE",
                input->string, input->string);
        int r = add_reference(volume, reference, cJSON_GetStringValue(input), err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_references(struct wfe_volume *volume, const struct wfe_volume_options *options,
    const cJSON *references, struct wfe_error *err)
{
    const cJSON *reference;
    cJSON_ArrayForEach(reference, references)
    {
        int r = find_binding(options, reference->string)
                    ? 0
                    : add_reference(volume, reference, NULL, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int wfe_volume_fill_data(
    struct wfe_volume *volume, const struct wfe_volume_options *options, struct wfe_error *err)
{
    WFE_JSON cJSON *data = NULL;
    WFE_JSON cJSON *inputs = NULL;
    WFE_JSON cJSON *references = cJSON_CreateObject();
    if (!references)
        return wfe_error_nomem(err);
    int r = 0;
    if (options->data_path) {
        r = wfe_data_read(options->data_path, &data, err);
        if (r == 0)
            r = collect(data, "", references, err);
    }
    if (r == 0 && options->inputs_path)
        r = wfe_volume_read_inputs(options->inputs_path, &inputs, err);
    if (r == 0)
        r = add_bindings(volume, options, inputs, err);
    if (r < 0)
        return r;
    if (inputs)
        return add_inputs(volume, options, references, inputs, err);
    if (!references->child && options->binding_count == 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "%s: there is no artifact reference in it", options->data_path);
    return add_references(volume, options, references, err);
}
