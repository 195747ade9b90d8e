/* SPDX-License-Identifier: MIT */
#include "executor/tests/step_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "libcommon/buffer.h"
#include "libcommon/file.h"

static const struct wfe_step_config *only_config(const struct wfe_workflow *workflow)
{
    assert_int_equal(workflow->step_count, 1);
    return &workflow->steps[0].config;
}

static void a_minimal_config_has_the_references_defaults(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("image: alpine:3.18\nrun: echo hello\n");
    const struct wfe_step_config *config = only_config(workflow);
    assert_null(workflow->id);
    assert_null(workflow->steps[0].name);
    assert_int_equal(cJSON_GetArraySize(workflow->data), 0);
    assert_string_equal(config->image, "alpine:3.18");
    assert_string_equal(config->run, "echo hello");
    assert_null(config->command);
    assert_int_equal(config->env_count, 0);
    assert_int_equal(config->volume_count, 0);
    assert_null(config->working_dir);
    assert_string_equal(config->user, "65534:65534");
    assert_int_equal(config->network, WFE_NETWORK_NONE);
    assert_int_equal(config->memory_bytes, 0);
    assert_int_equal(config->cpu_millis, 0);
    assert_int_equal(config->pull, WFE_PULL_IF_NOT_PRESENT);
    assert_null(config->containerd_addr);
    assert_string_equal(WFE_STEP_DEFAULT_ADDRESS, "/run/containerd/containerd.sock");
    assert_null(config->cli);
    assert_null(config->tls_ca);
    assert_int_equal(config->registry_auth_count, 0);
    assert_int_equal(config->input_count, 0);
    assert_int_equal(config->timeout_ms, 0);
    assert_int_equal(config->output_limit_bytes, 4 * 1024 * 1024);
    assert_int_equal(config->grace_ms, 10000);
    assert_int_equal(config->seccomp, WFE_PROFILE_DEFAULT);
    assert_int_equal(config->apparmor, WFE_PROFILE_DEFAULT);
    assert_int_equal(config->cap_add, 0);
    assert_int_equal(config->cap_drop, 0);
    assert_false(config->read_only);
    assert_false(config->new_privileges);
    assert_int_equal(config->pids, 0);
    assert_int_equal(config->nofile, 0);
    assert_int_equal(config->shm_bytes, 0);
}

static void every_field_is_read(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("name: build\n"
                               "type: containerd\n"
                               "config:\n"
                               "  image: ghcr.io/a/b@sha256:00\n"
                               "  command: [sleep, 5, -x, '', true, 1.10]\n"
                               "  env: {A: b, N: 1.10, T: true, E: '', M: \"x\\ny\"}\n"
                               "  volumes:\n"
                               "    - {source: /src, target: /dst/}\n"
                               "    - {source: /s/../t, target: //a/./b, readonly: true}\n"
                               "  working_dir: /app\n"
                               "  user: 1000\n"
                               "  network: bridge\n"
                               "  memory: 512m\n"
                               "  cpu: 0.5\n"
                               "  pull: never\n"
                               "  containerd_addr: tcp://host:1\n"
                               "  cli: docker\n"
                               "  tls: {ca: /ca, cert: /cert, key: /key}\n"
                               "  registry_auth: {ghcr.io: {username: me, password: 1234}}\n"
                               "  inputs: {b_2: /in/b, a.x-1: /in}\n"
                               "  timeout: 5m\n"
                               "  output_limit: 64Ki\n"
                               "  grace: 0\n"
                               "  seccomp: unconfined\n"
                               "  apparmor: unconfined\n"
                               "  cap_add: [CAP_SYS_ADMIN, net_admin]\n"
                               "  cap_drop: [ALL]\n"
                               "  read_only: true\n"
                               "  no_new_privileges: false\n"
                               "  pids: 64\n"
                               "  nofile: 4096\n"
                               "  shm_size: 1g\n"
                               "inputs: [{name: x, path: y}]\n"
                               "outputs: [{name: x, json_path: y}]\n");
    const struct wfe_step_config *config = only_config(workflow);
    assert_string_equal(workflow->steps[0].name, "build");
    assert_string_equal(config->image, "ghcr.io/a/b@sha256:00");
    static const char *const words[] = {"sleep", "5", "-x", "", "true", "1.10"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        assert_string_equal(config->command[i], words[i]);
    assert_null(config->command[6]);
    static const struct wfe_step_pair env[] = {{(char *)"A", (char *)"b"},
        {(char *)"N", (char *)"1.10"}, {(char *)"T", (char *)"true"}, {(char *)"E", (char *)""},
        {(char *)"M", (char *)"x\ny"}};
    assert_int_equal(config->env_count, 5);
    for (size_t i = 0; i < config->env_count; i++) {
        assert_string_equal(config->env[i].name, env[i].name);
        assert_string_equal(config->env[i].value, env[i].value);
    }
    assert_int_equal(config->volume_count, 2);
    assert_string_equal(config->volumes[0].source, "/src");
    assert_string_equal(config->volumes[0].target, "/dst");
    assert_false(config->volumes[0].readonly);
    assert_string_equal(config->volumes[1].source, "/s/../t");
    assert_string_equal(config->volumes[1].target, "/a/b");
    assert_true(config->volumes[1].readonly);
    assert_string_equal(config->working_dir, "/app");
    assert_string_equal(config->user, "1000");
    assert_int_equal(config->network, WFE_NETWORK_BRIDGE);
    assert_int_equal(config->memory_bytes, 512 * 1024 * 1024);
    assert_int_equal(config->cpu_millis, 500);
    assert_int_equal(config->pull, WFE_PULL_NEVER);
    assert_string_equal(config->containerd_addr, "tcp://host:1");
    assert_string_equal(config->cli, "docker");
    assert_string_equal(config->tls_ca, "/ca");
    assert_string_equal(config->tls_cert, "/cert");
    assert_string_equal(config->tls_key, "/key");
    assert_int_equal(config->registry_auth_count, 1);
    assert_string_equal(config->registry_auth[0].host, "ghcr.io");
    assert_string_equal(config->registry_auth[0].username, "me");
    assert_string_equal(config->registry_auth[0].password, "1234");
    assert_int_equal(config->input_count, 2);
    assert_string_equal(config->inputs[0].name, "b_2");
    assert_string_equal(config->inputs[0].value, "/in/b");
    assert_string_equal(config->inputs[1].name, "a.x-1");
    assert_string_equal(config->inputs[1].value, "/in");
    assert_int_equal(config->timeout_ms, 300000);
    assert_int_equal(config->output_limit_bytes, 65536);
    assert_int_equal(config->grace_ms, 0);
    assert_int_equal(config->seccomp, WFE_PROFILE_UNCONFINED);
    assert_int_equal(config->apparmor, WFE_PROFILE_UNCONFINED);
    assert_int_equal(config->cap_add, UINT64_C(1) << 21 | UINT64_C(1) << 12);
    assert_int_equal(config->cap_drop, (UINT64_C(1) << 41) - 1);
    assert_true(config->read_only);
    assert_true(config->new_privileges);
    assert_int_equal(config->pids, 64);
    assert_int_equal(config->nofile, 4096);
    assert_int_equal(config->shm_bytes, 1024 * 1024 * 1024);
}

static void a_volume_has_its_types_fields(void **context)
{
    (void)context;
    WORKFLOW *workflow =
        parse("image: a\n"
              "volumes:\n"
              "  - {source: /s, target: /a, rbind: false, propagation: rslave}\n"
              "  - {type: bind, source: /s, target: /b, rbind: true}\n"
              "  - {type: tmpfs, target: /c, size: 16m, mode: 0750, readonly: true}\n"
              "  - {type: tmpfs, target: /d, source: ~, size: ~, mode: '1777'}\n");
    const struct wfe_step_config *config = only_config(workflow);
    const struct wfe_step_volume *volumes = config->volumes;
    assert_int_equal(config->volume_count, 4);
    assert_int_equal(volumes[0].type, WFE_VOLUME_BIND);
    assert_true(volumes[0].shallow);
    assert_int_equal(volumes[0].propagation, WFE_PROPAGATION_RSLAVE);
    assert_false(volumes[1].shallow);
    assert_int_equal(volumes[1].propagation, WFE_PROPAGATION_RPRIVATE);
    assert_int_equal(volumes[2].type, WFE_VOLUME_TMPFS);
    assert_null(volumes[2].source);
    assert_int_equal(volumes[2].size_bytes, 16 * 1024 * 1024);
    assert_int_equal(volumes[2].mode, 0750);
    assert_true(volumes[2].readonly);
    assert_int_equal(volumes[3].size_bytes, 0);
    assert_int_equal(volumes[3].mode, 01777);
}

static void ports_are_published_with_a_bridge(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("{image: a, network: bridge, ports: [80, \"8080:81/tcp\","
                               " \"127.0.0.1:53:5353/udp\"]}");
    const struct wfe_step_config *config = only_config(workflow);
    assert_int_equal(config->port_count, 3);
    assert_int_equal(config->ports[0].host_port, 80);
    assert_int_equal(config->ports[0].container_port, 80);
    assert_int_equal(config->ports[0].host_address.s_addr, 0);
    assert_int_equal(config->ports[1].host_port, 8080);
    assert_int_equal(config->ports[1].container_port, 81);
    assert_false(config->ports[1].udp);
    assert_int_equal(config->ports[2].host_port, 53);
    assert_int_equal(config->ports[2].host_address.s_addr, htonl(INADDR_LOOPBACK));
    assert_true(config->ports[2].udp);
}

static void wrong_ports_are_refused(void **context)
{
    (void)context;
    static const char *const wrong[] = {"0", "65536", "80:", ":80", "a:80", "80/sctp", "1-2:3-4",
        "1.2.3.4.5:80:80", "1:2:3:4", "80:80/", "099999", "-1", "[::1]:80:80"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct wfe_step_port port;
        assert_int_equal(wfe_port_parse(wrong[i], &port), -EINVAL);
    }
    assert_refused("{image: a, network: bridge, ports: [x]}", NULL,
        "s.yaml:1: ports[0]: found 'x'; allowed: a port such as 80, 8080:80, 127.0.0.1:8080:80, "
        "each"
        " also with /tcp or /udp behind it");
    assert_refused("{image: a, network: bridge, ports: ['1:80', '127.0.0.1:1:81']}", NULL,
        "s.yaml:1: ports[1]: found '127.0.0.1:1:81'; allowed: each of the host's ports once");
    assert_refused("{image: a, ports: [80]}", NULL,
        "s.yaml:1: ports: found without 'network: bridge'; allowed: only with it");
}

static void a_json_config_is_read_like_a_yaml_one(void **context)
{
    (void)context;
    WORKFLOW *workflow =
        parse("{\n\t\"image\": \"busybox\",\n\t\"command\": [\"\\/bin\\/echo\"],\n"
              "\t\"timeout_ms\": 1500,\n\t\"env\": {\"A\": \"\\ud83d\\ude00\"}\n}\n");
    const struct wfe_step_config *config = only_config(workflow);
    assert_string_equal(config->command[0], "/bin/echo");
    assert_string_equal(config->env[0].value, "😀");
    assert_int_equal(config->timeout_ms, 1500);
}

static void a_null_field_is_not_given(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse(
        "{image: a, command: ~, run: ~, env: {A: ~, B: x}, volumes: ~, working_dir: ~,"
        " user: ~, network: ~, memory: ~, cpu: ~, pull: ~, containerd_addr: ~, cli: ~,"
        " tls: {ca: ~}, registry_auth: {h: ~}, inputs: {x: ~, y: /y}, timeout_ms: ~,"
        " timeout: 1s, output_limit: ~, grace: ~, seccomp: ~, apparmor: ~, cap_add: ~, cap_drop: ~,"
        " read_only: ~, no_new_privileges: ~, pids: ~, nofile: ~, shm_size: ~}");
    const struct wfe_step_config *config = only_config(workflow);
    assert_null(config->command);
    assert_null(config->run);
    assert_int_equal(config->env_count, 2);
    assert_string_equal(config->env[0].name, "A");
    assert_null(config->env[0].value);
    assert_string_equal(config->env[1].name, "B");
    assert_string_equal(config->user, "65534:65534");
    assert_int_equal(config->registry_auth_count, 0);
    assert_int_equal(config->input_count, 1);
    assert_int_equal(config->timeout_ms, 1000);
    assert_int_equal(config->grace_ms, 10000);
}

static void a_timeout_of_zero_is_refused(void **context)
{
    (void)context;
    assert_refused("{image: a, timeout: 0}", NULL,
        "s.yaml:1: timeout: found 0; allowed: at least 1ms (leave it out for no limit)");
}

static void too_many_inputs_are_refused(void **context)
{
    (void)context;
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(65536);
    wfe_buffer_puts(&text, "image: a\ninputs:\n");
    for (int i = 0; i < 257; i++)
        wfe_buffer_printf(&text, "  a%d: /a%d\n", i, i);
    assert_refused(text.data, NULL, "s.yaml:3: inputs: found 257 of them; allowed: 256");
}

static void a_workflows_containerd_steps_are_taken_in_order(void **context)
{
    (void)context;
    struct wfe_problems warnings = WFE_PROBLEMS_INIT;
    WORKFLOW *workflow = parse_with("_base: &base\n"
                                    "  image: base\n"
                                    "  env: {A: 1}\n"
                                    "workflow:\n"
                                    "  id: wf\n"
                                    "  version: 1\n"
                                    "  color: blue\n"
                                    "  steps:\n"
                                    "    - name: one\n"
                                    "      type: containerd\n"
                                    "      config: {<<: *base, run: x}\n"
                                    "    - {name: sh, type: shell, config: {unknown: 1}}\n"
                                    "    - name: group\n"
                                    "      parallel:\n"
                                    "        - {name: two, type: containerd, config: *base}\n"
                                    "        - {name: http, type: http}\n"
                                    "        - {name: three, type: containerd, config: *base}\n"
                                    "    - {name: untyped, config: {}}\n"
                                    "    - {name: 4, type: containerd, config: *base,\n"
                                    "       when: {x: 1}, ensure: {}}\n",
        NULL, &warnings);
    static const char *const names[] = {"one", "two", "three", "4"};
    assert_string_equal(workflow->id, "wf");
    assert_int_equal(workflow->step_count, 4);
    for (size_t i = 0; i < workflow->step_count; i++) {
        assert_string_equal(workflow->steps[i].name, names[i]);
        assert_string_equal(workflow->steps[i].config.image, "base");
    }
    assert_string_equal(workflow->steps[0].config.run, "x");
    static const char *const expected[] = {
        "s.yaml:12: steps[1].type: a step of type 'shell' is passed over",
        "s.yaml:16: steps[2].parallel[1].type: a step of type 'http' is passed over",
        ("s.yaml:18: steps[3].type: a step without a type is passed over (this program runs 'type: "
         "containerd')"),
        "s.yaml:20: steps[4].when: a workflow engine acts on this key, this program does not",
        "s.yaml:20: steps[4].ensure: a workflow engine acts on this key, this program does not"};
    assert_int_equal(warnings.count, 5);
    assert_int_equal(warnings.errors, 0);
    for (size_t i = 0; i < warnings.count; i++) {
        assert_true(warnings.items[i].warning);
        assert_string_equal(warnings.items[i].text, expected[i]);
    }
    wfe_problems_done(&warnings);
}

static void several_workflows_run_one_after_the_other(void **context)
{
    (void)context;
    WORKFLOW *workflow =
        parse("workflows:\n"
              "  - {id: a, steps: [{name: x, type: containerd, config: {image: one}}]}\n"
              "  - {id: b, steps: [{name: x, type: containerd, config: {image: two}}]}\n");
    assert_string_equal(workflow->id, "a");
    assert_int_equal(workflow->step_count, 2);
    assert_string_equal(workflow->steps[1].config.image, "two");
    assert_refused("workflows: [{steps: []}, {steps: [{name: a, type: containerd, config: {}}]}]",
        NULL,
        "s.yaml:1: workflows[1].steps[0].config.image: found nothing; allowed: an image reference "
        "(it is required)");
}

static void too_many_steps_are_refused(void **context)
{
    (void)context;
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(1024 * 1024);
    wfe_buffer_puts(&text, "workflow:\n  steps:\n");
    for (int i = 0; i < WFE_STEP_MAX_STEPS + 2; i++)
        wfe_buffer_printf(&text, "    - {name: a%d, type: containerd, config: {image: a}}\n", i);
    assert_refused(text.data, NULL, "s.yaml:1003: steps[1000]: found one step more; allowed: 1000");
}

static void the_callers_data_wins_over_the_documents(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse_with("data: {a: 1, b: {c: 2}, d: \"((x))\"}\nimage: ((a))-((d))\n",
        "{\"a\":\"mine\",\"e\":[1]}", NULL);
    WFE_FREE char *data = cJSON_PrintUnformatted(workflow->data);
    assert_string_equal(data, "{\"a\":\"mine\",\"b\":{\"c\":2},\"d\":\"((x))\",\"e\":[1]}");
    assert_string_equal(workflow->steps[0].config.image, "mine-((x))");
    assert_refused("image: a", "[1]",
        "workflow data: found something else than an object; allowed: a JSON object");
}

/* Each "# expect: TEXT" must stand in a problem of its own, and there must be no more of them. */
static void check_bad_file(const char *path)
{
    static const char marker[] = "# expect: ";
    WFE_FREE char *text = NULL;
    size_t length, expected = 0;
    assert_int_equal(wfe_read_file(path, WFE_DOCUMENT_MAX_BYTES, &text, &length, NULL), 0);
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_workflow_parse("f", text, length, NULL, &workflow, &problems, &err);
    for (char *line = text; (line = strstr(line, marker)); expected++) {
        line += strlen(marker);
        char *end = strchr(line, '\n');
        *end = '\0';
        bool found = false;
        for (size_t i = 0; i < problems.count && !found; i++)
            found = strstr(problems.items[i].text, line) != NULL;
        if (!found) {
            print_problems(&problems);
            fail_msg("%s: expected '%s'", path, line);
        }
        line = end + 1;
    }
    if (problems.errors != expected)
        print_problems(&problems);
    assert_true(expected > 0);
    assert_int_equal(problems.errors, expected);
    assert_int_equal(r, -EINVAL);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_null(workflow);
    wfe_problems_done(&problems);
}

static void bad_documents_say_everything_that_is_wrong(void **context)
{
    (void)context;
    const char *data = getenv("WFE_TEST_DATA");
    if (!data)
        fail_msg("WFE_TEST_DATA must name the directory of test data");
    WFE_FREE char *directory = wfe_path_join(data, "step");
    DIR *listing = opendir(directory);
    assert_non_null(listing);
    size_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(listing))) {
        if (strncmp(entry->d_name, "should-fail-", 12) != 0)
            continue;
        WFE_FREE char *path = wfe_path_join(directory, entry->d_name);
        check_bad_file(path);
        count++;
    }
    closedir(listing);
    assert_true(count > 10);
}

static void the_error_names_the_first_problem_and_counts_the_others(void **context)
{
    (void)context;
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    static const char text[] = "image: a\nmemory: x\ncpu: x\ngrace: x\n";
    assert_int_equal(
        wfe_workflow_parse("f", text, strlen(text), NULL, &workflow, &problems, &err), -EINVAL);
    assert_string_equal(err.message, "f:2: memory: found 'x'; allowed: a size such as 512m, 1g or "
                                     "64Ki (and 2 problems more)");
    wfe_problems_done(&problems);
}

static void only_the_selected_step_stays(void **context)
{
    (void)context;
    static const char text[] = "workflow:\n"
                               "  steps:\n"
                               "    - {name: a, type: containerd, config: {image: one}}\n"
                               "    - {name: b, type: containerd, config: {image: two}}\n";
    WORKFLOW *workflow = parse(text);
    struct wfe_error err = WFE_ERROR_INIT;
    assert_int_equal(wfe_workflow_select(workflow, "c", &err), -ENOENT);
    assert_int_equal(err.kind, WFE_ERROR_INPUT);
    assert_string_equal(err.message, "step 'c' is not in the document; its containerd steps: a, b");
    assert_int_equal(workflow->step_count, 2);
    assert_int_equal(wfe_workflow_select(workflow, "b", NULL), 0);
    assert_int_equal(workflow->step_count, 1);
    assert_string_equal(workflow->steps[0].config.image, "two");

    WORKFLOW *unnamed = parse("image: a\n");
    err = (struct wfe_error)WFE_ERROR_INIT;
    assert_int_equal(wfe_workflow_select(unnamed, "a", &err), -ENOENT);
    assert_string_equal(err.message, "step 'a' is not in the document; its steps have no names");
}

static void an_input_is_added_or_replaced(void **context)
{
    (void)context;
    WORKFLOW *workflow = parse("{image: a, inputs: {a: /a}, volumes: [{source: /s, target: /v}]}");
    struct wfe_step *step = &workflow->steps[0];
    assert_int_equal(wfe_step_set_input(step, "b", "//x/./b/", NULL), 0);
    assert_int_equal(wfe_step_set_input(step, "a", "/y", NULL), 0);
    assert_int_equal(wfe_step_set_input(step, "a", "/y", NULL), 0);
    assert_int_equal(step->config.input_count, 2);
    assert_string_equal(step->config.inputs[0].name, "a");
    assert_string_equal(step->config.inputs[0].value, "/y");
    assert_string_equal(step->config.inputs[1].name, "b");
    assert_string_equal(step->config.inputs[1].value, "/x/b");
}

static void an_unusable_input_is_refused(void **context)
{
    (void)context;
    static const struct {
        const char *name;
        const char *target;
    } cases[] = {{"", "/x"}, {"a/b", "/x"}, {".a", "/x"}, {"-a", "/x"}, {"é", "/x"}, {"a", ""},
        {"a", "/"}, {"a", "x"}, {"a", "/x/.."}, {"a", "/.//."}, {"b", "/a"}, {"b", "/v"}};
    WORKFLOW *workflow = parse("{image: a, inputs: {a: /a}, volumes: [{source: /s, target: /v}]}");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct wfe_error err = WFE_ERROR_INIT;
        assert_int_equal(
            wfe_step_set_input(&workflow->steps[0], cases[i].name, cases[i].target, &err), -EINVAL);
        assert_int_equal(err.kind, WFE_ERROR_INPUT);
    }
    assert_int_equal(workflow->steps[0].config.input_count, 1);
    assert_string_equal(workflow->steps[0].config.inputs[0].value, "/a");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_config_has_the_references_defaults),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(a_volume_has_its_types_fields),
        cmocka_unit_test(ports_are_published_with_a_bridge),
        cmocka_unit_test(wrong_ports_are_refused),
        cmocka_unit_test(a_json_config_is_read_like_a_yaml_one),
        cmocka_unit_test(a_null_field_is_not_given),
        cmocka_unit_test(a_timeout_of_zero_is_refused),
        cmocka_unit_test(too_many_inputs_are_refused),
        cmocka_unit_test(a_workflows_containerd_steps_are_taken_in_order),
        cmocka_unit_test(several_workflows_run_one_after_the_other),
        cmocka_unit_test(too_many_steps_are_refused),
        cmocka_unit_test(the_callers_data_wins_over_the_documents),
        cmocka_unit_test(bad_documents_say_everything_that_is_wrong),
        cmocka_unit_test(the_error_names_the_first_problem_and_counts_the_others),
        cmocka_unit_test(only_the_selected_step_stays),
        cmocka_unit_test(an_input_is_added_or_replaced),
        cmocka_unit_test(an_unusable_input_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
