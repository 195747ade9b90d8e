/* SPDX-License-Identifier: MIT */
#include "executor/image/registry_hosts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "executor/image/toml.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define CERTIFICATES_MAX_BYTES (4 * 1024 * 1024)

static void endpoint_done(struct wfe_registry_endpoint *endpoint)
{
    free(endpoint->base);
    free(endpoint->host);
    free(endpoint->tls.ca_pem);
    free(endpoint->tls.certificate);
    free(endpoint->tls.key);
}

void wfe_registry_endpoints_free(struct wfe_registry_endpoint *endpoints, size_t count)
{
    for (size_t i = 0; i < count; i++)
        endpoint_done(&endpoints[i]);
    free(endpoints);
}

/* A list under construction. */
struct endpoint_list {
    struct wfe_registry_endpoint items[WFE_REGISTRY_MAX_ENDPOINTS];
    size_t count;
};

/* NULL: the list is full. */
static struct wfe_registry_endpoint *add(struct endpoint_list *list, struct wfe_error *err)
{
    if (list->count == WFE_REGISTRY_MAX_ENDPOINTS) {
        wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG, "more than %d hosts for one registry",
            WFE_REGISTRY_MAX_ENDPOINTS);
        return NULL;
    }
    struct wfe_registry_endpoint *endpoint = &list->items[list->count++];
    *endpoint = (struct wfe_registry_endpoint){.resolves = true, .pulls = true};
    return endpoint;
}

static int add_url(struct endpoint_list *list, const char *scheme, const char *authority,
    const char *host, struct wfe_error *err)
{
    struct wfe_registry_endpoint *endpoint = add(list, err);
    if (!endpoint)
        return -E2BIG;
    endpoint->host = strdup(host);
    if (asprintf(&endpoint->base, "%s://%s/v2", scheme, authority) < 0)
        endpoint->base = NULL;
    return endpoint->host && endpoint->base ? 0 : wfe_error_nomem(err);
}

/* The registry itself, without a word of configuration. */
static int add_default(struct endpoint_list *list, const char *host, struct wfe_error *err)
{
    if (!wfe_http_is_loopback(host))
        return add_url(list, "https",
            strcmp(host, "docker.io") == 0 ? "registry-1.docker.io" : host, host, err);
    int r = add_url(list, "http", host, host, err);
    if (r == 0)
        r = add_url(list, "https", host, host, err);
    if (r == 0)
        list->items[list->count - 1].tls_fallback = true;
    return r;
}

static int wrong(const char *key, const char *expected, struct wfe_error *err)
{
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: expected %s", key, expected);
}

/* A path as it is, or below the directory of the hosts.toml; allocated. */
static char *path_in(const char *directory, const char *path)
{
    return path[0] == '/' ? strdup(path) : wfe_path_join(directory, path);
}

static int append_certificates(
    struct wfe_buffer *pem, const char *directory, const cJSON *item, struct wfe_error *err)
{
    if (!cJSON_IsString(item))
        return wrong("ca", "a path or a list of paths", err);
    WFE_FREE char *path = path_in(directory, item->valuestring);
    WFE_FREE char *text = NULL;
    size_t length;
    if (!path)
        return wfe_error_nomem(err);
    int r = wfe_read_file(path, CERTIFICATES_MAX_BYTES, &text, &length, err);
    if (r < 0)
        return r;
    r = wfe_buffer_append(pem, text, length);
    if (r == 0)
        r = wfe_buffer_puts(pem, "\n");
    if (r == -EMSGSIZE)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "ca: more than %d bytes of certificates",
            CERTIFICATES_MAX_BYTES);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

static int read_ca(const cJSON *table, const char *directory, char **ret, struct wfe_error *err)
{
    const cJSON *ca = cJSON_GetObjectItemCaseSensitive(table, "ca");
    if (!ca)
        return 0;
    WFE_BUFFER struct wfe_buffer pem = WFE_BUFFER_INIT(CERTIFICATES_MAX_BYTES);
    int r = 0;
    if (cJSON_IsArray(ca)) {
        const cJSON *item;
        cJSON_ArrayForEach(item, ca) if (r == 0) r =
            append_certificates(&pem, directory, item, err);
    } else {
        r = append_certificates(&pem, directory, ca, err);
    }
    if (r < 0)
        return r;
    char *text = wfe_buffer_steal(&pem);
    if (!text)
        return wfe_error_nomem(err);
    *ret = text;
    return 0;
}

/* "file", ["cert", "key"], or a list of one such pair. */
static int read_client(
    const cJSON *table, const char *directory, struct wfe_http_tls *tls, struct wfe_error *err)
{
    static const char expected[] = "a path, [certificate, key], or a list of one such pair";
    const cJSON *client = cJSON_GetObjectItemCaseSensitive(table, "client");
    if (!client)
        return 0;
    const cJSON *first = cJSON_IsArray(client) ? cJSON_GetArrayItem(client, 0) : client;
    if (cJSON_IsArray(first)) {
        if (cJSON_GetArraySize(client) != 1)
            return wrong("client", expected, err);
        client = first;
        first = cJSON_GetArrayItem(client, 0);
    }
    int count = cJSON_IsArray(client) ? cJSON_GetArraySize(client) : 1;
    const cJSON *second = count == 2 ? cJSON_GetArrayItem(client, 1) : first;
    if (count > 2 || !cJSON_IsString(first) || !cJSON_IsString(second))
        return wrong("client", expected, err);
    tls->certificate = path_in(directory, first->valuestring);
    tls->key =
        path_in(directory, second->valuestring[0] ? second->valuestring : first->valuestring);
    return tls->certificate && tls->key ? 0 : wfe_error_nomem(err);
}

static int read_capabilities(
    const cJSON *table, struct wfe_registry_endpoint *endpoint, struct wfe_error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(table, "capabilities");
    if (!list)
        return 0;
    if (!cJSON_IsArray(list))
        return wrong("capabilities", "a list of \"pull\", \"resolve\" and \"push\"", err);
    endpoint->pulls = endpoint->resolves = false;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        const char *word = cJSON_IsString(item) ? item->valuestring : "";
        if (strcmp(word, "pull") == 0)
            endpoint->pulls = true;
        else if (strcmp(word, "resolve") == 0)
            endpoint->resolves = true;
        else if (strcmp(word, "push") != 0)
            return wrong("capabilities", "a list of \"pull\", \"resolve\" and \"push\"", err);
    }
    return 0;
}

static int read_flag(const cJSON *table, const char *key, bool *ret, struct wfe_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(table, key);
    if (item && !cJSON_IsBool(item))
        return wrong(key, "true or false", err);
    *ret = cJSON_IsTrue(item);
    return 0;
}

/* The URL's API root, and its "host:port". */
static int set_url(struct wfe_registry_endpoint *endpoint, const char *url, bool override_path,
    struct wfe_error *err)
{
    bool http = strncmp(url, "http://", 7) == 0, https = strncmp(url, "https://", 8) == 0;
    if (strstr(url, "://") && !http && !https)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "'%.200s': expected http:// or https://", url);
    const char *authority = http ? url + 7 : https ? url + 8 : url;
    size_t authority_length = strcspn(authority, "/");
    const char *path = authority + authority_length;
    size_t path_length = strlen(path);
    while (path_length > 0 && path[path_length - 1] == '/')
        path_length--;
    if (authority_length == 0 || strpbrk(authority, "@?# \t\r\n"))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "'%.200s': expected a URL of scheme, host, port and path alone", url);
    bool has_version = path_length >= 3 && memcmp(path + path_length - 3, "/v2", 3) == 0;
    bool complete = has_version || (override_path && path_length > 0);
    endpoint->host = strndup(authority, authority_length);
    if (asprintf(&endpoint->base, "%s://%.*s%.*s%s", http ? "http" : "https", (int)authority_length,
            authority, (int)path_length, path, complete ? "" : "/v2") < 0)
        endpoint->base = NULL;
    return endpoint->host && endpoint->base ? 0 : wfe_error_nomem(err);
}

static int add_table(struct endpoint_list *list, const char *url, const cJSON *table,
    const char *directory, struct wfe_error *err)
{
    struct wfe_registry_endpoint *endpoint = add(list, err);
    if (!endpoint)
        return -E2BIG;
    bool override_path = false;
    int r = read_flag(table, "override_path", &override_path, err);
    if (r == 0)
        r = set_url(endpoint, url, override_path, err);
    if (r == 0)
        r = read_flag(table, "skip_verify", &endpoint->tls.skip_verify, err);
    if (r == 0)
        r = read_capabilities(table, endpoint, err);
    if (r == 0)
        r = read_ca(table, directory, &endpoint->tls.ca_pem, err);
    if (r == 0)
        r = read_client(table, directory, &endpoint->tls, err);
    return r;
}

static int add_mirrors(
    struct endpoint_list *list, const cJSON *root, const char *directory, struct wfe_error *err)
{
    const cJSON *hosts = cJSON_GetObjectItemCaseSensitive(root, "host");
    if (hosts && !cJSON_IsObject(hosts))
        return wrong("host", "tables [host.\"URL\"]", err);
    const cJSON *table;
    cJSON_ArrayForEach(table, hosts)
    {
        if (!cJSON_IsObject(table))
            return wrong("host", "tables [host.\"URL\"]", err);
        int r = add_table(list, table->string, table, directory, err);
        if (r < 0) {
            wfe_error_prefix(err, "host.\"%.100s\"", table->string);
            return r;
        }
        list->items[list->count - 1].mirror = true;
    }
    return 0;
}

/* The certificates at the top are the server's; without its URL they are the registry's own. */
static int add_server(struct endpoint_list *list, const cJSON *root, const char *host,
    const char *directory, struct wfe_error *err)
{
    const cJSON *server = cJSON_GetObjectItemCaseSensitive(root, "server");
    if (server && !cJSON_IsString(server))
        return wrong("server", "a URL", err);
    bool configured = cJSON_GetObjectItemCaseSensitive(root, "ca") ||
                      cJSON_GetObjectItemCaseSensitive(root, "client") ||
                      cJSON_GetObjectItemCaseSensitive(root, "skip_verify");
    if (!server && !configured)
        return add_default(list, host, err);
    const char *own = strcmp(host, "docker.io") == 0 ? "registry-1.docker.io" : host;
    int r = add_table(list, server ? server->valuestring : own, root, directory, err);
    if (r < 0)
        return r;
    char *name = strdup(host);
    if (!name)
        return wfe_error_nomem(err);
    struct wfe_registry_endpoint *endpoint = &list->items[list->count - 1];
    free(endpoint->host);
    endpoint->host = name;
    return 0;
}

/* *ret_text stays NULL when there is no such file. */
static int read_hosts_file(
    const char *directory, char **ret_text, size_t *ret_length, struct wfe_error *err)
{
    WFE_FREE char *path = wfe_path_join(directory, "hosts.toml");
    if (!path)
        return wfe_error_nomem(err);
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_read_file(path, WFE_TOML_MAX_BYTES, ret_text, ret_length, &failure);
    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    if (r < 0 && err)
        *err = failure;
    return r;
}

/* Where host's hosts.toml may be: the first that is there counts. */
static int find_hosts_file(const char *host, const char *directory, char **ret_directory,
    char **ret_text, size_t *ret_length, struct wfe_error *err)
{
    char with_underscores[300];
    const char *port = strrchr(host, ':');
    if (port && strchr(port, ']'))
        port = NULL;
    if (port)
        snprintf(with_underscores, sizeof with_underscores, "%.*s_%s_", (int)(port - host), host,
            port + 1);
    else
        snprintf(with_underscores, sizeof with_underscores, "%s", host);
    const char *const names[] = {with_underscores, host, "_default"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        WFE_FREE char *path = wfe_path_join(directory, names[i]);
        if (!path)
            return wfe_error_nomem(err);
        int r = read_hosts_file(path, ret_text, ret_length, err);
        if (r < 0)
            return r;
        if (*ret_text) {
            *ret_directory = wfe_steal(&path);
            return 0;
        }
    }
    return 0;
}

int wfe_registry_hosts_configured(
    const char *host, const char *directory, bool *ret, struct wfe_error *err)
{
    WFE_FREE char *found = NULL, *text = NULL;
    size_t length = 0;
    int r = find_hosts_file(host, directory, &found, &text, &length, err);
    if (r == 0)
        *ret = text != NULL;
    return r;
}

static int load(
    struct endpoint_list *list, const char *host, const char *directory, struct wfe_error *err)
{
    WFE_FREE char *found = NULL, *text = NULL;
    size_t length = 0;
    int r = find_hosts_file(host, directory, &found, &text, &length, err);
    if (r < 0)
        return r;
    if (!text)
        return add_default(list, host, err);
    WFE_JSON cJSON *root = NULL;
    r = wfe_toml_parse(text, length, &root, err);
    if (r == 0)
        r = add_mirrors(list, root, found, err);
    if (r == 0)
        r = add_server(list, root, host, found, err);
    if (r < 0)
        wfe_error_prefix(err, "%s/hosts.toml", found);
    return r;
}

int wfe_registry_endpoints_load(const char *host, const char *directory,
    struct wfe_registry_endpoint **ret, size_t *ret_count, struct wfe_error *err)
{
    assert(host && directory && ret && ret_count);
    struct endpoint_list list = {.count = 0};
    int r = load(&list, host, directory, err);
    struct wfe_registry_endpoint *endpoints =
        r == 0 ? malloc(list.count * sizeof *endpoints) : NULL;
    if (!endpoints) {
        for (size_t i = 0; i < list.count; i++)
            endpoint_done(&list.items[i]);
        return r < 0 ? r : wfe_error_nomem(err);
    }
    memcpy(endpoints, list.items, list.count * sizeof *endpoints);
    *ret = endpoints;
    *ret_count = list.count;
    return 0;
}
