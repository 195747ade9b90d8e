/* SPDX-License-Identifier: MIT */
#include "executor/image/docker_config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/json.h"

#define CONFIG_MAX_BYTES (1024 * 1024)
#define ANSWER_MAX_BYTES (64 * 1024)
#define PROGRAM_TIMEOUT_MS 30000
#define PROGRAM_NAME_MAX 64

extern char **environ;

static const char DOCKER_IO_KEY[] = "https://index.docker.io/v1/";

/* What a key of the configuration calls its registry: no scheme, no path. */
static bool is_key_of(const char *key, const char *host)
{
    const char *scheme = strstr(key, "://");
    const char *name = scheme ? scheme + 3 : key;
    size_t length = strcspn(name, "/");
    if (length == strlen(host) && strncmp(name, host, length) == 0)
        return true;
    static const char index[] = "index.docker.io";
    return strcmp(host, "docker.io") == 0 && length == strlen(index) &&
           strncmp(name, index, length) == 0;
}

/* The member of an object of registries: as docker writes it itself first. */
static const cJSON *find_registry(const cJSON *object, const char *host)
{
    const cJSON *exact = cJSON_GetObjectItemCaseSensitive(
        object, strcmp(host, "docker.io") == 0 ? DOCKER_IO_KEY : host);
    if (exact)
        return exact;
    const cJSON *item;
    cJSON_ArrayForEach(item, object) if (is_key_of(item->string, host)) return item;
    return NULL;
}

static bool is_filled(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    return text && text[0];
}

static int copy_member(const cJSON *object, const char *name, char **ret, struct wfe_error *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    if (is_filled(item) && !*ret && !(*ret = strdup(item->valuestring)))
        return wfe_error_nomem(err);
    return 0;
}

/* "auth": user:password in base64. */
static int decode_pair(
    const char *encoded, struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    size_t length = strlen(encoded);
    WFE_FREE char *pair = calloc(1, length + 4);
    if (!pair)
        return wfe_error_nomem(err);
    int decoded =
        EVP_DecodeBlock((unsigned char *)pair, (const unsigned char *)encoded, (int)length);
    char *colon = decoded > 0 ? strchr(pair, ':') : NULL;
    if (!colon)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "auth: expected user:password in base64");
    credentials->username = strndup(pair, (size_t)(colon - pair));
    credentials->password = strdup(colon + 1);
    OPENSSL_cleanse(pair, length + 4);
    return credentials->username && credentials->password ? 0 : wfe_error_nomem(err);
}

static int read_auth(
    const cJSON *auth, struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    const cJSON *encoded = cJSON_GetObjectItemCaseSensitive(auth, "auth");
    int r = is_filled(encoded) ? decode_pair(encoded->valuestring, credentials, err) : 0;
    if (r == 0)
        r = copy_member(auth, "username", &credentials->username, err);
    if (r == 0)
        r = copy_member(auth, "password", &credentials->password, err);
    if (r == 0)
        r = copy_member(auth, "identitytoken", &credentials->identity_token, err);
    return r;
}

/* A program's name must not lead out of $PATH. */
static int read_program(const cJSON *item, char **ret, struct wfe_error *err)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    const char *text = cJSON_GetStringValue(item);
    size_t length = text ? strlen(text) : 0;
    if (length == 0)
        return 0;
    if (length > PROGRAM_NAME_MAX || strspn(text, allowed) < length)
        return wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "'%.80s' is not the name of a credential helper", text);
    *ret = strdup(text);
    return *ret ? 0 : wfe_error_nomem(err);
}

int wfe_docker_config_parse(const char *text, size_t length, const char *host,
    struct wfe_registry_credentials *ret, char **ret_program, struct wfe_error *err)
{
    assert(text && host && ret && ret_program);
    WFE_JSON cJSON *config = NULL;
    if (wfe_json_parse(text, length, NULL, &config) == -ENOMEM)
        return wfe_error_nomem(err);
    if (!cJSON_IsObject(config))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "it is no JSON object");
    const cJSON *program =
        find_registry(cJSON_GetObjectItemCaseSensitive(config, "credHelpers"), host);
    if (!is_filled(program))
        program = cJSON_GetObjectItemCaseSensitive(config, "credsStore");
    struct wfe_registry_credentials credentials = {.username = NULL};
    WFE_FREE char *name = NULL;
    int r = read_program(program, &name, err);
    if (r == 0)
        r = read_auth(find_registry(cJSON_GetObjectItemCaseSensitive(config, "auths"), host),
            &credentials, err);
    if (r < 0) {
        wfe_registry_credentials_done(&credentials);
        return r;
    }
    *ret = credentials;
    *ret_program = wfe_steal(&name);
    return 0;
}

/* A credential helper that runs. */
struct program {
    char name[PROGRAM_NAME_MAX + 32];
    pid_t pid;
    int in, out; /* its standard input and output */
};

static int start_program(struct program *program, struct wfe_error *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    if (pipe2(in, O_CLOEXEC) < 0)
        return wfe_error_system(err, errno, "pipe");
    if (pipe2(out, O_CLOEXEC) < 0) {
        int r = wfe_error_system(err, errno, "pipe");
        close(in[0]);
        close(in[1]);
        return r;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    /* Signals are blocked in our threads, and must not be in the program. */
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, pipe_signal;
    sigemptyset(&none);
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &pipe_signal);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    char *const arguments[] = {program->name, (char *)"get", NULL};
    int failure =
        posix_spawnp(&program->pid, program->name, &actions, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    if (failure != 0) {
        close(in[1]);
        close(out[0]);
        return wfe_error_set(
            err, WFE_ERROR_INPUT, failure, "it can't be started: %s", strerror(failure));
    }
    program->in = in[1];
    program->out = out[0];
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* All that it puts out, until it closes its output. */
static int read_answer(
    int fd, struct wfe_cancel *cancel, struct wfe_buffer *ret, struct wfe_error *err)
{
    int64_t until_ms = now_ms() + PROGRAM_TIMEOUT_MS;
    for (;;) {
        struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
            {.fd = cancel ? wfe_cancel_fd(cancel) : -1, .events = POLLIN}};
        int64_t left_ms = until_ms - now_ms();
        int ready = left_ms > 0 ? poll(fds, 2, (int)left_ms) : 0;
        if (wfe_cancel_requested(cancel))
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped");
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            return wfe_error_set(err, WFE_ERROR_TIMEOUT, ETIMEDOUT, "no answer within %d s",
                PROGRAM_TIMEOUT_MS / 1000);
        char part[4096];
        ssize_t n = ready > 0 ? read(fd, part, sizeof part) : -1;
        if (n < 0)
            return wfe_error_system(err, errno, "read its answer");
        if (n == 0)
            return 0;
        int r = wfe_buffer_append(ret, part, (size_t)n);
        OPENSSL_cleanse(part, sizeof part);
        if (r == -EMSGSIZE)
            return wfe_error_set(
                err, WFE_ERROR_LIMIT, EFBIG, "an answer of more than %d bytes", ANSWER_MAX_BYTES);
        if (r < 0)
            return wfe_error_nomem(err);
    }
}

static int end_program(const struct program *program, bool kill_it, int *ret_status)
{
    if (kill_it)
        kill(program->pid, SIGKILL);
    pid_t ended;
    do
        ended = waitpid(program->pid, ret_status, 0);
    while (ended < 0 && errno == EINTR);
    return ended < 0 ? -errno : 0;
}

/* {"Username": …, "Secret": …}; the user "<token>" has an identity token for a secret. */
static int read_secret(const struct wfe_buffer *answer,
    struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    WFE_JSON cJSON *object = NULL;
    if (wfe_json_parse(answer->data ? answer->data : "", answer->length, NULL, &object) == -ENOMEM)
        return wfe_error_nomem(err);
    const cJSON *username = cJSON_GetObjectItemCaseSensitive(object, "Username");
    const cJSON *secret = cJSON_GetObjectItemCaseSensitive(object, "Secret");
    if (!cJSON_IsString(username) || !cJSON_IsString(secret))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "its answer has no Username and Secret");
    wfe_registry_credentials_done(credentials);
    char *copy = strdup(secret->valuestring);
    if (!copy)
        return wfe_error_nomem(err);
    if (strcmp(username->valuestring, "<token>") == 0) {
        credentials->identity_token = copy;
        return 0;
    }
    credentials->password = copy;
    credentials->username = strdup(username->valuestring);
    return credentials->username ? 0 : wfe_error_nomem(err);
}

/* Its answer replaces the credentials; without one they stay. */
static int ask_started(struct program *program, const char *host, struct wfe_cancel *cancel,
    struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    const char *key = strcmp(host, "docker.io") == 0 ? DOCKER_IO_KEY : host;
    /* It may end without reading; then its answer tells. */
    wfe_write_all(program->in, key, strlen(key));
    close(program->in);
    WFE_BUFFER struct wfe_buffer answer = WFE_BUFFER_INIT(ANSWER_MAX_BYTES);
    int r = read_answer(program->out, cancel, &answer, err);
    close(program->out);
    int status = 0;
    int end_r = end_program(program, r < 0, &status);
    if (r < 0)
        return r;
    if (end_r < 0)
        return wfe_error_system(err, -end_r, "wait for it");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        r = read_secret(&answer, credentials, err);
    else if (!answer.data || !strstr(answer.data, "credentials not found"))
        r = wfe_error_set(err, WFE_ERROR_INPUT, EACCES, "it failed: %.*s",
            answer.data ? (int)strcspn(answer.data, "\n") : 0, answer.data ? answer.data : "");
    if (answer.data)
        OPENSSL_cleanse(answer.data, answer.length);
    return r;
}

static int ask_program(const char *name, const char *host, struct wfe_cancel *cancel,
    struct wfe_registry_credentials *credentials, struct wfe_error *err)
{
    struct program program;
    snprintf(program.name, sizeof program.name, "docker-credential-%s", name);
    int r = start_program(&program, err);
    if (r == 0)
        r = ask_started(&program, host, cancel, credentials, err);
    if (r < 0)
        wfe_error_prefix(err, "%s", program.name);
    return r;
}

/* Allocated; NULL when there is no home, too. */
static char *config_path(void)
{
    const char *directory = getenv("DOCKER_CONFIG");
    if (directory && *directory)
        return wfe_path_join(directory, "config.json");
    const char *home = getenv("HOME");
    return home && *home ? wfe_path_join(home, ".docker/config.json") : NULL;
}

int wfe_docker_config_find(const char *host, struct wfe_cancel *cancel,
    struct wfe_registry_credentials *ret, struct wfe_error *err)
{
    WFE_FREE char *path = config_path();
    if (!path)
        return 0;
    WFE_FREE char *text = NULL, *program = NULL;
    size_t length = 0;
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = wfe_read_file(path, CONFIG_MAX_BYTES, &text, &length, &failure);
    if (r == -ENOENT || r == -ENOTDIR)
        return 0;
    struct wfe_registry_credentials credentials = {.username = NULL};
    if (r == 0) {
        r = wfe_docker_config_parse(text, length, host, &credentials, &program, &failure);
        if (r < 0)
            wfe_error_prefix(&failure, "%s", path);
    }
    if (r == 0 && program)
        r = ask_program(program, host, cancel, &credentials, &failure);
    if (r < 0) {
        wfe_registry_credentials_done(&credentials);
        if (err)
            *err = failure;
        return r;
    }
    *ret = credentials;
    return 0;
}
