/* SPDX-License-Identifier: MIT */
#ifndef WFE_ARTIFACTFS_EXTRACT_H
#define WFE_ARTIFACTFS_EXTRACT_H

/*
 * Extracts an archive for the user who calls: files become his, modes pass his umask,
 * setuid and setgid are dropped, modification times are kept, xattrs and ACLs are not.
 *
 * Refused, with the entry's name: absolute names, ".." in a name, hard links to such names, a
 * path through a symbolic link, device nodes.
 */

#include "libcommon/error.h"

/*
 * Extract what in (a file, from its offset) holds into directory, which is made when
 * missing. What lies there already is replaced where the archive has the same name. The
 * process's working directory is the directory afterwards.
 * Errors: WFE_ERROR_ARCHIVE, WFE_ERROR_SYSTEM, WFE_ERROR_INTERNAL. What was extracted before an
 * error stays.
 */
int extract_archive(int in, const char *directory, struct wfe_error *err);

#endif
