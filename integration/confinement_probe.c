/* SPDX-License-Identifier: MIT */

/*
 * Tries, inside of a container, what its confinement is for, and prints a line for each attempt:
 * its name, and "ok" or the name of the errno that it failed with. Linked statically.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

/* As a function's value: what an attempt came to, 0 or an errno. */
static int outcome(long result)
{
    return result < 0 ? errno : 0;
}

/* The same of a descriptor, which is closed. */
static int opened(int fd)
{
    int error = outcome(fd);
    if (fd >= 0)
        close(fd);
    return error;
}

static int try_mount(void)
{
    return outcome(mount("none", "/tmp", "tmpfs", 0, NULL));
}

static int try_umount(void)
{
    return outcome(umount2("/proc/sys", MNT_DETACH));
}

static int try_fsopen(void)
{
    return opened((int)syscall(SYS_fsopen, "tmpfs", 0));
}

static int try_unshare_mount(void)
{
    return outcome(unshare(CLONE_NEWNS));
}

static int try_unshare_user(void)
{
    return outcome(unshare(CLONE_NEWUSER));
}

static int try_clone_user(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        _exit(0);
    int error = outcome(pid);
    if (pid > 0)
        waitpid((pid_t)pid, NULL, 0);
    return error;
}

static int try_clone3(void)
{
    return outcome(syscall(SYS_clone3, NULL, 0));
}

static int try_setns(void)
{
    int fd = open("/proc/self/ns/net", O_RDONLY);
    int error = fd < 0 ? ENOENT : outcome(setns(fd, 0));
    close(fd);
    return error;
}

static int try_keyctl(void)
{
    return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1));
}

static int try_bpf(void)
{
    return outcome(syscall(SYS_bpf, 0, NULL, 0));
}

static int try_perf(void)
{
    return outcome(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static int try_io_uring(void)
{
    return outcome(syscall(SYS_io_uring_setup, 0, NULL));
}

static int try_userfaultfd(void)
{
    return opened((int)syscall(SYS_userfaultfd, 1));
}

static int try_handle(void)
{
    return outcome(syscall(SYS_open_by_handle_at, -1, NULL, 0));
}

static int try_reboot(void)
{
    return outcome(syscall(SYS_reboot, 0, 0, 0, NULL));
}

static int try_swapon(void)
{
    return outcome(swapon("/nowhere", 0));
}

static int try_module(void)
{
    return outcome(syscall(SYS_init_module, NULL, 0, ""));
}

static int try_kexec(void)
{
    return outcome(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static int try_syslog(void)
{
    return outcome(klogctl(10, NULL, 0));
}

static int try_hostname(void)
{
    return outcome(sethostname("other", 5));
}

static int try_clock(void)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return outcome(syscall(SYS_settimeofday, &now, NULL));
}

static int try_personality(void)
{
    return outcome(personality(ADDR_NO_RANDOMIZE));
}

static int try_alg(void)
{
    return opened(socket(AF_ALG, SOCK_SEQPACKET, 0));
}

/* The kernel heeds the lower half of the argument alone. */
static int try_alg_wide(void)
{
    return opened((int)syscall(SYS_socket, (1L << 32) + AF_ALG, SOCK_SEQPACKET, 0));
}

static int try_vsock(void)
{
    return opened(socket(AF_VSOCK, SOCK_STREAM, 0));
}

static int try_raw_socket(void)
{
    return opened(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int try_write_sysctl(void)
{
    return opened(open("/proc/sys/kernel/panic", O_WRONLY));
}

static int try_write_sysrq(void)
{
    return opened(open("/proc/sysrq-trigger", O_WRONLY));
}

static int try_write_sys(void)
{
    return outcome(mkdir("/sys/made-by-probe", 0755));
}

/* ENODATA: it is there, and empty. */
static int try_read_kcore(void)
{
    char byte;
    int fd = open("/proc/kcore", O_RDONLY);
    if (fd < 0)
        return errno;
    ssize_t length = read(fd, &byte, 1);
    int error = length == 0 ? ENODATA : outcome(length);
    close(fd);
    return error;
}

static int try_firmware(void)
{
    DIR *directory = opendir("/sys/firmware");
    int entries = 0;
    while (directory && readdir(directory))
        entries++;
    if (directory)
        closedir(directory);
    return entries == 2 ? ENODATA : 0;
}

static int try_device(mode_t kind, dev_t device)
{
    static const char path[] = "/tmp/device";
    if (mknod(path, kind | 0600, device) < 0)
        return errno;
    int error = opened(open(path, O_RDONLY));
    unlink(path);
    return error;
}

static int try_block_device(void)
{
    return try_device(S_IFBLK, makedev(254, 0));
}

static int try_memory_device(void)
{
    return try_device(S_IFCHR, makedev(1, 1));
}

/* ESRCH: of all processes, only those of the container are there. */
static int try_host_processes(void)
{
    DIR *directory = opendir("/proc");
    int processes = 0;
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        processes += entry->d_name[0] >= '1' && entry->d_name[0] <= '9';
    if (directory)
        closedir(directory);
    return processes <= 2 ? ESRCH : 0;
}

static int try_chroot(void)
{
    return outcome(chroot("/"));
}

static int try_chown(void)
{
    int fd = open("/tmp/file", O_CREAT | O_WRONLY, 0600);
    int error = fd < 0 ? errno : outcome(fchown(fd, 1234, 1234));
    close(fd);
    unlink("/tmp/file");
    return error;
}

static int try_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    int status = 0;
    return pid < 0 ? errno : outcome(waitpid(pid, &status, 0));
}

static void *thread_main(void *argument)
{
    return argument;
}

static int try_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, thread_main, NULL);
    return error ? error : pthread_join(thread, NULL);
}

/* A debugger's own child. */
static int try_ptrace_child(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? errno : 0);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static int try_pipe(void)
{
    int fds[2];
    char byte = 'x';
    if (pipe(fds) < 0)
        return errno;
    long result = write(fds[1], &byte, 1) == 1 ? read(fds[0], &byte, 1) : -1;
    int error = outcome(result);
    close(fds[0]);
    close(fds[1]);
    return error;
}

/* Over the container's own loopback interface. */
static int try_tcp(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    int error = 0;
    if (listener < 0 || client < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
        listen(listener, 1) < 0 || connect(client, (struct sockaddr *)&address, length) < 0)
        error = errno;
    close(listener);
    close(client);
    return error;
}

static int try_unix(void)
{
    int fds[2];
    int error = outcome(socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
    if (!error) {
        close(fds[0]);
        close(fds[1]);
    }
    return error;
}

static int try_netlink(void)
{
    return opened(socket(AF_NETLINK, SOCK_RAW, 0));
}

/* EPERM: it has none to gain. */
static int try_new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? EPERM : 0;
}

static int try_write_root(void)
{
    int error = opened(open("/made-by-probe", O_CREAT | O_WRONLY, 0600));
    unlink("/made-by-probe");
    return error;
}

static const struct {
    const char *name;
    int (*try)(void);
} ATTEMPTS[] = {
    {"mount", try_mount},
    {"umount", try_umount},
    {"fsopen", try_fsopen},
    {"unshare-mount", try_unshare_mount},
    {"unshare-user", try_unshare_user},
    {"clone-user", try_clone_user},
    {"clone3", try_clone3},
    {"setns", try_setns},
    {"keyctl", try_keyctl},
    {"bpf", try_bpf},
    {"perf", try_perf},
    {"io-uring", try_io_uring},
    {"userfaultfd", try_userfaultfd},
    {"handle", try_handle},
    {"reboot", try_reboot},
    {"swapon", try_swapon},
    {"module", try_module},
    {"kexec", try_kexec},
    {"syslog", try_syslog},
    {"hostname", try_hostname},
    {"clock", try_clock},
    {"personality", try_personality},
    {"alg", try_alg},
    {"alg-wide", try_alg_wide},
    {"vsock", try_vsock},
    {"raw-socket", try_raw_socket},
    {"write-sysctl", try_write_sysctl},
    {"write-sysrq", try_write_sysrq},
    {"write-sys", try_write_sys},
    {"read-kcore", try_read_kcore},
    {"firmware", try_firmware},
    {"block-device", try_block_device},
    {"memory-device", try_memory_device},
    {"host-processes", try_host_processes},
    {"chroot", try_chroot},
    {"chown", try_chown},
    {"fork", try_fork},
    {"thread", try_thread},
    {"ptrace-child", try_ptrace_child},
    {"pipe", try_pipe},
    {"tcp", try_tcp},
    {"unix", try_unix},
    {"netlink", try_netlink},
    {"new-privileges", try_new_privileges},
    {"write-root", try_write_root},
};

/* In a process of its own, so that no attempt changes the next one's place. */
static int isolated(int (*try)(void))
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(try());
    int status;
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

int main(void)
{
    for (size_t i = 0; i < sizeof ATTEMPTS / sizeof *ATTEMPTS; i++) {
        int error = isolated(ATTEMPTS[i].try);
        printf("%s %s\n", ATTEMPTS[i].name, error ? strerrorname_np(error) : "ok");
        fflush(stdout);
    }
    return 0;
}
