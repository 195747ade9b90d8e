/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SECCOMP_H
#define WFE_EXECUTOR_SECCOMP_H

/*
 * The system calls that a step may make: the default profile of containerd and docker as the
 * `linux.seccomp` part of a runtime spec (runtime-spec, config-linux.md, "Seccomp").
 *
 * What is not named fails with EPERM. Each capability of the bounding set adds the calls that it
 * guards. Without CAP_SYS_ADMIN, clone(2) makes no namespaces, and clone3(2), whose flags no filter
 * can see, is ENOSYS, which makes C libraries fall back on clone(2). Names that the runtime's
 * libseccomp does not know yet are passed over by it.
 *
 * Sockets of the families AF_ALG and AF_VSOCK are refused in socket(2). They are not in 32-bit
 * socketcall(2), whose arguments no filter can see, and which old 32-bit programs need.
 *
 * Pure. Threads: calls are independent.
 */

#include <stdint.h>

#include <cjson/cJSON.h>

/*
 * The profile for the daemon's architecture (OCI's name: "amd64"; of one that isn't known only the
 * runtime's own is allowed) and a bounding set (executor/spec/capabilities.h). The caller deletes
 * it; NULL when memory ran out.
 */
cJSON *wfe_seccomp_default(const char *architecture, uint64_t bounding);

#endif
