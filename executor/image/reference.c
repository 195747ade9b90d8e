/* SPDX-License-Identifier: MIT */
#include "executor/image/image.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "libcommon/cleanup.h"

/*
 * The grammar of distribution's "reference" package, which docker and containerd share:
 *
 *     reference  = [domain "/"] component *("/" component) [":" tag] ["@" digest]
 *     domain     = label *("." label) [":" 1*DIGIT] | "[" IPv6 "]" [":" 1*DIGIT]
 *     label      = alphanumerics, with "-" inside
 *     component  = 1*(a-z 0-9) *(separator 1*(a-z 0-9)),  separator = "." | "_" | "__" | 1*"-"
 *     tag        = (word) *127(word | "." | "-"),  word = a-z A-Z 0-9 "_"
 *
 * The first part is a domain only when it has a "." or ":", or is "localhost".
 */

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

#define REFERENCE_MAX_BYTES 1024
#define NAME_MAX_BYTES 255
#define TAG_MAX_BYTES 128

static const char DEFAULT_DOMAIN[] = "docker.io";

struct text_span {
    const char *text;
    size_t length;
};

struct reference_parts {
    struct text_span domain, path;
    struct text_span tag;    /* length 0: none */
    struct text_span digest; /* length 0: none */
};

static bool span_is(struct text_span span, const char *text)
{
    return span.length == strlen(text) && memcmp(span.text, text, span.length) == 0;
}

static bool span_has(struct text_span span, char c)
{
    return memchr(span.text, c, span.length) != NULL;
}

/* Whether all of the span is made of the characters in set. */
static bool span_of(struct text_span span, const char *set)
{
    for (size_t i = 0; i < span.length; i++)
        if (!strchr(set, span.text[i]))
            return false;
    return true;
}

/* Cut the span's beginning off up to the first c, which is dropped; all of it without one. */
static struct text_span next_part(struct text_span *rest, char c)
{
    const char *at = memchr(rest->text, c, rest->length);
    struct text_span part = {rest->text, at ? (size_t)(at - rest->text) : rest->length};
    size_t used = at ? part.length + 1 : part.length;
    rest->text += used;
    rest->length -= used;
    return part;
}

static bool is_label(struct text_span label)
{
    return label.length > 0 && span_of(label, LOWER_DIGITS UPPER "-") && label.text[0] != '-' &&
           label.text[label.length - 1] != '-';
}

static bool is_domain(struct text_span domain)
{
    if (domain.length > 0 && domain.text[0] == '[') {
        const char *close = memchr(domain.text, ']', domain.length);
        if (!close)
            return false;
        struct text_span address = {domain.text + 1, (size_t)(close - domain.text) - 1};
        struct text_span port = {close + 1, domain.length - address.length - 2};
        return address.length > 0 && span_of(address, "0123456789abcdefABCDEF:") &&
               (port.length == 0 ||
                   (port.length > 1 && port.text[0] == ':' &&
                       span_of((struct text_span){port.text + 1, port.length - 1}, "0123456789")));
    }
    bool has_port = span_has(domain, ':');
    struct text_span host = next_part(&domain, ':');
    if (has_port && (domain.length == 0 || !span_of(domain, "0123456789")))
        return false;
    if (host.length == 0 || host.text[host.length - 1] == '.')
        return false;
    while (host.length > 0)
        if (!is_label(next_part(&host, '.')))
            return false;
    return true;
}

static bool is_component(struct text_span component)
{
    size_t separator = 0;
    bool any = false;
    for (size_t i = 0; i < component.length; i++) {
        char c = component.text[i];
        if (strchr(LOWER_DIGITS, c)) {
            separator = 0;
            any = true;
            continue;
        }
        if (!any || !strchr("._-", c))
            return false;
        separator++;
        bool repeated = separator > 1 && c == component.text[i - 1] &&
                        (c == '-' || (c == '_' && separator == 2));
        if (separator > 1 && !repeated)
            return false;
    }
    return any && separator == 0;
}

static bool is_path(struct text_span path)
{
    if (path.length == 0 || path.text[path.length - 1] == '/')
        return false;
    while (path.length > 0)
        if (!is_component(next_part(&path, '/')))
            return false;
    return true;
}

static bool is_tag(struct text_span tag)
{
    return tag.length > 0 && tag.length <= TAG_MAX_BYTES &&
           span_of(tag, LOWER_DIGITS UPPER "_.-") && tag.text[0] != '.' && tag.text[0] != '-';
}

static bool is_digest(struct text_span digest)
{
    char text[sizeof((struct wfe_digest *)0)->text];
    if (digest.length != sizeof text - 1)
        return false;
    memcpy(text, digest.text, digest.length);
    text[digest.length] = '\0';
    struct wfe_digest parsed;
    return wfe_digest_parse(text, &parsed) == 0;
}

/* What is wrong with the reference, or NULL with *ret set. */
static const char *parse_reference(const char *reference, struct reference_parts *ret)
{
    struct reference_parts parts = {.domain = {DEFAULT_DOMAIN, strlen(DEFAULT_DOMAIN)}};
    struct text_span rest = {reference, strnlen(reference, REFERENCE_MAX_BYTES)};
    if (rest.length == REFERENCE_MAX_BYTES)
        return "it is too long";
    bool has_digest = span_has(rest, '@');
    struct text_span name = next_part(&rest, '@');
    parts.digest = rest;
    if (has_digest && !is_digest(parts.digest))
        return "what follows '@' is not sha256: and 64 hexadecimal digits";

    struct text_span first = {name.text, 0};
    const char *slash = memchr(name.text, '/', name.length);
    if (slash)
        first.length = (size_t)(slash - name.text);
    if (slash && (span_has(first, '.') || span_has(first, ':') || span_is(first, "localhost"))) {
        if (!is_domain(first))
            return "its registry is not a host name with an optional port";
        next_part(&name, '/');
        if (!span_is(first, "index.docker.io"))
            parts.domain = first;
    }

    bool has_tag = span_has(name, ':');
    parts.path = next_part(&name, ':');
    parts.tag = name;
    if (has_tag && !is_tag(parts.tag))
        return "its tag may have at most 128 letters, digits, '_', '.' and '-'";
    if (!is_path(parts.path))
        return span_of(parts.path, LOWER_DIGITS UPPER "._-/") &&
                       !span_of(parts.path, LOWER_DIGITS "._-/")
                   ? "its repository must be in lower case"
                   : "its repository is not made of lower-case letters, digits and single "
                     "separators";
    if (!slash && parts.path.length == WFE_DIGEST_HEX_LENGTH &&
        span_of(parts.path, "0123456789abcdef"))
        return "64 hexadecimal digits are an image's id, not its name";
    *ret = parts;
    return NULL;
}

int wfe_image_normalize(const char *reference, char **ret, struct wfe_error *err)
{
    assert(reference);
    struct reference_parts parts;
    const char *wrong = parse_reference(reference, &parts);
    bool official = !wrong && span_is(parts.domain, DEFAULT_DOMAIN) && !span_has(parts.path, '/');
    const char *library = official ? "library/" : "";
    if (!wrong && parts.domain.length + 1 + strlen(library) + parts.path.length > NAME_MAX_BYTES)
        wrong = "its name has more than 255 bytes";
    if (wrong)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "'%.200s' is not an image reference: %s",
            reference, wrong);

    static const struct text_span latest = {"latest", 6};
    struct text_span tag = parts.tag.length == 0 && parts.digest.length == 0 ? latest : parts.tag;
    char *full = NULL;
    int length = asprintf(&full, "%.*s/%s%.*s%s%.*s%s%.*s", (int)parts.domain.length,
        parts.domain.text, library, (int)parts.path.length, parts.path.text,
        tag.length > 0 ? ":" : "", (int)tag.length, tag.text, parts.digest.length > 0 ? "@" : "",
        (int)parts.digest.length, parts.digest.text);
    if (length < 0)
        return wfe_error_nomem(err);
    *ret = full;
    return 0;
}

static void copy_span(char *to, struct text_span span)
{
    memcpy(to, span.text, span.length);
    to[span.length] = '\0';
}

int wfe_image_split(const char *reference, struct wfe_reference *ret, struct wfe_error *err)
{
    WFE_FREE char *full = NULL;
    int r = wfe_image_normalize(reference, &full, err);
    if (r < 0)
        return r;
    struct reference_parts parts;
    const char *wrong = parse_reference(full, &parts);
    assert(!wrong);
    assert(parts.domain.length < sizeof ret->host && parts.path.length < sizeof ret->repository);
    assert(parts.tag.length < sizeof ret->tag && parts.digest.length < sizeof ret->digest);
    copy_span(ret->host, parts.domain);
    copy_span(ret->repository, parts.path);
    copy_span(ret->tag, parts.tag);
    copy_span(ret->digest, parts.digest);
    return 0;
}
