/* SPDX-License-Identifier: MIT */

/*
 * Any bytes as one of the short texts that users and other programs write: digests, names of
 * artifacts, addresses, owners, durations, sizes, processors, ports. The first byte says which.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "executor/daemon/address.h"
#include "executor/owner.h"
#include "executor/step/step.h"
#include "libcommon/cleanup.h"
#include "libcommon/digest.h"
#include "libcommon/store.h"
#include "libcommon/store_layout.h"
#include "libcommon/units.h"
#include "libcommon/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

/* A digest may become a path. */
static void digest(const char *text)
{
    struct wfe_digest digest;
    if (wfe_digest_parse(text, &digest) == 0) {
        expect(strcmp(digest.text, text) == 0);
        expect(strspn(wfe_digest_hex(&digest), "0123456789abcdef") == WFE_DIGEST_HEX_LENGTH);
    }
    if (wfe_store_parse_file_name(text, ".json", &digest) == 0)
        expect(strcmp(wfe_store_meta_path(&digest).text + strlen(WFE_STORE_META "/"), text) == 0);
}

/* A name may become one component of a path. */
static void name(const char *text)
{
    char suggested[256];
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_store_check_name(text, &err) < 0)
        expect(err.kind == WFE_ERROR_INPUT && *err.message);
    else
        expect(*text && !strchr(text, '/') && strcmp(text, ".") != 0 && strcmp(text, "..") != 0 &&
               wfe_utf8_span(text, strlen(text)) == strlen(text));
    if (wfe_store_suggest_name(text, suggested) == 0)
        expect(wfe_store_check_name(suggested, NULL) == 0);
}

static void address(const char *text)
{
    struct wfe_address address;
    struct wfe_error err = WFE_ERROR_INIT;
    if (wfe_address_parse(text, &address, &err) < 0) {
        expect(err.kind == WFE_ERROR_INPUT && *err.message);
        return;
    }
    expect(address.target && (address.kind == WFE_ADDRESS_UNIX) == (address.path != NULL));
    expect((address.kind == WFE_ADDRESS_UNIX) == (address.host == NULL));
    wfe_address_done(&address);
}

/* Nobody is taken for alive but by an owner's own text. */
static void owner(const char *text)
{
    char self[WFE_OWNER_TEXT_MAX];
    expect(wfe_owner_self(self) == 0 && wfe_owner_judge(self) == WFE_OWNER_ALIVE);
    size_t host = strcspn(self, " ");
    expect(wfe_owner_judge(text) == WFE_OWNER_UNKNOWN || strspn(text, " \t\n\v\f\r") > 0 ||
           strncmp(text, self, host) == 0);
}

static void units(const char *text)
{
    uint64_t value;
    uint32_t millis;
    if (wfe_duration_parse(text, &value) == 0)
        expect(value <= INT64_MAX / 1000000);
    if (wfe_size_parse(text, &value) == 0)
        expect(value <= INT64_MAX);
    (void)wfe_cpu_parse(text, &millis);
}

static void port(const char *text)
{
    struct wfe_step_port port;
    if (wfe_port_parse(text, &port) == 0)
        expect(port.host_port > 0 && port.container_port > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(const char *) = {digest, name, address, owner, units, port};
    if (size == 0)
        return 0;
    WFE_FREE char *text = malloc(size);
    expect(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    readers[data[0] % (sizeof readers / sizeof *readers)](text);
    return 0;
}
