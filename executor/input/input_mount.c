/* SPDX-License-Identifier: MIT */
#include "executor/input/input_mount.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"
#include "libcommon/log.h"

#define PROGRAM "wfe-artifactfs"
#define READY_TIMEOUT_MS 30000
#define READY_POLL_MS 2
#define END_TIMEOUT_MS 5000
#define STATE_MAX_BYTES (1024 * 1024)

struct wfe_input_mount {
    const struct wfe_inputs *inputs;
    char *directory;  /* BASE/wfe-in-ID */
    char *mountpoint; /* BASE/wfe-in-ID/mnt */
    struct wfe_spec_overlay overlays[WFE_INPUT_MOUNT_MAX];
    pid_t pid; /* of the file system; 0: none */
    int pidfd;
};

/* Beside this program, else as $PATH has it. Allocated. */
static char *find_program(void)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = length > 0 ? memrchr(self, '/', (size_t)length) : NULL;
    if (slash) {
        *slash = '\0';
        /* Installed together, or together in a build folder. */
        static const char *const places[] = {PROGRAM, "../artifactfs/" PROGRAM};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char *path = wfe_path_join(self, places[i]);
            if (!path)
                return NULL;
            if (access(path, X_OK) == 0)
                return path;
            free(path);
        }
    }
    const char *at = getenv("PATH");
    while (at && *at) {
        size_t part = strcspn(at, ":");
        char *path = NULL;
        if (asprintf(&path, "%.*s/" PROGRAM, (int)part, at) < 0)
            return NULL;
        if (part > 0 && access(path, X_OK) == 0)
            return path;
        free(path);
        at += part + (at[part] == ':');
    }
    return NULL;
}

const char *wfe_input_mount_obstacle(const struct wfe_inputs *inputs)
{
    if (inputs->count > WFE_INPUT_MOUNT_MAX)
        return "there are more than 16 inputs";
    if (geteuid() != 0)
        return "it needs root";
    if (access("/dev/fuse", R_OK | W_OK) < 0)
        return "/dev/fuse can't be opened";
    WFE_FREE char *program = find_program();
    return program ? NULL : PROGRAM " is neither beside this program nor in $PATH";
}

static int make_place(struct wfe_input_mount *mount, struct wfe_error *err)
{
    /* These bytes have a meaning in the options of an overlay. */
    if (strpbrk(mount->directory, ",:\\"))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: no overlay can be made of a path with ',', ':' or '\\'", mount->directory);
    if (mkdir(mount->directory, 0755) < 0) {
        int r = wfe_error_system(err, errno, "make directory %s", mount->directory);
        free(wfe_steal(&mount->directory));
        return r;
    }
    int r = asprintf(&mount->mountpoint, "%s/mnt", mount->directory) < 0 ? -ENOMEM : 0;
    if (r < 0)
        mount->mountpoint = NULL;
    else if (mkdir(mount->mountpoint, 0755) < 0)
        return wfe_error_system(err, errno, "make directory %s", mount->mountpoint);
    for (size_t i = 0; r == 0 && i < mount->inputs->count; i++) {
        struct wfe_spec_overlay *overlay = &mount->overlays[i];
        overlay->target = mount->inputs->items[i].target;
        if (asprintf(&overlay->lower, "%s/mnt/%zu", mount->directory, i) < 0 ||
            asprintf(&overlay->upper, "%s/up/%zu", mount->directory, i) < 0 ||
            asprintf(&overlay->work, "%s/work/%zu", mount->directory, i) < 0)
            return wfe_error_nomem(err);
        r = wfe_make_directories(overlay->upper, 0755);
        if (r == 0)
            r = wfe_make_directories(overlay->work, 0755);
        if (r < 0)
            return wfe_error_system(err, -r, "make directory %s", overlay->upper);
    }
    return r < 0 ? wfe_error_nomem(err) : 0;
}

/* The command line of the file system; caller frees each string and the list. */
static char **make_arguments(
    const struct wfe_input_mount *mount, const char *program, const char *store_path)
{
    size_t count = mount->inputs->count, n = 0;
    char **arguments = calloc(2 * count + 12, sizeof *arguments);
    if (!arguments)
        return NULL;
    const char *const fixed[] = {program, "mount", "--foreground", "--log-level", "error",
        "--options", "allow_other,as_layer", store_path ? "--store" : NULL, store_path};
    bool good = true;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed && fixed[i]; i++)
        good = (arguments[n++] = strdup(fixed[i])) && good;
    for (size_t i = 0; i < count; i++) {
        const struct wfe_input *input = &mount->inputs->items[i];
        good = (arguments[n++] = strdup("--artifact")) && good;
        good = asprintf(&arguments[n++], "%zu=%s", i,
                   input->stored ? input->digest.text : input->path) >= 0 &&
               good;
    }
    good = (arguments[n++] = strdup(mount->mountpoint)) && good;
    if (good)
        return arguments;
    for (size_t i = 0; i < n; i++)
        free(arguments[i]);
    free(arguments);
    return NULL;
}

/* In the child; only what may be called after a fork of a process with threads. */
static void __attribute__((noreturn)) become(char *const *arguments, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* A terminal's signals are for the executor, which ends this when the step has ended. */
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int null = open("/dev/null", O_RDWR);
    if (getppid() == parent && null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1)
        execv(arguments[0], arguments);
    _exit(127);
}

static int start(struct wfe_input_mount *mount, const char *store_path, struct wfe_error *err)
{
    WFE_FREE char *program = find_program();
    if (!program)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, ENOENT, "%s is not installed", PROGRAM);
    char **arguments = make_arguments(mount, program, store_path);
    if (!arguments)
        return wfe_error_nomem(err);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(arguments, parent);
    int errnum = errno;
    for (char **at = arguments; *at; at++)
        free(*at);
    free(arguments);
    if (pid < 0)
        return wfe_error_system(err, errnum, "fork");
    mount->pid = pid;
    mount->pidfd = pidfd_open(pid, 0);
    return mount->pidfd < 0 ? wfe_error_system(err, errno, "pidfd_open") : 0;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool is_mounted(const struct wfe_input_mount *mount)
{
    struct statfs st;
    return statfs(mount->mountpoint, &st) == 0 && st.f_type == FUSE_SUPER_MAGIC;
}

/* What the file system says of its artifacts; NULL when it says nothing. */
static cJSON *read_state(const struct wfe_input_mount *mount)
{
    WFE_FREE char *path = wfe_path_join(mount->mountpoint, ".wfe/volume.json");
    WFE_FREE char *text = NULL;
    size_t length;
    if (!path || wfe_read_file(path, STATE_MAX_BYTES, &text, &length, NULL) < 0)
        return NULL;
    return cJSON_ParseWithLength(text, length);
}

/* 1 when the first entry of each artifact is known (it is the one that has the root's attributes),
 * 0 when not. */
static int has_begun(const struct wfe_input_mount *mount)
{
    WFE_JSON cJSON *state = read_state(mount);
    const cJSON *artifact;
    size_t count = 0;
    cJSON_ArrayForEach(artifact, cJSON_GetObjectItemCaseSensitive(state, "artifacts"))
    {
        const cJSON *word = cJSON_GetObjectItemCaseSensitive(artifact, "state");
        const cJSON *entries = cJSON_GetObjectItemCaseSensitive(artifact, "entries");
        if (cJSON_IsString(word) && strcmp(word->valuestring, "scanning") == 0 &&
            !(cJSON_IsNumber(entries) && entries->valuedouble > 0))
            return 0;
        count++;
    }
    return count == mount->inputs->count;
}

static int await_ready(
    struct wfe_input_mount *mount, struct wfe_cancel *cancel, struct wfe_error *err)
{
    int64_t until = now_ms() + READY_TIMEOUT_MS;
    while (!is_mounted(mount) || !has_begun(mount)) {
        struct pollfd end = {.fd = mount->pidfd, .events = POLLIN};
        if (poll(&end, 1, READY_POLL_MS) > 0)
            return wfe_error_set(
                err, WFE_ERROR_ARCHIVE, EIO, "%s could not mount the inputs", PROGRAM);
        if (wfe_cancel_requested(cancel))
            return wfe_error_set(err, WFE_ERROR_CANCELLED, ECANCELED, "stopped");
        if (now_ms() > until)
            return wfe_error_set(err, WFE_ERROR_SYSTEM, ETIMEDOUT,
                "%s has not mounted the inputs within %d s", PROGRAM, READY_TIMEOUT_MS / 1000);
    }
    return 0;
}

/* An overlay's root has the attributes of its upper directory: the archive's, as a layer has them.
 * A directory's own tell of the place where it lay. */
static int take_root_attributes(const struct wfe_input_mount *mount, struct wfe_error *err)
{
    for (size_t i = 0; i < mount->inputs->count; i++) {
        const struct wfe_spec_overlay *overlay = &mount->overlays[i];
        struct stat st;
        const struct wfe_input *input = &mount->inputs->items[i];
        if (!input->stored && stat(input->path, &st) == 0 && S_ISDIR(st.st_mode))
            st = (struct stat){.st_mode = 0755};
        else if (stat(overlay->lower, &st) < 0)
            return wfe_error_system(err, errno, "%s", overlay->lower);
        const struct timespec times[] = {st.st_mtim, st.st_mtim};
        if (chown(overlay->upper, st.st_uid, st.st_gid) < 0 ||
            chmod(overlay->upper, st.st_mode & 07777) < 0 ||
            utimensat(AT_FDCWD, overlay->upper, times, 0) < 0)
            return wfe_error_system(err, errno, "%s", overlay->upper);
    }
    return 0;
}

int wfe_input_mount_start(const struct wfe_inputs *inputs, const char *base_directory,
    const char *id, const char *store_path, struct wfe_input_mount **ret, struct wfe_error *err)
{
    assert(inputs->count <= WFE_INPUT_MOUNT_MAX);
    struct wfe_input_mount *mount = calloc(1, sizeof *mount);
    if (!mount)
        return wfe_error_nomem(err);
    mount->inputs = inputs;
    mount->pidfd = -1;
    int r;
    if (asprintf(&mount->directory, "%s/wfe-in-%s", base_directory, id) < 0) {
        mount->directory = NULL;
        r = wfe_error_nomem(err);
    } else {
        r = make_place(mount, err);
    }
    if (r == 0)
        r = start(mount, store_path, err);
    if (r < 0) {
        wfe_input_mount_free(mount);
        return r;
    }
    *ret = mount;
    return 0;
}

int wfe_input_mount_await(
    struct wfe_input_mount *mount, struct wfe_cancel *cancel, struct wfe_error *err)
{
    int r = await_ready(mount, cancel, err);
    return r < 0 ? r : take_root_attributes(mount, err);
}

void wfe_input_mount_stop(struct wfe_input_mount *mount)
{
    kill(mount->pid, SIGTERM);
}

static void end(struct wfe_input_mount *mount)
{
    struct pollfd ended = {.fd = mount->pidfd, .events = POLLIN};
    wfe_input_mount_stop(mount);
    if (mount->pidfd < 0 || poll(&ended, 1, END_TIMEOUT_MS) <= 0)
        kill(mount->pid, SIGKILL);
    while (waitpid(mount->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    mount->pid = 0;
}

/* Whatever is mounted there, also by a process that died. */
static void remove_place(const char *directory)
{
    WFE_FREE char *mountpoint = wfe_path_join(directory, "mnt");
    while (mountpoint && umount2(mountpoint, MNT_DETACH) == 0)
        ;
    int r = wfe_remove_tree(directory);
    if (r < 0)
        wfe_log(WFE_LOG_WARN, "inputs", "%s is left behind: %s", directory, strerror(-r));
}

void wfe_input_mount_free(struct wfe_input_mount *mount)
{
    if (!mount)
        return;
    if (mount->pid > 0)
        end(mount);
    if (mount->pidfd >= 0)
        close(mount->pidfd);
    if (mount->directory)
        remove_place(mount->directory);
    for (size_t i = 0; i < mount->inputs->count; i++) {
        free(mount->overlays[i].lower);
        free(mount->overlays[i].upper);
        free(mount->overlays[i].work);
    }
    free(mount->directory);
    free(mount->mountpoint);
    free(mount);
}

struct wfe_spec_overlay *wfe_input_mount_overlays(struct wfe_input_mount *mount, size_t *ret_count)
{
    *ret_count = mount->inputs->count;
    return mount->overlays;
}

bool wfe_input_mount_is_unseen(const struct wfe_input_mount *mount, const struct wfe_error *err)
{
    return strstr(err->message, mount->directory) && is_mounted(mount);
}

int wfe_input_mount_check(struct wfe_input_mount *mount, struct wfe_error *err)
{
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)mount->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid != 0)
        return wfe_error_set(err, WFE_ERROR_SYSTEM, EIO,
            "the file system of the inputs died while the step ran (%s %d)",
            info.si_code == CLD_EXITED ? "exit status" : "signal", info.si_status);
    WFE_JSON cJSON *state = read_state(mount);
    const cJSON *artifact;
    cJSON_ArrayForEach(artifact, cJSON_GetObjectItemCaseSensitive(state, "artifacts"))
    {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(artifact, "name");
        const cJSON *reason = cJSON_GetObjectItemCaseSensitive(artifact, "reason");
        size_t number = cJSON_IsString(name) ? strtoul(name->valuestring, NULL, 10) : SIZE_MAX;
        if (cJSON_IsString(reason) && number < mount->inputs->count)
            return wfe_error_set(err, WFE_ERROR_INTEGRITY, EIO, "input '%s': %s",
                mount->inputs->items[number].name, reason->valuestring);
    }
    return 0;
}

void wfe_input_mount_reclaim(const char *base_directory, const char *id)
{
    WFE_FREE char *directory = NULL;
    if (asprintf(&directory, "%s/wfe-in-%s", base_directory, id) < 0)
        directory = NULL;
    else if (access(directory, F_OK) == 0)
        remove_place(directory);
}
