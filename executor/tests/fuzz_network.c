/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as a CNI configuration, a plugin's result, the host's resolv.conf and its routes. The
 * first byte says which.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/network/cni.h"
#include "executor/network/network_files.h"
#include "executor/network/network_range.h"
#include "libcommon/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static void configuration(const char *text)
{
    WFE_JSON cJSON *list = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_cni_list_parse("10-net.conflist", text, &list, &err) < 0) {
        expect(!list && err.kind == WFE_ERROR_INPUT && *err.message);
        return;
    }
    const cJSON *plugins = cJSON_GetObjectItemCaseSensitive(list, "plugins");
    int count = cJSON_GetArraySize(plugins);
    expect(count > 0 && count <= WFE_CNI_MAX_PLUGINS);
    const cJSON *plugin;
    cJSON_ArrayForEach(plugin, plugins)
    {
        expect(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(plugin, "type")));
        WFE_JSON cJSON *config = wfe_cni_plugin_config(list, plugin, list, list);
        expect(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(config, "name")));
    }
    expect(wfe_cni_list_check(list, "/nonexistent", NULL) < 0);
}

/* No line of a file comes from within a line of the result. */
static void expect_lines(const struct wfe_buffer *file)
{
    static const char *const keys[] = {"nameserver ", "search ", "options "};
    for (const char *line = file->data; line && *line;) {
        size_t known = 0;
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
            known += strncmp(line, keys[i], strlen(keys[i])) == 0;
        expect(known == 1);
        line = strchr(line, '\n');
        expect(line);
        line++;
    }
}

static void result(const char *text)
{
    WFE_JSON cJSON *object = cJSON_Parse(text);
    WFE_BUFFER struct wfe_buffer file = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    size_t servers;
    const cJSON *dns = cJSON_GetObjectItemCaseSensitive(object, "dns");
    if (wfe_network_resolv_conf("", dns, true, &file, &servers) == 0)
        expect_lines(&file);
    struct wfe_network_addresses addresses;
    wfe_network_addresses_read(object, &addresses);
    for (size_t i = 0; i < addresses.count; i++)
        expect(addresses.text[i][0] && !strpbrk(addresses.text[i], " \t\n/"));
    expect(!wfe_network_addresses_main(&addresses) == (addresses.count == 0));
    WFE_BUFFER struct wfe_buffer hosts = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    expect(wfe_network_hosts(&hosts) == 0);
    expect(wfe_network_hosts_add(&addresses, "name", &hosts) == 0);
}

static void resolv_conf(const char *text)
{
    WFE_BUFFER struct wfe_buffer file = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    WFE_BUFFER struct wfe_buffer again = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    size_t servers, servers_again;
    if (wfe_network_resolv_conf(text, NULL, false, &file, &servers) < 0)
        return;
    const char *made = file.data ? file.data : "";
    expect(wfe_network_resolv_conf(made, NULL, false, &again, &servers_again) == 0);
    expect(servers == servers_again && strcmp(made, again.data ? again.data : "") == 0);
}

static void routes(const char *text)
{
    bool taken[WFE_NETWORK_RANGES] = {false};
    wfe_network_taken_by_routes(text, taken);
    int range = wfe_network_choose_range("name", taken);
    expect(range < 0 || !taken[range]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const char *) = {configuration, result, resolv_conf, routes};
    if (size == 0)
        return 0;
    WFE_FREE char *text = malloc(size);
    expect(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    readers[data[0] % (sizeof readers / sizeof *readers)](text);
    return 0;
}
