/* SPDX-License-Identifier: MIT */
#include "executor/daemon/sharing.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive_entry.h>

#include "executor/daemon/diff.h"
#include "executor/daemon/lease.h"
#include "executor/daemon/sharing_memory.h"
#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define LEASE_TIMEOUT_MS 30000

const char *wfe_sharing_io_directory(void)
{
    const char *directory = getenv("WFE_IO_DIR");
    return directory && *directory ? directory : NULL;
}

const char *wfe_sharing_directory(const char *io_directory)
{
    const char *temporary = getenv("TMPDIR");
    if (io_directory)
        return io_directory;
    return temporary && *temporary ? temporary : "/tmp";
}

/* What the daemon is to find. */
struct proof {
    char id[WFE_UNIQUE_NAME_MAX]; /* also of the lease */
    char nonce[WFE_UNIQUE_NAME_MAX];
    char *directory, *seen, *here;
    int fd; /* of the directory */
};

static int fill(struct proof *proof, struct wfe_error *err)
{
    assert(proof->directory);
    if (mkdir(proof->directory, 0755) < 0)
        return wfe_error_system(err, errno, "make %s", proof->directory);
    proof->fd = open(proof->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proof->fd < 0)
        return wfe_error_system(err, errno, "open %s", proof->directory);
    if (mkdirat(proof->fd, proof->nonce, 0755) < 0)
        return wfe_error_system(err, errno, "make %s", proof->seen);
    char target[64 + WFE_UNIQUE_NAME_MAX];
    snprintf(target, sizeof target, "%s/%s", proof->nonce, proof->nonce);
    WFE_CLOSE int file = openat(proof->fd, target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0)
        return wfe_error_system(err, errno, "make a file in %s", proof->seen);
    snprintf(target, sizeof target, "/proc/%d/fd/%d/%s", (int)getpid(), proof->fd, proof->nonce);
    if (symlink(target, proof->here) < 0)
        return wfe_error_system(err, errno, "make %s", proof->here);
    return 0;
}

static int name_proof(const char *directory, struct proof *proof, struct wfe_error *err)
{
    int r = wfe_unique_name(proof->id, err);
    if (r == 0)
        r = wfe_unique_name(proof->nonce, err);
    if (r < 0)
        return r;
    if (asprintf(&proof->directory, "%s/wfe-io-%s", directory, proof->id) < 0)
        proof->directory = NULL;
    if (proof->directory) {
        proof->seen = wfe_path_join(proof->directory, proof->nonce);
        proof->here = wfe_path_join(proof->directory, "here");
    }
    return proof->seen && proof->here ? 0 : wfe_error_nomem(err);
}

struct search {
    const char *name;
    bool found;
};

struct answer {
    enum wfe_sharing sharing;
    bool is_unsure; /* the daemon could not look, for reasons that may pass */
};

static int look_for(
    void *context, struct archive *reader, struct archive_entry *entry, struct wfe_error *err)
{
    (void)reader;
    (void)err;
    struct search *search = context;
    const char *name = archive_entry_pathname(entry);
    search->found = name && strcmp(name, search->name) == 0;
    return search->found;
}

/* The daemon's words for a directory that can't be mounted there, now or later. */
static bool is_absence(const char *message)
{
    static const char *const words[] = {"no such file or directory", "not a directory",
        "invalid argument", "permission denied", "too many levels of symbolic links"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(message, words[i]))
            return true;
    return false;
}

/* Whether the daemon finds the nonce in what it sees at path. Only a daemon that is gone is an
 * error. */
static int shows(const struct wfe_session *session, const struct proof *proof, const char *path,
    bool *ret, struct answer *answer, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    struct search search = {.name = proof->nonce};
    Types__Mount mount = wfe_diff_bind(path);
    struct wfe_diff diff;
    int r = wfe_diff_make(session, &(Types__Mount *){&mount}, 1, &diff, &failure);
    if (r == 0) {
        r = wfe_diff_visit(session, &diff, look_for, &search, &failure);
        /* Somebody else's directory may be there under that name. */
        wfe_diff_drop(session, &diff, search.found);
    }
    bool is_answer = failure.kind == WFE_ERROR_CONTAINERD && r != -EAGAIN;
    if (r < 0 && !is_answer) {
        if (err)
            *err = failure;
        return r;
    }
    if (r < 0) {
        answer->is_unsure |= !is_absence(failure.message);
        wfe_log(WFE_LOG_DEBUG, "connect", "the daemon does not see %s: %s", path, failure.message);
    }
    *ret = search.found;
    return 0;
}

static int try_under_lease(const struct wfe_session *session, struct proof *proof,
    struct answer *answer, struct wfe_error *err)
{
    struct wfe_error failure = WFE_ERROR_INIT;
    bool shown = false;
    if (fill(proof, &failure) < 0) {
        wfe_log(WFE_LOG_WARN, "connect", "nothing is shared with the daemon: %s", failure.message);
        *answer = (struct answer){.sharing = WFE_SHARES_NOTHING, .is_unsure = true};
        return 0;
    }
    answer->sharing = WFE_SHARES_MACHINE;
    int r = shows(session, proof, proof->here, &shown, answer, err);
    if (r == 0 && !shown) {
        r = shows(session, proof, proof->seen, &shown, answer, err);
        answer->sharing = shown ? WFE_SHARES_DIRECTORY : WFE_SHARES_NOTHING;
    }
    return r;
}

/* The lease comes first: by it others find the directory of one who was killed. */
static int try_proof(const struct wfe_session *session, struct proof *proof, struct answer *answer,
    struct wfe_error *err)
{
    WFE_RPC_CALL struct wfe_rpc_call *call = NULL;
    int r = wfe_lease_create_start(session, proof->id, &call, err);
    if (r < 0)
        return r;
    r = wfe_lease_create_finish(call, err);
    struct wfe_session leased = *session;
    leased.lease = proof->id;
    if (r == 0)
        r = try_under_lease(&leased, proof, answer, err);
    if (proof->fd >= 0)
        close(wfe_steal_fd(&proof->fd));
    wfe_remove_tree(proof->directory);
    struct wfe_error failure = WFE_ERROR_INIT;
    if (wfe_lease_delete(session, proof->id, false, LEASE_TIMEOUT_MS, &failure) < 0)
        wfe_log(WFE_LOG_WARN, "connect", "a lease is left behind for now: %s", failure.message);
    return r;
}

static int try_sharing(const struct wfe_session *session, const char *directory,
    struct answer *answer, struct wfe_error *err)
{
    struct proof proof = {.fd = -1};
    int r = name_proof(directory, &proof, err);
    if (r == 0)
        r = try_proof(session, &proof, answer, err);
    free(proof.directory);
    free(proof.seen);
    free(proof.here);
    return r;
}

static bool is_to_be_remembered(
    const struct wfe_session *session, const char *io_directory, const struct answer *answer)
{
    if (answer->is_unsure)
        return false;
    switch (answer->sharing) {
    case WFE_SHARES_MACHINE:
        return session->target.kind == WFE_ADDRESS_UNIX;
    case WFE_SHARES_DIRECTORY:
        return true;
    case WFE_SHARES_NOTHING:
        return !io_directory;
    }
    return false;
}

int wfe_sharing_find(struct wfe_session *session, const char *io_directory,
    enum wfe_sharing_memory memory, struct wfe_error *err)
{
    const char *directory = wfe_sharing_directory(io_directory);
    struct answer answer = {.sharing = WFE_SHARES_NOTHING};
    bool known = memory == WFE_SHARING_REMEMBERED &&
                 wfe_sharing_recall(session, directory, &answer.sharing) == 0;
    if (!known) {
        int r = try_sharing(session, directory, &answer, err);
        if (r < 0) {
            wfe_error_prefix(err, "what the daemon shares with this machine");
            return r;
        }
        if (is_to_be_remembered(session, io_directory, &answer))
            wfe_sharing_remember(session, directory, answer.sharing);
        else
            wfe_sharing_forget(session);
    }
    session->local = answer.sharing == WFE_SHARES_MACHINE;
    session->sees_directory = answer.sharing != WFE_SHARES_NOTHING;
    static const char *const names[] = {"nothing", "the directory", "this machine"};
    wfe_log(WFE_LOG_DEBUG, "connect", "the daemon shares %s with us (%s)", names[answer.sharing],
        known ? "remembered" : "tried");
    return 0;
}
