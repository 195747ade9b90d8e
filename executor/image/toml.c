/* SPDX-License-Identifier: MIT */
#include "executor/image/toml.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/utf8.h"

struct reader {
    const char *at, *end;
    int line;
    struct wfe_error *err;
};

static int refuse(const struct reader *reader, const char *what)
{
    return wfe_error_set(reader->err, WFE_ERROR_INPUT, EINVAL, "line %d: %s", reader->line, what);
}

/* The next character; NUL at the end (the text itself has none). */
static char peek(const struct reader *reader)
{
    return reader->at < reader->end ? *reader->at : '\0';
}

static bool take(struct reader *reader, char c)
{
    if (peek(reader) != c)
        return false;
    reader->at++;
    return true;
}

static void skip_blanks(struct reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\t')
        reader->at++;
}

static void skip_comment(struct reader *reader)
{
    skip_blanks(reader);
    if (peek(reader) == '#')
        while (reader->at < reader->end && *reader->at != '\n')
            reader->at++;
    /* A line may end in CR LF. */
    if (peek(reader) == '\r' && reader->at + 1 < reader->end && reader->at[1] == '\n')
        reader->at++;
}

static bool take_line_end(struct reader *reader)
{
    skip_comment(reader);
    if (!take(reader, '\n'))
        return false;
    reader->line++;
    return true;
}

static void skip_lines(struct reader *reader)
{
    while (take_line_end(reader))
        ;
}

static int put_character(struct wfe_buffer *text, uint32_t c)
{
    char bytes[4];
    size_t n = 0;
    if (c < 0x80) {
        bytes[n++] = (char)c;
    } else if (c < 0x800) {
        bytes[n++] = (char)(0xc0 | c >> 6);
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        bytes[n++] = (char)(0xe0 | c >> 12);
        bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        bytes[n++] = (char)(0xf0 | c >> 18);
        bytes[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        bytes[n++] = (char)(0x80 | (c & 0x3f));
    }
    return wfe_buffer_append(text, bytes, n);
}

/* \uXXXX or \UXXXXXXXX, after the letter. */
static int read_code(struct reader *reader, int digits, struct wfe_buffer *text)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        char digit = peek(reader);
        if (!isxdigit((unsigned char)digit))
            return refuse(reader, "a \\u is not followed by hexadecimal digits");
        c = c << 4 | (uint32_t)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
        reader->at++;
    }
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return refuse(reader, "a \\u stands for no character");
    return put_character(text, c) < 0 ? wfe_error_nomem(reader->err) : 0;
}

static int read_escape(struct reader *reader, struct wfe_buffer *text)
{
    static const char names[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
    char name = peek(reader);
    if (name == 'u' || name == 'U') {
        reader->at++;
        return read_code(reader, name == 'u' ? 4 : 8, text);
    }
    const char *found = name ? strchr(names, name) : NULL;
    if (!found)
        return refuse(reader, "a backslash is followed by no known escape");
    reader->at++;
    return wfe_buffer_append(text, &values[found - names], 1) < 0 ? wfe_error_nomem(reader->err)
                                                                  : 0;
}

/* "basic" or 'literal', allocated. */
static int read_string(struct reader *reader, char **ret)
{
    char quote = *reader->at++;
    if (reader->at + 1 < reader->end && reader->at[0] == quote && reader->at[1] == quote)
        return refuse(reader, "multi-line strings are not supported");
    WFE_BUFFER struct wfe_buffer text = WFE_BUFFER_INIT(WFE_TOML_MAX_BYTES);
    while (!take(reader, quote)) {
        char c = peek(reader);
        if (c == '\0' || c == '\n')
            return refuse(reader, "a string has no end");
        reader->at++;
        int r = 0;
        if (c == '\\' && quote == '"')
            r = read_escape(reader, &text);
        else if (wfe_buffer_append(&text, &c, 1) < 0)
            r = wfe_error_nomem(reader->err);
        if (r < 0)
            return r;
    }
    char *stolen = wfe_buffer_steal(&text);
    if (!stolen)
        return wfe_error_nomem(reader->err);
    *ret = stolen;
    return 0;
}

static bool is_bare(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static int read_key(struct reader *reader, char **ret)
{
    skip_blanks(reader);
    if (peek(reader) == '"' || peek(reader) == '\'')
        return read_string(reader, ret);
    const char *start = reader->at;
    while (is_bare(peek(reader)))
        reader->at++;
    if (reader->at == start)
        return refuse(reader, "a key is expected");
    size_t length = (size_t)(reader->at - start);
    char *key = malloc(length + 1);
    if (!key)
        return wfe_error_nomem(reader->err);
    memcpy(key, start, length);
    key[length] = '\0';
    *ret = key;
    return 0;
}

static int add_item(struct reader *reader, cJSON *table, const char *key, cJSON *item)
{
    if (item && cJSON_AddItemToObject(table, key, item))
        return 0;
    cJSON_Delete(item);
    return wfe_error_nomem(reader->err);
}

/* The table `key` in a table, made when it is not there. */
static int enter(struct reader *reader, cJSON **table, const char *key)
{
    cJSON *inner = cJSON_GetObjectItemCaseSensitive(*table, key);
    if (inner && !cJSON_IsObject(inner))
        return refuse(reader, "a key that has a value already is used as a table");
    if (!inner) {
        inner = cJSON_CreateObject();
        int r = add_item(reader, *table, key, inner);
        if (r < 0)
            return r;
    }
    *table = inner;
    return 0;
}

/* a.b.c: *table becomes that of a.b, *ret_last "c". */
static int read_path(struct reader *reader, cJSON **table, char **ret_last)
{
    WFE_FREE char *key = NULL;
    int r = read_key(reader, &key);
    for (int depth = 0; r == 0; depth++) {
        skip_blanks(reader);
        if (!take(reader, '.'))
            break;
        if (depth == WFE_TOML_MAX_DEPTH)
            return refuse(reader, "too many tables inside each other");
        r = enter(reader, table, key);
        free(wfe_steal(&key));
        if (r == 0)
            r = read_key(reader, &key);
    }
    if (r == 0)
        *ret_last = wfe_steal(&key);
    return r;
}

static int read_value(struct reader *reader, int depth, cJSON **ret);

/* key = value, into the table. */
static int read_assignment(struct reader *reader, cJSON *table, int depth)
{
    WFE_FREE char *key = NULL;
    int r = read_path(reader, &table, &key);
    if (r < 0)
        return r;
    if (!take(reader, '='))
        return refuse(reader, "'=' is expected after a key");
    if (cJSON_GetObjectItemCaseSensitive(table, key))
        return refuse(reader, "a key is given twice");
    cJSON *value = NULL;
    r = read_value(reader, depth, &value);
    return r < 0 ? r : add_item(reader, table, key, value);
}

static int read_array(struct reader *reader, int depth, cJSON **ret)
{
    reader->at++;
    WFE_JSON cJSON *array = cJSON_CreateArray();
    if (!array)
        return wfe_error_nomem(reader->err);
    for (;;) {
        skip_lines(reader);
        if (take(reader, ']'))
            break;
        cJSON *item = NULL;
        int r = read_value(reader, depth, &item);
        if (r < 0)
            return r;
        cJSON_AddItemToArray(array, item);
        skip_lines(reader);
        if (!take(reader, ',') && peek(reader) != ']')
            return refuse(reader, "',' or ']' is expected in an array");
    }
    *ret = wfe_steal(&array);
    return 0;
}

static int read_inline_table(struct reader *reader, int depth, cJSON **ret)
{
    reader->at++;
    WFE_JSON cJSON *table = cJSON_CreateObject();
    if (!table)
        return wfe_error_nomem(reader->err);
    skip_blanks(reader);
    bool ended = take(reader, '}');
    while (!ended) {
        int r = read_assignment(reader, table, depth);
        if (r < 0)
            return r;
        skip_blanks(reader);
        ended = take(reader, '}');
        if (!ended && !take(reader, ','))
            return refuse(reader, "',' or '}' is expected in a table");
    }
    *ret = wfe_steal(&table);
    return 0;
}

/* true, false or an integer. */
static int read_word(struct reader *reader, cJSON **ret)
{
    char word[32];
    size_t length = 0;
    while (is_bare(peek(reader)) || strchr("+.:", peek(reader) ? peek(reader) : ' ')) {
        if (length == sizeof word - 1)
            return refuse(reader, "a value is neither text, true, false nor an integer");
        word[length++] = *reader->at++;
    }
    word[length] = '\0';
    cJSON *value = NULL;
    size_t sign = word[0] == '-' || word[0] == '+';
    size_t digits = strspn(word + sign, "0123456789");
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
        value = cJSON_CreateBool(word[0] == 't');
    else if (digits > 0 && digits <= 15 && word[sign + digits] == '\0')
        value = cJSON_CreateNumber((double)strtoll(word, NULL, 10));
    else
        return refuse(reader, "a value is neither text, true, false nor an integer");
    if (!value)
        return wfe_error_nomem(reader->err);
    *ret = value;
    return 0;
}

static int read_value(struct reader *reader, int depth, cJSON **ret)
{
    skip_blanks(reader);
    if (depth == WFE_TOML_MAX_DEPTH)
        return refuse(reader, "too many values inside each other");
    switch (peek(reader)) {
    case '[':
        return read_array(reader, depth + 1, ret);
    case '{':
        return read_inline_table(reader, depth + 1, ret);
    case '"':
    case '\'': {
        WFE_FREE char *text = NULL;
        int r = read_string(reader, &text);
        if (r < 0)
            return r;
        cJSON *value = cJSON_CreateString(text);
        if (!value)
            return wfe_error_nomem(reader->err);
        *ret = value;
        return 0;
    }
    default:
        return read_word(reader, ret);
    }
}

/* [a.b]: *ret becomes that table of the root. */
static int read_header(struct reader *reader, cJSON *root, cJSON **ret)
{
    if (take(reader, '['))
        return refuse(reader, "arrays of tables are not supported");
    WFE_FREE char *key = NULL;
    cJSON *table = root;
    int r = read_path(reader, &table, &key);
    if (r == 0)
        r = enter(reader, &table, key);
    if (r == 0 && !take(reader, ']'))
        r = refuse(reader, "']' is expected after a table's name");
    if (r == 0)
        *ret = table;
    return r;
}

int wfe_toml_parse(const char *text, size_t length, cJSON **ret, struct wfe_error *err)
{
    assert(text && ret);
    if (length > WFE_TOML_MAX_BYTES)
        return wfe_error_set(err, WFE_ERROR_LIMIT, EFBIG, "%zu bytes, at most %d are read", length,
            WFE_TOML_MAX_BYTES);
    struct reader reader = {.at = text, .end = text + length, .line = 1, .err = err};
    if (wfe_utf8_span(text, length) < length || memchr(text, '\0', length))
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "it is no UTF-8 text");
    WFE_JSON cJSON *root = cJSON_CreateObject();
    if (!root)
        return wfe_error_nomem(err);
    cJSON *table = root;
    for (skip_lines(&reader); reader.at < reader.end; skip_lines(&reader)) {
        int r = take(&reader, '[') ? read_header(&reader, root, &table)
                                   : read_assignment(&reader, table, 0);
        if (r < 0)
            return r;
        if (!take_line_end(&reader) && reader.at < reader.end)
            return refuse(&reader, "the line goes on after its value");
    }
    *ret = wfe_steal(&root);
    return 0;
}
