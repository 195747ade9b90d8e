/* SPDX-License-Identifier: MIT */
#include "executor/daemon/address.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"

static const struct scheme {
    const char *prefix;
    enum wfe_address_kind kind;
} SCHEMES[] = {
    {"unix://", WFE_ADDRESS_UNIX},
    {"tcp://", WFE_ADDRESS_TCP},
    {"http://", WFE_ADDRESS_TCP},
    {"https://", WFE_ADDRESS_TLS},
};

/* gRPC takes the target for a URI and decodes it. */
static char *unix_target(const char *path)
{
    WFE_BUFFER struct wfe_buffer target = WFE_BUFFER_INIT(SIZE_MAX / 2);
    int r = wfe_buffer_puts(&target, "unix:");
    for (; r == 0 && *path; path++) {
        bool plain = isalnum((unsigned char)*path) || strchr("/-._~", *path);
        r = wfe_buffer_printf(&target, plain ? "%c" : "%%%02X", (unsigned char)*path);
    }
    return r == 0 ? wfe_buffer_steal(&target) : NULL;
}

static int take_path(const char *path, struct wfe_address *address, struct wfe_error *err)
{
    if (path[0] != '/')
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "containerd address 'unix://%s': the socket's path must be absolute", path);
    address->path = strdup(path);
    address->target = unix_target(path);
    return address->path && address->target ? 0 : wfe_error_nomem(err);
}

/* "host:port", "1.2.3.4:port", "[::1]:port", each with an optional "/" at the end. */
static int take_authority(
    const char *text, const char *authority, struct wfe_address *address, struct wfe_error *err)
{
    size_t length = strlen(authority);
    if (length > 0 && authority[length - 1] == '/')
        length--;
    const char *colon = memrchr(authority, ':', length);
    bool has_port = colon && colon > authority && colon + 1 < authority + length &&
                    strspn(colon + 1, "0123456789") == (size_t)(authority + length - colon - 1);
    if (!has_port || memchr(authority, '/', length))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "containerd address '%s': expected HOST:PORT after the scheme", text);
    const char *host = authority, *host_end = colon;
    if (*host == '[' && host_end[-1] == ']') {
        host++;
        host_end--;
    }
    address->host = strndup(host, (size_t)(host_end - host));
    address->port = strndup(colon + 1, (size_t)(authority + length - colon - 1));
    if (!address->host || !address->port ||
        asprintf(&address->target, "dns:///%.*s", (int)length, authority) < 0) {
        address->target = NULL;
        return wfe_error_nomem(err);
    }
    return 0;
}

static int parse(const char *text, struct wfe_address *address, struct wfe_error *err)
{
    if (text[0] == '/')
        return take_path(text, address, err);
    for (size_t i = 0; i < sizeof SCHEMES / sizeof *SCHEMES; i++) {
        size_t length = strlen(SCHEMES[i].prefix);
        if (strncmp(text, SCHEMES[i].prefix, length) != 0)
            continue;
        address->kind = SCHEMES[i].kind;
        return address->kind == WFE_ADDRESS_UNIX
                   ? take_path(text + length, address, err)
                   : take_authority(text, text + length, address, err);
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "containerd address '%s': expected /PATH, unix:///PATH, tcp://HOST:PORT, http://HOST:PORT "
        "or https://HOST:PORT",
        text);
}

int wfe_address_parse(const char *text, struct wfe_address *ret, struct wfe_error *err)
{
    struct wfe_address address = {.kind = WFE_ADDRESS_UNIX};
    int r = parse(text, &address, err);
    if (r < 0)
        wfe_address_done(&address);
    else
        *ret = address;
    return r;
}

void wfe_address_done(struct wfe_address *address)
{
    free(address->target);
    free(address->path);
    free(address->host);
    free(address->port);
    *address = (struct wfe_address){.kind = WFE_ADDRESS_UNIX};
}
