/* SPDX-License-Identifier: MIT */
#include "executor/image/registry_auth.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/json.h"

#define TOKEN_MAX_BYTES (256 * 1024)
#define URL_MAX_BYTES (256 * 1024)
#define CLIENT_ID "wfe-containerd"

static void free_secret(char *secret)
{
    if (secret)
        OPENSSL_cleanse(secret, strlen(secret));
    free(secret);
}

void wfe_registry_credentials_done(struct wfe_registry_credentials *credentials)
{
    free(credentials->username);
    free_secret(credentials->password);
    free_secret(credentials->identity_token);
    *credentials = (struct wfe_registry_credentials){.username = NULL};
}

void wfe_challenge_done(struct wfe_challenge *challenge)
{
    free(challenge->realm);
    free(challenge->service);
    free(challenge->scope);
    *challenge = (struct wfe_challenge){.scheme = WFE_CHALLENGE_NONE};
}

static bool is_token_character(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t token_length(const char *at)
{
    size_t length = 0;
    while (is_token_character(at[length]))
        length++;
    return length;
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t");
}

/* A token or a quoted string; *at moves behind it. Returns 0, -EINVAL or -ENOMEM. */
static int read_parameter_value(const char **at, char **ret)
{
    if (**at != '"') {
        size_t length = token_length(*at);
        if (length == 0)
            return -EINVAL;
        *ret = strndup(*at, length);
        *at += length;
        return *ret ? 0 : -ENOMEM;
    }
    char *value = malloc(strlen(*at));
    if (!value)
        return -ENOMEM;
    size_t length = 0;
    const char *from = *at + 1;
    for (; *from && *from != '\n' && *from != '"'; from++) {
        if (*from == '\\' && from[1] && from[1] != '\n')
            from++;
        value[length++] = *from;
    }
    value[length] = '\0';
    if (*from != '"') {
        free(value);
        return -EINVAL;
    }
    *at = from + 1;
    *ret = value;
    return 0;
}

/* One name=value of a challenge; a name that is given twice keeps its first value. */
static int read_parameter(const char **at, struct wfe_challenge *challenge)
{
    const char *name = *at;
    size_t name_length = token_length(name);
    const char *from = skip_space(name + name_length);
    if (name_length == 0 || *from != '=')
        return -EINVAL;
    from = skip_space(from + 1);
    char *value = NULL;
    int r = read_parameter_value(&from, &value);
    if (r < 0)
        return r;
    static const char *const names[] = {"realm", "service", "scope"};
    char **const fields[] = {&challenge->realm, &challenge->service, &challenge->scope};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool named =
            name_length == strlen(names[i]) && strncasecmp(name, names[i], name_length) == 0;
        if (named && !*fields[i])
            *fields[i] = wfe_steal(&value);
    }
    free(value);
    *at = from;
    return 0;
}

/* Whether a parameter follows, rather than the next challenge's scheme. */
static bool at_parameter(const char *at)
{
    size_t length = token_length(at);
    return length > 0 && *skip_space(at + length) == '=';
}

/* A scheme and its parameters; *at moves behind the comma. */
static int read_challenge(const char **at, struct wfe_challenge *ret)
{
    size_t length = token_length(*at);
    if (length == 0)
        return -EINVAL;
    struct wfe_challenge challenge = {.scheme = WFE_CHALLENGE_NONE};
    if (length == 6 && strncasecmp(*at, "Bearer", 6) == 0)
        challenge.scheme = WFE_CHALLENGE_BEARER;
    else if (length == 5 && strncasecmp(*at, "Basic", 5) == 0)
        challenge.scheme = WFE_CHALLENGE_BASIC;
    const char *from = skip_space(*at + length);
    int r = 0;
    while (r == 0 && at_parameter(from)) {
        r = read_parameter(&from, &challenge);
        from += strspn(from, " \t,");
    }
    /* What is no list of parameters ("Negotiate abc==") says nothing to us. */
    if (r == 0 && *from && *from != '\n' && from == skip_space(*at + length))
        from += strcspn(from, ",\n");
    if (r < 0) {
        wfe_challenge_done(&challenge);
        return r;
    }
    *at = from + strspn(from, " \t,");
    *ret = challenge;
    return 0;
}

static bool is_better(const struct wfe_challenge *challenge, const struct wfe_challenge *best)
{
    return challenge->scheme > best->scheme &&
           (challenge->scheme != WFE_CHALLENGE_BEARER || challenge->realm);
}

int wfe_challenge_parse(const char *values, struct wfe_challenge *ret)
{
    assert(values && ret);
    struct wfe_challenge best = {.scheme = WFE_CHALLENGE_NONE};
    for (const char *line = values; *line; line += strspn(line, "\n")) {
        const char *at = line + strspn(line, " \t,");
        while (*at && *at != '\n') {
            struct wfe_challenge challenge;
            int r = read_challenge(&at, &challenge);
            if (r == -ENOMEM) {
                wfe_challenge_done(&best);
                return r;
            }
            if (r < 0)
                break;
            if (is_better(&challenge, &best)) {
                wfe_challenge_done(&best);
                best = challenge;
            } else {
                wfe_challenge_done(&challenge);
            }
        }
        line += strcspn(line, "\n");
    }
    *ret = best;
    return 0;
}

/* "Basic " and user:password in base64; NULL when memory ran out. */
static char *basic_value(const struct wfe_registry_credentials *credentials)
{
    char *pair = NULL;
    int length = asprintf(&pair, "%s:%s", credentials->username, credentials->password);
    if (length < 0)
        return NULL;
    static const char prefix[] = "Basic ";
    char *value = malloc(sizeof prefix + 4 * ((size_t)length / 3 + 1) + 1);
    if (value) {
        memcpy(value, prefix, sizeof prefix);
        EVP_EncodeBlock((unsigned char *)value + strlen(prefix), (unsigned char *)pair, length);
    }
    free_secret(pair);
    return value;
}

static int answer_basic(
    const struct wfe_registry_credentials *credentials, char **ret, struct wfe_error *err)
{
    if (!credentials->username || !credentials->password)
        return wfe_error_set(err, WFE_ERROR_INPUT, EACCES, "it wants a user name and a password");
    char *value = basic_value(credentials);
    if (!value)
        return wfe_error_nomem(err);
    *ret = value;
    return 0;
}

/* "&name=value", percent-encoded (the first with `separator` instead of "&"). */
static int add_query(
    struct wfe_buffer *to, const char *separator, const char *name, const char *value)
{
    if (!value)
        return 0;
    int r = wfe_buffer_printf(to, "%s%s=", separator, name);
    for (; r == 0 && *value; value++) {
        bool plain = isalnum((unsigned char)*value) || strchr("-._~", *value);
        r = wfe_buffer_printf(to, plain ? "%c" : "%%%02X", (unsigned char)*value);
    }
    return r;
}

static int check_realm(const char *realm, const char *url, struct wfe_error *err)
{
    bool https = strncmp(realm, "https://", 8) == 0, http = strncmp(realm, "http://", 7) == 0;
    const char *authority = realm + (https ? 8 : 7);
    char host[256];
    size_t length = https || http ? strcspn(authority, "/?#") : 0;
    if (length == 0 || length >= sizeof host || memchr(authority, '@', length))
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EPROTO, "its token server '%.200s' is no http(s) URL", realm);
    memcpy(host, authority, length);
    host[length] = '\0';
    if (http && strncmp(url, "https://", 8) == 0 && !wfe_http_is_loopback(host))
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EPROTO,
            "its token server %.200s is without TLS, which the registry itself has", realm);
    return 0;
}

/* Scopes are separated by spaces; each is a parameter of its own. */
static int add_scopes(struct wfe_buffer *query, const char *scopes)
{
    int r = 0;
    while (r == 0 && *(scopes += strspn(scopes, " "))) {
        size_t length = strcspn(scopes, " ");
        WFE_FREE char *scope = strndup(scopes, length);
        if (!scope)
            return -ENOMEM;
        r = add_query(query, "&", "scope", scope);
        scopes += length;
    }
    return r;
}

/* What is asked: the realm's URL with a query (GET), or a form for it (POST, an identity token). */
struct token_request {
    struct wfe_buffer url, form;
    char *authorization;
};

static int make_token_request(const struct wfe_challenge *challenge,
    const struct wfe_registry_credentials *credentials, const char *scope,
    struct token_request *request)
{
    const char *scopes = challenge->scope ? challenge->scope : scope;
    int r = wfe_buffer_puts(&request->url, challenge->realm);
    if (r == 0 && credentials->identity_token) {
        r = add_query(&request->form, "", "grant_type", "refresh_token");
        if (r == 0)
            r = add_query(&request->form, "&", "refresh_token", credentials->identity_token);
        if (r == 0)
            r = add_query(&request->form, "&", "client_id", CLIENT_ID);
        if (r == 0)
            r = add_query(&request->form, "&", "service", challenge->service);
        return r == 0 ? add_query(&request->form, "&", "scope", scopes) : r;
    }
    const char *separator = strchr(challenge->realm, '?') ? "&" : "?";
    if (r == 0)
        r = add_query(&request->url, separator, "client_id", CLIENT_ID);
    if (r == 0)
        r = add_query(&request->url, "&", "service", challenge->service);
    if (r == 0)
        r = add_scopes(&request->url, scopes);
    if (r == 0 && credentials->username && credentials->password &&
        !(request->authorization = basic_value(credentials)))
        r = -ENOMEM;
    return r;
}

static int take_token_text(void *context, const void *data, size_t length, struct wfe_error *err)
{
    int r = wfe_buffer_append(context, data, length);
    if (r == -EMSGSIZE)
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EPROTO, "a token of more than %d bytes", TOKEN_MAX_BYTES);
    return r < 0 ? wfe_error_nomem(err) : 0;
}

/* "Bearer " and the token of the answer, which must be able to stand in a header. */
static int read_token(const struct wfe_buffer *text, char **ret, struct wfe_error *err)
{
    WFE_JSON cJSON *answer = NULL;
    if (wfe_json_parse(text->data ? text->data : "", text->length, NULL, &answer) == -ENOMEM)
        return wfe_error_nomem(err);
    const cJSON *token = cJSON_GetObjectItemCaseSensitive(answer, "token");
    if (!cJSON_IsString(token) || !token->valuestring[0])
        token = cJSON_GetObjectItemCaseSensitive(answer, "access_token");
    bool good = cJSON_IsString(token) && token->valuestring[0];
    for (const char *at = good ? token->valuestring : ""; *at; at++)
        good = good && isgraph((unsigned char)*at);
    if (!good)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EPROTO, "its answer holds no usable token");
    char *value = NULL;
    if (asprintf(&value, "Bearer %s", token->valuestring) < 0)
        return wfe_error_nomem(err);
    *ret = value;
    return 0;
}

static int judge_token_status(const struct wfe_http_response *response,
    const struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    int status = response->status;
    bool anonymous = !credentials->username && !credentials->identity_token;
    if (status == 200)
        return 0;
    if (status == 400 || status == 401 || status == 403)
        return wfe_error_set(err, WFE_ERROR_INPUT, EACCES,
            anonymous ? "no token without credentials (%d)" : "the credentials are refused (%d)",
            status);
    if (status == 429 || status >= 500)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EAGAIN, "no token for now (%d)", status);
    return wfe_error_set(err, WFE_ERROR_SYSTEM, EPROTO, "no token (%d)", status);
}

static int fetch_token(struct wfe_http *http, const struct token_request *token_request,
    const struct wfe_registry_credentials *credentials, const struct wfe_http_tls *tls,
    struct wfe_cancel *cancel, char **ret, struct wfe_error *err)
{
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(TOKEN_MAX_BYTES);
    struct wfe_http_request request = {
        .url = token_request->url.data,
        .form = token_request->form.data,
        .authorization = token_request->authorization,
        .tls = tls,
        .body = {.write = take_token_text, .context = &text},
        .cancel = cancel,
    };
    struct wfe_http_response response;
    int r = wfe_http_perform(http, &request, &response, err);
    if (r == 0)
        r = judge_token_status(&response, credentials, err);
    if (r == 0)
        r = read_token(&text, ret, err);
    wfe_http_response_done(&response);
    return r;
}

static int answer_bearer(struct wfe_http *http, const struct wfe_challenge *challenge,
    const struct wfe_registry_credentials *credentials, const char *url, const char *scope,
    const struct wfe_http_tls *tls, struct wfe_cancel *cancel, char **ret, struct wfe_error *err)
{
    int r = check_realm(challenge->realm, url, err);
    if (r < 0)
        return r;
    struct token_request request = {
        .url = WFE_BUFFER_INIT(URL_MAX_BYTES), .form = WFE_BUFFER_INIT(URL_MAX_BYTES)};
    if (make_token_request(challenge, credentials, scope, &request) < 0)
        r = wfe_error_nomem(err);
    else
        r = fetch_token(http, &request, credentials, tls, cancel, ret, err);
    if (r < 0 && r != -ECANCELED)
        wfe_error_prefix(
            err, "token server %.*s", (int)strcspn(challenge->realm, "?#"), challenge->realm);
    wfe_buffer_done(&request.url);
    wfe_buffer_done(&request.form);
    free_secret(request.authorization);
    return r;
}

int wfe_registry_authorize(struct wfe_http *http, const struct wfe_challenge *challenge,
    const struct wfe_registry_credentials *credentials, const char *url, const char *scope,
    const struct wfe_http_tls *tls, struct wfe_cancel *cancel, char **ret, struct wfe_error *err)
{
    switch (challenge->scheme) {
    case WFE_CHALLENGE_BASIC:
        return answer_basic(credentials, ret, err);
    case WFE_CHALLENGE_BEARER:
        return answer_bearer(http, challenge, credentials, url, scope, tls, cancel, ret, err);
    case WFE_CHALLENGE_NONE:
        break;
    }
    return wfe_error_set(err, WFE_ERROR_SYSTEM, EPROTO,
        "it asks for a way of authentication that is neither Basic nor Bearer");
}
