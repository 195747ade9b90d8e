/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libcommon/buffer.h"
#include "libcommon/cleanup.h"
#include "libcommon/document.h"
#include "libcommon/file.h"

#define MANY_BYTES (8 * 1024 * 1024)

static char *data_path(const char *name)
{
    const char *directory = getenv("WFE_TEST_DATA");
    if (!directory)
        fail_msg("WFE_TEST_DATA must name the directory of test data");
    char *path;
    assert_true(asprintf(&path, "%s/document/%s", directory, name) > 0);
    return path;
}

static char *read_data(const char *name, size_t *ret_length)
{
    WFE_FREE char *path = data_path(name);
    char *text = NULL;
    assert_int_equal(wfe_read_file(path, MANY_BYTES, &text, ret_length, NULL), 0);
    return text;
}

/* Calls check with each file of test data whose name starts with prefix and ends with .yaml. */
static void for_each_file(const char *prefix, void (*check)(const char *name))
{
    WFE_FREE char *directory = data_path("");
    DIR *listing = opendir(directory);
    assert_non_null(listing);
    size_t count = 0;
    const struct dirent *entry;
    while ((entry = readdir(listing))) {
        const char *suffix = strrchr(entry->d_name, '.');
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || strcmp(suffix, ".yaml") != 0)
            continue;
        check(entry->d_name);
        count++;
    }
    closedir(listing);
    assert_true(count > 3);
}

static void print_problems(const char *name, const struct wfe_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        print_message("%s: %s\n", name, problems->items[i].text);
}

static struct wfe_document *parse(const char *text)
{
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_document *document = NULL;
    int r = wfe_document_parse("d.yaml", text, strlen(text), &document, &problems);
    print_problems("d.yaml", &problems);
    assert_int_equal(r, 0);
    assert_int_equal(problems.count, 0);
    wfe_problems_done(&problems);
    return document;
}

static void assert_refused(const char *text, size_t length, const char *expected)
{
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    struct wfe_document *document = NULL;
    assert_int_equal(wfe_document_parse("d.yaml", text, length, &document, &problems), -EINVAL);
    assert_null(document);
    assert_int_equal(problems.errors, 1);
    assert_string_equal(problems.items[0].text, expected);
    wfe_problems_done(&problems);
}

static void check_ok_file(const char *name)
{
    size_t length, expected_length;
    WFE_FREE char *text = read_data(name, &length);
    char expected_name[256];
    snprintf(expected_name, sizeof expected_name, "%.*s.json", (int)(strlen(name) - 5), name);
    WFE_FREE char *expected = read_data(expected_name, &expected_length);
    expected[strcspn(expected, "\n")] = '\0';

    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    int r = wfe_document_parse(name, text, length, &document, &problems);
    print_problems(name, &problems);
    assert_int_equal(r, 0);
    assert_int_equal(problems.count, 0);
    wfe_problems_done(&problems);
    WFE_JSON cJSON *json = wfe_node_to_json(wfe_document_root(document));
    WFE_FREE char *printed = cJSON_PrintUnformatted(json);
    assert_string_equal(printed, expected);
}

static bool stands_in(const struct wfe_problems *problems, const char *text)
{
    for (size_t i = 0; i < problems->count; i++) {
        if (strstr(problems->items[i].text, text))
            return true;
    }
    return false;
}

/* Each "# expect: TEXT" in the file must stand in a problem, and there must be no more of them. */
static void check_bad_file(const char *name)
{
    static const char marker[] = "# expect: ";
    size_t length;
    WFE_FREE char *text = read_data(name, &length);
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    int r = wfe_document_parse(name, text, length, &document, &problems);
    assert_int_equal(r == 0, document != NULL);
    size_t expected = 0;
    for (char *line = text; (line = strstr(line, marker));) {
        line += strlen(marker);
        char *end = strchr(line, '\n');
        *end = '\0';
        if (!stands_in(&problems, line)) {
            print_problems(name, &problems);
            fail_msg("%s: expected '%s'", name, line);
        }
        expected++;
        line = end + 1;
    }
    assert_true(expected > 0);
    assert_int_equal(problems.errors, expected);
    wfe_problems_done(&problems);
}

static void good_documents_read_as_their_json(void **context)
{
    (void)context;
    for_each_file("ok-", check_ok_file);
}

static void bad_documents_say_what_and_where(void **context)
{
    (void)context;
    for_each_file("should-fail-", check_bad_file);
}

static void nodes_know_their_lines(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document = parse(
        "# comment\na: 1\nb:\n  - x\n  - {c: y,\n     d: z}\nrun: |\n  first\n  second\ne:\n");
    const struct wfe_node *root = wfe_document_root(document);
    assert_int_equal(root->line, 2);
    assert_int_equal(wfe_node_get(root, "a")->line, 2);
    const struct wfe_node *list = wfe_node_get(root, "b");
    assert_int_equal(list->items[0]->line, 4);
    assert_int_equal(wfe_node_get(list->items[1], "d")->line, 6);
    assert_int_equal(wfe_node_get(root, "run")->line, 7);
    assert_int_equal(wfe_node_get(root, "e")->line, 10);
}

static void scalars_keep_their_text(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document =
        parse("{version: 1.10, hex: 0x1F, yes: True, quoted: \"12\", none: ~}");
    const struct wfe_node *root = wfe_document_root(document);
    assert_string_equal(wfe_node_get(root, "version")->text, "1.10");
    assert_int_equal(wfe_node_get(root, "version")->kind, WFE_NODE_FLOAT);
    assert_string_equal(wfe_node_get(root, "hex")->text, "0x1F");
    assert_int_equal(wfe_node_get(root, "hex")->kind, WFE_NODE_INT);
    assert_string_equal(wfe_node_get(root, "yes")->text, "True");
    assert_int_equal(wfe_node_get(root, "yes")->kind, WFE_NODE_BOOL);
    assert_int_equal(wfe_node_get(root, "quoted")->kind, WFE_NODE_STRING);
    assert_true(wfe_node_get(root, "quoted")->quoted);
    assert_int_equal(wfe_node_get(root, "none")->kind, WFE_NODE_NULL);
    assert_null(wfe_node_get(root, "missing"));
    assert_null(wfe_node_get(wfe_node_get(root, "hex"), "x"));
}

static void an_alias_shares_its_anchors_node(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document = parse("a: &x [1, 2]\nb: *x\n");
    const struct wfe_node *root = wfe_document_root(document);
    assert_ptr_equal(wfe_node_get(root, "a"), wfe_node_get(root, "b"));
    assert_int_equal(root->expansion, 7);
    assert_int_equal(root->height, 2);
}

static void merged_members_come_before_the_maps_own(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document =
        parse("base: &b {x: 1, y: 2}\nm: {z: 0, <<: *b, y: 3}\n");
    const struct wfe_node *map = wfe_node_get(wfe_document_root(document), "m");
    assert_int_equal(map->count, 3);
    assert_string_equal(map->members[0].key->text, "x");
    assert_string_equal(map->members[1].key->text, "z");
    assert_string_equal(map->members[2].key->text, "y");
    assert_string_equal(map->members[2].value->text, "3");
}

static void the_first_of_two_equal_keys_stays(void **context)
{
    (void)context;
    static const char text[] = "a: 1\na: 2\nb: *none\n";
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    assert_int_equal(wfe_document_parse("d", text, strlen(text), &document, &problems), 0);
    const struct wfe_node *root = wfe_document_root(document);
    assert_int_equal(problems.errors, 2);
    assert_int_equal(root->count, 2);
    assert_string_equal(wfe_node_get(root, "a")->text, "1");
    assert_true(wfe_node_get(root, "b")->reported);
    assert_int_equal(wfe_node_get(root, "b")->kind, WFE_NODE_NULL);
    wfe_problems_done(&problems);
}

static char *repeat(const char *start, const char *piece, size_t count, const char *end)
{
    struct wfe_buffer text = WFE_BUFFER_INIT(MANY_BYTES);
    assert_int_equal(wfe_buffer_puts(&text, start), 0);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(wfe_buffer_puts(&text, piece), 0);
    assert_int_equal(wfe_buffer_puts(&text, end), 0);
    return wfe_buffer_steal(&text);
}

static void a_huge_text_is_refused_before_it_is_read(void **context)
{
    (void)context;
    WFE_FREE char *text = repeat("", "a", WFE_DOCUMENT_MAX_BYTES + 1, "");
    assert_refused(text, strlen(text), "d.yaml: found 4194305 bytes of text; allowed: 4194304");
    text[WFE_DOCUMENT_MAX_BYTES] = '\0';
    wfe_document_free(parse(text));
}

static void nesting_is_bounded(void **context)
{
    (void)context;
    WFE_FREE char *deepest = repeat("", "[", 64, "");
    WFE_FREE char *closed = repeat(deepest, "]", 64, "");
    wfe_document_free(parse(closed));
    WFE_FREE char *deeper = repeat("", "[", 65, "");
    WFE_FREE char *closed_deeper = repeat(deeper, "]", 65, "");
    assert_refused(closed_deeper, strlen(closed_deeper),
        "d.yaml:1: found too many levels of lists and maps; allowed: 64");
    WFE_FREE char *very_deep = repeat("", "{a: ", 1000000, "");
    assert_refused(very_deep, strlen(very_deep),
        "d.yaml:1: found too many levels of lists and maps; allowed: 64");
}

static void nesting_behind_aliases_is_bounded(void **context)
{
    (void)context;
    struct wfe_buffer text = WFE_BUFFER_INIT(MANY_BYTES);
    wfe_buffer_puts(&text, "a0: &a0 [x]\n");
    for (int i = 1; i < 100; i++)
        wfe_buffer_printf(&text, "a%d: &a%d [*a%d]\n", i, i, i - 1);
    assert_refused(text.data, text.length,
        "d.yaml:63: found too many levels of lists and maps behind aliases; allowed: 64");
    wfe_buffer_done(&text);
}

static void the_number_of_nodes_is_bounded(void **context)
{
    (void)context;
    WFE_FREE char *fitting = repeat("", "- a\n", WFE_DOCUMENT_MAX_NODES - 1, "");
    wfe_document_free(parse(fitting));
    WFE_FREE char *text = repeat("", "- a\n", WFE_DOCUMENT_MAX_NODES, "");
    assert_refused(text, strlen(text),
        "d.yaml:100000: found too many values in the document; allowed: 100000");
}

static void members_that_are_merged_count_as_nodes(void **context)
{
    (void)context;
    struct wfe_buffer text = WFE_BUFFER_INIT(MANY_BYTES);
    wfe_buffer_puts(&text, "base: &b {");
    for (int i = 0; i < 5000; i++)
        wfe_buffer_printf(&text, "k%d: 1, ", i);
    wfe_buffer_puts(&text, "}\n");
    for (int i = 0; i < 1000; i++)
        wfe_buffer_printf(&text, "m%d: {<<: *b}\n", i);
    assert_refused(text.data, text.length,
        "d.yaml:19: found too many values in the document; allowed: 100000");
    wfe_buffer_done(&text);
}

static void the_number_of_anchors_is_bounded(void **context)
{
    (void)context;
    WFE_FREE char *text = repeat("", "- &a x\n", WFE_DOCUMENT_MAX_ANCHORS + 1, "");
    assert_refused(text, strlen(text), "d.yaml:1001: found too many anchors; allowed: 1000");
}

static void a_nul_byte_is_refused(void **context)
{
    (void)context;
    assert_refused("a: 1\nb: \0\n", 10, "d.yaml:2: found the byte 0x00; allowed: text without it");
    assert_refused("", 0, "d.yaml:1: found an empty document");
}

/* What no reader of YAML takes: long keys, pairs of surrogates, a key and its colon on two lines.
 */
static void all_of_json_is_read(void **context)
{
    (void)context;
    WFE_FREE char *start = repeat("\t{\"", "k", 2000, "");
    WFE_FREE char *text = repeat(start, "", 0, "\"\n:\n\"\\ud83d\\ude00\x7f\"}\r\n");
    WFE_DOCUMENT struct wfe_document *document = parse(text);
    const struct wfe_node *root = wfe_document_root(document);
    assert_int_equal(root->members[0].key->length, 2000);
    assert_string_equal(root->members[0].value->text, "😀\x7f");
    assert_int_equal(root->members[0].value->line, 3);
}

static void what_looks_like_json_and_is_none_is_read_as_yaml(void **context)
{
    (void)context;
    static const char *const texts[] = {"{a: 1}", "{\"a\": 1,}", "{\"a\": 01, a: 1}",
        "[1, 2] # end", "{\"a\": +1}", "{\"a\": 1.}", "{\"a\": truth}", "{'a': 1}", "[\"\\x41\"]",
        "[1\n,\n]"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct wfe_problems problems = WFE_PROBLEMS_INIT;
        WFE_DOCUMENT struct wfe_document *document = NULL;
        int r = wfe_document_parse("d", texts[i], strlen(texts[i]), &document, &problems);
        assert_int_equal(r, 0);
        assert_int_equal(problems.errors, i == 2 ? 1 : 0);
        wfe_problems_done(&problems);
    }
}

static void json_that_breaks_off_is_refused(void **context)
{
    (void)context;
    static const char text[] = "{\"a\": [1, {\"b\": \"\\u00e9\", \"c\": -1.5e+3, \"d\": null}]}";
    for (size_t length = 1; length < sizeof text - 1; length++) {
        struct wfe_problems problems = WFE_PROBLEMS_INIT;
        struct wfe_document *document = NULL;
        assert_int_equal(wfe_document_parse("d", text, length, &document, &problems), -EINVAL);
        assert_int_equal(problems.errors, 1);
        wfe_problems_done(&problems);
    }
    wfe_document_free(parse(text));
}

static void half_a_surrogate_pair_is_refused(void **context)
{
    (void)context;
    static const char *const texts[] = {"[\"\\ud83d\"]", "[\"\\ud83dx\"]", "[\"\\ud83d\\n\"]",
        "[\"\\ud83d\\u0041\"]", "[\"\\ud83d\\ue000\"]", "[\"\\ud83d\\ud83d\"]", "[\"\\ude00\"]",
        "[\"\\ud83d\\ude0\"]"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct wfe_problems problems = WFE_PROBLEMS_INIT;
        struct wfe_document *document = NULL;
        assert_int_equal(
            wfe_document_parse("d", texts[i], strlen(texts[i]), &document, &problems), -EINVAL);
        wfe_problems_done(&problems);
    }
}

static void what_the_json_reader_found_is_not_told_twice(void **context)
{
    (void)context;
    static const char text[] = "[{\"a\": 1,\n\"a\": 2},]";
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    WFE_DOCUMENT struct wfe_document *document = NULL;
    wfe_problems_add(&problems, false, "other", 0, "", "stays");
    assert_int_equal(wfe_document_parse("d", text, strlen(text), &document, &problems), 0);
    assert_int_equal(problems.errors, 2);
    assert_int_equal(problems.count, 2);
    assert_string_equal(
        problems.items[1].text, "d:2: found the key 'a' twice in one map; the first is in line 1");
    wfe_problems_done(&problems);
}

static void problems_beyond_the_limit_are_counted(void **context)
{
    (void)context;
    struct wfe_problems problems = WFE_PROBLEMS_INIT;
    for (int i = 0; i < WFE_PROBLEMS_MAX + 10; i++)
        wfe_problems_add(&problems, i == 0, "f", i, "a.b", "found %d", i);
    assert_int_equal(problems.count, WFE_PROBLEMS_MAX);
    assert_int_equal(problems.errors, WFE_PROBLEMS_MAX + 9);
    assert_true(problems.items[0].warning);
    assert_string_equal(problems.items[0].text, "f: a.b: found 0");
    assert_string_equal(problems.items[1].text, "f:1: a.b: found 1");
    wfe_problems_done(&problems);
    assert_int_equal(problems.count, 0);
}

static void a_description_is_one_short_line(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document =
        parse("[\"a\\nb\\e\", 12, null, [], [1], {}, {a: b}, true, "
              "éééééééééééééééééééééééééééééééééééé]");
    static const char *const expected[] = {"'a b?'", "12", "nothing", "an empty list", "a list",
        "an empty map", "a map", "true", "'éééééééééééééééééééééééééééééé…'"};
    const struct wfe_node *root = wfe_document_root(document);
    char text[WFE_NODE_DESCRIPTION_MAX];
    for (size_t i = 0; i < root->count; i++)
        assert_string_equal(wfe_node_describe(root->items[i], text), expected[i]);
}

static void derived_nodes_live_as_long_as_the_document(void **context)
{
    (void)context;
    WFE_DOCUMENT struct wfe_document *document = parse("a: b\n");
    struct wfe_node *list = wfe_document_collection(document, WFE_NODE_LIST, 3, 1);
    list->items[0] = wfe_document_scalar(document, WFE_NODE_STRING, 3, "text", 4);
    WFE_JSON cJSON *json = wfe_node_to_json(list);
    WFE_FREE char *printed = cJSON_PrintUnformatted(json);
    assert_string_equal(printed, "[\"text\"]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_documents_read_as_their_json),
        cmocka_unit_test(bad_documents_say_what_and_where),
        cmocka_unit_test(nodes_know_their_lines),
        cmocka_unit_test(scalars_keep_their_text),
        cmocka_unit_test(an_alias_shares_its_anchors_node),
        cmocka_unit_test(merged_members_come_before_the_maps_own),
        cmocka_unit_test(the_first_of_two_equal_keys_stays),
        cmocka_unit_test(a_huge_text_is_refused_before_it_is_read),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(nesting_behind_aliases_is_bounded),
        cmocka_unit_test(the_number_of_nodes_is_bounded),
        cmocka_unit_test(members_that_are_merged_count_as_nodes),
        cmocka_unit_test(the_number_of_anchors_is_bounded),
        cmocka_unit_test(a_nul_byte_is_refused),
        cmocka_unit_test(all_of_json_is_read),
        cmocka_unit_test(what_looks_like_json_and_is_none_is_read_as_yaml),
        cmocka_unit_test(json_that_breaks_off_is_refused),
        cmocka_unit_test(half_a_surrogate_pair_is_refused),
        cmocka_unit_test(what_the_json_reader_found_is_not_told_twice),
        cmocka_unit_test(problems_beyond_the_limit_are_counted),
        cmocka_unit_test(a_description_is_one_short_line),
        cmocka_unit_test(derived_nodes_live_as_long_as_the_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
