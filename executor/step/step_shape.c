/* SPDX-License-Identifier: MIT */
#include "executor/step/step_shape.h"

#include <stdlib.h>
#include <string.h>

#include "executor/step/step_config.h"
#include "executor/step/step_interpolate.h"
#include "executor/step/step_services.h"
#include "libcommon/cleanup.h"

#define STEP_NAME_MAX 128

/* Steps on their way into the workflow. */
struct collector {
    struct wfe_step_reader *reader;
    struct wfe_workflow *workflow;
    size_t capacity;
    size_t seen;                                      /* steps of any type */
    const struct wfe_node *names[WFE_STEP_MAX_STEPS]; /* of the current workflow's steps */
    size_t name_count;
};

static void read_step(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, bool in_workflow);

static bool is_usable_name(const struct wfe_node *node)
{
    if (node->length == 0 || node->length > STEP_NAME_MAX || node->text[0] == '.')
        return false;
    for (const char *c = node->text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7F || *c == '/')
            return false;
    }
    return true;
}

/* The step's name; NULL when it has none, which only a step outside of a workflow may do. */
static const struct wfe_node *read_name(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, bool in_workflow)
{
    static const char allowed[] =
        "a name of at most 128 bytes, without '/' and control characters, no '.' at its start";
    struct wfe_step_reader *reader = collector->reader;
    struct wfe_step_path where = {.up = path, .name = "name"};
    const struct wfe_node *name = wfe_step_given(node, "name");
    if (name)
        name = wfe_step_interpolate(reader, name, &where);
    if (!name) {
        if (in_workflow)
            wfe_step_problem(
                reader, node, &where, "found nothing; allowed: %s (it is required)", allowed);
        return NULL;
    }
    if (!wfe_node_is_scalar(name) || name->kind == WFE_NODE_NULL || !is_usable_name(name)) {
        wfe_step_refuse(reader, name, &where, allowed);
        return NULL;
    }
    for (size_t i = 0; i < collector->name_count; i++) {
        const struct wfe_node *other = collector->names[i];
        if (strcmp(other->text, name->text) == 0) {
            wfe_step_problem(reader, name, &where,
                "found '%s', which is the step's name in line %d too; allowed: a name of its own",
                name->text, other->line);
            return name;
        }
    }
    collector->names[collector->name_count++] = name;
    return name;
}

/* What an engine does with a step's result is not done here. */
static void warn_of_engine_keys(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    static const char *const keys[] = {
        "when", "on_success", "on_failure", "ensure", "error_behavior", NULL};
    for (size_t i = 0; keys[i]; i++) {
        const struct wfe_node *value = wfe_step_given(node, keys[i]);
        struct wfe_step_path where = {.up = path, .name = keys[i]};
        if (value)
            wfe_step_warning(
                reader, value, &where, "a workflow engine acts on this key, this program does not");
    }
}

/* Step-level inputs and outputs are the engine's: only their shape is looked at. */
static void check_references(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *key)
{
    const struct wfe_node *list = wfe_step_given(node, key);
    struct wfe_step_path list_path = {.up = path, .name = key};
    if (!list || !wfe_step_is_list(reader, list, &list_path))
        return;
    for (size_t i = 0; i < list->count; i++) {
        const struct wfe_node *item = list->items[i];
        struct wfe_step_path where = {.up = &list_path, .index = i};
        const struct wfe_node *name = wfe_step_given(item, "name");
        if (!name || !wfe_node_is_scalar(name))
            wfe_step_refuse(reader, item, &where, "a map {name, path, json_path} with a name");
    }
}

static struct wfe_step *add_step(struct collector *collector, const struct wfe_node *name)
{
    struct wfe_workflow *workflow = collector->workflow;
    if (workflow->step_count == collector->capacity) {
        size_t capacity = collector->capacity ? collector->capacity * 2 : 4;
        struct wfe_step *steps = reallocarray(workflow->steps, capacity, sizeof *steps);
        if (!steps) {
            collector->reader->nomem = true;
            return NULL;
        }
        workflow->steps = steps;
        collector->capacity = capacity;
    }
    struct wfe_step *step = &workflow->steps[workflow->step_count++];
    *step = (struct wfe_step){.name = NULL};
    if (name && !(step->name = strdup(name->text)))
        collector->reader->nomem = true;
    return step;
}

static void check_step_keys(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, bool in_workflow)
{
    static const char *const at_top[] = {"name", "type", "config", "inputs", "outputs", "parallel",
        "error_behavior", "on_success", "on_failure", "ensure", "when", "data", NULL};
    static const char *const in_steps[] = {"name", "type", "config", "inputs", "outputs",
        "parallel", "error_behavior", "on_success", "on_failure", "ensure", "when", NULL};
    wfe_step_check_keys(reader, node, path, in_workflow ? in_steps : at_top);
}

static void read_containerd_step(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_node *name)
{
    struct wfe_step_reader *reader = collector->reader;
    struct wfe_step_path where = {.up = path, .name = "config"};
    check_references(reader, node, path, "inputs");
    check_references(reader, node, path, "outputs");
    const struct wfe_node *config = wfe_node_get(node, "config");
    struct wfe_step *step = add_step(collector, name);
    if (!step)
        return;
    if (config)
        wfe_step_config_read(
            reader, wfe_step_interpolate(reader, config, &where), &where, &step->config);
    else
        wfe_step_problem(reader, node, &where,
            "found nothing; allowed: a map with the container's image and command");
}

static void read_group(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_node *children)
{
    struct wfe_step_reader *reader = collector->reader;
    struct wfe_step_path children_path = {.up = path, .name = "parallel"};
    const struct wfe_node *config = wfe_step_given(node, "config");
    struct wfe_step_path config_path = {.up = path, .name = "config"};
    if (config)
        wfe_step_problem(
            reader, config, &config_path, "found beside 'parallel'; allowed: only one of the two");
    if (!wfe_step_is_list(reader, children, &children_path))
        return;
    for (size_t i = 0; i < children->count; i++) {
        struct wfe_step_path where = {.up = &children_path, .index = i};
        read_step(collector, children->items[i], &where, true);
    }
}

/* Whether the step is containerd's; if not, that is said: it is passed over in a workflow, and
 * wrong when it is the whole document. */
static bool is_containerd(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, bool in_workflow)
{
    const struct wfe_node *type = wfe_step_given(node, "type");
    struct wfe_step_path where = {.up = path, .name = "type"};
    char found[WFE_NODE_DESCRIPTION_MAX];
    if (type && wfe_node_is_scalar(type) && strcmp(type->text, "containerd") == 0)
        return true;
    if (!type && !in_workflow)
        return true;
    if (!in_workflow || (type && !wfe_node_is_scalar(type)))
        wfe_step_refuse(reader, type, &where, "containerd");
    else if (type)
        wfe_step_warning(reader, type, &where, "a step of type %s is passed over",
            wfe_node_describe(type, found));
    else
        wfe_step_warning(reader, node, &where,
            "a step without a type is passed over (this program runs 'type: containerd')");
    return false;
}

static void read_step(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, bool in_workflow)
{
    struct wfe_step_reader *reader = collector->reader;
    if (!wfe_step_is_map(reader, node, path))
        return;
    if (collector->seen++ >= WFE_STEP_MAX_STEPS) {
        if (collector->seen == WFE_STEP_MAX_STEPS + 1)
            wfe_step_problem(
                reader, node, path, "found one step more; allowed: %d", WFE_STEP_MAX_STEPS);
        return;
    }
    const struct wfe_node *name = read_name(collector, node, path, in_workflow);
    const struct wfe_node *children = wfe_step_given(node, "parallel");
    if (!children && !is_containerd(reader, node, path, in_workflow))
        return;
    check_step_keys(reader, node, path, in_workflow);
    warn_of_engine_keys(reader, node, path);
    if (children)
        read_group(collector, node, path, children);
    else
        read_containerd_step(collector, node, path, name);
}

static void read_id(
    struct collector *collector, const struct wfe_node *node, const struct wfe_step_path *path)
{
    struct wfe_step_reader *reader = collector->reader;
    const struct wfe_node *id = wfe_step_given(node, "id");
    struct wfe_step_path where = {.up = path, .name = "id"};
    if (!id)
        return;
    id = wfe_step_interpolate(reader, id, &where);
    if (!wfe_node_is_scalar(id) || id->kind == WFE_NODE_NULL || !is_usable_name(id))
        wfe_step_refuse(reader, id, &where,
            "an id of at most 128 bytes, without '/' and control characters, no '.' at its start");
    else if (!collector->workflow->id)
        collector->workflow->id = wfe_step_text(reader, id, &where, 1, "an id");
}

/* `workflow:` alone needs no place in the steps' paths: there is but one list `steps`. */
static void read_workflow(struct collector *collector, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_path *steps_up)
{
    struct wfe_step_reader *reader = collector->reader;
    struct wfe_step_path steps_path = {.up = steps_up, .name = "steps"};
    if (!wfe_step_is_map(reader, node, path))
        return;
    read_id(collector, node, path);
    wfe_step_read_services(reader, node, path, collector->workflow);
    const struct wfe_node *steps = wfe_step_given(node, "steps");
    if (!steps) {
        wfe_step_problem(reader, node, &steps_path, "found nothing; allowed: a list of steps");
        return;
    }
    if (!wfe_step_is_list(reader, steps, &steps_path))
        return;
    collector->name_count = 0;
    for (size_t i = 0; i < steps->count; i++) {
        struct wfe_step_path where = {.up = &steps_path, .index = i};
        read_step(collector, steps->items[i], &where, true);
    }
}

static void read_workflows(struct collector *collector, const struct wfe_node *root)
{
    struct wfe_step_reader *reader = collector->reader;
    const struct wfe_node *workflow = wfe_node_get(root, "workflow");
    const struct wfe_node *list = wfe_node_get(root, "workflows");
    struct wfe_step_path list_path = {.name = "workflows"};
    size_t errors = reader->problems->errors;
    if (workflow && list)
        wfe_step_problem(
            reader, list, &list_path, "found beside 'workflow'; allowed: only one of the two");
    if (workflow)
        read_workflow(collector, workflow, &(struct wfe_step_path){.name = "workflow"}, NULL);
    if (list && wfe_step_is_list(reader, list, &list_path)) {
        for (size_t i = 0; i < list->count; i++) {
            struct wfe_step_path where = {.up = &list_path, .index = i};
            read_workflow(collector, list->items[i], &where, &where);
        }
    }
    if (collector->workflow->step_count == 0 && collector->workflow->service_count == 0 &&
        reader->problems->errors == errors)
        wfe_step_problem(reader, root, NULL,
            "found no step of type containerd in the workflow; allowed: at least one");
}

/* The map without its member `data`. NULL when memory ran out. */
static const struct wfe_node *without_data(
    struct wfe_step_reader *reader, const struct wfe_node *map)
{
    if (!wfe_node_get(map, "data"))
        return map;
    struct wfe_node *copy =
        wfe_document_collection(reader->document, WFE_NODE_MAP, map->line, map->count - 1);
    size_t count = 0;
    for (size_t i = 0; copy && i < map->count; i++) {
        if (strcmp(map->members[i].key->text, "data") != 0)
            copy->members[count++] = map->members[i];
    }
    return copy;
}

static void read_bare_config(struct collector *collector, const struct wfe_node *root)
{
    struct wfe_step_reader *reader = collector->reader;
    const struct wfe_node *config = without_data(reader, root);
    struct wfe_step *step = add_step(collector, NULL);
    if (config && step)
        wfe_step_config_read(
            reader, wfe_step_interpolate(reader, config, NULL), NULL, &step->config);
    else
        reader->nomem = true;
}

void wfe_step_read_document(
    struct wfe_step_reader *reader, const struct wfe_node *root, struct wfe_workflow *workflow)
{
    WFE_FREE struct collector *collector = wfe_step_allocate(reader, 1, sizeof *collector);
    if (!collector)
        return;
    collector->reader = reader;
    collector->workflow = workflow;
    const struct wfe_node *steps = wfe_node_get(root, "steps");
    if (root->kind != WFE_NODE_MAP)
        wfe_step_refuse(reader, root, NULL,
            "a map: a configuration {image, run, …}, a step {name, type, config} or a workflow"
            " {workflow: {id, steps}}");
    else if (wfe_node_get(root, "workflow") || wfe_node_get(root, "workflows"))
        read_workflows(collector, root);
    else if (steps)
        wfe_step_problem(reader, steps, &(struct wfe_step_path){.name = "steps"},
            "found outside of a workflow; allowed: workflow: {id, steps}");
    else if (wfe_node_get(root, "config") || wfe_node_get(root, "type") ||
             wfe_node_get(root, "parallel"))
        read_step(collector, root, NULL, false);
    else
        read_bare_config(collector, root);
}
