/* SPDX-License-Identifier: MIT */
#include "executor/spec/capabilities.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* At the kernel's numbers, linux/capability.h. */
static const char *const NAMES[WFE_CAPABILITY_COUNT] = {"CAP_CHOWN", "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"};

const char *wfe_capability_name(unsigned number)
{
    assert(number < WFE_CAPABILITY_COUNT);
    return NAMES[number];
}

bool wfe_capability_parse(const char *text, uint64_t *ret)
{
    static const char prefix[] = "CAP_";
    size_t prefix_length = sizeof prefix - 1;
    if (strcasecmp(text, "ALL") == 0) {
        *ret = WFE_CAPABILITIES_ALL;
        return true;
    }
    if (strncasecmp(text, prefix, prefix_length) == 0)
        text += prefix_length;
    for (unsigned i = 0; i < WFE_CAPABILITY_COUNT; i++) {
        if (strcasecmp(text, NAMES[i] + prefix_length) == 0) {
            *ret = WFE_CAPABILITY(i);
            return true;
        }
    }
    return false;
}

uint64_t wfe_capabilities_resolve(uint64_t add, uint64_t drop)
{
    if (add == WFE_CAPABILITIES_ALL)
        return add & ~drop;
    return (WFE_CAPABILITIES_DEFAULT & ~drop) | add;
}
