/* SPDX-License-Identifier: MIT */
#ifndef WFE_LIBCOMMON_STORE_NAME_H
#define WFE_LIBCOMMON_STORE_NAME_H

/* Within the store: what a file's name says about its contents. */

#include <stddef.h>

/* The length of an archive's suffix (".tar.gz", ".zip") at the end of file_name; 0 when there is
 * none, or nothing before it. */
size_t wfe_store_archive_suffix(const char *file_name);

#endif
