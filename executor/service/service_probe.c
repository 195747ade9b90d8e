/* SPDX-License-Identifier: MIT */
#include "executor/service/service_probe.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "executor/daemon/task.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define REQUEST_MAX 4096
#define STATUS_LINE_MAX 64
#define HTTP_OK_MIN 200
#define HTTP_OK_MAX 399

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 0 when it came to pass before `until`. */
static int await(int fd, short events, int64_t until)
{
    for (;;) {
        struct pollfd wait = {.fd = fd, .events = events};
        int64_t left = until - now_ms();
        int n = poll(&wait, 1, left > 0 ? (int)left : 0);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int connect_to(const char *address, uint16_t port, int64_t until, int *ret)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(address, service, &hints, &found) != 0)
        return -EADDRNOTAVAIL;
    WFE_CLOSE int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = fd < 0 ? -errno : 0;
    if (r == 0 && connect(fd, found->ai_addr, found->ai_addrlen) < 0)
        r = errno == EINPROGRESS ? await(fd, POLLOUT, until) : -errno;
    freeaddrinfo(found);
    if (r < 0)
        return r;
    int failure = 0;
    socklen_t length = sizeof failure;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length) < 0)
        return -errno;
    if (failure)
        return -failure;
    *ret = wfe_steal_fd(&fd);
    return 0;
}

bool wfe_probe_tcp(
    const char *address, uint16_t port, int64_t limit_ms, char reason[static WFE_PROBE_REASON_MAX])
{
    WFE_CLOSE int fd = -1;
    int r = connect_to(address, port, now_ms() + limit_ms, &fd);
    if (r < 0)
        snprintf(reason, WFE_PROBE_REASON_MAX, "port %u: %s", port, strerror(-r));
    return r == 0;
}

/* The answer's first bytes. */
static int ask(int fd, const char *request, int64_t until, char line[static STATUS_LINE_MAX])
{
    int r = wfe_write_all(fd, request, strlen(request));
    size_t length = 0;
    while (r == 0 && length < STATUS_LINE_MAX - 1) {
        r = await(fd, POLLIN, until);
        ssize_t n = r == 0 ? recv(fd, line + length, STATUS_LINE_MAX - 1 - length, 0) : 0;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            r = -errno;
        if (n == 0)
            break;
        length += n > 0 ? (size_t)n : 0;
    }
    line[length] = '\0';
    return r;
}

bool wfe_probe_http(const char *address, uint16_t port, const char *path, int64_t limit_ms,
    char reason[static WFE_PROBE_REASON_MAX])
{
    int64_t until = now_ms() + limit_ms;
    bool is_ipv6 = strchr(address, ':') != NULL;
    char request[REQUEST_MAX], line[STATUS_LINE_MAX] = "";
    WFE_CLOSE int fd = -1;
    int length = snprintf(request, sizeof request,
        "GET %s HTTP/1.0\r\nHost: %s%s%s:%u\r\nUser-Agent: wfe-containerd\r\n\r\n", path,
        is_ipv6 ? "[" : "", address, is_ipv6 ? "]" : "", port);
    int r = length < REQUEST_MAX ? connect_to(address, port, until, &fd) : -ENAMETOOLONG;
    if (r == 0)
        r = ask(fd, request, until, line);
    int status = 0;
    if (sscanf(line, "HTTP/%*u.%*u %3d", &status) == 1) {
        snprintf(reason, WFE_PROBE_REASON_MAX, "port %u: HTTP status %d", port, status);
        return status >= HTTP_OK_MIN && status <= HTTP_OK_MAX;
    }
    snprintf(reason, WFE_PROBE_REASON_MAX, "port %u: %s", port,
        r < 0 ? strerror(-r) : "the answer is no HTTP");
    return false;
}

static int probe_exec(const struct wfe_session *session, const char *id, char *const *command,
    const cJSON *process, unsigned number, int64_t limit_ms,
    char reason[static WFE_PROBE_REASON_MAX])
{
    char exec_id[32];
    snprintf(exec_id, sizeof exec_id, "probe-%u", number);
    int count = 0;
    while (command[count])
        count++;
    WFE_JSON cJSON *own = cJSON_Duplicate(process, true);
    cJSON *args = cJSON_CreateStringArray((const char *const *)command, count);
    if (!own || !args || !cJSON_ReplaceItemInObjectCaseSensitive(own, "args", args)) {
        cJSON_Delete(args);
        return -ENOMEM;
    }
    struct wfe_error err = WFE_ERROR_INIT;
    uint32_t status = 0;
    int r = wfe_task_exec(session, id, exec_id, own, limit_ms, &status, &err);
    if (r == -ECANCELED || r == -ENOMEM)
        return r;
    if (r < 0)
        snprintf(reason, WFE_PROBE_REASON_MAX, "%.255s", err.message);
    else
        snprintf(reason, WFE_PROBE_REASON_MAX, "'%.100s' exited with code %u", command[0],
            (unsigned)status);
    return r == 0 && status == 0;
}

int wfe_probe_try(const struct wfe_session *session, const char *id, const char *address,
    const struct wfe_service_probe *probe, const cJSON *process, unsigned number, int64_t limit_ms,
    char reason[static WFE_PROBE_REASON_MAX])
{
    switch (probe->kind) {
    case WFE_PROBE_TCP:
        return wfe_probe_tcp(address, probe->port, limit_ms, reason);
    case WFE_PROBE_HTTP:
        return wfe_probe_http(address, probe->port, probe->path, limit_ms, reason);
    case WFE_PROBE_EXEC:
        return probe_exec(session, id, probe->exec, process, number, limit_ms, reason);
    case WFE_PROBE_NONE:
        break;
    }
    return 1;
}
