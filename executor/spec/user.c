/* SPDX-License-Identifier: MIT */
#include "executor/spec/user.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of a text or a file, without a NUL behind them. */
struct slice {
    const char *text;
    size_t length;
};

/* USER[:GROUP]; group.text is NULL when it is not given. */
struct parts {
    struct slice user, group;
};

static struct slice cut(struct slice *rest, char separator)
{
    struct slice part = *rest;
    const char *end = rest->length > 0 ? memchr(rest->text, separator, rest->length) : NULL;
    if (end)
        part.length = (size_t)(end - rest->text);
    size_t used = end ? part.length + 1 : part.length;
    rest->text += used;
    rest->length -= used;
    return part;
}

static bool is_same(struct slice a, struct slice b)
{
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

static bool is_digits(struct slice part)
{
    for (size_t i = 0; i < part.length; i++)
        if (part.text[i] < '0' || part.text[i] > '9')
            return false;
    return part.length > 0;
}

/* An id below (uid_t)-1, which system calls take for "leave it". */
static bool read_id(struct slice part, uint32_t *ret)
{
    uint64_t value = 0;
    if (!is_digits(part))
        return false;
    for (size_t i = 0; i < part.length; i++) {
        value = value * 10 + (uint64_t)(part.text[i] - '0');
        if (value >= UINT32_MAX)
            return false;
    }
    *ret = (uint32_t)value;
    return true;
}

static struct parts split(const char *text)
{
    struct slice rest = {text, strlen(text)};
    struct parts parts = {.user = cut(&rest, ':')};
    if (parts.user.length < strlen(text))
        parts.group = rest;
    return parts;
}

static bool is_valid_part(struct slice part)
{
    uint32_t id;
    if (is_digits(part))
        return read_id(part, &id);
    if (part.length == 0 || part.length > WFE_USER_MAX_NAME || part.text[0] == '-' ||
        part.text[0] == '+')
        return false;
    for (size_t i = 0; i < part.length; i++) {
        unsigned char c = (unsigned char)part.text[i];
        if (c <= ' ' || c == 0x7F || c == ':' || c == '/')
            return false;
    }
    return true;
}

bool wfe_user_is_valid(const char *text)
{
    struct parts parts = split(text);
    return is_valid_part(parts.user) && (!parts.group.text || is_valid_part(parts.group));
}

unsigned wfe_user_needs(const char *text)
{
    struct parts parts = split(text);
    unsigned needs = 0;
    if (!is_digits(parts.user) || !parts.group.text)
        needs |= WFE_USER_NEEDS_PASSWD;
    if (!parts.group.text || !is_digits(parts.group))
        needs |= WFE_USER_NEEDS_GROUP;
    return needs;
}

bool wfe_user_is_number(const char *text)
{
    struct parts parts = split(text);
    return is_digits(parts.user) && !parts.group.text;
}

struct passwd_entry {
    struct slice name;
    uint32_t uid, gid;
};

struct group_entry {
    struct slice name, members;
    uint32_t gid;
};

/* passwd(5): name:password:uid:gid:… */
static bool read_passwd_line(struct slice line, struct passwd_entry *ret)
{
    ret->name = cut(&line, ':');
    cut(&line, ':');
    return ret->name.length > 0 && read_id(cut(&line, ':'), &ret->uid) &&
           read_id(cut(&line, ':'), &ret->gid);
}

/* group(5): name:password:gid:member,… */
static bool read_group_line(struct slice line, struct group_entry *ret)
{
    ret->name = cut(&line, ':');
    cut(&line, ':');
    if (ret->name.length == 0 || !read_id(cut(&line, ':'), &ret->gid))
        return false;
    ret->members = cut(&line, ':');
    return true;
}

/* The first entry with that name, or, of a number, with that uid. */
static bool find_passwd(struct wfe_user_file file, struct slice user, struct passwd_entry *ret)
{
    uint32_t uid = 0;
    bool numeric = read_id(user, &uid);
    struct slice rest = {file.data, file.length};
    while (rest.length > 0) {
        struct passwd_entry entry;
        if (read_passwd_line(cut(&rest, '\n'), &entry) &&
            (numeric ? entry.uid == uid : is_same(entry.name, user))) {
            *ret = entry;
            return true;
        }
    }
    return false;
}

static bool find_group(struct wfe_user_file file, struct slice name, uint32_t *ret)
{
    struct slice rest = {file.data, file.length};
    while (rest.length > 0) {
        struct group_entry entry;
        if (read_group_line(cut(&rest, '\n'), &entry) && is_same(entry.name, name)) {
            *ret = entry.gid;
            return true;
        }
    }
    return false;
}

static bool has_member(struct slice members, struct slice name)
{
    while (members.length > 0)
        if (is_same(cut(&members, ','), name))
            return true;
    return false;
}

static int add_group(struct wfe_user *user, uint32_t gid, struct wfe_error *err)
{
    if (gid == user->gid)
        return 0;
    for (size_t i = 0; i < user->group_count; i++)
        if (user->groups[i] == gid)
            return 0;
    if (user->group_count == WFE_USER_MAX_GROUPS)
        return wfe_error_set(err, WFE_ERROR_LIMIT, E2BIG,
            "the user is in more than %d groups of the image", WFE_USER_MAX_GROUPS);
    if (!user->groups)
        user->groups = calloc(WFE_USER_MAX_GROUPS, sizeof *user->groups);
    if (!user->groups)
        return wfe_error_nomem(err);
    user->groups[user->group_count++] = gid;
    return 0;
}

static int add_memberships(
    struct wfe_user_file file, struct slice name, struct wfe_user *user, struct wfe_error *err)
{
    struct slice rest = {file.data, file.length};
    while (rest.length > 0) {
        struct group_entry entry;
        if (!read_group_line(cut(&rest, '\n'), &entry) || !has_member(entry.members, name))
            continue;
        int r = add_group(user, entry.gid, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int not_found(
    struct slice name, const char *path, struct wfe_user_file file, struct wfe_error *err)
{
    if (!file.data)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "'%.*s' can't be looked up: the image has no %s", (int)name.length, name.text, path);
    return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT, "'%.*s' is not in the image's %s",
        (int)name.length, name.text, path);
}

static int resolve_group(
    struct slice text, struct wfe_user_file group, struct wfe_user *user, struct wfe_error *err)
{
    if (read_id(text, &user->gid) || find_group(group, text, &user->gid))
        return 0;
    return not_found(text, "/etc/group", group, err);
}

int wfe_user_resolve(const char *text, struct wfe_user_file passwd, struct wfe_user_file group,
    struct wfe_user *ret, struct wfe_error *err)
{
    assert(wfe_user_is_valid(text));
    struct parts parts = split(text);
    struct wfe_user user = {.groups = NULL};
    struct passwd_entry entry;
    bool known = find_passwd(passwd, parts.user, &entry);
    if (!known && !read_id(parts.user, &user.uid))
        return not_found(parts.user, "/etc/passwd", passwd, err);
    if (known) {
        user.uid = entry.uid;
        user.gid = entry.gid;
    }
    int r = 0;
    if (parts.group.text)
        r = resolve_group(parts.group, group, &user, err);
    else if (known)
        r = add_memberships(group, entry.name, &user, err);
    if (r < 0) {
        wfe_user_done(&user);
        return r;
    }
    *ret = user;
    return 0;
}

void wfe_user_done(struct wfe_user *user)
{
    free(user->groups);
    *user = (struct wfe_user){.groups = NULL};
}
