/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "executor/spec/user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the input holds up to its next NUL. */
static struct wfe_user_file take(const uint8_t **data, size_t *size)
{
    const uint8_t *start = *data;
    const uint8_t *end = *size > 0 ? memchr(start, '\0', *size) : NULL;
    size_t length = end ? (size_t)(end - start) : *size;
    size_t used = end ? length + 1 : length;
    *data += used;
    *size -= used;
    return (struct wfe_user_file){(const char *)start, length};
}

/* A user, an /etc/passwd and an /etc/group, NULs between them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wfe_user_file text = take(&data, &size);
    struct wfe_user_file passwd = take(&data, &size);
    struct wfe_user_file group = {(const char *)data, size};
    char user_text[600];
    if (text.length >= sizeof user_text)
        return 0;
    memcpy(user_text, text.data, text.length);
    user_text[text.length] = '\0';
    if (!wfe_user_is_valid(user_text))
        return 0;
    struct wfe_user user;
    struct wfe_error err = WFE_ERROR_INIT;
    int r = wfe_user_resolve(user_text, passwd, group, &user, &err);
    assert((r == 0) == (err.kind == WFE_ERROR_NONE));
    if (r < 0)
        return 0;
    assert(user.uid != UINT32_MAX && user.gid != UINT32_MAX);
    assert(user.group_count <= WFE_USER_MAX_GROUPS);
    for (size_t i = 0; i < user.group_count; i++) {
        assert(user.groups[i] != user.gid && user.groups[i] != UINT32_MAX);
        for (size_t k = 0; k < i; k++)
            assert(user.groups[i] != user.groups[k]);
    }
    wfe_user_done(&user);
    return 0;
}
