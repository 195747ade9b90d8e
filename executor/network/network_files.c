/* SPDX-License-Identifier: MIT */
#include "executor/network/network_files.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

size_t wfe_network_host_files(bool local, struct wfe_spec_file ret[static WFE_NETWORK_FILES_MAX])
{
    static const char *const paths[WFE_NETWORK_FILES_MAX] = {"/etc/resolv.conf", "/etc/hosts"};
    size_t count = 0;
    for (size_t i = 0; i < WFE_NETWORK_FILES_MAX; i++)
        if (!local || access(paths[i], F_OK) == 0)
            ret[count++] = (struct wfe_spec_file){.source = paths[i], .target = paths[i]};
    return count;
}

/* "KEY VALUE VALUE…" from a text or a list of texts; nothing when there are none. */
static int add_line(struct wfe_buffer *to, const char *key, const cJSON *values)
{
    const cJSON *value;
    bool any = false;
    int r = 0;
    cJSON_ArrayForEach(value, values)
    {
        if (!cJSON_IsString(value) || strpbrk(value->valuestring, "\r\n"))
            continue;
        r = wfe_buffer_printf(to, "%s %s", any ? "" : key, value->valuestring);
        if (r < 0)
            return r;
        any = true;
    }
    return any ? wfe_buffer_puts(to, "\n") : r;
}

static int of_result(const cJSON *dns, struct wfe_buffer *to, size_t *ret_servers)
{
    const cJSON *server;
    size_t servers = 0;
    cJSON_ArrayForEach(server, cJSON_GetObjectItemCaseSensitive(dns, "nameservers"))
    {
        if (!cJSON_IsString(server) || strpbrk(server->valuestring, " \t\r\n"))
            continue;
        int r = wfe_buffer_printf(to, "nameserver %s\n", server->valuestring);
        if (r < 0)
            return r;
        servers++;
    }
    *ret_servers = servers;
    if (servers == 0)
        return 0;
    int r = add_line(to, "search", cJSON_GetObjectItemCaseSensitive(dns, "search"));
    return r < 0 ? r : add_line(to, "options", cJSON_GetObjectItemCaseSensitive(dns, "options"));
}

/* Whether a name server's address leads anywhere from inside of the container. */
static bool is_reachable(const char *address, bool has_ipv6)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 != 127 && v4.s_addr != INADDR_ANY;
    /* One with a zone ("fe80::1%eth0") belongs to an interface of the host. */
    return has_ipv6 && inet_pton(AF_INET6, address, &v6) == 1 && !IN6_IS_ADDR_LOOPBACK(&v6) &&
           !IN6_IS_ADDR_UNSPECIFIED(&v6);
}

/* The address of a line "nameserver ADDRESS"; false when it is another line. */
static bool read_server(
    const char *line, size_t length, char address[static WFE_NETWORK_ADDRESS_MAX])
{
    static const char key[] = "nameserver";
    const char *end = line + length;
    if (length < sizeof key - 1 || memcmp(line, key, sizeof key - 1) != 0)
        return false;
    line += sizeof key - 1;
    if (line < end && *line != ' ' && *line != '\t')
        return false;
    line += strspn(line, " \t");
    size_t n = strcspn(line, " \t\r\n#;");
    if (line + n > end || n >= WFE_NETWORK_ADDRESS_MAX)
        n = 0;
    memcpy(address, line, n);
    address[n] = '\0';
    return true;
}

int wfe_network_resolv_conf(const char *host_text, const cJSON *dns, bool has_ipv6,
    struct wfe_buffer *to, size_t *ret_servers)
{
    size_t servers = 0;
    int r = of_result(dns, to, &servers);
    if (r < 0 || servers > 0) {
        *ret_servers = servers;
        return r;
    }
    for (const char *line = host_text; *line;) {
        size_t length = strcspn(line, "\n");
        char address[WFE_NETWORK_ADDRESS_MAX];
        bool is_server = read_server(line, length, address);
        if (!is_server || is_reachable(address, has_ipv6)) {
            r = wfe_buffer_append(to, line, length);
            if (r == 0)
                r = wfe_buffer_puts(to, "\n");
            if (r < 0)
                return r;
            servers += is_server;
        }
        line += length + (line[length] == '\n');
    }
    *ret_servers = servers;
    return 0;
}

void wfe_network_addresses_read(const cJSON *result, struct wfe_network_addresses *ret)
{
    ret->count = 0;
    const cJSON *ip;
    cJSON_ArrayForEach(ip, cJSON_GetObjectItemCaseSensitive(result, "ips"))
    {
        const char *address = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(ip, "address"));
        size_t length = address ? strcspn(address, "/") : 0;
        if (length == 0 || length >= WFE_NETWORK_ADDRESS_MAX ||
            ret->count == WFE_NETWORK_ADDRESSES_MAX ||
            strspn(address, "0123456789abcdefABCDEF.:") < length)
            continue;
        memcpy(ret->text[ret->count], address, length);
        ret->text[ret->count++][length] = '\0';
    }
}

const char *wfe_network_addresses_main(const struct wfe_network_addresses *addresses)
{
    for (size_t i = 0; i < addresses->count; i++)
        if (!strchr(addresses->text[i], ':'))
            return addresses->text[i];
    return addresses->count > 0 ? addresses->text[0] : NULL;
}

int wfe_network_hosts(struct wfe_buffer *to)
{
    return wfe_buffer_puts(to, "127.0.0.1\tlocalhost\n"
                               "::1\tlocalhost ip6-localhost ip6-loopback\n"
                               "ff02::1\tip6-allnodes\n"
                               "ff02::2\tip6-allrouters\n");
}

int wfe_network_hosts_add(
    const struct wfe_network_addresses *addresses, const char *name, struct wfe_buffer *to)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < addresses->count; i++)
        r = wfe_buffer_printf(to, "%s\t%s\n", addresses->text[i], name);
    return r;
}
