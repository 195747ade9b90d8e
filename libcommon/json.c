/* SPDX-License-Identifier: MIT */
#include "libcommon/json.h"

#include <errno.h>
#include <stdbool.h>

int wfe_json_parse(const char *text, size_t length, const char **ret_end, cJSON **ret)
{
    const char *end = text;
    /* malloc(3) leaves ENOMEM; nothing else in the parser does. */
    errno = 0;
    cJSON *json = cJSON_ParseWithLengthOpts(text, length, &end, false);
    if (!json && errno == ENOMEM)
        return -ENOMEM;
    if (ret_end)
        *ret_end = end;
    if (!json)
        return -EINVAL;
    *ret = json;
    return 0;
}
