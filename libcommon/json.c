/* SPDX-License-Identifier: MIT */
#include "libcommon/json.h"

#include <errno.h>
#include <stdbool.h>

int wfe_json_parse(const char *text, size_t length, const char **ret_end, cJSON **ret)
{
    const char *end;
    /* malloc(3) leaves ENOMEM; nothing else in the parser does. */
    errno = 0;
    cJSON *json = cJSON_ParseWithLengthOpts(text, length, &end, false);
    if (!json)
        return errno == ENOMEM ? -ENOMEM : -EINVAL;
    *ret = json;
    if (ret_end)
        *ret_end = end;
    return 0;
}
