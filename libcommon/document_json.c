/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/document_build.h"

struct json_reader {
    struct wfe_document_builder *builder;
    const char *cursor;
    const char *end;
    struct wfe_buffer text; /* of the string that was read last */
};

static int read_value(struct json_reader *reader);

static void skip_space(struct json_reader *reader)
{
    for (; reader->cursor < reader->end; reader->cursor++) {
        char c = *reader->cursor;
        if (c == '\n')
            reader->builder->line++;
        else if (c != ' ' && c != '\t' && c != '\r')
            return;
    }
}

/* The byte at the cursor, NUL at the end of the text. */
static char peek(const struct json_reader *reader)
{
    return reader->cursor < reader->end ? *reader->cursor : '\0';
}

static bool accept(struct json_reader *reader, char c)
{
    if (peek(reader) != c)
        return false;
    reader->cursor++;
    return true;
}

/* Four hexadecimal digits. */
static int read_unit(struct json_reader *reader, uint32_t *ret)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        static const char digits[] = "0123456789abcdef0123456789ABCDEF";
        char c = peek(reader);
        const char *digit = c != '\0' ? strchr(digits, c) : NULL;
        if (!digit)
            return -EILSEQ;
        unit = unit * 16 + (uint32_t)((digit - digits) % 16);
        reader->cursor++;
    }
    *ret = unit;
    return 0;
}

/* What follows "\u": one unit, or two that make one character. A lone half has no UTF-8. */
static int read_code_point(struct json_reader *reader, uint32_t *ret)
{
    uint32_t unit, low;
    int r = read_unit(reader, &unit);
    if (r < 0)
        return r;
    if (unit >= 0xDC00 && unit <= 0xDFFF)
        return -EILSEQ;
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        if (!accept(reader, '\\') || !accept(reader, 'u') || read_unit(reader, &low) < 0 ||
            low < 0xDC00 || low > 0xDFFF)
            return -EILSEQ;
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    *ret = unit;
    return 0;
}

static int append_code_point(struct wfe_buffer *text, uint32_t code)
{
    char bytes[4];
    size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char leads[] = {0, 0x00, 0xC0, 0xE0, 0xF0};
    for (size_t i = length - 1; i > 0; i--) {
        bytes[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    bytes[0] = (char)(leads[length] | code);
    return wfe_buffer_append(text, bytes, length);
}

static int read_escape(struct json_reader *reader)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    char c = peek(reader);
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    if (letter) {
        reader->cursor++;
        return wfe_buffer_append(&reader->text, &meanings[letter - letters], 1);
    }
    uint32_t code;
    if (!accept(reader, 'u'))
        return -EILSEQ;
    int r = read_code_point(reader, &code);
    return r < 0 ? r : append_code_point(&reader->text, code);
}

static int attach_scalar(struct json_reader *reader, const char *text, size_t length, bool quoted)
{
    struct wfe_node *node;
    int r = wfe_document_read_scalar(reader->builder, text, length, quoted, &node);
    return r < 0 ? r : wfe_document_attach(reader->builder, node);
}

/* A string, from its opening quote on. */
static int read_string(struct json_reader *reader)
{
    if (!accept(reader, '"'))
        return -EILSEQ;
    reader->text.length = 0;
    int r = wfe_buffer_append(&reader->text, "", 0);
    while (r == 0) {
        const char *start = reader->cursor;
        while (reader->cursor < reader->end && (unsigned char)*reader->cursor >= 0x20 &&
               *reader->cursor != '"' && *reader->cursor != '\\')
            reader->cursor++;
        r = wfe_buffer_append(&reader->text, start, (size_t)(reader->cursor - start));
        if (r == 0 && accept(reader, '"'))
            return attach_scalar(reader, reader->text.data, reader->text.length, true);
        if (r == 0)
            r = accept(reader, '\\') ? read_escape(reader) : -EILSEQ;
    }
    return r;
}

/* A comma and another element, or the closing bracket. */
static int read_separator(struct json_reader *reader, char closing, bool *ret_more)
{
    skip_space(reader);
    *ret_more = accept(reader, ',');
    if (!*ret_more && !accept(reader, closing))
        return -EILSEQ;
    skip_space(reader);
    return 0;
}

static int read_member(struct json_reader *reader)
{
    int r = read_string(reader);
    if (r < 0)
        return r;
    skip_space(reader);
    if (!accept(reader, ':'))
        return -EILSEQ;
    skip_space(reader);
    return read_value(reader);
}

/* A list or map, behind its opening bracket. */
static int read_collection(struct json_reader *reader, enum wfe_node_kind kind, char closing)
{
    struct wfe_node *node;
    int r = wfe_document_open(reader->builder, kind, &node);
    if (r < 0)
        return r;
    skip_space(reader);
    bool more = !accept(reader, closing);
    while (r == 0 && more) {
        r = kind == WFE_NODE_MAP ? read_member(reader) : read_value(reader);
        if (r == 0)
            r = read_separator(reader, closing, &more);
    }
    return r < 0 ? r : wfe_document_close(reader->builder);
}

/* [-] ( 0 | [1-9][0-9]* ) [ . [0-9]+ ] [ [eE] [-+] [0-9]+ ]  (RFC 8259, section 6) */
static bool is_number(const char *text, size_t length)
{
    static const char decimal[] = "0123456789";
    const char *cursor = text;
    if (*cursor == '-')
        cursor++;
    size_t digits = strspn(cursor, decimal);
    if (digits == 0 || (digits > 1 && *cursor == '0'))
        return false;
    cursor += digits;
    if (*cursor == '.') {
        digits = strspn(++cursor, decimal);
        if (digits == 0)
            return false;
        cursor += digits;
    }
    if (*cursor == 'e' || *cursor == 'E') {
        cursor++;
        if (*cursor == '-' || *cursor == '+')
            cursor++;
        digits = strspn(cursor, decimal);
        if (digits == 0)
            return false;
        cursor += digits;
    }
    return (size_t)(cursor - text) == length;
}

static bool is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

/* A number, true, false or null. */
static int read_word(struct json_reader *reader)
{
    const char *start = reader->cursor;
    while (reader->cursor < reader->end && !strchr(" \t\r\n,]}:\"[{", *reader->cursor))
        reader->cursor++;
    size_t length = (size_t)(reader->cursor - start);
    reader->text.length = 0;
    int r = wfe_buffer_append(&reader->text, start, length);
    if (r < 0)
        return r;
    const char *text = reader->text.data;
    if (!is_word(text, length, "true") && !is_word(text, length, "false") &&
        !is_word(text, length, "null") && !is_number(text, length))
        return -EILSEQ;
    return attach_scalar(reader, text, length, false);
}

static int read_value(struct json_reader *reader)
{
    if (accept(reader, '{'))
        return read_collection(reader, WFE_NODE_MAP, '}');
    if (accept(reader, '['))
        return read_collection(reader, WFE_NODE_LIST, ']');
    return peek(reader) == '"' ? read_string(reader) : read_word(reader);
}

int wfe_document_read_json(struct wfe_document_builder *builder, const char *text, size_t length)
{
    struct json_reader reader = {
        .builder = builder,
        .cursor = text,
        .end = text + length,
        .text = WFE_BUFFER_INIT(WFE_DOCUMENT_MAX_BYTES),
    };
    skip_space(&reader);
    int r = read_value(&reader);
    skip_space(&reader);
    wfe_buffer_done(&reader.text);
    return r == 0 && reader.cursor < reader.end ? -EILSEQ : r;
}
