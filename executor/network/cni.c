/* SPDX-License-Identifier: MIT */
#include "executor/network/cni.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/network/cni_plugin.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define ENV_OURS 6
#define NAME_MAX_BYTES 128

/* Plugins run iptables, which not everybody's $PATH leads to. */
#define SBIN "/usr/local/sbin:/usr/sbin:/sbin"

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* Names become parts of paths: of plugins, and of what plugins keep of a network. */
static bool is_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return name && *name && name[0] != '.' && strlen(name) <= NAME_MAX_BYTES &&
           name[strspn(name, allowed)] == '\0';
}

/* 0.1 and 0.2 know no lists, and have results of another form. */
static bool is_version(const char *version)
{
    static const char *const known[] = {"0.3.", "0.4.", "1."};
    for (size_t i = 0; version && i < sizeof known / sizeof *known; i++)
        if (strncmp(version, known[i], strlen(known[i])) == 0)
            return true;
    return false;
}

static int check_list(const char *file, const cJSON *list, struct wfe_error *err)
{
    const char *version = text_of(list, "cniVersion");
    if (!is_version(version))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: cniVersion: found '%.32s'; allowed: 0.3.0 and newer", file,
            version ? version : "");
    if (!is_name(text_of(list, "name")))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: name: found no name of letters, digits, '_', '.' and '-'", file);
    const cJSON *plugins = cJSON_GetObjectItemCaseSensitive(list, "plugins");
    int count = cJSON_IsArray(plugins) ? cJSON_GetArraySize(plugins) : 0;
    if (count < 1 || count > WFE_CNI_MAX_PLUGINS)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: plugins: found %d of them; allowed: 1 to %d", file, count, WFE_CNI_MAX_PLUGINS);
    const cJSON *plugin;
    int i = 0;
    cJSON_ArrayForEach(plugin, plugins)
    {
        if (!cJSON_IsObject(plugin) || !is_name(text_of(plugin, "type")))
            return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
                "%s: plugins[%d].type: found no program's name", file, i);
        i++;
    }
    return 0;
}

/* {name, cniVersion, type, …} → {name, cniVersion, plugins: [it]}. Takes plugin, also on failure.
 */
static cJSON *list_of_one(cJSON *plugin)
{
    WFE_JSON cJSON *list = cJSON_CreateObject();
    cJSON *plugins = cJSON_CreateArray();
    if (!list || !cJSON_AddItemToArray(plugins, plugin)) {
        cJSON_Delete(plugins);
        cJSON_Delete(plugin);
        return NULL;
    }
    if (!cJSON_AddItemToObject(list, "plugins", plugins)) {
        cJSON_Delete(plugins);
        return NULL;
    }
    static const char *const names[] = {"cniVersion", "name"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = text_of(plugin, names[i]);
        if (text && !cJSON_AddStringToObject(list, names[i], text))
            return NULL;
    }
    return wfe_steal(&list);
}

int wfe_cni_list_parse(const char *file, const char *text, cJSON **ret, struct wfe_error *err)
{
    errno = 0;
    WFE_JSON cJSON *list = cJSON_ParseWithOpts(text, NULL, true);
    if (!list && errno == ENOMEM)
        return wfe_error_nomem(err);
    if (!cJSON_IsObject(list))
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "%s: found no JSON object, which a CNI network is", file);
    if (!cJSON_GetObjectItemCaseSensitive(list, "plugins")) {
        list = list_of_one(list);
        if (!list)
            return wfe_error_nomem(err);
    }
    int r = check_list(file, list, err);
    if (r == 0)
        *ret = wfe_steal(&list);
    return r;
}

static bool is_config_name(const char *name)
{
    static const char *const ends[] = {".conflist", ".conf", ".json"};
    const char *end = strrchr(name, '.');
    for (size_t i = 0; end && end != name && i < sizeof ends / sizeof *ends; i++)
        if (strcmp(end, ends[i]) == 0)
            return true;
    return false;
}

/* *ret (allocated) is NULL when there is none. */
static int first_config(const char *directory, char **ret, struct wfe_error *err)
{
    *ret = NULL;
    WFE_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : wfe_error_system(err, errno, "open %s", directory);
    char **names;
    size_t count;
    int r = wfe_list_directory(fd, &names, &count);
    if (r < 0)
        return wfe_error_system(err, -r, "read %s", directory);
    size_t i = 0;
    while (i < count && !is_config_name(names[i]))
        i++;
    if (i < count && !(*ret = wfe_path_join(directory, names[i])))
        r = wfe_error_nomem(err);
    wfe_names_free(names, count);
    return r;
}

int wfe_cni_list_load(const char *directory, cJSON **ret, struct wfe_error *err)
{
    WFE_FREE char *path = NULL, *text = NULL;
    size_t length;
    int r = first_config(directory, &path, err);
    if (r < 0)
        return r;
    if (!path) {
        *ret = NULL;
        return 0;
    }
    r = wfe_read_file(path, WFE_CNI_CONFIG_MAX_BYTES, &text, &length, err);
    return r < 0 ? r : wfe_cni_list_parse(path, text, ret, err);
}

/* The program of that name in the path's directories (allocated); NULL when there is none. */
static char *find_plugin(const char *path, const char *name)
{
    for (const char *at = path; *at;) {
        size_t part = strcspn(at, ":");
        char *program;
        if (asprintf(&program, "%.*s/%s", (int)part, at, name) < 0)
            return NULL;
        if (part > 0 && access(program, X_OK) == 0)
            return program;
        free(program);
        at += part + (at[part] == ':');
    }
    return NULL;
}

bool wfe_cni_has_plugin(const char *path, const char *name)
{
    WFE_FREE char *program = find_plugin(path, name);
    return program != NULL;
}

static int require_plugin(const char *path, const char *name, char **ret, struct wfe_error *err)
{
    *ret = name ? find_plugin(path, name) : NULL;
    if (*ret)
        return 0;
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
        "the CNI plugin '%s' is in none of %.200s: install containernetworking-plugins, or set "
        "CNI_PATH",
        name ? name : "", path);
}

int wfe_cni_list_check(const cJSON *list, const char *path, struct wfe_error *err)
{
    const cJSON *plugin;
    cJSON_ArrayForEach(plugin, cJSON_GetObjectItemCaseSensitive(list, "plugins"))
    {
        const char *types[] = {text_of(plugin, "type"),
            text_of(cJSON_GetObjectItemCaseSensitive(plugin, "ipam"), "type")};
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            WFE_FREE char *program = NULL;
            int r = types[i] ? require_plugin(path, types[i], &program, err) : 0;
            if (r < 0)
                return r;
        }
    }
    return 0;
}

/* The arguments of the capabilities that a plugin says to have. */
static bool add_runtime_config(cJSON *config, const cJSON *plugin, const cJSON *capabilities)
{
    const cJSON *wanted = cJSON_GetObjectItemCaseSensitive(plugin, "capabilities");
    WFE_JSON cJSON *runtime = cJSON_CreateObject();
    const cJSON *capability;
    cJSON_ArrayForEach(capability, capabilities)
    {
        if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(wanted, capability->string)))
            continue;
        cJSON *copy = cJSON_Duplicate(capability, true);
        if (!copy || !cJSON_AddItemToObject(runtime, capability->string, copy)) {
            cJSON_Delete(copy);
            return false;
        }
    }
    if (!runtime)
        return false;
    if (cJSON_GetArraySize(runtime) == 0)
        return true;
    if (!cJSON_AddItemToObject(config, "runtimeConfig", runtime))
        return false;
    (void)wfe_steal(&runtime);
    return true;
}

cJSON *wfe_cni_plugin_config(
    const cJSON *list, const cJSON *plugin, const cJSON *capabilities, const cJSON *previous_result)
{
    static const char *const replaced[] = {
        "cniVersion", "name", "capabilities", "runtimeConfig", "prevResult"};
    WFE_JSON cJSON *config = cJSON_Duplicate(plugin, true);
    for (size_t i = 0; config && i < sizeof replaced / sizeof *replaced; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(config, replaced[i]);
    if (!config || !cJSON_AddStringToObject(config, "cniVersion", text_of(list, "cniVersion")) ||
        !cJSON_AddStringToObject(config, "name", text_of(list, "name")) ||
        !add_runtime_config(config, plugin, capabilities))
        return NULL;
    if (previous_result) {
        cJSON *copy = cJSON_Duplicate(previous_result, true);
        if (!copy || !cJSON_AddItemToObject(config, "prevResult", copy)) {
            cJSON_Delete(copy);
            return NULL;
        }
    }
    return wfe_steal(&config);
}

extern char **environ;

static void free_env(char ***env)
{
    for (char **at = *env; at && *at; at++)
        free(*at);
    free(*env);
}

static char *variable(const char *name, const char *value)
{
    char *text;
    return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

/* Ours without anything of CNI's, and the parameters. NULL when memory ran out. */
static char **make_env(const struct wfe_cni_attachment *attachment, const char *command)
{
    size_t count = 0, used = 0;
    while (environ[count])
        count++;
    WFE_CLEANUP(free_env) char **env = calloc(count + ENV_OURS + 1, sizeof *env);
    if (!env)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "CNI_", 4) == 0 || strncmp(environ[i], "PATH=", 5) == 0)
            continue;
        if (!(env[used++] = strdup(environ[i])))
            return NULL;
    }
    const char *path = getenv("PATH");
    WFE_FREE char *programs = NULL;
    if (asprintf(&programs, "%s:" SBIN, path && *path ? path : "/usr/bin:/bin") < 0) {
        programs = NULL;
        return NULL;
    }
    const char *const ours[ENV_OURS][2] = {
        {"PATH", programs},
        {"CNI_COMMAND", command},
        {"CNI_CONTAINERID", attachment->container_id},
        {"CNI_NETNS", attachment->netns},
        {"CNI_IFNAME", attachment->interface},
        {"CNI_PATH", attachment->path},
    };
    for (size_t i = 0; i < ENV_OURS; i++)
        if (!(env[used++] = variable(ours[i][0], ours[i][1])))
            return NULL;
    return wfe_steal(&env);
}

static int run_plugin(const cJSON *list, const cJSON *plugin,
    const struct wfe_cni_attachment *attachment, const char *command, const cJSON *previous_result,
    cJSON **ret_answer, struct wfe_error *err)
{
    const char *type = text_of(plugin, "type");
    WFE_CLEANUP(free_env) char **env = make_env(attachment, command);
    WFE_JSON cJSON *config =
        wfe_cni_plugin_config(list, plugin, attachment->capabilities, previous_result);
    WFE_FREE char *text = config ? cJSON_PrintUnformatted(config) : NULL;
    if (!env || !text)
        return wfe_error_nomem(err);
    WFE_FREE char *program = NULL;
    int r = require_plugin(attachment->path, type, &program, err);
    if (r < 0)
        return r;
    struct wfe_cni_plugin run = {
        .program = program,
        .env = env,
        .config = text,
        .lock_fd = attachment->lock_fd,
        .cancel = attachment->cancel,
    };
    r = wfe_cni_plugin_run(&run, ret_answer, err);
    if (r < 0)
        wfe_error_prefix(err, "CNI plugin '%s' (%s)", type, command);
    return r;
}

int wfe_cni_add(const cJSON *list, const struct wfe_cni_attachment *attachment,
    int (*keep)(void *context, const cJSON *result, struct wfe_error *err), void *context,
    struct wfe_error *err)
{
    WFE_JSON cJSON *result = NULL;
    const cJSON *plugin;
    cJSON_ArrayForEach(plugin, cJSON_GetObjectItemCaseSensitive(list, "plugins"))
    {
        cJSON *answer = NULL;
        int r = run_plugin(list, plugin, attachment, "ADD", result, &answer, err);
        if (r < 0)
            return r;
        if (!answer)
            continue;
        cJSON_Delete(result);
        result = answer;
        r = keep(context, result, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int wfe_cni_del(const cJSON *list, const struct wfe_cni_attachment *attachment, const cJSON *result,
    struct wfe_error *err)
{
    const cJSON *plugins = cJSON_GetObjectItemCaseSensitive(list, "plugins");
    int failed = 0;
    for (int i = cJSON_GetArraySize(plugins) - 1; i >= 0; i--) {
        struct wfe_error failure = WFE_ERROR_INIT;
        WFE_JSON cJSON *answer = NULL;
        int r = run_plugin(
            list, cJSON_GetArrayItem(plugins, i), attachment, "DEL", result, &answer, &failure);
        if (r < 0 && failed == 0) {
            failed = r;
            if (err)
                *err = failure;
        }
    }
    return failed;
}
