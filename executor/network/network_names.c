/* SPDX-License-Identifier: MIT */
#include "executor/network/network_names.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/network/network_files.h"
#include "executor/network/network_state.h"
#include "executor/spec/spec.h"
#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* The states of the group's containers, an object by their ids. */
static int read_states(const char *group, cJSON *states, struct wfe_error *err)
{
    char **ids;
    size_t count;
    int r = wfe_network_step_list(&ids, &count, err);
    if (r < 0)
        return r;
    for (size_t i = 0; r == 0 && i < count; i++) {
        WFE_CLOSE int fd = -1;
        bool locked;
        if (wfe_network_step_open(ids[i], &fd, &locked) < 0)
            continue;
        cJSON *state = wfe_network_state_read(fd);
        const char *its_group = text_of(state, "group");
        if (!its_group || strcmp(its_group, group) != 0 ||
            !cJSON_AddItemToObject(states, ids[i], state))
            cJSON_Delete(state);
    }
    wfe_names_free(ids, count);
    return r;
}

static int add_lines(const cJSON *state, const char *name, struct wfe_buffer *to)
{
    struct wfe_network_addresses addresses;
    wfe_network_addresses_read(cJSON_GetObjectItemCaseSensitive(state, "result"), &addresses);
    return wfe_network_hosts_add(&addresses, name, to);
}

/* In place: a new file would not be the one that is mounted. */
static int write_in_place(const char *id, const struct wfe_buffer *text)
{
    WFE_FREE char *path = wfe_network_step_path(id, "hosts");
    if (!path)
        return -ENOMEM;
    WFE_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int r = wfe_write_all(fd, text->data, text->length);
    if (r == 0 && (fchmod(fd, 0644) < 0 || ftruncate(fd, (off_t)text->length) < 0))
        r = -errno;
    return r;
}

static int write_hosts(const cJSON *states, const cJSON *state, struct wfe_error *err)
{
    const char *id = state->string;
    char hostname[WFE_SPEC_HOSTNAME_MAX];
    wfe_spec_hostname(id, hostname);
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_NETWORK_FILE_MAX_BYTES);
    int r = wfe_network_hosts(&text);
    if (r == 0)
        r = add_lines(state, hostname, &text);
    const cJSON *other;
    cJSON_ArrayForEach(other, states)
    {
        const char *service = text_of(other, "service");
        if (r == 0 && service)
            r = add_lines(other, service, &text);
    }
    if (r == 0)
        r = write_in_place(id, &text);
    return r < 0 ? wfe_error_system(err, -r, "write the hosts of %s", id) : 0;
}

int wfe_network_names_write(const char *group, const char *only, struct wfe_error *err)
{
    WFE_JSON cJSON *states = cJSON_CreateObject();
    if (!states)
        return wfe_error_nomem(err);
    int r = read_states(group, states, err);
    if (r < 0)
        return r;
    const cJSON *state;
    cJSON_ArrayForEach(state, states)
    {
        bool wanted = !only || strcmp(state->string, only) == 0;
        int state_r = wanted ? write_hosts(states, state, r == 0 ? err : NULL) : 0;
        r = r < 0 ? r : state_r;
    }
    return r;
}
