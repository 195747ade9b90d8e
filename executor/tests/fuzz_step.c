/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "executor/step/step.h"
#include "executor/spec/user.h"
#include "libcommon/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_volume(const struct wfe_step_volume *volume)
{
    bool bind = volume->type == WFE_VOLUME_BIND;
    assert(volume->target[0] == '/' && volume->mode <= 07777);
    assert(bind ? volume->source[0] == '/' : !volume->source);
}

/* What the readers promise about each step that they let through. */
static void check_step(const struct wfe_step *step)
{
    const struct wfe_step_config *config = &step->config;
    assert(config->image && config->image[0] != '\0');
    assert(!config->run || !config->command);
    assert(wfe_user_is_valid(config->user));
    for (size_t i = 0; i < config->env_count; i++)
        assert(config->env[i].name[0] != '\0' && !strchr(config->env[i].name, '='));
    for (size_t i = 0; i < config->volume_count; i++)
        check_volume(&config->volumes[i]);
    for (size_t i = 0; i < config->input_count; i++)
        assert(config->inputs[i].name[0] != '\0' && config->inputs[i].value[0] == '/');
    for (size_t i = 0; i < config->registry_auth_count; i++)
        assert(config->registry_auth[i].username && config->registry_auth[i].password);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    WFE_JSON cJSON *workflow_data =
        cJSON_Parse("{\"image\":\"busybox\",\"n\":1.5,\"a\":{\"b\":{\"c\":[1,\"x\",{\"y\":null}]}},"
                    "\"build.stdout\":\"out\",\"big\":12345678901234567890,\"t\":true}");
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_workflow *workflow = NULL;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_workflow_parse(
        "step.yaml", (const char *)data, size, workflow_data, &workflow, &problems, &err);
    assert((r == 0) == (problems.errors == 0 && err.kind == WFE_ERROR_NONE));
    assert((r == 0) == (workflow != NULL));
    for (size_t i = 0; workflow && i < workflow->step_count; i++)
        check_step(&workflow->steps[i]);
    wfe_workflow_free(workflow);
    wfe_problems_done(&problems);
    return 0;
}
