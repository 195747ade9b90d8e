// SPDX-License-Identifier: MIT

/* lstat() of each path that standard input names, one a line; prints how many and how long. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

int main(void)
{
    static char text[64 << 20];
    size_t length = fread(text, 1, sizeof text - 1, stdin);
    text[length] = '\0';
    for (char *at = text; (at = strchr(at, '\n')); at++)
        *at = '\0';
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    size_t count = 0;
    for (const char *path = text; path < text + length; path += strlen(path) + 1) {
        struct stat st;
        if (lstat(path, &st) < 0) {
            perror(path);
            return 1;
        }
        count++;
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%zu %.9f\n", count,
        (double)(ended.tv_sec - began.tv_sec) + 1e-9 * (double)(ended.tv_nsec - began.tv_nsec));
    return 0;
}
