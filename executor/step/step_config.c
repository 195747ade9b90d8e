/* SPDX-License-Identifier: MIT */
#include "executor/step/step_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "executor/step/step_confinement.h"
#include "executor/step/step_mounts.h"
#include "executor/spec/user.h"
#include "executor/step/step_ports.h"
#include "libcommon/cleanup.h"
#include "libcommon/units.h"

static const char duration_words[] =
    "a duration such as 500ms, 30s, 5m, or a number of milliseconds";

/* A field's text goes through here when it is an address, a name or the like. */
static bool has_blank(const char *text)
{
    return text[strcspn(text, " \t\r\n\v\f")] != '\0';
}

static void read_image(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char allowed[] = "an image reference such as alpine:3.18, without blanks";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (text && has_blank(text))
        wfe_step_refuse(reader, node, path, allowed);
    else
        config->image = wfe_steal(&text);
}

char **wfe_step_read_words(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *allowed)
{
    if (node->kind != WFE_NODE_LIST || node->count == 0) {
        wfe_step_refuse(reader, node, path, allowed);
        return NULL;
    }
    char **words = wfe_step_allocate(reader, node->count + 1, sizeof *words);
    size_t count = 0;
    for (size_t i = 0; words && i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .index = i};
        char *text = wfe_step_text(reader, node->items[i], &where, i == 0 ? 1 : 0,
            i == 0 ? "a program's name" : "a string");
        if (text)
            words[count++] = text;
    }
    return words;
}

void wfe_step_free_words(char **words)
{
    for (char **word = words; word && *word; word++)
        free(*word);
    free(words);
}

static void read_command(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    config->command = wfe_step_read_words(
        reader, node, path, "a list of strings (a shell's line goes into 'run')");
}

static void read_run(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    config->run = wfe_step_text(reader, node, path, 1, "a shell's text");
}

static void read_env(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    if (!wfe_step_is_map(reader, node, path) || node->count == 0)
        return;
    config->env = wfe_step_allocate(reader, node->count, sizeof *config->env);
    for (size_t i = 0; config->env && i < node->count; i++) {
        const struct wfe_member *member = &node->members[i];
        struct wfe_step_path where = {.up = path, .name = member->key->text};
        if (member->key->length == 0 || strchr(member->key->text, '='))
            wfe_step_refuse(reader, member->key, &where, "a variable's name, without '='");
        bool taken_away = member->value->kind == WFE_NODE_NULL;
        WFE_FREE char *value = taken_away ? NULL
                                          : wfe_step_text(reader, member->value, &where, 0,
                                                "text, a number, true or false");
        if (!taken_away && !value)
            continue;
        char *name = strdup(member->key->text);
        if (name)
            config->env[config->env_count++] = (struct wfe_step_pair){name, wfe_steal(&value)};
        else
            reader->nomem = true;
    }
}

static void read_working_dir(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char allowed[] = "an absolute path in the container";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (text && text[0] != '/')
        wfe_step_refuse(reader, node, path, allowed);
    else
        config->working_dir = wfe_steal(&text);
}

static void read_user(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char allowed[] = "USER or USER:GROUP, each a name or a number below 4294967295, or"
                                  " image for the image's own";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (text && !wfe_user_is_valid(text))
        wfe_step_refuse(reader, node, path, allowed);
    else
        config->user = wfe_steal(&text);
}

static void read_network(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char *const words[] = {
        [WFE_NETWORK_NONE] = "none",
        [WFE_NETWORK_HOST] = "host",
        [WFE_NETWORK_BRIDGE] = "bridge",
        NULL,
    };
    int word;
    if (wfe_step_word(reader, node, path, words, "none, host, bridge", &word))
        config->network = (enum wfe_step_network)word;
}

static const char *const pull_words[] = {
    [WFE_PULL_ALWAYS] = "always",
    [WFE_PULL_IF_NOT_PRESENT] = "if-not-present",
    [WFE_PULL_NEVER] = "never",
    NULL,
};

static void read_pull(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    int word;
    if (wfe_step_word(reader, node, path, pull_words, "always, if-not-present, never", &word))
        config->pull = (enum wfe_step_pull)word;
}

int wfe_pull_policy_parse(const char *text, enum wfe_step_pull *ret)
{
    for (size_t i = 0; pull_words[i]; i++) {
        if (strcmp(text, pull_words[i]) == 0) {
            *ret = (enum wfe_step_pull)i;
            return 0;
        }
    }
    return -EINVAL;
}

static void read_memory(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_size(reader, node, path, &config->memory_bytes);
}

static void read_cpu(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char allowed[] = "processors such as 0.5, 2 or 1500m, at least 0.001";
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, allowed);
    if (text && wfe_cpu_parse(text, &config->cpu_millis) < 0)
        wfe_step_refuse(reader, node, path, allowed);
}

void wfe_step_read_duration(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t min_ms, uint64_t *ret)
{
    uint64_t ms;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, duration_words);
    if (!text)
        return;
    int r = wfe_duration_parse(text, &ms);
    if (r == -ERANGE)
        wfe_step_refuse(reader, node, path, "a duration below 290 years");
    else if (r < 0)
        wfe_step_refuse(reader, node, path, duration_words);
    else if (ms < min_ms)
        wfe_step_refuse(reader, node, path, "at least 1ms (leave it out for no limit)");
    else
        *ret = ms;
}

static void read_timeout(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_read_duration(reader, node, path, 1, &config->timeout_ms);
}

static void read_timeout_ms(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    if (node->kind == WFE_NODE_INT)
        wfe_step_read_duration(reader, node, path, 1, &config->timeout_ms);
    else
        wfe_step_refuse(reader, node, path, "a number of milliseconds");
}

static void read_grace(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_read_duration(reader, node, path, 0, &config->grace_ms);
}

static void read_output_limit(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    uint64_t bytes;
    WFE_FREE char *text = wfe_step_text(reader, node, path, 1, WFE_STEP_SIZE_WORDS);
    if (!text)
        return;
    int r = wfe_size_parse(text, &bytes);
    if (r == -ERANGE || (r == 0 && bytes > WFE_STEP_MAX_OUTPUT_LIMIT_BYTES))
        wfe_step_refuse(reader, node, path, "at most 128m");
    else if (r < 0)
        wfe_step_refuse(reader, node, path, WFE_STEP_SIZE_WORDS);
    else
        config->output_limit_bytes = bytes;
}

static void read_containerd_addr(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    config->containerd_addr = wfe_step_text(reader, node, path, 1,
        "/path, unix:///path, tcp://host:port, http://host:port or https://host:port");
}

static void read_cli(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    config->cli = wfe_step_text(reader, node, path, 0, "a program's name (it is ignored)");
}

static void read_tls(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    static const char *const known[] = {"ca", "cert", "key", NULL};
    char **fields[] = {&config->tls_ca, &config->tls_cert, &config->tls_key};
    if (!wfe_step_is_map(reader, node, path))
        return;
    wfe_step_check_keys(reader, node, path, known);
    for (size_t i = 0; known[i]; i++) {
        const struct wfe_node *value = wfe_step_given(node, known[i]);
        struct wfe_step_path where = {.up = path, .name = known[i]};
        if (value)
            *fields[i] = wfe_step_text(reader, value, &where, 1, "the path of a PEM file");
    }
    if (!wfe_step_given(node, "cert") != !wfe_step_given(node, "key"))
        wfe_step_problem(reader, node, path,
            "found only one of cert and key; allowed: both of them, or neither");
}

static void read_registry_host(struct wfe_step_reader *reader, const struct wfe_member *member,
    const struct wfe_step_path *path, struct wfe_step_registry_auth *auth)
{
    static const char *const known[] = {"username", "password", NULL};
    char **fields[] = {&auth->username, &auth->password};
    if (member->key->length == 0)
        wfe_step_refuse(reader, member->key, path, "a registry's host name");
    if (!wfe_step_is_map(reader, member->value, path))
        return;
    wfe_step_check_keys(reader, member->value, path, known);
    auth->host = strdup(member->key->text);
    if (!auth->host)
        reader->nomem = true;
    for (size_t i = 0; known[i]; i++) {
        const struct wfe_node *value = wfe_node_get(member->value, known[i]);
        struct wfe_step_path where = {.up = path, .name = known[i]};
        if (value)
            *fields[i] = wfe_step_text(reader, value, &where, 0, "text");
        else
            wfe_step_problem(
                reader, member->value, &where, "found nothing; allowed: text (it is required)");
    }
}

static void read_registry_auth(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    if (!wfe_step_is_map(reader, node, path) || node->count == 0)
        return;
    config->registry_auth = wfe_step_allocate(reader, node->count, sizeof *config->registry_auth);
    for (size_t i = 0; config->registry_auth && i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .name = node->members[i].key->text};
        if (node->members[i].value->kind != WFE_NODE_NULL)
            read_registry_host(reader, &node->members[i], &where,
                &config->registry_auth[config->registry_auth_count++]);
    }
}

/* The fields in the reference's order, then ours. */
static const struct {
    const char *name;
    void (*read)(struct wfe_step_reader *reader, const struct wfe_node *node,
        const struct wfe_step_path *path, struct wfe_step_config *config);
} fields[] = {
    {"image", read_image},
    {"command", read_command},
    {"run", read_run},
    {"env", read_env},
    {"volumes", wfe_step_read_volumes},
    {"working_dir", read_working_dir},
    {"user", read_user},
    {"network", read_network},
    {"memory", read_memory},
    {"cpu", read_cpu},
    {"pull", read_pull},
    {"containerd_addr", read_containerd_addr},
    {"cli", read_cli},
    {"tls", read_tls},
    {"registry_auth", read_registry_auth},
    {"inputs", wfe_step_read_inputs},
    {"outputs", wfe_step_read_outputs},
    {"timeout_ms", read_timeout_ms},
    {"timeout", read_timeout},
    {"output_limit", read_output_limit},
    {"grace", read_grace},
    {"seccomp", wfe_step_read_seccomp},
    {"apparmor", wfe_step_read_apparmor},
    {"cap_add", wfe_step_read_cap_add},
    {"cap_drop", wfe_step_read_cap_drop},
    {"read_only", wfe_step_read_read_only},
    {"no_new_privileges", wfe_step_read_no_new_privileges},
    {"pids", wfe_step_read_pids},
    {"nofile", wfe_step_read_nofile},
    {"shm_size", wfe_step_read_shm_size},
    {"ports", wfe_step_read_ports},
};

#define FIELD_COUNT (sizeof fields / sizeof fields[0])

static void check_keys(
    struct wfe_step_reader *reader, const struct wfe_node *node, const struct wfe_step_path *path)
{
    const char *known[FIELD_COUNT + 1] = {NULL};
    for (size_t i = 0; i < FIELD_COUNT; i++)
        known[i] = fields[i].name;
    wfe_step_check_keys(reader, node, path, known);
}

static void check_pair(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const char *first, const char *second)
{
    const struct wfe_node *other = wfe_step_given(node, second);
    struct wfe_step_path where = {.up = path, .name = second};
    if (other && wfe_step_given(node, first))
        wfe_step_problem(
            reader, other, &where, "found beside '%s'; allowed: only one of the two", first);
}

void wfe_step_config_read(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    config->pull = WFE_PULL_IF_NOT_PRESENT;
    config->output_limit_bytes = WFE_STEP_DEFAULT_OUTPUT_LIMIT_BYTES;
    config->grace_ms = WFE_STEP_DEFAULT_GRACE_MS;
    if (!wfe_step_is_map(reader, node, path))
        return;
    check_keys(reader, node, path);
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const struct wfe_node *value = wfe_step_given(node, fields[i].name);
        struct wfe_step_path where = {.up = path, .name = fields[i].name};
        if (value)
            fields[i].read(reader, value, &where, config);
    }
    check_pair(reader, node, path, "run", "command");
    check_pair(reader, node, path, "timeout", "timeout_ms");
    wfe_step_check_mounts(reader, node, path, config);
    wfe_step_check_confinement(reader, node, path, config);
    wfe_step_check_ports(reader, node, path, config);
    const struct wfe_node *image = wfe_node_get(node, "image");
    struct wfe_step_path where = {.up = path, .name = "image"};
    if (!image || (image->kind == WFE_NODE_NULL && !image->reported))
        wfe_step_problem(reader, image ? image : node, &where,
            "found nothing; allowed: an image reference (it is required)");
    if (!config->user && !(config->user = strdup(WFE_STEP_DEFAULT_USER)))
        reader->nomem = true;
}

static void free_pairs(struct wfe_step_pair *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
}

void wfe_step_config_done(struct wfe_step_config *config)
{
    free(config->image);
    wfe_step_free_words(config->command);
    free(config->run);
    free_pairs(config->env, config->env_count);
    for (size_t i = 0; i < config->volume_count; i++) {
        free(config->volumes[i].source);
        free(config->volumes[i].target);
    }
    free(config->volumes);
    free(config->working_dir);
    free(config->user);
    free(config->containerd_addr);
    free(config->cli);
    free(config->tls_ca);
    free(config->tls_cert);
    free(config->tls_key);
    for (size_t i = 0; i < config->registry_auth_count; i++) {
        free(config->registry_auth[i].host);
        free(config->registry_auth[i].username);
        free(config->registry_auth[i].password);
    }
    free(config->registry_auth);
    free(config->ports);
    free_pairs(config->inputs, config->input_count);
    free_pairs(config->outputs, config->output_count);
    *config = (struct wfe_step_config){.image = NULL};
}
