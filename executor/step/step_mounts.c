/* SPDX-License-Identifier: MIT */
#include "executor/step/step_mounts.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define ARTIFACT_NAME_MAX 128

const char *const wfe_step_propagations[] = {
    [WFE_PROPAGATION_RPRIVATE] = "rprivate",
    [WFE_PROPAGATION_PRIVATE] = "private",
    [WFE_PROPAGATION_RSHARED] = "rshared",
    [WFE_PROPAGATION_SHARED] = "shared",
    [WFE_PROPAGATION_RSLAVE] = "rslave",
    [WFE_PROPAGATION_SLAVE] = "slave",
    NULL,
};

static const char target_words[] = "an absolute path in the container, not '/' and without '..'";

bool wfe_step_is_artifact_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    size_t length = strlen(name);
    return length > 0 && length <= ARTIFACT_NAME_MAX && name[0] != '.' && name[0] != '-' &&
           strspn(name, allowed) == length;
}

int wfe_step_clean_path(const char *path, char **ret)
{
    size_t length = strlen(path);
    if (path[0] != '/' || length >= PATH_MAX)
        return -EINVAL;
    WFE_FREE char *clean = malloc(length + 1);
    if (!clean)
        return -ENOMEM;
    size_t clean_length = 0;
    for (const char *part = path; *part;) {
        part += strspn(part, "/");
        size_t part_length = strcspn(part, "/");
        if (part_length == 2 && memcmp(part, "..", 2) == 0)
            return -EINVAL;
        if (part_length > 0 && !(part_length == 1 && part[0] == '.')) {
            clean[clean_length++] = '/';
            memcpy(clean + clean_length, part, part_length);
            clean_length += part_length;
        }
        part += part_length;
    }
    if (clean_length == 0)
        return -EINVAL;
    clean[clean_length] = '\0';
    *ret = wfe_steal(&clean);
    return 0;
}

/* A target, cleaned; NULL when it is none (told) or memory ran out. */
static char *read_target(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    char *target = NULL;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, target_words);
    if (!text)
        return NULL;
    int r = wfe_step_clean_path(text, &target);
    if (r == -ENOMEM)
        reader->nomem = true;
    else if (r < 0)
        wfe_step_refuse(reader, node, path, target_words);
    return r < 0 ? NULL : target;
}

static char *read_source(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    static const char allowed[] = "an absolute path on the daemon's host";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (!text || text[0] == '/')
        return wfe_steal(&text);
    wfe_step_refuse(reader, node, path, allowed);
    return NULL;
}

static void read_volume_type(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    static const char *const words[] = {
        [WFE_VOLUME_BIND] = "bind", [WFE_VOLUME_TMPFS] = "tmpfs", NULL};
    int word;
    if (wfe_step_word(reader, node, path, words, "bind, tmpfs", &word))
        volume->type = (enum wfe_step_volume_type)word;
}

static void read_volume_source(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    volume->source = read_source(reader, node, path);
}

static void read_volume_target(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    volume->target = read_target(reader, node, path);
}

static void read_volume_readonly(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    wfe_step_bool(reader, node, path, &volume->readonly);
}

static void read_volume_rbind(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    bool rbind = true;
    wfe_step_bool(reader, node, path, &rbind);
    volume->shallow = !rbind;
}

static void read_volume_propagation(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    int word;
    if (wfe_step_word(reader, node, path, wfe_step_propagations,
            "private, rprivate, shared, rshared, slave, rslave", &word))
        volume->propagation = (enum wfe_step_propagation)word;
}

static void read_volume_size(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    wfe_step_size(reader, node, path, &volume->size_bytes);
}

/* Octal digits, as chmod takes them; what YAML makes a number of is text here. */
static void read_volume_mode(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    static const char allowed[] = "a mode in octal digits such as 0755 or 1777, not 0";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (!text)
        return;
    size_t length = strspn(text, "01234567");
    unsigned long mode = length <= 6 && text[length] == '\0' ? strtoul(text, NULL, 8) : 0;
    if (mode == 0 || mode > 07777)
        wfe_step_refuse(reader, node, path, allowed);
    else
        volume->mode = (uint32_t)mode;
}

static const struct volume_field {
    const char *name;
    void (*read)(struct wfe_step_reader *reader, const struct wfe_node *node,
        const struct wfe_step_path *path, struct wfe_step_volume *volume);
    enum wfe_step_volume_type type; /* whose field it is */
    bool of_both;
} volume_fields[] = {
    {"type", read_volume_type, 0, true},
    {"source", read_volume_source, WFE_VOLUME_BIND, false},
    {"target", read_volume_target, 0, true},
    {"readonly", read_volume_readonly, 0, true},
    {"rbind", read_volume_rbind, WFE_VOLUME_BIND, false},
    {"propagation", read_volume_propagation, WFE_VOLUME_BIND, false},
    {"size", read_volume_size, WFE_VOLUME_TMPFS, false},
    {"mode", read_volume_mode, WFE_VOLUME_TMPFS, false},
};

#define VOLUME_FIELD_COUNT (sizeof volume_fields / sizeof volume_fields[0])

static void require_field(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *name, const char *allowed)
{
    struct wfe_step_path where = {.up = path, .name = name};
    const struct wfe_node *value = wfe_node_get(node, name);
    if (!value || (value->kind == WFE_NODE_NULL && !value->reported))
        wfe_step_problem(
            reader, node, &where, "found nothing; allowed: %s (it is required)", allowed);
}

static void read_volume(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_volume *volume)
{
    const char *known[VOLUME_FIELD_COUNT + 1] = {NULL};
    for (size_t i = 0; i < VOLUME_FIELD_COUNT; i++)
        known[i] = volume_fields[i].name;
    if (node->kind != WFE_NODE_MAP) {
        wfe_step_refuse(reader, node, path, "a map {source, target, readonly}");
        return;
    }
    wfe_step_check_keys(reader, node, path, known);
    for (size_t i = 0; i < VOLUME_FIELD_COUNT; i++) {
        const struct volume_field *field = &volume_fields[i];
        struct wfe_step_path where = {.up = path, .name = field->name};
        const struct wfe_node *value = wfe_step_given(node, field->name);
        if (!value)
            continue;
        char found[WFE_NODE_DESCRIPTION_MAX];
        if (field->of_both || field->type == volume->type)
            field->read(reader, value, &where, volume);
        else
            wfe_step_problem(reader, value, &where, "found %s in a volume of type %s; allowed: %s",
                wfe_node_describe(value, found),
                volume->type == WFE_VOLUME_TMPFS ? "tmpfs" : "bind",
                volume->type == WFE_VOLUME_TMPFS ? "type bind" : "type tmpfs");
    }
    if (volume->type == WFE_VOLUME_BIND)
        require_field(reader, node, path, "source", "an absolute path on the daemon's host");
    require_field(reader, node, path, "target", target_words);
}

static bool within(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, size_t max_count)
{
    if (node->count > max_count)
        wfe_step_problem(
            reader, node, path, "found %zu of them; allowed: %zu", node->count, max_count);
    return node->count > 0 && node->count <= max_count;
}

void wfe_step_read_volumes(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    if (!wfe_step_is_list(reader, node, path) || !within(reader, node, path, WFE_STEP_MAX_VOLUMES))
        return;
    config->volumes = wfe_step_allocate(reader, node->count, sizeof *config->volumes);
    for (size_t i = 0; config->volumes && i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .index = i};
        read_volume(reader, node->items[i], &where, &config->volumes[config->volume_count++]);
    }
}

/* A map from artifact names to paths. */
static void read_artifacts(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_pair **ret, size_t *ret_count)
{
    if (!wfe_step_is_map(reader, node, path) || !within(reader, node, path, WFE_STEP_MAX_INPUTS))
        return;
    *ret = wfe_step_allocate(reader, node->count, sizeof **ret);
    for (size_t i = 0; *ret && i < node->count; i++) {
        const struct wfe_member *member = &node->members[i];
        struct wfe_step_path where = {.up = path, .name = member->key->text};
        if (!wfe_step_is_artifact_name(member->key->text))
            wfe_step_refuse(reader, member->key, &where,
                "an artifact's name: at most 128 letters, digits, '_', '.', '-', the first of them"
                " no '.' or '-'");
        if (member->value->kind == WFE_NODE_NULL)
            continue;
        struct wfe_step_pair *artifact = &(*ret)[(*ret_count)++];
        artifact->value = read_target(reader, member->value, &where);
        artifact->name = strdup(member->key->text);
        if (!artifact->name)
            reader->nomem = true;
    }
}

void wfe_step_read_inputs(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_artifacts(reader, node, path, &config->inputs, &config->input_count);
}

void wfe_step_read_outputs(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_artifacts(reader, node, path, &config->outputs, &config->output_count);
}

/* The first of `count` inputs that has this target. */
static const struct wfe_step_pair *input_at(
    const struct wfe_step_pair *inputs, size_t count, const char *target)
{
    for (size_t i = 0; i < count; i++) {
        if (inputs[i].name && inputs[i].value && strcmp(inputs[i].value, target) == 0)
            return &inputs[i];
    }
    return NULL;
}

static void check_inputs(struct wfe_step_reader *reader, const struct wfe_node *inputs,
    const struct wfe_step_path *path, const struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->input_count; i++) {
        const struct wfe_step_pair *input = &config->inputs[i];
        if (!input->name || !input->value)
            continue;
        const struct wfe_step_pair *earlier = input_at(config->inputs, i, input->value);
        struct wfe_step_path where = {.up = path, .name = input->name};
        const struct wfe_node *node = wfe_node_get(inputs, input->name);
        char found[WFE_NODE_DESCRIPTION_MAX];
        if (earlier)
            wfe_step_problem(reader, node, &where,
                "found %s, which is the target of '%s' too; allowed: a path of its own",
                wfe_node_describe(node, found), earlier->name);
    }
}

static void check_volume(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config, size_t index)
{
    const char *target = config->volumes[index].target;
    char found[WFE_NODE_DESCRIPTION_MAX];
    wfe_node_describe(node, found);
    size_t earlier = 0;
    while (earlier < index && !(config->volumes[earlier].target &&
                                  strcmp(config->volumes[earlier].target, target) == 0))
        earlier++;
    if (earlier < index)
        wfe_step_problem(reader, node, path,
            "found %s, which is the target of volumes[%zu] too; allowed: a path of its own", found,
            earlier);
    const struct wfe_step_pair *input = input_at(config->inputs, config->input_count, target);
    if (input)
        wfe_step_problem(reader, node, path,
            "found %s, where the volume would hide the input '%s'; allowed: a path of its own",
            found, input->name);
}

/* The volume that a path lies in, -1 for none. */
static ssize_t volume_around(const struct wfe_step_config *config, const char *path)
{
    for (size_t i = 0; i < config->volume_count; i++) {
        const char *target = config->volumes[i].target;
        size_t length = target ? strlen(target) : 0;
        if (target && strncmp(path, target, length) == 0 &&
            (path[length] == '/' || path[length] == '\0'))
            return (ssize_t)i;
    }
    return -1;
}

static void check_outputs(struct wfe_step_reader *reader, const struct wfe_node *outputs,
    const struct wfe_step_path *path, const struct wfe_step_config *config)
{
    for (size_t i = 0; i < config->output_count; i++) {
        const struct wfe_step_pair *output = &config->outputs[i];
        ssize_t volume = output->value ? volume_around(config, output->value) : -1;
        if (volume < 0 || !output->name)
            continue;
        struct wfe_step_path where = {.up = path, .name = output->name};
        const struct wfe_node *node = wfe_node_get(outputs, output->name);
        char found[WFE_NODE_DESCRIPTION_MAX];
        wfe_step_problem(reader, node, &where,
            "found %s, which is in volumes[%zd]; allowed: a path in the container's own file "
            "system",
            wfe_node_describe(node, found), volume);
    }
}

void wfe_step_check_mounts(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config)
{
    const struct wfe_node *volumes = wfe_step_given(node, "volumes");
    struct wfe_step_path inputs_path = {.up = path, .name = "inputs"};
    struct wfe_step_path volumes_path = {.up = path, .name = "volumes"};
    struct wfe_step_path outputs_path = {.up = path, .name = "outputs"};
    if (config->output_count > 0)
        check_outputs(reader, wfe_step_given(node, "outputs"), &outputs_path, config);
    if (config->input_count > 0)
        check_inputs(reader, wfe_step_given(node, "inputs"), &inputs_path, config);
    for (size_t i = 0; i < config->volume_count; i++) {
        struct wfe_step_path item = {.up = &volumes_path, .index = i};
        struct wfe_step_path where = {.up = &item, .name = "target"};
        if (config->volumes[i].target)
            check_volume(reader, wfe_node_get(volumes->items[i], "target"), &where, config, i);
    }
}
