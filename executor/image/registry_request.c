/* SPDX-License-Identifier: MIT */
#include "executor/image/registry_request.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "executor/image/docker_config.h"
#include "executor/image/registry_auth.h"
#include "executor/image/registry_hosts.h"
#include "libcommon/cleanup.h"
#include "libcommon/log.h"

#define MAX_REDIRECTS 10
#define FIRST_PAUSE_MS 200
#define IDLE_MAX 16

/* What was found out about an endpoint. */
struct endpoint_state {
    char *authorization;   /* NULL: none was asked for */
    _Atomic bool answered; /* it speaks our protocol */
    _Atomic bool down;     /* it is not worth another try */
};

struct wfe_registry {
    struct wfe_reference reference;
    struct wfe_registry_options options;
    struct wfe_registry_endpoint *endpoints;
    struct endpoint_state *states;
    size_t endpoint_count;
    pthread_mutex_t lock; /* of what follows, and of the states */
    struct wfe_http *idle[IDLE_MAX];
    size_t idle_count;
};

/* A request at one endpoint. */
struct visit {
    struct wfe_registry *registry;
    const struct wfe_registry_request *request;
    const struct wfe_registry_endpoint *endpoint;
    struct endpoint_state *state;
    struct wfe_http *http;
    char *url;
    struct wfe_http_response response;
    bool begun;      /* the stream knows of this answer */
    bool redirected; /* the answer is another host's */
    bool has_credentials;
};

int wfe_registry_open(const struct wfe_reference *reference,
    const struct wfe_registry_options *options, struct wfe_registry **ret, struct wfe_error *err)
{
    struct wfe_registry *registry = calloc(1, sizeof *registry);
    if (!registry)
        return wfe_error_nomem(err);
    registry->reference = *reference;
    registry->options = *options;
    pthread_mutex_init(&registry->lock, NULL);
    const char *directory =
        options->hosts_directory ? options->hosts_directory : WFE_REGISTRY_HOSTS_DIRECTORY;
    int r = wfe_registry_endpoints_load(
        reference->host, directory, &registry->endpoints, &registry->endpoint_count, err);
    if (r == 0) {
        registry->states = calloc(registry->endpoint_count, sizeof *registry->states);
        if (!registry->states)
            r = wfe_error_nomem(err);
    }
    if (r == 0) {
        r = wfe_http_new(&registry->idle[0], err);
        registry->idle_count = r == 0;
    }
    if (r < 0) {
        wfe_registry_free(registry);
        return r;
    }
    *ret = registry;
    return 0;
}

void wfe_registry_free(struct wfe_registry *registry)
{
    if (!registry)
        return;
    for (size_t i = 0; i < registry->idle_count; i++)
        wfe_http_free(registry->idle[i]);
    for (size_t i = 0; registry->states && i < registry->endpoint_count; i++)
        free(registry->states[i].authorization);
    free(registry->states);
    wfe_registry_endpoints_free(registry->endpoints, registry->endpoint_count);
    pthread_mutex_destroy(&registry->lock);
    free(registry);
}

static int take_http(struct wfe_registry *registry, struct wfe_http **ret, struct wfe_error *err)
{
    struct wfe_http *http = NULL;
    pthread_mutex_lock(&registry->lock);
    if (registry->idle_count > 0)
        http = registry->idle[--registry->idle_count];
    pthread_mutex_unlock(&registry->lock);
    if (!http)
        return wfe_http_new(ret, err);
    *ret = http;
    return 0;
}

static void give_http(struct wfe_registry *registry, struct wfe_http *http)
{
    pthread_mutex_lock(&registry->lock);
    if (registry->idle_count < IDLE_MAX) {
        registry->idle[registry->idle_count++] = http;
        http = NULL;
    }
    pthread_mutex_unlock(&registry->lock);
    wfe_http_free(http);
}

static bool is_login_for(const struct wfe_step_registry_auth *login, const char *host)
{
    static const char *const docker_io[] = {"docker.io", "index.docker.io", "registry-1.docker.io"};
    if (strcasecmp(login->host, host) == 0)
        return true;
    bool named = false;
    for (size_t i = 0; i < sizeof docker_io / sizeof *docker_io; i++)
        named = named || strcasecmp(login->host, docker_io[i]) == 0;
    return named && strcmp(host, "docker.io") == 0;
}

int wfe_registry_find_credentials(const struct wfe_registry_options *options, const char *host,
    struct wfe_cancel *cancel, struct wfe_registry_credentials *ret, struct wfe_error *err)
{
    for (size_t i = 0; i < options->login_count; i++) {
        if (!is_login_for(&options->logins[i], host))
            continue;
        ret->username = strdup(options->logins[i].username);
        ret->password = strdup(options->logins[i].password);
        return ret->username && ret->password ? 0 : wfe_error_nomem(err);
    }
    return wfe_docker_config_find(host, cancel, ret, err);
}

static int make_authorization(
    struct visit *visit, const struct wfe_challenge *challenge, char **ret, struct wfe_error *err)
{
    const struct wfe_registry_endpoint *endpoint = visit->endpoint;
    const char *repository = visit->registry->reference.repository;
    struct wfe_registry_credentials credentials = {.username = NULL};
    char scope[sizeof visit->registry->reference.repository + 32];
    snprintf(scope, sizeof scope, "repository:%s:pull", repository);
    int r = wfe_registry_find_credentials(
        &visit->registry->options, endpoint->host, visit->request->cancel, &credentials, err);
    visit->has_credentials = credentials.username || credentials.identity_token;
    if (r == 0) {
        r = wfe_registry_authorize(visit->http, challenge, &credentials, visit->url, scope,
            &endpoint->tls, visit->request->cancel, ret, err);
        if (r == -EACCES && !visit->has_credentials)
            wfe_error_prefix(err,
                "%.150s needs credentials (registry_auth of the step, --creds of pull, or `docker "
                "login %.100s`)",
                repository, endpoint->host);
        else if (r == -EACCES)
            wfe_error_prefix(err, "access to %.150s", repository);
    }
    wfe_registry_credentials_done(&credentials);
    return r;
}

/* After a 401 to a request with the authorization `used`. Others wait, and profit. */
static int authenticate(struct visit *visit, const char *used, struct wfe_error *err)
{
    struct endpoint_state *state = visit->state;
    struct wfe_challenge challenge = {.scheme = WFE_CHALLENGE_NONE};
    if (wfe_challenge_parse(
            visit->response.challenges ? visit->response.challenges : "", &challenge) < 0)
        return wfe_error_nomem(err);
    int r = 0;
    pthread_mutex_lock(&visit->registry->lock);
    bool unchanged = state->authorization && used ? strcmp(state->authorization, used) == 0
                                                  : state->authorization == NULL;
    if (unchanged) {
        char *authorization = NULL;
        r = make_authorization(visit, &challenge, &authorization, err);
        if (r == 0) {
            free(state->authorization);
            state->authorization = authorization;
        }
    }
    pthread_mutex_unlock(&visit->registry->lock);
    wfe_challenge_done(&challenge);
    return r;
}

static int take_body(void *context, const void *data, size_t length, struct wfe_error *err)
{
    struct visit *visit = context;
    struct wfe_registry_stream *stream = visit->request->stream;
    if (!visit->begun) {
        int r = stream->begin(stream, &visit->response, err);
        if (r < 0)
            return r;
        visit->begun = true;
    }
    return stream->take(stream, data, length, err);
}

static int perform_at(
    struct visit *visit, const char *url, const char *authorization, struct wfe_error *err)
{
    bool own = wfe_http_same_origin(url, visit->url);
    struct wfe_http_tls tls = visit->endpoint->tls;
    if (!own)
        tls.certificate = tls.key = NULL;
    struct wfe_http_request request = {
        .url = url,
        .accept = visit->request->accept,
        .authorization = own ? authorization : NULL,
        .offset_bytes = visit->request->stream->done_bytes,
        .tls = &tls,
        .body = {.write = take_body, .context = visit},
        .cancel = visit->request->cancel,
    };
    visit->begun = false;
    visit->redirected = !own;
    wfe_http_response_done(&visit->response);
    return wfe_http_perform(visit->http, &request, &visit->response, err);
}

static bool is_redirect(const struct wfe_http_response *response)
{
    int status = response->status;
    return response->redirect &&
           (status == 301 || status == 302 || status == 303 || status == 307 || status == 308);
}

static int check_redirect(const char *from, const char *to, struct wfe_error *err)
{
    bool https = strncasecmp(to, "https://", 8) == 0, http = strncasecmp(to, "http://", 7) == 0;
    if (!https && !http)
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EPROTO, "it redirects to %.200s, which is no http(s) URL", to);
    if (http && strncasecmp(from, "https://", 8) == 0)
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EPROTO, "it redirects to %.200s, which is without TLS", to);
    return 0;
}

static int follow(struct visit *visit, const char *authorization, struct wfe_error *err)
{
    WFE_FREE char *url = strdup(visit->url);
    if (!url)
        return wfe_error_nomem(err);
    for (int i = 0; i <= MAX_REDIRECTS; i++) {
        int r = perform_at(visit, url, authorization, err);
        if (r < 0 || !is_redirect(&visit->response))
            return r;
        r = check_redirect(url, visit->response.redirect, err);
        if (r < 0)
            return r;
        free(url);
        url = wfe_steal(&visit->response.redirect);
    }
    return wfe_error_set(
        err, WFE_ERROR_SYSTEM, ELOOP, "it redirects more than %d times", MAX_REDIRECTS);
}

/* Once, and again with credentials after a 401. */
static int ask(struct visit *visit, struct wfe_error *err)
{
    for (int tries = 0;; tries++) {
        WFE_FREE char *authorization = NULL;
        pthread_mutex_lock(&visit->registry->lock);
        bool wanted = visit->state->authorization != NULL;
        if (wanted)
            authorization = strdup(visit->state->authorization);
        pthread_mutex_unlock(&visit->registry->lock);
        if (wanted && !authorization)
            return wfe_error_nomem(err);
        int r = follow(visit, authorization, err);
        if (r < 0 || visit->response.status != 401 || visit->redirected || tries > 0)
            return r;
        r = authenticate(visit, authorization, err);
        if (r < 0)
            return r;
    }
}

/* What the registry says in an error's body (distribution spec, "Error Codes"), as ": text"; or "".
 */
static void read_detail(const struct wfe_http_response *response, char *to, size_t size)
{
    WFE_JSON cJSON *body = cJSON_Parse(response->detail);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(body, "errors"), 0);
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(first, "message");
    bool said = cJSON_IsString(message) && message->valuestring[0];
    snprintf(to, size, "%s%.150s", said ? ": " : "", said ? message->valuestring : "");
    for (char *at = to; *at; at++)
        if (iscntrl((unsigned char)*at))
            *at = ' ';
}

static int not_found(const struct visit *visit, const char *detail, struct wfe_error *err)
{
    const char *repository = visit->registry->reference.repository;
    const char *name = visit->request->name;
    if (visit->request->resolves)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "there is no %.150s with the tag '%s' (404)%s", repository, name, detail);
    return wfe_error_set(
        err, WFE_ERROR_INPUT, ENOENT, "there is no %s in %.150s (404)%s", name, repository, detail);
}

static int judge_status(const struct visit *visit, struct wfe_error *err)
{
    int status = visit->response.status;
    const char *repository = visit->registry->reference.repository;
    char detail[160];
    read_detail(&visit->response, detail, sizeof detail);
    switch (status) {
    case 200:
    case 206:
        return 0;
    case 401:
        return wfe_error_set(err, WFE_ERROR_INPUT, EACCES, "access to %.150s: %s (401)%s",
            repository,
            visit->has_credentials ? "the credentials are refused" : "it wants credentials",
            detail);
    case 403:
        return wfe_error_set(err, WFE_ERROR_INPUT, EACCES,
            "access to %.150s is denied (403)%s: the account may not pull it, or it does not exist",
            repository, detail);
    case 404:
        return not_found(visit, detail, err);
    case 429:
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EAGAIN, "too many requests (429)%s", detail);
    case 408:
    case 500:
    case 502:
    case 503:
    case 504:
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EAGAIN, "it is out of order (%d)%s", status, detail);
    default:
        return wfe_error_set(
            err, WFE_ERROR_SYSTEM, EPROTO, "it answers with status %d%s", status, detail);
    }
}

static bool may_pass(const struct wfe_error *err)
{
    return err->kind == WFE_ERROR_SYSTEM &&
           (err->errnum == EAGAIN || err->errnum == ECONNRESET || err->errnum == ETIMEDOUT);
}

/* Wait before the next try. */
static int pause_before_retry(const struct visit *visit, unsigned failures, struct wfe_error *err)
{
    struct wfe_cancel *cancel = visit->request->cancel;
    int64_t wait_ms = (int64_t)FIRST_PAUSE_MS << (failures - 1);
    int64_t asked_s = visit->response.retry_after_s;
    if (asked_s > WFE_REGISTRY_MAX_PAUSE_S)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EAGAIN,
            "it wants to be asked again in %lld seconds (%d)", (long long)asked_s,
            visit->response.status);
    if (asked_s > 0)
        wait_ms = asked_s * 1000;
    struct pollfd stop = {.fd = cancel ? wfe_cancel_fd(cancel) : -1, .events = POLLIN};
    poll(&stop, 1, (int)wait_ms);
    if (wfe_cancel_requested(cancel))
        return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped");
    return 0;
}

/* Plain HTTP, to what may want TLS: waiting does not help. */
static bool is_probe(const struct visit *visit)
{
    size_t next = (size_t)(visit->endpoint - visit->registry->endpoints) + 1;
    return next < visit->registry->endpoint_count && !visit->state->answered &&
           visit->registry->endpoints[next].tls_fallback;
}

static int try_until_done(struct visit *visit, struct wfe_error *err)
{
    const struct wfe_registry_stream *stream = visit->request->stream;
    unsigned failures = 0;
    uint64_t before_bytes = stream->done_bytes;
    for (;;) {
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = ask(visit, &failure);
        if (visit->response.status != 0 && visit->response.status != 400)
            visit->state->answered = true;
        if (r == 0)
            r = judge_status(visit, &failure);
        if (stream->done_bytes > before_bytes)
            failures = 0;
        before_bytes = stream->done_bytes;
        bool whole =
            stream->wanted_bytes > 0 && stream->done_bytes == (uint64_t)stream->wanted_bytes;
        if (r == 0 || (whole && may_pass(&failure)))
            return 0;
        bool give_up = !may_pass(&failure) || is_probe(visit) || failures == WFE_REGISTRY_RETRIES;
        if (give_up) {
            if (err)
                *err = failure;
            return r;
        }
        failures++;
        wfe_log(
            WFE_LOG_INFO, "image", "%s: %s; trying again", visit->endpoint->base, failure.message);
        r = pause_before_retry(visit, failures, err);
        if (r < 0)
            return r;
    }
}

static int make_url(struct visit *visit, struct wfe_error *err)
{
    const struct wfe_reference *reference = &visit->registry->reference;
    const struct wfe_registry_request *request = visit->request;
    /* A mirror of several registries is told which one is meant, as containerd does it. */
    bool tell = visit->endpoint->mirror;
    if (asprintf(&visit->url, "%s/%s/%s/%s%s%s", visit->endpoint->base, reference->repository,
            request->kind, request->name, tell ? "?ns=" : "", tell ? reference->host : "") < 0) {
        visit->url = NULL;
        return wfe_error_nomem(err);
    }
    return 0;
}

/* *ret_wants_tls: plain HTTP is not what is spoken there. */
static int visit_endpoint(struct wfe_registry *registry, size_t at,
    const struct wfe_registry_request *request, bool *ret_wants_tls, struct wfe_error *err)
{
    struct visit visit = {
        .registry = registry,
        .request = request,
        .endpoint = &registry->endpoints[at],
        .state = &registry->states[at],
    };
    int r = take_http(registry, &visit.http, err);
    if (r < 0)
        return r;
    struct wfe_error failure = WFE_ERROR_INIT;
    r = make_url(&visit, &failure);
    if (r == 0)
        r = try_until_done(&visit, &failure);
    bool protocol_failed = visit.response.status == 400 ||
                           (visit.response.status == 0 && (r == -ECONNRESET || r == -EPROTO));
    *ret_wants_tls = r < 0 && is_probe(&visit) && protocol_failed;
    if (*ret_wants_tls)
        visit.state->down = true;
    if (visit.endpoint->mirror && visit.response.status == 0)
        visit.state->down = true;
    if (r < 0 && r != -ECANCELED)
        wfe_error_prefix(&failure, "%.100s", visit.endpoint->base);
    if (r < 0 && err)
        *err = failure;
    wfe_http_response_done(&visit.response);
    free(visit.url);
    give_http(registry, visit.http);
    return r;
}

static bool may_ask(const struct wfe_registry *registry, size_t at,
    const struct wfe_registry_request *request, bool wants_tls)
{
    const struct wfe_registry_endpoint *endpoint = &registry->endpoints[at];
    if (endpoint->tls_fallback && !wants_tls && !registry->states[at].answered)
        return false;
    return (request->resolves ? endpoint->resolves : endpoint->pulls) && !registry->states[at].down;
}

/* What a further host may do better. */
static bool is_hosts_failure(const struct wfe_error *err)
{
    return err->kind == WFE_ERROR_INPUT || err->kind == WFE_ERROR_SYSTEM;
}

int wfe_registry_get(struct wfe_registry *registry, const struct wfe_registry_request *request,
    struct wfe_error *err)
{
    struct wfe_error failures = WFE_ERROR_INIT;
    bool wants_tls = false;
    for (size_t i = 0; i < registry->endpoint_count; i++) {
        if (!may_ask(registry, i, request, wants_tls))
            continue;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = visit_endpoint(registry, i, request, &wants_tls, &failure);
        if (r == 0)
            return 0;
        if (failures.kind != WFE_ERROR_NONE)
            wfe_error_prefix(&failure, "%.240s; then", failures.message);
        failures = failure;
        if (!is_hosts_failure(&failure))
            break;
    }
    if (failures.kind == WFE_ERROR_NONE)
        return wfe_error_set(err, WFE_ERROR_INPUT, ENOENT,
            "none of the hosts that are configured for %s may be asked for %s",
            registry->reference.host, request->resolves ? "tags" : "blobs");
    if (err)
        *err = failures;
    return -failures.errnum;
}
