/* SPDX-License-Identifier: MIT */
#include "executor/tests/step_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>

#include "executor/service/service_data.h"
#include "executor/service/service_log.h"
#include "executor/service/service_probe.h"
#include "executor/service/services.h"
#include "libcommon/file.h"

#define STEPS "  steps: [{name: s, type: containerd, config: {image: a}}]\n"

static void services_are_read(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("workflow:\n"
                               "  services:\n"
                               "    db: {image: postgres, ports: [5432, 5433], env: {A: b},\n"
                               "         memory: 64m, cpu: 0.5, command: [run], args: [-x, 1]}\n"
                               "    web-1:\n"
                               "      image: httpd\n"
                               "      readiness: {http: {port: 80, path: /up}, interval: 1s,\n"
                               "                  timeout: 2m, retries: 3}\n"
                               "    worker: {image: w, readiness: {exec: [test, -e, /x],\n"
                               "             tcp: 9}}\n"
                               "    plain: {image: p, readiness: {tcp: {port: 7}}}\n" STEPS);
    assert_int_equal(workflow->service_count, 4);
    const struct wfe_service *db = &workflow->services[0];
    assert_string_equal(db->name, "db");
    assert_string_equal(db->config.image, "postgres");
    assert_string_equal(db->config.user, "0:0");
    assert_int_equal(db->config.network, WFE_NETWORK_HOST);
    assert_string_equal(db->config.env[0].value, "b");
    assert_int_equal(db->config.memory_bytes, 64 * 1024 * 1024);
    assert_int_equal(db->config.cpu_millis, 500);
    assert_string_equal(db->command[0], "run");
    assert_string_equal(db->args[1], "1");
    assert_int_equal(db->port_count, 2);
    assert_int_equal(db->probe.kind, WFE_PROBE_TCP);
    assert_int_equal(db->probe.port, 5432);
    assert_int_equal(db->probe.interval_ms, 5000);
    assert_int_equal(db->probe.timeout_ms, 60000);
    assert_int_equal(db->probe.retries, 12);
    const struct wfe_service_probe *http = &workflow->services[1].probe;
    assert_int_equal(http->kind, WFE_PROBE_HTTP);
    assert_string_equal(http->path, "/up");
    assert_int_equal(http->interval_ms, 1000);
    assert_int_equal(http->timeout_ms, 120000);
    assert_int_equal(http->retries, 3);
    assert_int_equal(workflow->services[2].probe.kind, WFE_PROBE_EXEC);
    assert_string_equal(workflow->services[2].probe.exec[2], "/x");
    assert_int_equal(workflow->services[3].probe.port, 7);
}

static void wrong_services_are_refused(void **context)
{
    (void)context;
    assert_refused("workflow:\n  services: {db: {ports: [5432]}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.db.image: found nothing; allowed: an image reference (it is "
        "required)");
    assert_refused("workflow:\n  services: {db: {image: a}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.db.readiness: found nothing, and no TCP port either; allowed: "
        "exec, tcp or "
        "http, or a port");
    assert_refused("workflow:\n  services: {db: {image: a, ports: [0]}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.db.ports[0]: found 0; allowed: a port, 1 to 65535");
    assert_refused("workflow:\n  services: {-a: {image: a, ports: [1]}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.-a: found '-a'; allowed: a name of its own, of at most 60 "
        "letters and "
        "digits with '.', '_' or '-' between them");
    assert_refused("workflow:\n  services: {a: {image: a, ports: [1], user: x}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.a.user: found an unknown key; allowed: image, network, ports, "
        "env, readiness, "
        "memory, cpu, command, args");
    assert_refused(
        "workflow:\n  services: {a: {image: a, readiness: {http: {port: 1, path: x}}}}\n" STEPS,
        NULL,
        "s.yaml:2: workflow.services.a.readiness.http.path: found 'x'; allowed: a path that begins "
        "with '/',"
        " without blanks");
}

static void an_id_is_one_that_containerd_takes(void **context)
{
    (void)context;
    char id[WFE_SERVICE_ID_MAX];
    assert_int_equal(wfe_service_id("db", "17", id), 0);
    assert_string_equal(id, "wfe-svc-db-17");
    static const char *const wrong[] = {"", "-1", "a..b", "a/b", "a ", "a-", "\xc3\xa4",
        "0123456789012345678901234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(wfe_service_id("db", wrong[i], id), -EINVAL);
}

static void data_tell_where_services_are(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("workflow:\n"
                               "  services:\n"
                               "    db: {image: a, ports: [5432, 5433]}\n"
                               "    job: {image: a, readiness: {exec: [x]}}\n" STEPS);
    static const char *const addresses[] = {NULL, "10.213.0.2"};
    WFE_JSON cJSON *data =
        wfe_service_data(workflow->services, addresses, workflow->service_count, "17");
    WFE_JSON cJSON *expected = cJSON_Parse(
        "{\"SVC_DB_HOST\":\"127.0.0.1\",\"SVC_DB_PORT\":5432,\"SVC_JOB_HOST\":\"10.213.0.2\","
        "\"services\":{\"db\":{\"host\":\"127.0.0.1\",\"ports\":[5432,5433]},"
        "\"job\":{\"host\":\"10.213.0.2\",\"ports\":[],\"workflow\":\"17\"}}}");
    assert_true(cJSON_Compare(data, expected, true));
    assert_string_equal(wfe_service_data_workflow(data), "17");
}

static void a_step_on_a_bridge_finds_the_hosts_services_at_its_gateway(void **context)
{
    (void)context;
    WFE_JSON cJSON *data = cJSON_Parse(
        "{\"SVC_DB_HOST\":\"127.0.0.1\",\"SVC_JOB_HOST\":\"10.213.0.2\",\"services\":{"
        "\"db\":{\"host\":\"127.0.0.1\"},\"job\":{\"host\":\"10.213.0.2\"},\"odd\":7}}");
    WFE_JSON cJSON *expected = cJSON_Parse(
        "{\"SVC_DB_HOST\":\"10.213.0.1\",\"SVC_JOB_HOST\":\"10.213.0.2\",\"services\":{"
        "\"db\":{\"host\":\"10.213.0.1\"},\"job\":{\"host\":\"10.213.0.2\"},\"odd\":7}}");
    WFE_JSON cJSON *behind = wfe_service_data_behind(data, "10.213.0.1");
    assert_true(cJSON_Compare(behind, expected, true));
    assert_null(wfe_service_data_workflow(data));
}

static void services_on_a_bridge_may_publish_ports(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("workflow:\n"
                               "  services:\n"
                               "    db: {image: a, network: bridge,\n"
                               "         ports: [53/udp, 5432, \"127.0.0.1:8080:80\"]}\n" STEPS);
    const struct wfe_service *db = &workflow->services[0];
    assert_int_equal(db->config.network, WFE_NETWORK_BRIDGE);
    assert_int_equal(db->port_count, 3);
    assert_int_equal(db->ports[0], 53);
    assert_int_equal(db->ports[2], 80);
    assert_int_equal(db->probe.port, 5432);
    assert_int_equal(db->config.port_count, 1);
    assert_int_equal(db->config.ports[0].host_port, 8080);
    assert_int_equal(db->config.ports[0].container_port, 80);
    assert_refused("workflow:\n  services: {db: {image: a, network: none, ports: [1]}}\n" STEPS,
        NULL, "s.yaml:2: workflow.services.db.network: found 'none'; allowed: host, bridge");
    assert_refused("workflow:\n  services: {db: {image: a, ports: [\"1:2\"]}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.db.ports[0]: found '1:2'; allowed: a port, 1 to 65535");
    assert_refused(
        "workflow:\n  services: {db: {image: a, network: bridge, ports: [53/udp]}}\n" STEPS, NULL,
        "s.yaml:2: workflow.services.db.readiness: found nothing, and no TCP port either; allowed: "
        "exec, tcp or http, or a port");
    assert_refused("workflow:\n  services: {db: {image: a, network: bridge, ports: [\"1:2\", "
                   "\"1:3\"]}}\n" STEPS,
        NULL,
        "s.yaml:2: workflow.services.db.ports[1]: found '1:3'; allowed: each of the host's ports "
        "once");
}

/* A server that answers one connection with `answer`; NULL: never. */
struct server {
    int fd;
    uint16_t port;
    const char *answer;
};

static void open_server(struct server *server, const char *answer)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    server->answer = answer;
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->fd, 1), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &length), 0);
    server->port = ntohs(address.sin_port);
}

static void *serve(void *context)
{
    const struct server *server = context;
    WFE_CLOSE int fd = accept(server->fd, NULL, NULL);
    char request[1024];
    if (recv(fd, request, sizeof request, 0) > 0)
        (void)!write(fd, server->answer, strlen(server->answer));
    return NULL;
}

static bool http_is_ready(const char *answer, char reason[static WFE_PROBE_REASON_MAX])
{
    struct server server;
    pthread_t thread;
    open_server(&server, answer);
    assert_int_equal(pthread_create(&thread, NULL, serve, &server), 0);
    bool ready = wfe_probe_http("127.0.0.1", server.port, "/", 5000, reason);
    pthread_join(thread, NULL);
    close(server.fd);
    return ready;
}

static void a_good_http_status_is_ready(void **context)
{
    (void)context;
    char reason[WFE_PROBE_REASON_MAX];
    assert_true(http_is_ready("HTTP/1.1 200 OK\r\n\r\n", reason));
    assert_true(http_is_ready("HTTP/1.0 302 Found\r\n\r\n", reason));
    assert_false(http_is_ready("HTTP/1.1 503 Unavailable\r\n\r\n", reason));
    assert_non_null(strstr(reason, "HTTP status 503"));
    assert_false(http_is_ready("SSH-2.0-x\r\n", reason));
    assert_non_null(strstr(reason, "no HTTP"));
}

static void a_port_where_nobody_listens_is_not_ready(void **context)
{
    (void)context;
    struct server server;
    char reason[WFE_PROBE_REASON_MAX];
    open_server(&server, NULL);
    assert_true(wfe_probe_tcp("127.0.0.1", server.port, 5000, reason));
    close(server.fd);
    assert_false(wfe_probe_tcp("127.0.0.1", server.port, 5000, reason));
    assert_non_null(strstr(reason, "Connection refused"));
}

static void a_server_that_says_nothing_is_not_waited_for(void **context)
{
    (void)context;
    struct server server;
    char reason[WFE_PROBE_REASON_MAX];
    open_server(&server, NULL);
    assert_false(wfe_probe_http("127.0.0.1", server.port, "/", 50, reason));
    assert_non_null(strstr(reason, "timed out"));
    close(server.fd);
}

#define LOG_BYTES (128 * 1024)
#define LOG_LINES 200000

static void *write_lines(void *context)
{
    FILE *stream = fdopen(*(int *)context, "w");
    for (int i = 0; i < LOG_LINES; i++)
        fprintf(stream, "line %d\n", i);
    fclose(stream);
    return NULL;
}

static int read_lines(const char *directory, const char *name, int *next)
{
    WFE_FREE char *path = wfe_path_join(directory, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    int line, count = 0;
    for (; fscanf(file, "line %d\n", &line) == 1; count++) {
        assert_true(*next < 0 || line == *next);
        *next = line + 1;
    }
    assert_true(feof(file));
    assert_in_range(ftell(file), 0, LOG_BYTES + 64 * 1024);
    fclose(file);
    return count;
}

static void a_log_keeps_its_last_lines_and_no_more(void **context)
{
    (void)context;
    char directory[] = "/tmp/wfe-test-log-XXXXXX";
    assert_non_null(mkdtemp(directory));
    WFE_FREE char *path = wfe_path_join(directory, "log");
    int fds[2], ready[2];
    pthread_t thread;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_lines, &fds[1]), 0);
    wfe_service_log_copy(fds, 1, path, LOG_BYTES, ready[1]);
    pthread_join(thread, NULL);
    assert_int_equal(read(ready[0], &(char){0}, 1), 0);
    int next = -1;
    int count = read_lines(directory, "log.1", &next);
    count += read_lines(directory, "log", &next);
    assert_int_equal(next, LOG_LINES);
    assert_in_range(count, LOG_BYTES / 12, LOG_LINES / 4);
    WFE_FREE char *tail = wfe_service_log_tail(directory);
    assert_string_equal(tail, "line 199996\nline 199997\nline 199998\nline 199999");
    close(fds[0]);
    close(ready[0]);
    assert_int_equal(wfe_remove_tree(directory), 0);
}

static void a_tail_reaches_into_the_log_before(void **context)
{
    (void)context;
    char directory[] = "/tmp/wfe-test-log-XXXXXX";
    assert_non_null(mkdtemp(directory));
    WFE_FREE char *none = wfe_service_log_tail(directory);
    assert_string_equal(none, "");
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(wfe_replace_file(fd, "log.1", "a\nb\nc\nd\n", 8, 0600), 0);
    assert_int_equal(wfe_replace_file(fd, "log", "e\n", 2, 0600), 0);
    close(fd);
    WFE_FREE char *tail = wfe_service_log_tail(directory);
    assert_string_equal(tail, "b\nc\nd\ne");
    assert_int_equal(wfe_remove_tree(directory), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(services_are_read),
        cmocka_unit_test(wrong_services_are_refused),
        cmocka_unit_test(an_id_is_one_that_containerd_takes),
        cmocka_unit_test(data_tell_where_services_are),
        cmocka_unit_test(a_step_on_a_bridge_finds_the_hosts_services_at_its_gateway),
        cmocka_unit_test(services_on_a_bridge_may_publish_ports),
        cmocka_unit_test(a_log_keeps_its_last_lines_and_no_more),
        cmocka_unit_test(a_tail_reaches_into_the_log_before),
        cmocka_unit_test(a_good_http_status_is_ready),
        cmocka_unit_test(a_port_where_nobody_listens_is_not_ready),
        cmocka_unit_test(a_server_that_says_nothing_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
