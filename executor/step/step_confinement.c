/* SPDX-License-Identifier: MIT */
#include "executor/step/step_confinement.h"

#include "executor/spec/capabilities.h"
#include "libcommon/cleanup.h"

/* The kernel's own bounds: PID_MAX_LIMIT, and that of fs.nr_open. */
#define PIDS_MAX 4194304
#define OPEN_FILES_MAX 1073741816

static void read_profile(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, enum wfe_step_profile *ret)
{
    static const char *const words[] = {
        [WFE_PROFILE_DEFAULT] = "default",
        [WFE_PROFILE_UNCONFINED] = "unconfined",
        NULL,
    };
    int word;
    if (wfe_step_word(reader, node, path, words, "default, unconfined", &word))
        *ret = (enum wfe_step_profile)word;
}

void wfe_step_read_seccomp(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_profile(reader, node, path, &config->seccomp);
}

void wfe_step_read_apparmor(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_profile(reader, node, path, &config->apparmor);
}

static void read_capabilities(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, uint64_t *ret)
{
    static const char allowed[] =
        "a capability such as NET_ADMIN or CAP_NET_ADMIN, see capabilities(7), or ALL";
    if (!wfe_step_is_list(reader, node, path))
        return;
    for (size_t i = 0; i < node->count; i++) {
        struct wfe_step_path where = {.up = path, .index = i};
        uint64_t set;
        WFE_FREE char *text = wfe_step_text(reader, node->items[i], &where, 1, allowed);
        if (text && wfe_capability_parse(text, &set))
            *ret |= set;
        else if (text)
            wfe_step_refuse(reader, node->items[i], &where, allowed);
    }
}

void wfe_step_read_cap_add(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_capabilities(reader, node, path, &config->cap_add);
}

void wfe_step_read_cap_drop(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    read_capabilities(reader, node, path, &config->cap_drop);
}

void wfe_step_read_read_only(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_bool(reader, node, path, &config->read_only);
}

void wfe_step_read_no_new_privileges(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    bool none = true;
    wfe_step_bool(reader, node, path, &none);
    config->new_privileges = !none;
}

void wfe_step_read_pids(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_count(
        reader, node, path, PIDS_MAX, "a number of processes, 1 to 4194304", &config->pids);
}

void wfe_step_read_nofile(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_count(reader, node, path, OPEN_FILES_MAX, "a number of open files, 1 to 1073741816",
        &config->nofile);
}

void wfe_step_read_shm_size(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, struct wfe_step_config *config)
{
    wfe_step_size(reader, node, path, &config->shm_bytes);
}

void wfe_step_check_confinement(struct wfe_step_reader *reader, const struct wfe_node *node,
    const struct wfe_step_path *path, const struct wfe_step_config *config)
{
    struct wfe_step_path where = {.up = path, .name = "cap_drop"};
    if (config->cap_add == WFE_CAPABILITIES_ALL && config->cap_drop == WFE_CAPABILITIES_ALL)
        wfe_step_problem(reader, wfe_step_given(node, "cap_drop"), &where,
            "found ALL, which cap_add has too; allowed: only one of the two");
}
