/* SPDX-License-Identifier: MIT */

/* Runs a fuzz target over the files of the directories that are its arguments. */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t replay(const char *directory)
{
    size_t count = 0;
    DIR *dir = opendir(directory);
    if (!dir)
        return 0;
    for (struct dirent *found; (found = readdir(dir));) {
        if (found->d_name[0] == '.')
            continue;
        WFE_FREE char *path = wfe_path_join(directory, found->d_name);
        WFE_FREE char *data = NULL;
        size_t length;
        if (!path || wfe_read_file(path, 64 << 20, &data, &length, NULL) < 0)
            abort();
        printf("%s\n", path);
        fflush(stdout);
        LLVMFuzzerTestOneInput((const uint8_t *)data, length);
        count++;
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    for (int i = 1; i < argc; i++)
        count += replay(argv[i]);
    if (count == 0)
        fprintf(stderr, "%s: nothing to replay\n", argv[0]);
    return count > 0 ? 0 : 1;
}
