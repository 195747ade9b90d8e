/* SPDX-License-Identifier: MIT */
#include "executor/spec/seccomp.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>

#include "executor/spec/capabilities.h"
#include "executor/spec/spec_json.h"
#include "libcommon/cleanup.h"

#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |     \
        CLONE_NEWCGROUP)

static const char EQUAL[] = "SCMP_CMP_EQ";
static const char LESS[] = "SCMP_CMP_LT";
static const char MASKED_EQUAL[] = "SCMP_CMP_MASKED_EQ";

/* Lists of names end with NULL. */

/* Whatever their arguments. */
static const char *const ALLOWED[] = {"_llseek", "_newselect", "accept", "accept4", "access",
    "adjtimex", "alarm", "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod", "chown",
    "chown32", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "close",
    "close_range", "connect", "copy_file_range", "creat", "dup", "dup2", "dup3", "epoll_create",
    "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "epoll_wait_old", "eventfd", "eventfd2", "execve", "execveat", "exit", "exit_group",
    "faccessat", "faccessat2", "fadvise64", "fadvise64_64", "fallocate", "fanotify_mark", "fchdir",
    "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32", "fchownat", "fcntl", "fcntl64",
    "fdatasync", "fgetxattr", "flistxattr", "flock", "fork", "fremovexattr", "fsetxattr", "fstat",
    "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync", "ftruncate", "ftruncate64", "futex",
    "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futimesat",
    "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
    "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups", "getgroups32",
    "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
    "getrandom", "getresgid", "getresgid32", "getresuid", "getresuid32", "getrlimit", "getrusage",
    "getsid", "getsockname", "getsockopt", "gettid", "gettimeofday", "getuid", "getuid32",
    "getxattr", "getxattrat", "inotify_add_watch", "inotify_init", "inotify_init1",
    "inotify_rm_watch", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
    "io_pgetevents_time64", "io_setup", "io_submit", "ioctl", "ioprio_get", "ioprio_set", "ipc",
    "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown",
    "lchown32", "lgetxattr", "link", "linkat", "listen", "listmount", "listxattr", "listxattrat",
    "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "lstat64", "madvise",
    "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat",
    "mknod", "mknodat", "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mq_getsetattr",
    "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64", "mq_timedsend",
    "mq_timedsend_time64", "mq_unlink", "mremap", "mseal", "msgctl", "msgget", "msgrcv", "msgsnd",
    "msync", "munlock", "munlockall", "munmap", "name_to_handle_at", "nanosleep", "newfstatat",
    "open", "openat", "openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2",
    "pkey_alloc", "pkey_free", "pkey_mprotect", "poll", "ppoll", "ppoll_time64", "prctl", "pread64",
    "preadv", "preadv2", "prlimit64", "process_mrelease", "process_vm_readv", "process_vm_writev",
    "pselect6", "pselect6_time64", "ptrace", "pwrite64", "pwritev", "pwritev2", "read", "readahead",
    "readlink", "readlinkat", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg",
    "remap_file_pages", "removexattr", "removexattrat", "rename", "renameat", "renameat2",
    "restart_syscall", "riscv_hwprobe", "rmdir", "rseq", "rt_sigaction", "rt_sigpending",
    "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sched_get_priority_max",
    "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam",
    "sched_getscheduler", "sched_rr_get_interval", "sched_rr_get_interval_time64",
    "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield",
    "seccomp", "select", "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "send",
    "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "set_robust_list", "set_thread_area",
    "set_tid_address", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setitimer", "setpgid", "setpriority", "setregid", "setregid32",
    "setresgid", "setresgid32", "setresuid", "setresuid32", "setreuid", "setreuid32", "setrlimit",
    "setsid", "setsockopt", "setuid", "setuid32", "setxattr", "setxattrat", "shmat", "shmctl",
    "shmdt", "shmget", "shutdown", "sigaltstack", "signalfd", "signalfd4", "sigprocmask",
    "sigreturn", "socketcall", "socketpair", "splice", "stat", "stat64", "statfs", "statfs64",
    "statmount", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "sysinfo",
    "tee", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime",
    "timer_gettime64", "timer_settime", "timer_settime64", "timerfd_create", "timerfd_gettime",
    "timerfd_gettime64", "timerfd_settime", "timerfd_settime64", "times", "tkill", "truncate",
    "truncate64", "ugetrlimit", "umask", "uname", "unlink", "unlinkat", "uretprobe", "utime",
    "utimensat", "utimensat_time64", "utimes", "vfork", "vmsplice", "wait4", "waitid", "waitpid",
    "write", "writev", NULL};

/* With this argument only: one condition a rule, since two of them on the same argument are ORed by
 * runc. The families above AF_VSOCK are listed, not compared: the kernel heeds 32 bits of the
 * argument, a filter 64, so that a comparison would let AF_ALG pass with a bit above them. */
static const struct {
    const char *name;
    uint64_t value;
    const char *op;
} CONDITIONAL[] = {
    {"personality", 0x0, EQUAL},        /* PER_LINUX */
    {"personality", 0x8, EQUAL},        /* PER_LINUX32 */
    {"personality", 0x20000, EQUAL},    /* UNAME26 */
    {"personality", 0x20008, EQUAL},    /* both */
    {"personality", 0xFFFFFFFF, EQUAL}, /* which is it */
    {"socket", AF_ALG, LESS},           /* all families before it */
    {"socket", 39, EQUAL},              /* AF_NFC */
    {"socket", 41, EQUAL},              /* AF_KCM */
    {"socket", 42, EQUAL},              /* AF_QIPCRTR */
    {"socket", 43, EQUAL},              /* AF_SMC */
    {"socket", 44, EQUAL},              /* AF_XDP */
    {"socket", 45, EQUAL},              /* AF_MCTP */
};

/* What a machine has of its own: the architectures of the programs that it runs, and calls. */
static const struct machine {
    const char *architecture;
    const char *const abis[4];
    const char *const names[7];
} MACHINES[] = {
    {"amd64", {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"}, {"arch_prctl", "modify_ldt"}},
    {"386", {"SCMP_ARCH_X86"}, {"modify_ldt"}},
    {"arm64", {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"},
        {"arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls",
            "sync_file_range2"}},
    {"arm", {"SCMP_ARCH_ARM"},
        {"arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls",
            "sync_file_range2"}},
    {"ppc64le", {"SCMP_ARCH_PPC64LE"}, {"swapcontext", "sync_file_range2"}},
    {"riscv64", {"SCMP_ARCH_RISCV64"}, {"riscv_flush_icache"}},
    {"s390x", {"SCMP_ARCH_S390X", "SCMP_ARCH_S390"},
        {"s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"}},
    {"mips64", {"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"}, {NULL}},
    {"mips64le", {"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"}, {NULL}},
};

/* What a capability of the bounding set adds. */
static const struct {
    unsigned capability;
    const char *const names[27];
} GUARDED[] = {
    {CAP_DAC_READ_SEARCH, {"open_by_handle_at"}},
    {CAP_SYS_ADMIN, {"bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen",
                        "fspick", "lookup_dcookie", "lsm_get_self_attr", "lsm_list_modules",
                        "lsm_set_self_attr", "mount", "mount_setattr", "move_mount", "open_tree",
                        "perf_event_open", "quotactl", "quotactl_fd", "setdomainname",
                        "sethostname", "setns", "syslog", "umount", "umount2", "unshare"}},
    {CAP_SYS_BOOT, {"reboot"}},
    {CAP_SYS_CHROOT, {"chroot"}},
    {CAP_SYS_MODULE, {"delete_module", "finit_module", "init_module"}},
    {CAP_SYS_PACCT, {"acct"}},
    {CAP_SYS_PTRACE, {"kcmp", "pidfd_getfd", "process_madvise"}},
    {CAP_SYS_RAWIO, {"ioperm", "iopl"}},
    {CAP_SYS_TIME, {"clock_settime", "clock_settime64", "settimeofday", "stime"}},
    {CAP_SYS_TTY_CONFIG, {"vhangup"}},
    {CAP_SYS_NICE, {"get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"}},
    {CAP_SYSLOG, {"syslog"}},
    {CAP_BPF, {"bpf"}},
    {CAP_PERFMON, {"perf_event_open"}},
};

/* Adds a rule for the names; NULL when memory ran out. */
static cJSON *add_rule(cJSON *rules, const char *const *names, const char *action)
{
    cJSON *rule = cJSON_CreateObject();
    if (!append(rules, rule) || !add_list(rule, "names", names) ||
        !add_text(rule, "action", action))
        return NULL;
    return rule;
}

static bool allow(cJSON *rules, const char *const *names)
{
    return !names[0] || add_rule(rules, names, "SCMP_ACT_ALLOW");
}

static bool allow_if(
    cJSON *rules, const char *name, unsigned argument, uint64_t value, const char *op)
{
    const char *const names[] = {name, NULL};
    cJSON *rule = add_rule(rules, names, "SCMP_ACT_ALLOW");
    cJSON *conditions = cJSON_AddArrayToObject(rule, "args");
    cJSON *condition = cJSON_CreateObject();
    return append(conditions, condition) && add_number(condition, "index", argument) &&
           add_integer(condition, "value", value) && add_text(condition, "op", op);
}

/* Without CAP_SYS_ADMIN: no new namespaces. */
static bool restrict_clone(cJSON *rules, const char *architecture)
{
    static const char *const clone3[] = {"clone3", NULL};
    unsigned flags_argument = strcmp(architecture, "s390x") == 0 ? 1 : 0;
    if (!allow_if(rules, "clone", flags_argument, NEW_NAMESPACES, MASKED_EQUAL))
        return false;
    cJSON *rule = add_rule(rules, clone3, "SCMP_ACT_ERRNO");
    return rule && add_number(rule, "errnoRet", ENOSYS);
}

static const struct machine *find_machine(const char *architecture)
{
    for (size_t i = 0; i < COUNT(MACHINES); i++)
        if (strcmp(MACHINES[i].architecture, architecture) == 0)
            return &MACHINES[i];
    return NULL;
}

static bool add_rules(
    cJSON *rules, const char *architecture, const struct machine *machine, uint64_t bounding)
{
    if (!rules || !allow(rules, ALLOWED) || (machine && !allow(rules, machine->names)))
        return false;
    for (size_t i = 0; i < COUNT(CONDITIONAL); i++)
        if (!allow_if(rules, CONDITIONAL[i].name, 0, CONDITIONAL[i].value, CONDITIONAL[i].op))
            return false;
    for (size_t i = 0; i < COUNT(GUARDED); i++)
        if ((bounding & WFE_CAPABILITY(GUARDED[i].capability)) && !allow(rules, GUARDED[i].names))
            return false;
    return (bounding & WFE_CAPABILITY(CAP_SYS_ADMIN)) || restrict_clone(rules, architecture);
}

cJSON *wfe_seccomp_default(const char *architecture, uint64_t bounding)
{
    const struct machine *machine = find_machine(architecture);
    WFE_JSON cJSON *profile = cJSON_CreateObject();
    if (!profile || !add_text(profile, "defaultAction", "SCMP_ACT_ERRNO") ||
        (machine && !add_list(profile, "architectures", machine->abis)) ||
        !add_rules(cJSON_AddArrayToObject(profile, "syscalls"), architecture, machine, bounding))
        return NULL;
    return wfe_steal(&profile);
}
