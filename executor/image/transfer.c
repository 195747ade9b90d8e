/* SPDX-License-Identifier: MIT */
#include "executor/image/transfer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "executor/daemon/lease.h"
#include "executor/daemon/stream.h"
#include "executor/image/image_write.h"
#include "executor/image/registry_auth.h"
#include "executor/image/registry_hosts.h"
#include "libcommon/cleanup.h"
#include "transfer.pb-c.h"
#include "transfer_types.pb-c.h"

/* How often the daemon's questions and its progress are looked for. */
#define POLL_MS 20
/* Layers whose progress is shown. */
#define PARTS_MAX WFE_IMAGE_MAX_LAYERS

/* How far a layer has come; its name is the daemon's key for it. */
struct part {
    char name[96];
    uint64_t bytes;
};

/* A pull on its way. The two streams are NULL when they have ended. */
struct transfer {
    const struct wfe_transfer_pull *pull;
    const Images__Image *before; /* what the name stands for until then; NULL: nothing */
    char auth_id[WFE_UNIQUE_NAME_MAX], progress_id[WFE_UNIQUE_NAME_MAX];
    struct wfe_rpc_call *auth, *progress, *call;
    struct part *parts;
    size_t part_count;
    bool asks_for_unpack;
    bool unpacking;
};

int wfe_transfer_use(enum wfe_transfer_use *ret, struct wfe_error *err)
{
    static const char *const names[] = {"auto", "always", "never"};
    const char *value = getenv("WFE_TRANSFER");
    if (!value || !*value) {
        *ret = WFE_TRANSFER_AUTO;
        return 0;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(value, names[i]) == 0) {
            *ret = (enum wfe_transfer_use)i;
            return 0;
        }
    }
    return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
        "WFE_TRANSFER '%.40s': expected auto, always or never", value);
}

static bool has_proxy(void)
{
    static const char *const names[] = {
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *value = getenv(names[i]);
        if (value && *value)
            return true;
    }
    return false;
}

static const char *hosts_directory(const struct wfe_transfer_pull *pull)
{
    const char *directory = pull->registry->hosts_directory;
    return directory ? directory : WFE_REGISTRY_HOSTS_DIRECTORY;
}

/* What a daemon elsewhere can't do, or must not. */
static int remote_obstacle(
    const struct wfe_transfer_pull *pull, const char **ret, struct wfe_error *err)
{
    struct wfe_registry_credentials credentials = {.username = NULL};
    int r = wfe_registry_find_credentials(
        pull->registry, pull->reference->host, pull->session->cancel, &credentials, err);
    if (r < 0)
        return r;
    if (credentials.username || credentials.identity_token)
        *ret = "credentials stay on this machine, and the daemon is on another";
    wfe_registry_credentials_done(&credentials);
    return 0;
}

int wfe_transfer_obstacle(
    const struct wfe_transfer_pull *pull, const char **ret, struct wfe_error *err)
{
    bool loopback = wfe_http_is_loopback(pull->reference->host);
    *ret = NULL;
    if (!pull->session->transfers) {
        *ret = "the daemon has no Transfer service";
        return 0;
    }
    if (pull->limits_downloads) {
        *ret = "it takes no bound of downloads at once";
        return 0;
    }
    if (!pull->session->local && loopback) {
        *ret = "the registry is on this machine, the daemon on another";
        return 0;
    }
    if (!loopback && has_proxy()) {
        *ret = "it knows nothing of the proxy in this environment";
        return 0;
    }
    /* The service of 1.7 takes no directory and says nothing of it. */
    bool configured;
    int r = wfe_registry_hosts_configured(
        pull->reference->host, hosts_directory(pull), &configured, err);
    if (r < 0)
        return r;
    if (configured) {
        *ret = "a hosts.toml of this machine is for the registry";
        return 0;
    }
    return pull->session->local ? 0 : remote_obstacle(pull, ret, err);
}

static void transfer_done(struct transfer *transfer)
{
    wfe_rpc_call_free(transfer->call);
    wfe_rpc_call_free(transfer->progress);
    wfe_rpc_call_free(transfer->auth);
    free(transfer->parts);
}

/* docker.io's registry has a host of its own. */
static bool is_registrys(const struct wfe_transfer_pull *pull, const char *host)
{
    const char *own = pull->reference->host;
    return strcasecmp(host, own) == 0 ||
           (strcmp(own, "docker.io") == 0 && strcasecmp(host, "registry-1.docker.io") == 0);
}

static int answer_question(
    struct transfer *transfer, const TransferTypes__AuthRequest *question, struct wfe_error *err)
{
    const struct wfe_transfer_pull *pull = transfer->pull;
    struct wfe_registry_credentials found = {.username = NULL};
    int r = 0;
    if (is_registrys(pull, question->host))
        r = wfe_registry_find_credentials(
            pull->registry, pull->reference->host, pull->session->cancel, &found, err);
    if (r < 0)
        return r;
    TransferTypes__AuthResponse answer = TRANSFER_TYPES__AUTH_RESPONSE__INIT;
    if (found.identity_token) {
        answer.authtype = TRANSFER_TYPES__AUTH_TYPE__REFRESH;
        answer.secret = found.identity_token;
    } else if (found.username) {
        answer.authtype = TRANSFER_TYPES__AUTH_TYPE__CREDENTIALS;
        answer.username = found.username;
        answer.secret = found.password;
    }
    r = wfe_stream_send(transfer->auth, &answer.base, err);
    wfe_registry_credentials_done(&found);
    return r;
}

/* Answer what the daemon asks by now. Fails when the credentials can't be read; a stream that broke
 * shows in the pull itself. */
static int answer_questions(struct transfer *transfer, struct wfe_error *err)
{
    while (transfer->auth) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        if (wfe_stream_poll(
                transfer->auth, &transfer_types__auth_request__descriptor, &message, NULL) < 0) {
            wfe_rpc_call_free(wfe_steal(&transfer->auth));
            return 0;
        }
        if (!message)
            return 0;
        int r = answer_question(transfer, (TransferTypes__AuthRequest *)message, err);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Bytes of all layers so far. */
static uint64_t count_bytes(struct transfer *transfer, const char *name, uint64_t bytes)
{
    uint64_t total = 0;
    struct part *own = NULL;
    for (size_t i = 0; i < transfer->part_count; i++) {
        if (strcmp(transfer->parts[i].name, name) == 0)
            own = &transfer->parts[i];
        else
            total += transfer->parts[i].bytes;
    }
    if (!own && transfer->part_count < PARTS_MAX) {
        own = &transfer->parts[transfer->part_count++];
        snprintf(own->name, sizeof own->name, "%s", name);
    }
    if (own && bytes > own->bytes)
        own->bytes = bytes;
    return total + (own ? own->bytes : 0);
}

static void show(struct transfer *transfer, const TransferTypes__Progress *event)
{
    const struct wfe_transfer_pull *pull = transfer->pull;
    if (strncmp(event->event, "extract", 7) == 0 && !transfer->unpacking) {
        transfer->unpacking = true;
        wfe_progress_stage(pull->progress, "unpacking %s", pull->name);
    }
    bool moves = strcmp(event->event, "downloading") == 0 || strcmp(event->event, "complete") == 0;
    if (moves && !transfer->unpacking && strncmp(event->name, "layer-", 6) == 0 &&
        strlen(event->name) < sizeof transfer->parts->name && event->progress > 0)
        wfe_progress_bytes(
            pull->progress, count_bytes(transfer, event->name, (uint64_t)event->progress));
}

static void show_progress(struct transfer *transfer)
{
    while (transfer->progress) {
        WFE_MESSAGE ProtobufCMessage *message = NULL;
        if (wfe_stream_poll(
                transfer->progress, &transfer_types__progress__descriptor, &message, NULL) < 0)
            wfe_rpc_call_free(wfe_steal(&transfer->progress));
        if (!message)
            return;
        show(transfer, (TransferTypes__Progress *)message);
    }
}

static int await_end(struct transfer *transfer, struct wfe_error *err)
{
    for (;;) {
        WFE_MESSAGE ProtobufCMessage *reply = NULL;
        struct wfe_error failure = WFE_ERROR_INIT;
        int r = wfe_rpc_receive(transfer->call, POLL_MS, &reply, &failure);
        if (r == -ETIMEDOUT && failure.kind == WFE_ERROR_NONE) {
            show_progress(transfer);
            r = answer_questions(transfer, err);
            if (r < 0)
                return r;
            continue;
        }
        if (r < 0 && err)
            *err = failure;
        return r;
    }
}

/* The progress is for show: without its stream the pull goes on. */
static int open_streams(struct transfer *transfer, struct wfe_error *err)
{
    const struct wfe_transfer_pull *pull = transfer->pull;
    int r = wfe_unique_name(transfer->auth_id, err);
    if (r == 0)
        r = wfe_unique_name(transfer->progress_id, err);
    if (r == 0 && pull->session->local)
        r = wfe_stream_open(pull->session, transfer->auth_id, &transfer->auth, err);
    if (r < 0 || !pull->progress)
        return r;
    transfer->parts = calloc(PARTS_MAX, sizeof *transfer->parts);
    if (!transfer->parts)
        return wfe_error_nomem(err);
    return wfe_stream_open(pull->session, transfer->progress_id, &transfer->progress, err);
}

static int start_call(struct transfer *transfer, const TransferTypes__OCIRegistry *source,
    const TransferTypes__ImageStore *destination, struct wfe_error *err)
{
    const struct wfe_session *session = transfer->pull->session;
    Google__Protobuf__Any from = GOOGLE__PROTOBUF__ANY__INIT, to = GOOGLE__PROTOBUF__ANY__INIT;
    Transfer__TransferOptions options = TRANSFER__TRANSFER_OPTIONS__INIT;
    Transfer__TransferRequest request = TRANSFER__TRANSFER_REQUEST__INIT;
    request.source = &from;
    request.destination = &to;
    if (transfer->progress) {
        options.progress_stream = transfer->progress_id;
        request.options = &options;
    }
    int r = wfe_stream_pack(&source->base, &from);
    if (r == 0)
        r = wfe_stream_pack(&destination->base, &to);
    struct wfe_rpc_context context = wfe_session_context(session);
    if (r < 0)
        r = wfe_error_nomem(err);
    else
        r = wfe_rpc_start(session->rpc, &context,
            (struct wfe_rpc_method){&transfer__transfer__descriptor, "Transfer"}, &request.base,
            &transfer->call, err);
    free(from.value.data);
    free(to.value.data);
    return r;
}

/* Those of the record stay: Transfer writes it anew. NULL when there is no memory. */
static TransferTypes__ImageStore__LabelsEntry **copy_labels(const Images__Image *from)
{
    TransferTypes__ImageStore__LabelsEntry **list =
        calloc(from->n_labels, sizeof *list + sizeof **list);
    if (!list)
        return NULL;
    TransferTypes__ImageStore__LabelsEntry *entries = (void *)(list + from->n_labels);
    for (size_t i = 0; i < from->n_labels; i++) {
        transfer_types__image_store__labels_entry__init(&entries[i]);
        entries[i].key = from->labels[i]->key;
        entries[i].value = from->labels[i]->value;
        list[i] = &entries[i];
    }
    return list;
}

static int start(struct transfer *transfer, struct wfe_error *err)
{
    const struct wfe_transfer_pull *pull = transfer->pull;
    TransferTypes__RegistryResolver resolver = TRANSFER_TYPES__REGISTRY_RESOLVER__INIT;
    if (transfer->auth)
        resolver.auth_stream = transfer->auth_id;
    /* Nothing is in it for this registry; it keeps the daemon from a directory of its own. */
    if (pull->session->local)
        resolver.host_dir = (char *)hosts_directory(pull);
    /* Else it takes any certificate there. */
    if (wfe_http_is_loopback(pull->reference->host))
        resolver.default_scheme = (char *)"http";
    TransferTypes__OCIRegistry source = TRANSFER_TYPES__OCIREGISTRY__INIT;
    source.reference = (char *)pull->source;
    source.resolver = &resolver;

    const struct wfe_platform *own = &pull->session->platform;
    Types__Platform platform = TYPES__PLATFORM__INIT;
    platform.os = (char *)own->os;
    platform.architecture = (char *)own->architecture;
    platform.variant = (char *)own->variant;
    Types__Platform *platforms[] = {&platform};
    TransferTypes__UnpackConfiguration unpack = TRANSFER_TYPES__UNPACK_CONFIGURATION__INIT;
    unpack.platform = &platform;
    unpack.snapshotter = (char *)pull->session->snapshotter;
    TransferTypes__UnpackConfiguration *unpacks[] = {&unpack};
    TransferTypes__ImageStore destination = TRANSFER_TYPES__IMAGE_STORE__INIT;
    destination.name = (char *)pull->name;
    destination.platforms = platforms;
    destination.n_platforms = 1;
    destination.unpacks = unpacks;
    destination.n_unpacks = transfer->asks_for_unpack ? 1 : 0;
    WFE_FREE TransferTypes__ImageStore__LabelsEntry **labels = NULL;
    if (transfer->before && transfer->before->n_labels > 0) {
        labels = copy_labels(transfer->before);
        if (!labels)
            return wfe_error_nomem(err);
        destination.labels = labels;
        destination.n_labels = transfer->before->n_labels;
    }
    return start_call(transfer, &source, &destination, err);
}

static int let_pull(const struct wfe_transfer_pull *pull, const Images__Image *before,
    bool asks_for_unpack, struct wfe_error *err)
{
    struct transfer transfer = {.pull = pull, .before = before, .asks_for_unpack = asks_for_unpack};
    int r = open_streams(&transfer, err);
    if (r == 0)
        r = start(&transfer, err);
    if (r == 0)
        r = await_end(&transfer, err);
    transfer_done(&transfer);
    return r;
}

/* Transfer unpacks into the snapshotters of its own configuration; when it is to unpack into none
 * of them, it says that the argument is invalid. */
static int let_pull_somehow(
    const struct wfe_transfer_pull *pull, const Images__Image *before, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    int r = let_pull(pull, before, true, &failure);
    if (r == -EINVAL && failure.kind == WFE_ERROR_CONTAINERD)
        return let_pull(pull, before, false, err);
    if (r < 0 && err)
        *err = failure;
    return r;
}

/* What the daemon took for the image. */
static int check(const struct wfe_transfer_pull *pull, struct wfe_error *err)
{
    struct wfe_image image;
    int r = wfe_image_find(pull->session, pull->name, &image, err);
    if (r < 0)
        return r;
    struct wfe_digest chain;
    r = wfe_image_check(&image.manifest, &image.config, &pull->session->platform, err);
    if (r == 0)
        r = wfe_image_unpack(
            pull->session, &image.manifest, &image.config, NULL, NULL, &chain, err);
    wfe_image_done(&image);
    return r;
}

/* Whether the record has a target that can be restored. */
static bool read_target(const Images__Image *record, struct wfe_descriptor *ret)
{
    const Types__Descriptor *target = record ? record->target : NULL;
    if (!target || strlen(target->media_type) >= sizeof ret->media_type ||
        wfe_digest_parse(target->digest, &ret->digest) < 0)
        return false;
    snprintf(ret->media_type, sizeof ret->media_type, "%s", target->media_type);
    ret->size_bytes = target->size;
    return true;
}

int wfe_transfer_pull(const struct wfe_transfer_pull *pull, struct wfe_error *err)
{
    assert(pull->session->lease);
    WFE_MESSAGE Images__GetImageResponse *reply = NULL;
    int r = wfe_image_get_record(pull->session, pull->name, &reply, err);
    if (r < 0)
        return r;
    const Images__Image *before = reply ? reply->image : NULL;
    struct wfe_descriptor target;
    bool had = read_target(before, &target);
    if (had)
        r = wfe_lease_add(pull->session, "content", target.digest.text, err);
    if (r == 0)
        r = let_pull_somehow(pull, before, err);
    if (r < 0)
        return r;
    r = check(pull, err);
    if (r < 0 && had)
        wfe_image_record(pull->session, pull->name, &target, NULL);
    else if (r < 0)
        wfe_image_forget(pull->session, pull->name, NULL);
    return r;
}
