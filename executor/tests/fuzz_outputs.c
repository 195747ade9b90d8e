/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "executor/run/outputs.h"
#include "executor/run/result.h"
#include "libcommon/cleanup.h"
#include "libcommon/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cJSON *outputs_of(const uint8_t *data, size_t size, size_t piece)
{
    struct wfe_outputs *outputs;
    assert(wfe_outputs_new(&outputs) == 0);
    for (size_t offset = 0; offset < size; offset += piece) {
        size_t length = size - offset < piece ? size - offset : piece;
        assert(wfe_outputs_feed(outputs, data + offset, length) == 0);
    }
    cJSON *object = wfe_outputs_finish(outputs);
    assert(object);
    wfe_outputs_free(outputs);
    return object;
}

/* However the bytes are cut, the outputs are the same, and they are text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece = size > 0 ? data[0] % 19 + 1 : 1;
    WFE_JSON cJSON *whole = outputs_of(data, size, size ? size : 1);
    WFE_JSON cJSON *pieces = outputs_of(data, size, piece);
    assert(cJSON_Compare(whole, pieces, true));
    const cJSON *output;
    cJSON_ArrayForEach(output, whole)
    {
        assert(output->string[0] != '\0');
        size_t length = strlen(output->valuestring);
        assert(wfe_utf8_span(output->valuestring, length) == length);
        assert(cJSON_GetObjectItemCaseSensitive(whole, output->string) == output);
    }
    WFE_FREE char *text = wfe_utf8_lossy((const char *)data, size);
    assert(text && wfe_utf8_span(text, strlen(text)) == strlen(text));
    assert(strlen(text) >= size);
    return 0;
}
