/* SPDX-License-Identifier: MIT */
#ifndef WFE_EXECUTOR_SPEC_JSON_H
#define WFE_EXECUTOR_SPEC_JSON_H

/*
 * How the files of the spec module build its JSON: each function adds something and answers false
 * when memory ran out.
 */

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <cjson/cJSON.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Takes item, which may be NULL. */
static inline bool attach(cJSON *object, const char *name, cJSON *item)
{
    if (cJSON_AddItemToObject(object, name, item))
        return true;
    cJSON_Delete(item);
    return false;
}

/* Takes item, which may be NULL. */
static inline bool append(cJSON *array, cJSON *item)
{
    if (cJSON_AddItemToArray(array, item))
        return true;
    cJSON_Delete(item);
    return false;
}

static inline bool add_text(cJSON *object, const char *name, const char *text)
{
    return cJSON_AddStringToObject(object, name, text) != NULL;
}

static inline bool add_number(cJSON *object, const char *name, double number)
{
    return cJSON_AddNumberToObject(object, name, number) != NULL;
}

/* As digits: cJSON writes a large number with an exponent, which no runtime takes for an integer.
 */
static inline bool add_integer(cJSON *object, const char *name, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    return cJSON_AddRawToObject(object, name, digits) != NULL;
}

static inline cJSON *new_list(const char *const *strings)
{
    int count = 0;
    while (strings[count])
        count++;
    return cJSON_CreateStringArray(strings, count);
}

static inline bool add_list(cJSON *object, const char *name, const char *const *strings)
{
    return attach(object, name, new_list(strings));
}

static inline bool append_list(cJSON *array, char *const *strings)
{
    for (; *strings; strings++)
        if (!append(array, cJSON_CreateString(*strings)))
            return false;
    return true;
}

#endif
