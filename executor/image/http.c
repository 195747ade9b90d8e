/* SPDX-License-Identifier: MIT */
#include "executor/image/http.h"

#include <assert.h>
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <curl/curl.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"

#define CONNECT_TIMEOUT_S 30L
#define STALLED_AFTER_S 60L
#define BUFFER_BYTES (256L * 1024)
#define POLL_MS 1000
#define CHALLENGES_MAX_BYTES (16 * 1024)

#define CURL_FUNCTIONS(FUNCTION)                                                                   \
    FUNCTION(global_init)                                                                          \
    FUNCTION(easy_init)                                                                            \
    FUNCTION(easy_cleanup)                                                                         \
    FUNCTION(easy_setopt)                                                                          \
    FUNCTION(easy_getinfo)                                                                         \
    FUNCTION(easy_reset)                                                                           \
    FUNCTION(easy_strerror)                                                                        \
    FUNCTION(multi_init)                                                                           \
    FUNCTION(multi_cleanup)                                                                        \
    FUNCTION(multi_add_handle)                                                                     \
    FUNCTION(multi_remove_handle)                                                                  \
    FUNCTION(multi_perform)                                                                        \
    FUNCTION(multi_poll)                                                                           \
    FUNCTION(multi_info_read)                                                                      \
    FUNCTION(slist_append)                                                                         \
    FUNCTION(slist_free_all)

static struct {
#define DECLARE(name) __typeof__(curl_##name) *name;
    CURL_FUNCTIONS(DECLARE)
#undef DECLARE
} curl;

static const char *load_failure; /* NULL: all is there */

static void load_curl(void)
{
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        load_failure = "libcurl.so.4 can't be loaded (Debian has it in the package libcurl4)";
        return;
    }
#define FIND(name)                                                                                 \
    *(void **)&curl.name = dlsym(library, "curl_" #name);                                          \
    if (!curl.name)                                                                                \
        load_failure = "libcurl is too old: it lacks curl_" #name;
    CURL_FUNCTIONS(FIND)
#undef FIND
    if (!load_failure && curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        load_failure = "libcurl can't be initialised";
}

struct wfe_http {
    CURLM *multi;
    CURL *easy;
};

/* One request on its way. */
struct exchange {
    struct wfe_http *http;
    const struct wfe_http_request *request;
    struct wfe_http_response *response;
    struct wfe_buffer challenges;
    size_t detail_length;
    bool challenges_lost;
    int sink_r;
    struct wfe_error sink_err;
    char message[CURL_ERROR_SIZE];
};

int wfe_http_new(struct wfe_http **ret, struct wfe_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load_curl);
    if (load_failure)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, ENOENT, "%s", load_failure);
    struct wfe_http *http = calloc(1, sizeof *http);
    if (!http)
        return wfe_error_nomem(err);
    http->multi = curl.multi_init();
    http->easy = curl.easy_init();
    if (!http->multi || !http->easy) {
        wfe_http_free(http);
        return wfe_error_nomem(err);
    }
    *ret = http;
    return 0;
}

void wfe_http_free(struct wfe_http *http)
{
    if (!http)
        return;
    if (http->easy)
        curl.easy_cleanup(http->easy);
    if (http->multi)
        curl.multi_cleanup(http->multi);
    free(http);
}

/* The value of the header `name` in a line, without spaces around it; false: another header. */
static bool header_value(
    const char *line, size_t length, const char *name, const char **ret, size_t *ret_length)
{
    size_t name_length = strlen(name);
    if (length <= name_length || line[name_length] != ':' ||
        strncasecmp(line, name, name_length) != 0)
        return false;
    const char *at = line + name_length + 1, *end = line + length;
    while (at < end && isspace((unsigned char)*at))
        at++;
    while (end > at && isspace((unsigned char)end[-1]))
        end--;
    *ret = at;
    *ret_length = (size_t)(end - at);
    return true;
}

static void copy_value(char *to, size_t size, const char *value, size_t length)
{
    /* What does not fit is no value that anyone could use. */
    if (length >= size)
        length = 0;
    memcpy(to, value, length);
    to[length] = '\0';
}

/* "bytes 500-999/1000" → 500; -1 when it is malformed (RFC 9110, section 14.4). */
static int64_t range_start(const char *value, size_t length)
{
    char text[64] = "";
    copy_value(text, sizeof text, value, length);
    if (strncasecmp(text, "bytes ", 6) != 0 || !isdigit((unsigned char)text[6]))
        return -1;
    char *end;
    errno = 0;
    long long start = strtoll(text + 6, &end, 10);
    return errno == 0 && *end == '-' ? start : -1;
}

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    struct wfe_http_response *response = exchange->response;
    size_t length = size * count;
    const char *value;
    size_t value_length;
    if (header_value(line, length, "content-type", &value, &value_length)) {
        copy_value(response->content_type, sizeof response->content_type, value, value_length);
    } else if (header_value(line, length, "docker-content-digest", &value, &value_length)) {
        copy_value(response->content_digest, sizeof response->content_digest, value, value_length);
    } else if (header_value(line, length, "content-range", &value, &value_length)) {
        response->range_start = range_start(value, value_length);
    } else if (header_value(line, length, "www-authenticate", &value, &value_length)) {
        if (wfe_buffer_append(&exchange->challenges, value, value_length) < 0 ||
            wfe_buffer_puts(&exchange->challenges, "\n") < 0)
            exchange->challenges_lost = true;
    }
    return length;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    struct wfe_http_response *response = exchange->response;
    size_t length = size * count;
    long status = 0;
    curl.easy_getinfo(exchange->http->easy, CURLINFO_RESPONSE_CODE, &status);
    response->status = (int)status;
    if (status >= 200 && status < 300) {
        const struct wfe_sink *sink = &exchange->request->body;
        exchange->sink_r = sink->write(sink->context, data, length, &exchange->sink_err);
        return exchange->sink_r < 0 ? 0 : length;
    }
    size_t room = sizeof response->detail - 1 - exchange->detail_length;
    size_t taken = length < room ? length : room;
    memcpy(response->detail + exchange->detail_length, data, taken);
    exchange->detail_length += taken;
    return length;
}

static void set_tls(CURL *easy, const struct wfe_http_tls *tls)
{
    if (!tls)
        return;
    if (tls->ca_pem) {
        struct curl_blob blob = {
            .data = tls->ca_pem, .len = strlen(tls->ca_pem), .flags = CURL_BLOB_NOCOPY};
        curl.easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
    }
    if (tls->certificate) {
        curl.easy_setopt(easy, CURLOPT_SSLCERT, tls->certificate);
        curl.easy_setopt(easy, CURLOPT_SSLKEY, tls->key);
    }
    if (tls->skip_verify) {
        curl.easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl.easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
}

/* A proxy elsewhere knows nothing of what listens here. */
static void set_proxy(CURL *easy, const char *url)
{
    const char *authority = strstr(url, "://");
    char host[256] = "";
    if (authority)
        copy_value(host, sizeof host, authority + 3, strcspn(authority + 3, "/?#"));
    if (wfe_http_is_loopback(host))
        curl.easy_setopt(easy, CURLOPT_NOPROXY, "*");
}

static void set_request(struct exchange *exchange, struct curl_slist *headers)
{
    CURL *easy = exchange->http->easy;
    const struct wfe_http_request *request = exchange->request;
    curl.easy_setopt(easy, CURLOPT_URL, request->url);
    curl.easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl.easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl.easy_setopt(easy, CURLOPT_USERAGENT, "wfe-containerd");
    curl.easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl.easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl.easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALLED_AFTER_S);
    curl.easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    curl.easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->message);
    curl.easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
    curl.easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
    curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
    curl.easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    if (request->head)
        curl.easy_setopt(easy, CURLOPT_NOBODY, 1L);
    if (request->form)
        curl.easy_setopt(easy, CURLOPT_POSTFIELDS, request->form);
    if (request->offset_bytes > 0) {
        /* Not RESUME_FROM, with which a server that sends all of it would be an error. */
        char range[32];
        snprintf(range, sizeof range, "%" PRIu64 "-", request->offset_bytes);
        curl.easy_setopt(easy, CURLOPT_RANGE, range);
    }
    set_proxy(easy, request->url);
    set_tls(easy, request->tls);
}

static int add_header(
    struct curl_slist **headers, const char *name, const char *value, struct wfe_error *err)
{
    if (!value)
        return 0;
    WFE_FREE char *line = NULL;
    if (asprintf(&line, "%s: %s", name, value) < 0) {
        line = NULL;
        return wfe_error_nomem(err);
    }
    struct curl_slist *longer = curl.slist_append(*headers, line);
    if (!longer)
        return wfe_error_nomem(err);
    *headers = longer;
    return 0;
}

/* An end that libcurl reports, as an errno. */
static int errno_of(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return ECONNREFUSED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return EHOSTUNREACH;
    case CURLE_OPERATION_TIMEDOUT:
        return ETIMEDOUT;
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return ECONNRESET;
    default:
        return EPROTO;
    }
}

static int judge(const struct exchange *exchange, CURLcode code, struct wfe_error *err)
{
    if (exchange->sink_r < 0) {
        if (err)
            *err = exchange->sink_err;
        return exchange->sink_r;
    }
    if (code == CURLE_OUT_OF_MEMORY || exchange->challenges_lost)
        return wfe_error_nomem(err);
    if (code != CURLE_OK)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, errno_of(code), "%s",
            exchange->message[0] ? exchange->message : curl.easy_strerror(code));
    return 0;
}

/* Until it ends, or the request to stop comes. */
static int drive(struct exchange *exchange, struct wfe_error *err)
{
    struct wfe_cancel *cancel = exchange->request->cancel;
    struct curl_waitfd stop = {
        .fd = cancel ? wfe_cancel_fd(cancel) : -1, .events = CURL_WAIT_POLLIN};
    for (;;) {
        int running = 0;
        if (curl.multi_perform(exchange->http->multi, &running) != CURLM_OK)
            return wfe_error_nomem(err);
        if (wfe_cancel_requested(cancel))
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped");
        int queued;
        CURLMsg *message = curl.multi_info_read(exchange->http->multi, &queued);
        if (message && message->msg == CURLMSG_DONE)
            return judge(exchange, message->data.result, err);
        if (curl.multi_poll(exchange->http->multi, &stop, cancel ? 1 : 0, POLL_MS, NULL) !=
            CURLM_OK)
            return wfe_error_nomem(err);
    }
}

static int read_outcome(struct exchange *exchange, struct wfe_error *err)
{
    CURL *easy = exchange->http->easy;
    struct wfe_http_response *response = exchange->response;
    long status = 0;
    curl_off_t retry_after_s = 0;
    char *redirect = NULL;
    curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl.easy_getinfo(easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    curl.easy_getinfo(easy, CURLINFO_REDIRECT_URL, &redirect);
    response->status = (int)status;
    if (retry_after_s > 0)
        response->retry_after_s = retry_after_s;
    if (redirect && !(response->redirect = strdup(redirect)))
        return wfe_error_nomem(err);
    if (exchange->challenges.length > 0 &&
        !(response->challenges = wfe_buffer_steal(&exchange->challenges)))
        return wfe_error_nomem(err);
    return 0;
}

int wfe_http_perform(struct wfe_http *http, const struct wfe_http_request *request,
    struct wfe_http_response *ret, struct wfe_error *err)
{
    assert(request->url && request->body.write);
    *ret = (struct wfe_http_response){.range_start = -1, .retry_after_s = -1};
    struct exchange exchange = {
        .http = http,
        .request = request,
        .response = ret,
        .challenges = WFE_BUFFER_INIT(CHALLENGES_MAX_BYTES),
        .sink_err = WFE_ERROR_INIT,
    };
    struct curl_slist *headers = NULL;
    int r = add_header(&headers, "Accept", request->accept, err);
    if (r == 0)
        r = add_header(&headers, "Authorization", request->authorization, err);
    if (r == 0) {
        curl.easy_reset(http->easy);
        set_request(&exchange, headers);
        if (curl.multi_add_handle(http->multi, http->easy) != CURLM_OK) {
            r = wfe_error_nomem(err);
        } else {
            r = drive(&exchange, err);
            if (r == 0)
                r = read_outcome(&exchange, err);
            curl.multi_remove_handle(http->multi, http->easy);
        }
    }
    curl.slist_free_all(headers);
    wfe_buffer_done(&exchange.challenges);
    return r;
}

void wfe_http_response_done(struct wfe_http_response *response)
{
    free(response->redirect);
    free(response->challenges);
    *response = (struct wfe_http_response){.range_start = -1, .retry_after_s = -1};
}

/* How long "scheme://authority" is at the URL's start; 0 when it has none. */
static size_t origin_length(const char *url)
{
    const char *authority = strstr(url, "://");
    return authority ? (size_t)(authority - url) + 3 + strcspn(authority + 3, "/?#") : 0;
}

bool wfe_http_same_origin(const char *a, const char *b)
{
    size_t length = origin_length(a);
    return length > 0 && length == origin_length(b) && strncasecmp(a, b, length) == 0;
}

bool wfe_http_is_loopback(const char *host)
{
    if (host[0] == '[')
        return strncmp(host, "[::1]", 5) == 0 && (host[5] == '\0' || host[5] == ':');
    char name[64];
    size_t length = strcspn(host, ":");
    if (length >= sizeof name)
        return false;
    memcpy(name, host, length);
    name[length] = '\0';
    struct in_addr address;
    return strcasecmp(name, "localhost") == 0 ||
           (inet_pton(AF_INET, name, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}
