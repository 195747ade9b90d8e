/* SPDX-License-Identifier: MIT */
#include "artifactfs/mount_options.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"

#define SUBTYPE "wfe-artifactfs"

enum key {
    REFUSED,
    IMPLIED,
    IGNORED,
    PASSED,
    UID,
    GID,
    UMASK,
    AS_LAYER,
    PARTIAL_LISTINGS,
    OTHERS,
    FSNAME,
    SUBTYPED,
    DEBUG
};

static const struct fuse_opt KEYS[] = {
    FUSE_OPT_KEY("rw", REFUSED),
    FUSE_OPT_KEY("suid", REFUSED),
    FUSE_OPT_KEY("dev", REFUSED),
    FUSE_OPT_KEY("ro", IMPLIED),
    FUSE_OPT_KEY("nosuid", IMPLIED),
    FUSE_OPT_KEY("nodev", IMPLIED),
    FUSE_OPT_KEY("as_layer", AS_LAYER),
    FUSE_OPT_KEY("partial_listings", PARTIAL_LISTINGS),
    FUSE_OPT_KEY("uid=", UID),
    FUSE_OPT_KEY("gid=", GID),
    FUSE_OPT_KEY("umask=", UMASK),
    FUSE_OPT_KEY("allow_other", OTHERS),
    FUSE_OPT_KEY("allow_root", OTHERS),
    FUSE_OPT_KEY("default_permissions", PASSED),
    FUSE_OPT_KEY("auto_unmount", PASSED),
    FUSE_OPT_KEY("max_read=", PASSED),
    FUSE_OPT_KEY("exec", PASSED),
    FUSE_OPT_KEY("noexec", PASSED),
    FUSE_OPT_KEY("atime", PASSED),
    FUSE_OPT_KEY("noatime", PASSED),
    FUSE_OPT_KEY("diratime", PASSED),
    FUSE_OPT_KEY("nodiratime", PASSED),
    FUSE_OPT_KEY("async", PASSED),
    FUSE_OPT_KEY("sync", PASSED),
    FUSE_OPT_KEY("dirsync", PASSED),
    FUSE_OPT_KEY("context=", PASSED),
    FUSE_OPT_KEY("fscontext=", PASSED),
    FUSE_OPT_KEY("defcontext=", PASSED),
    FUSE_OPT_KEY("rootcontext=", PASSED),
    FUSE_OPT_KEY("fsname=", FSNAME),
    FUSE_OPT_KEY("subtype=", SUBTYPED),
    FUSE_OPT_KEY("debug", DEBUG),
    FUSE_OPT_KEY("relatime", IGNORED),
    FUSE_OPT_KEY("strictatime", IGNORED),
    FUSE_OPT_KEY("defaults", IGNORED),
    FUSE_OPT_KEY("auto", IGNORED),
    FUSE_OPT_KEY("noauto", IGNORED),
    FUSE_OPT_KEY("user", IGNORED),
    FUSE_OPT_KEY("user=", IGNORED),
    FUSE_OPT_KEY("nouser", IGNORED),
    FUSE_OPT_KEY("users", IGNORED),
    FUSE_OPT_KEY("group", IGNORED),
    FUSE_OPT_KEY("owner", IGNORED),
    FUSE_OPT_KEY("nofail", IGNORED),
    FUSE_OPT_KEY("_netdev", IGNORED),
    FUSE_OPT_KEY("comment=", IGNORED),
    FUSE_OPT_END,
};

struct parser {
    struct wfe_mount_options *options;
    struct wfe_error *err;
    bool lets_others_in;
    bool has_fsname;
    bool has_subtype;
};

static int parse_number(
    const char *option, int base, unsigned long max, unsigned *ret, struct wfe_error *err)
{
    const char *text = strchr(option, '=');
    assert(text);
    char *end;
    errno = 0;
    unsigned long value = strtoul(++text, &end, base);
    if (*text < '0' || *text > '9' || *end || errno || value > max)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "-o %s: expected %s", option,
            base == 8 ? "an octal number up to 0777" : "a number");
    *ret = (unsigned)value;
    return 0;
}

/* fuse_opt_proc_t: 1 keeps the option for libfuse, 0 drops it, -1 ends the parser. */
static int take(void *context, const char *option, int key, struct fuse_args *args)
{
    (void)args;
    struct parser *parser = context;
    struct wfe_fuse_owner *owner = &parser->options->owner;
    switch (key) {
    case IMPLIED:
    case IGNORED:
        return 0;
    case PASSED:
        return 1;
    case OTHERS:
        parser->lets_others_in = true;
        return 1;
    case FSNAME:
        parser->has_fsname = true;
        return 1;
    case SUBTYPED:
        parser->has_subtype = true;
        return 1;
    case DEBUG:
        parser->options->debug = true;
        return 1;
    case AS_LAYER:
        owner->as_layer = true;
        return 0;
    case PARTIAL_LISTINGS:
        owner->partial_listings = true;
        return 0;
    case UID:
        owner->has_uid = true;
        return parse_number(option, 10, UINT32_MAX - 1, &owner->uid, parser->err) < 0 ? -1 : 0;
    case GID:
        owner->has_gid = true;
        return parse_number(option, 10, UINT32_MAX - 1, &owner->gid, parser->err) < 0 ? -1 : 0;
    case UMASK:
        owner->has_umask = true;
        return parse_number(option, 8, 0777, &owner->umask, parser->err) < 0 ? -1 : 0;
    case REFUSED:
        wfe_error_set(parser->err, WFE_ERROR_INPUT, EINVAL,
            "-o %s: the mount is always ro, nosuid and nodev", option);
        return -1;
    default:
        if (!*option || strncmp(option, "x-", 2) == 0)
            return 0;
        wfe_error_set(
            parser->err, WFE_ERROR_INPUT, EINVAL, "-o %s: there is no such option", option);
        return -1;
    }
}

/* As an option's value, in which a comma and a backslash are escaped. */
static int add_fsname(struct fuse_args *args, const char *fsname)
{
    WFE_FREE char *plain = NULL;
    char *escaped = NULL;
    if (asprintf(&plain, "fsname=%s", fsname) < 0) {
        plain = NULL;
        return -1;
    }
    int r = fuse_opt_add_opt_escaped(&escaped, plain);
    if (r == 0 && (fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, escaped) < 0))
        r = -1;
    free(escaped);
    return r;
}

/* What holds for every mount. */
static int add_own(struct parser *parser, const char *fsname)
{
    struct fuse_args *args = &parser->options->args;
    if (fuse_opt_add_arg(args, "-oro,nosuid,nodev") < 0 ||
        (parser->lets_others_in && fuse_opt_add_arg(args, "-odefault_permissions") < 0) ||
        (!parser->has_subtype && fuse_opt_add_arg(args, "-osubtype=" SUBTYPE) < 0))
        return -1;
    return parser->has_fsname ? 0 : add_fsname(args, fsname);
}

int wfe_mount_options_parse(
    const char *text, const char *fsname, struct wfe_mount_options *ret, struct wfe_error *err)
{
    struct wfe_mount_options options = {.args = FUSE_ARGS_INIT(0, NULL)};
    struct wfe_error found = WFE_ERROR_INIT;
    struct parser parser = {.options = &options, .err = &found};
    struct fuse_args *args = &options.args;
    int r = fuse_opt_add_arg(args, SUBTYPE);
    if (r == 0 && text && *text)
        r = fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, text) < 0 ? -1 : 0;
    if (r == 0)
        r = fuse_opt_parse(args, &parser, KEYS, take);
    if (r == 0)
        r = add_own(&parser, fsname);
    if (r == 0) {
        *ret = options;
        return 0;
    }
    fuse_opt_free_args(args);
    if (found.kind == WFE_ERROR_NONE)
        return wfe_error_nomem(err);
    return wfe_error_set(err, found.kind, found.errnum, "%s", found.message);
}

void wfe_mount_options_done(struct wfe_mount_options *options)
{
    fuse_opt_free_args(&options->args);
}
