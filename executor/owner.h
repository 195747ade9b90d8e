/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_OWNER_H
#define WFE_EXECUTOR_OWNER_H

/*
 * Who made an object in containerd: written as a label on each lease and container, and
 * read by whoever reclaims what dead executors left.
 *
 * The text is "HOST BOOT PIDNS PID START": host name and machine id, boot id, inode of the PID
 * namespace, process id and its start time in clock ticks since boot.
 */

#include <sys/types.h>

#define WFE_OWNER_LABEL "wfe.owner"
#define WFE_OWNER_TEXT_MAX 256

enum wfe_owner_state {
    WFE_OWNER_ALIVE,
    WFE_OWNER_DEAD,
    WFE_OWNER_OTHER_BOOT, /* this host's before it was booted, or another one's of the same name */
    WFE_OWNER_UNKNOWN,    /* another host or another PID namespace: only its lease's end tells */
};

/* Write the calling process's owner text. Returns 0 or -errno. */
int wfe_owner_self(char text[WFE_OWNER_TEXT_MAX]);

/* Judge an owner text of any origin; what can't be read is UNKNOWN. */
enum wfe_owner_state wfe_owner_judge(const char *text);

#endif
