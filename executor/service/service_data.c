/* SPDX-License-Identifier: MIT */
#include "executor/service/service_data.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define HOST "127.0.0.1"

/* "SVC_NAME_WHAT", upper case as the environment will have it. Allocated. */
static char *variable_name(const char *service, const char *what)
{
    char *name;
    if (asprintf(&name, "SVC_%s_%s", service, what) < 0)
        return NULL;
    for (char *c = name; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    return name;
}

/* Takes value, which may be NULL. */
static int set_variable(cJSON *data, const char *service, const char *what, cJSON *value)
{
    WFE_FREE char *name = variable_name(service, what);
    if (name)
        cJSON_DeleteItemFromObjectCaseSensitive(data, name);
    if (name && value && cJSON_AddItemToObject(data, name, value))
        return 0;
    cJSON_Delete(value);
    return -ENOMEM;
}

static int add_service(cJSON *data, cJSON *list, const struct wfe_service *service,
    const char *address, const char *workflow_id)
{
    const char *host = address ? address : HOST;
    cJSON *entry = cJSON_AddObjectToObject(list, service->name);
    cJSON *ports = cJSON_AddStringToObject(entry, "host", host)
                       ? cJSON_AddArrayToObject(entry, "ports")
                       : NULL;
    if (!ports || (address && !cJSON_AddStringToObject(entry, "workflow", workflow_id)))
        return -ENOMEM;
    for (size_t i = 0; i < service->port_count; i++) {
        cJSON *port = cJSON_CreateNumber(service->ports[i]);
        if (!cJSON_AddItemToArray(ports, port)) {
            cJSON_Delete(port);
            return -ENOMEM;
        }
    }
    int r = set_variable(data, service->name, "HOST", cJSON_CreateString(host));
    if (r == 0 && service->port_count > 0)
        r = set_variable(data, service->name, "PORT", cJSON_CreateNumber(service->ports[0]));
    return r;
}

cJSON *wfe_service_data(const struct wfe_service *services, const char *const *addresses,
    size_t count, const char *workflow_id)
{
    WFE_JSON cJSON *data = cJSON_CreateObject();
    WFE_JSON cJSON *list = cJSON_CreateObject();
    for (size_t i = 0; i < count; i++)
        if (!data || !list || add_service(data, list, &services[i], addresses[i], workflow_id) < 0)
            return NULL;
    if (!list || !cJSON_AddItemToObject(data, "services", list))
        return NULL;
    (void)wfe_steal(&list);
    return wfe_steal(&data);
}

const char *wfe_service_data_workflow(const cJSON *data)
{
    const cJSON *service;
    cJSON_ArrayForEach(service, cJSON_GetObjectItemCaseSensitive(data, "services"))
    {
        const char *workflow =
            cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(service, "workflow"));
        if (workflow)
            return workflow;
    }
    return NULL;
}

cJSON *wfe_service_data_behind(const cJSON *data, const char *gateway)
{
    WFE_JSON cJSON *copy = cJSON_Duplicate(data, true);
    if (!copy)
        return NULL;
    cJSON *service;
    cJSON_ArrayForEach(service, cJSON_GetObjectItemCaseSensitive(copy, "services"))
    {
        cJSON *host = cJSON_GetObjectItemCaseSensitive(service, "host");
        const char *text = cJSON_GetStringValue(host);
        if (!text || strcmp(text, HOST) != 0)
            continue;
        if (!cJSON_SetValuestring(host, gateway) ||
            set_variable(copy, service->string, "HOST", cJSON_CreateString(gateway)) < 0)
            return NULL;
    }
    return wfe_steal(&copy);
}
