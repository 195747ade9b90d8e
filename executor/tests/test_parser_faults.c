/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "executor/image/docker_config.h"
#include "executor/image/image.h"
#include "executor/image/import_plan.h"
#include "executor/image/registry_auth.h"
#include "executor/image/registry_hosts.h"
#include "executor/image/toml.h"
#include "executor/network/cni.h"
#include "executor/network/network_files.h"
#include "executor/run/outputs.h"
#include "executor/spec/spec.h"
#include "executor/step/step.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/tests/faults.h"

/* What is parsed. */
struct input {
    char *text;
    size_t length;
};

static const struct wfe_platform AMD64 = {"linux", "amd64", ""};

/* The parser with each allocation failing in turn, on texts. */
static void try_texts(
    int (*parse)(void *, struct wfe_error *), const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct input input = {.text = (char *)(uintptr_t)texts[i], .length = strlen(texts[i])};
        fault_each(FAULT_MEMORY, &(struct fault_case){.run = parse, .context = &input});
    }
}
#define TRY_TEXTS(parse, texts) try_texts(parse, texts, sizeof(texts) / sizeof *(texts))

static int select_in_index(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    struct wfe_descriptor descriptor;
    return wfe_image_index_select(input->text, input->length, &AMD64, &descriptor, err);
}

/* The same, on files among the fuzzers' seeds. A list that only a message needs may fail. */
static void try_seeds(
    int (*parse)(void *, struct wfe_error *), const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", getenv("WFE_TEST_DATA"), names[i]);
        struct input input = {.length = 0};
        assert_int_equal(wfe_read_file(path, 1 << 20, &input.text, &input.length, NULL), 0);
        fault_each(FAULT_MEMORY,
            &(struct fault_case){
                .run = parse, .context = &input, .may_pass = parse == select_in_index});
        free(input.text);
    }
}
#define TRY_SEEDS(parse, names) try_seeds(parse, names, sizeof(names) / sizeof *(names))

static int parse_step(void *context, struct wfe_error *err)
{
    static const char data_text[] =
        "{\"image\":\"busybox\",\"n\":1.5,\"a\":{\"b\":{\"c\":[1,\"x\",{\"y\":null}]}},"
        "\"build.stdout\":\"out\",\"big\":12345678901234567890,\"t\":true}";
    const struct input *input = context;
    WFE_JSON cJSON *data = cJSON_Parse(data_text);
    if (!data)
        return wfe_error_nomem(err);
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    int r = wfe_workflow_parse(
        "step.yaml", input->text, input->length, data, &workflow, &problems, err);
    assert_true(r == 0 || !workflow);
    wfe_workflow_free(workflow);
    wfe_problems_done(&problems);
    return r;
}

static void step_documents(void **state)
{
    (void)state;
    static const char *const texts[] = {"{\"name\":\"a\",\"type\":\"containerd\",\"config\":{"
                                        "\"image\":\"((image))\",\"command\":[\"x\","
                                        "\"((n))\"],\"env\":{\"A\":\"x((a.b.c))\"},\"inputs\":{"
                                        "\"in\":\"/in\"},\"outputs\":{\"o\":\"/o\"}}}",
        "data: {image: alpine, list: [1, {a: b}]}\n"
        "_base: &base\n"
        "  image: ((image)):3.18\n"
        "  env: {A: ((n)), B: \"x((n))y((list))\", D: true, E: ~, F: \"((big))\"}\n"
        "workflow:\n"
        "  id: wf\n"
        "  services:\n"
        "    db: {image: b, ports: [80], readiness: {http: {port: 80}}, args: [a]}\n"
        "  steps:\n"
        "    - name: a\n"
        "      type: containerd\n"
        "      config: {<<: *base, run: \"echo\", memory: 512m, cpu: 0.5, timeout: 5m}\n"
        "    - name: par\n"
        "      parallel:\n"
        "        - name: p1\n"
        "          type: containerd\n"
        "          config:\n"
        "            image: b\n"
        "            network: bridge\n"
        "            ports: [\"8080:80\"]\n"
        "            cap_add: [NET_RAW]\n"
        "            volumes: [{source: /a, target: /b, readonly: true}]\n"
        "            registry_auth: {h: {username: a, password: b}}\n"};
    TRY_TEXTS(parse_step, texts);
}

static int parse_config(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    struct wfe_image_config config;
    int r = wfe_image_config_parse(input->text, input->length, &config, err);
    if (r == 0)
        wfe_image_config_done(&config);
    return r;
}

static int parse_manifest(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    struct wfe_image_manifest manifest;
    int r = wfe_image_manifest_parse(input->text, input->length, &manifest, err);
    if (r == 0)
        wfe_image_manifest_done(&manifest);
    return r;
}

static int normalize(void *context, struct wfe_error *err)
{
    WFE_FREE char *full = NULL;
    return wfe_image_normalize(((const struct input *)context)->text, &full, err);
}

static void images(void **state)
{
    (void)state;
    static const char *const configs[] = {
        "fuzz-image/ok-config-docker.json", "fuzz-image/ok-config-full.json"};
    static const char *const manifests[] = {"fuzz-image/ok-manifest-docker.json"};
    static const char *const indexes[] = {
        "fuzz-image/ok-index-multi-platform.json", "fuzz-image/ok-index-docker-list.json"};
    static const char *const references[] = {"busybox", "localhost:5000/a/b:tag"};
    TRY_SEEDS(parse_config, configs);
    TRY_SEEDS(parse_manifest, manifests);
    TRY_SEEDS(select_in_index, indexes);
    TRY_TEXTS(normalize, references);
}

/* The seeds have a byte before the archive. */
static int plan_import(void *context, struct wfe_error *err)
{
    struct wfe_import_plan plan;
    int r = wfe_import_plan_make(context, "fuzz", &AMD64, &plan, err);
    if (r == 0)
        wfe_import_plan_done(&plan);
    return r;
}

static void imports(void **state)
{
    (void)state;
    static const char *const names[] = {"oci-archive", "docker-archive"};
    static const char *const seeds[] = {"ok-oci-archive", "ok-docker-archive"};
    char folder[] = "/tmp/wfe-test-faults-XXXXXX";
    assert_non_null(mkdtemp(folder));
    WFE_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < 2; i++) {
        char path[512];
        WFE_FREE char *data = NULL;
        size_t length;
        snprintf(path, sizeof path, "%s/fuzz-import/%s", getenv("WFE_TEST_DATA"), seeds[i]);
        assert_int_equal(wfe_read_file(path, 1 << 20, &data, &length, NULL), 0);
        assert_int_equal(wfe_replace_file(fd, "image", data + 1, length - 1, 0600), 0);
        snprintf(path, sizeof path, "%s:%s/image", names[i], folder);
        struct fault_case tried = {.run = plan_import, .context = path, .may_pass = true};
        fault_each(FAULT_MEMORY, &tried);
    }
    assert_int_equal(wfe_remove_tree(folder), 0);
}

static int find_outputs(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    struct wfe_outputs *outputs;
    if (wfe_outputs_new(&outputs) < 0)
        return wfe_error_nomem(err);
    int r = 0;
    for (size_t at = 0; r == 0 && at < input->length; at++)
        r = wfe_outputs_feed(outputs, input->text + at, 1);
    WFE_JSON cJSON *object = r == 0 ? wfe_outputs_finish(outputs) : NULL;
    wfe_outputs_free(outputs);
    return object ? 0 : wfe_error_nomem(err);
}

static void outputs(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "##wfe[output a=1]\nline\n##wfe[output b=two words]\n##wfe[output a=\xff]\n", "no output"};
    TRY_TEXTS(find_outputs, texts);
}

static int parse_challenge(void *context, struct wfe_error *err)
{
    struct wfe_challenge challenge;
    if (wfe_challenge_parse(((const struct input *)context)->text, &challenge) < 0)
        return wfe_error_nomem(err);
    bool is_known = challenge.scheme != WFE_CHALLENGE_NONE;
    wfe_challenge_done(&challenge);
    assert_true(is_known);
    return 0;
}

static int parse_docker_config(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    struct wfe_registry_credentials credentials;
    WFE_FREE char *program = NULL;
    int r = wfe_docker_config_parse(
        input->text, input->length, "example.org", &credentials, &program, err);
    if (r == 0)
        wfe_registry_credentials_done(&credentials);
    return r;
}

static int parse_toml(void *context, struct wfe_error *err)
{
    const struct input *input = context;
    WFE_JSON cJSON *root = NULL;
    return wfe_toml_parse(input->text, input->length, &root, err);
}

static int load_endpoints(void *context, struct wfe_error *err)
{
    struct wfe_registry_endpoint *endpoints;
    size_t count;
    int r = wfe_registry_endpoints_load("example.org:5000", context, &endpoints, &count, err);
    if (r == 0)
        wfe_registry_endpoints_free(endpoints, count);
    return r;
}

static void registries(void **state)
{
    (void)state;
    static const char *const challenges[] = {
        "Basic realm=\"r\"\nBearer realm=\"https://x/t\",service=\"s\",scope=\"a,b\""};
    static const char *const configs[] = {
        "{\"auths\":{\"example.org\":{\"auth\":\"dXNlcjpwYXNz\"}}}",
        "{\"auths\":{\"example.org\":{\"username\":\"u\",\"password\":\"p\","
        "\"identitytoken\":\"t\"}},\"credHelpers\":{\"example.org\":\"helper\"}}"};
    static const char hosts[] =
        "server = \"https://a\"\n[host.\"http://b:80/v2\"]\ncapabilities = [\"pull\"]\n"
        "a = {b = 1, c.d = \"\\u00fc\", e = [true, 'x']}\n";
    static const char *const tomls[] = {hosts};
    TRY_TEXTS(parse_challenge, challenges);
    TRY_TEXTS(parse_docker_config, configs);
    TRY_TEXTS(parse_toml, tomls);
    char folder[] = "/tmp/wfe-test-faults-XXXXXX";
    assert_non_null(mkdtemp(folder));
    WFE_FREE char *path = wfe_path_join(folder, "_default");
    assert_int_equal(wfe_make_directories(path, 0700), 0);
    WFE_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(wfe_replace_file(fd, "hosts.toml", hosts, strlen(hosts), 0600), 0);
    struct fault_case tried = {.run = load_endpoints, .context = folder};
    fault_each(FAULT_MEMORY, &tried);
    fault_each(FAULT_FILE, &tried);
    assert_int_equal(wfe_remove_tree(folder), 0);
}

static int parse_network(void *context, struct wfe_error *err)
{
    WFE_JSON cJSON *list = NULL;
    int r = wfe_cni_list_parse("net", ((const struct input *)context)->text, &list, err);
    if (r < 0)
        return r;
    const cJSON *plugin = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(list, "plugins"), 0);
    WFE_JSON cJSON *config = wfe_cni_plugin_config(list, plugin, list, list);
    return config ? 0 : wfe_error_nomem(err);
}

static void networks(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\":[{\"type\":\"bridge\","
        "\"capabilities\":{\"portMappings\":true}},{\"type\":\"portmap\"}]}",
        "{\"cniVersion\":\"0.4.0\",\"name\":\"n\",\"type\":\"bridge\"}"};
    TRY_TEXTS(parse_network, lists);
}

static int build_spec(void *context, struct wfe_error *err)
{
    static const char *const words[] = {"echo", "hello", NULL};
    static const struct wfe_user user = {.uid = 1, .gid = 1};
    const struct wfe_step_config config = {
        .image = (char *)(uintptr_t) "busybox",
        .command = (char **)(uintptr_t)words,
        .memory_bytes = 1 << 20,
        .cpu_millis = 500,
    };
    const struct wfe_spec_options options = {
        .namespace_ = "default", .container_id = "wfe-1", .architecture = "amd64", .user = &user};
    WFE_JSON cJSON *spec = NULL;
    char **env = wfe_spec_env(NULL, context, &config);
    if (!env)
        return wfe_error_nomem(err);
    int r = wfe_spec_build(&config, NULL, env, &options, &spec, err);
    wfe_spec_env_free(env);
    return r;
}

static void specs(void **state)
{
    (void)state;
    WFE_JSON cJSON *data = cJSON_Parse("{\"text\":\"t\",\"object\":{\"a\":[1,2]}}");
    fault_each(FAULT_MEMORY, &(struct fault_case){.run = build_spec, .context = data});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_documents),
        cmocka_unit_test(images),
        cmocka_unit_test(imports),
        cmocka_unit_test(outputs),
        cmocka_unit_test(registries),
        cmocka_unit_test(networks),
        cmocka_unit_test(specs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
