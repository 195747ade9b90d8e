/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"
#include "libcommon/utf8.h"

static const char byte_order_mark[] = "\xEF\xBB\xBF";

typedef int reader_function(struct wfe_document_builder *builder, const char *text, size_t length);

static int refuse_text(struct wfe_problems *problems, const char *file, const char *text,
    size_t offset, const char *allowed)
{
    wfe_problems_add(problems, false, file, wfe_document_line_at(text, offset), "",
        "found the byte 0x%02X; allowed: %s", (unsigned)(unsigned char)text[offset], allowed);
    return -EINVAL;
}

/* What can be judged before a reader sees the text. */
static int check_text(
    struct wfe_problems *problems, const char *file, const char *text, size_t length)
{
    if (length > WFE_DOCUMENT_MAX_BYTES) {
        wfe_problems_add(problems, false, file, 0, "", "found %zu bytes of text; allowed: %d",
            length, WFE_DOCUMENT_MAX_BYTES);
        return -EINVAL;
    }
    size_t valid = wfe_utf8_span(text, length);
    if (valid < length)
        return refuse_text(problems, file, text, valid, "UTF-8");
    const char *nul = length > 0 ? memchr(text, '\0', length) : NULL;
    if (nul)
        return refuse_text(problems, file, text, (size_t)(nul - text), "text without it");
    return 0;
}

static int read_with(reader_function *read, const char *file, const char *text, size_t length,
    struct wfe_document **ret, struct wfe_problems *problems)
{
    WFE_DOCUMENT struct wfe_document *document = calloc(1, sizeof *document);
    if (!document)
        return -ENOMEM;
    struct wfe_document_builder builder = {
        .document = document, .file = file, .problems = problems, .line = 1};
    int r = read(&builder, text, length);
    if (r < 0)
        return r;
    if (!document->root) {
        builder.line = 1;
        wfe_document_problem(&builder, "found an empty document");
        return -EINVAL;
    }
    *ret = wfe_steal(&document);
    return 0;
}

/* Forget the problems after the first `count`, of which `errors` are no warnings. */
static void forget_problems(struct wfe_problems *problems, size_t count, size_t errors)
{
    while (problems->count > count)
        free(problems->items[--problems->count].text);
    problems->errors = errors;
}

int wfe_document_parse(const char *file, const char *text, size_t length, struct wfe_document **ret,
    struct wfe_problems *problems)
{
    int r = check_text(problems, file, text, length);
    if (r < 0)
        return r;
    size_t mark_length = strlen(byte_order_mark);
    if (length >= mark_length && memcmp(text, byte_order_mark, mark_length) == 0) {
        text += mark_length;
        length -= mark_length;
    }
    size_t start = 0;
    while (start < length && strchr(" \t\r\n", text[start]))
        start++;
    if (start < length && (text[start] == '{' || text[start] == '[')) {
        size_t count = problems->count, errors = problems->errors;
        r = read_with(wfe_document_read_json, file, text, length, ret, problems);
        if (r != -EILSEQ)
            return r;
        forget_problems(problems, count, errors);
    }
    return read_with(wfe_document_read_yaml, file, text, length, ret, problems);
}
