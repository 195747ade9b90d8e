/* SPDX-License-Identifier: MIT */
#include "executor/step/step.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "executor/run/result.h"
#include "executor/step/step_config.h"
#include "executor/step/step_reader.h"
#include "executor/step/step_services.h"
#include "executor/step/step_shape.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

#define STEP_NAMES_MAX_BYTES 384

static void step_done(struct wfe_step *step)
{
    free(step->name);
    wfe_step_config_done(&step->config);
}

void wfe_workflow_free(struct wfe_workflow *workflow)
{
    if (!workflow)
        return;
    for (size_t i = 0; i < workflow->step_count; i++)
        step_done(&workflow->steps[i]);
    free(workflow->steps);
    for (size_t i = 0; i < workflow->service_count; i++)
        wfe_service_done(&workflow->services[i]);
    free(workflow->services);
    free(workflow->id);
    cJSON_Delete(workflow->data);
    free(workflow);
}

static void cleanup_workflow(struct wfe_workflow **workflow)
{
    wfe_workflow_free(*workflow);
}

/* The document's own data with the caller's on top. NULL when memory ran out. */
static cJSON *read_data(struct wfe_step_reader *reader, const cJSON *given)
{
    const struct wfe_node *own = wfe_step_given(wfe_document_root(reader->document), "data");
    struct wfe_step_path path = {.name = "data"};
    if (own && !wfe_step_is_map(reader, own, &path))
        own = NULL;
    if (given && !cJSON_IsObject(given)) {
        wfe_problems_add(reader->problems, false, "workflow data", 0, "",
            "found something else than an object; allowed: a JSON object");
        given = NULL;
    }
    WFE_JSON cJSON *data = own ? wfe_node_to_json(own) : cJSON_CreateObject();
    if (!data || (given && wfe_result_merge(data, given) < 0))
        return NULL;
    return wfe_steal(&data);
}

/* err from the problems that were added after the first `before`. */
static int fail(const struct wfe_problems *problems, size_t before, size_t errors, const char *file,
    struct wfe_error *err)
{
    const char *first = NULL;
    for (size_t i = before; i < problems->count && !first; i++) {
        if (!problems->items[i].warning)
            first = problems->items[i].text;
    }
    if (!first)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: found %zu problems", file, errors);
    if (errors == 1)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s", first);
    return wfe_error_set(
        err, WFE_ERROR_INPUT, EINVAL, "%.400s (and %zu problems more)", first, errors - 1);
}

int wfe_workflow_parse(const char *file, const char *text, size_t length, const cJSON *data,
    struct wfe_workflow **ret, struct wfe_problems *problems, struct wfe_error *err)
{
    size_t count_before = problems->count;
    size_t errors_before = problems->errors;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    WFE_CLEANUP(cleanup_workflow) struct wfe_workflow *workflow = calloc(1, sizeof *workflow);
    if (!workflow)
        return wfe_error_nomem(err);
    int r = wfe_document_parse(file, text, length, &document, problems);
    if (r == -ENOMEM)
        return wfe_error_nomem(err);
    if (r == 0) {
        struct wfe_step_reader reader = {.file = file, .document = document, .problems = problems};
        workflow->data = read_data(&reader, data);
        if (!workflow->data)
            return wfe_error_nomem(err);
        reader.data = workflow->data;
        wfe_step_read_document(&reader, wfe_document_root(document), workflow);
        if (reader.nomem)
            return wfe_error_nomem(err);
    }
    if (problems->errors > errors_before)
        return fail(problems, count_before, problems->errors - errors_before, file, err);
    *ret = wfe_steal(&workflow);
    return 0;
}

static int refuse_selection(
    const struct wfe_workflow *workflow, const char *step_name, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer names = WFE_BUFFER_INIT(STEP_NAMES_MAX_BYTES);
    for (size_t i = 0; i < workflow->step_count; i++) {
        if (workflow->steps[i].name && wfe_buffer_printf(&names, "%s%s", names.length ? ", " : "",
                                           workflow->steps[i].name) < 0)
            break;
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "step '%.64s' is not in the document; %s%s",
        step_name, names.length ? "its containerd steps: " : "its steps have no names",
        names.length ? names.data : "");
}

int wfe_workflow_select(struct wfe_workflow *workflow, const char *step_name, struct wfe_error *err)
{
    bool found = false;
    for (size_t i = 0; i < workflow->step_count; i++)
        found |= workflow->steps[i].name && strcmp(workflow->steps[i].name, step_name) == 0;
    if (!found)
        return refuse_selection(workflow, step_name, err);
    size_t kept = 0;
    for (size_t i = 0; i < workflow->step_count; i++) {
        struct wfe_step *step = &workflow->steps[i];
        if (step->name && strcmp(step->name, step_name) == 0)
            workflow->steps[kept++] = *step;
        else
            step_done(step);
    }
    workflow->step_count = kept;
    return 0;
}

/* What else stands at the target: an input of another name, or a volume. */
static int check_target(const struct wfe_step_config *config, const char *name, const char *target,
    struct wfe_error *err)
{
    for (size_t i = 0; i < config->input_count; i++) {
        if (strcmp(config->inputs[i].name, name) != 0 &&
            strcmp(config->inputs[i].value, target) == 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "input '%s': found '%.128s', which is the target of '%s' too", name, target,
                config->inputs[i].name);
    }
    for (size_t i = 0; i < config->volume_count; i++) {
        if (strcmp(config->volumes[i].target, target) == 0)
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "input '%s': found '%.128s', where a volume would hide it", name, target);
    }
    return 0;
}

static int add_input(
    struct wfe_step_config *config, const char *name, char *target, struct wfe_error *err)
{
    WFE_FREE char *owned_name = strdup(name);
    if (!owned_name)
        return wfe_error_nomem(err);
    struct wfe_step_pair *inputs =
        reallocarray(config->inputs, config->input_count + 1, sizeof *inputs);
    if (!inputs)
        return wfe_error_nomem(err);
    config->inputs = inputs;
    inputs[config->input_count++] = (struct wfe_step_pair){wfe_steal(&owned_name), target};
    return 0;
}

int wfe_step_set_input(
    struct wfe_step *step, const char *name, const char *target, struct wfe_error *err)
{
    struct wfe_step_config *config = &step->config;
    if (!wfe_step_is_artifact_name(name))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%.128s': found a name that no artifact has; allowed: at most 128 letters, "
            "digits, '_', '.', '-', the first of them no '.' or '-'",
            name);
    WFE_FREE char *clean = NULL;
    int r = wfe_step_clean_path(target, &clean);
    if (r == -ENOMEM)
        return wfe_error_nomem(err);
    if (r < 0)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': found the target '%.128s'; allowed: an absolute path in the container, "
            "not '/' and without '..'",
            name, target);
    r = check_target(config, name, clean, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < config->input_count; i++) {
        if (strcmp(config->inputs[i].name, name) == 0) {
            free(config->inputs[i].value);
            config->inputs[i].value = wfe_steal(&clean);
            return 0;
        }
    }
    if (config->input_count == WFE_STEP_MAX_INPUTS)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "input '%s': found one input more; allowed: %d", name, WFE_STEP_MAX_INPUTS);
    r = add_input(config, name, clean, err);
    if (r == 0)
        (void)wfe_steal(&clean);
    return r;
}
