/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_CAPABILITIES_H
#define WFE_EXECUTOR_CAPABILITIES_H

/*
 * Linux capabilities (capabilities(7)) by name, and the set that a step's container has: a bit for
 * each, at the kernel's number.
 *
 * Pure. Threads: calls are independent.
 */

#include <stdbool.h>
#include <stdint.h>

#define WFE_CAPABILITY_COUNT 41

#define WFE_CAPABILITY(number) (UINT64_C(1) << (number))
#define WFE_CAPABILITIES_ALL (WFE_CAPABILITY(WFE_CAPABILITY_COUNT) - 1)

/* What containerd and docker give a container: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID
 * SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP. */
#define WFE_CAPABILITIES_DEFAULT UINT64_C(0xA80425FB)

/* "CAP_CHOWN" of a number below WFE_CAPABILITY_COUNT. */
const char *wfe_capability_name(unsigned number);

/* A name, with or without CAP_, in either case; ALL is each of them. False: there is none. */
bool wfe_capability_parse(const char *text, uint64_t *ret);

/*
 * The set after cap_add and cap_drop, as docker has it: an added one stays although it is dropped;
 * of ALL on one side, what the other side names is the exception. Both sides ALL is none at all.
 */
uint64_t wfe_capabilities_resolve(uint64_t add, uint64_t drop);

#endif
