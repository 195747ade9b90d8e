/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libcommon/digest.h"

#define HEX_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEX_OF_ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void known_hashes_come_out(void **state)
{
    (void)state;
    struct wfe_digest digest;
    wfe_digest_of("", 0, &digest);
    assert_string_equal(digest.text, "sha256:" HEX_OF_NOTHING);
    wfe_digest_of("abc", 3, &digest);
    assert_string_equal(digest.text, "sha256:" HEX_OF_ABC);
    assert_string_equal(wfe_digest_hex(&digest), HEX_OF_ABC);
}

static void a_hasher_takes_pieces_and_starts_anew_after_the_end(void **state)
{
    (void)state;
    WFE_HASHER struct wfe_hasher *hasher = NULL;
    assert_int_equal(wfe_hasher_new(&hasher), 0);
    struct wfe_digest digest;
    for (int i = 0; i < 2; i++) {
        wfe_hasher_update(hasher, "a", 1);
        wfe_hasher_update(hasher, NULL, 0);
        wfe_hasher_update(hasher, "bc", 2);
        wfe_hasher_final(hasher, &digest);
        assert_string_equal(digest.text, "sha256:" HEX_OF_ABC);
    }
    wfe_hasher_final(hasher, &digest);
    assert_string_equal(digest.text, "sha256:" HEX_OF_NOTHING);
}

static void only_the_canonical_form_parses(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "",
        "sha256:",
        HEX_OF_ABC,
        "sha256:" HEX_OF_ABC "0",
        "sha256:a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "SHA256:" HEX_OF_ABC,
        "sha512:" HEX_OF_ABC,
        "sha256:BA7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha256:ga7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "sha256:../../../../../../../../../../../../../../../../../../../../etc/",
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015a\n",
        " sha256:a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };
    struct wfe_digest digest = {.text = "untouched"};
    assert_int_equal(wfe_digest_parse(NULL, &digest), -EINVAL);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(wfe_digest_parse(refused[i], &digest), -EINVAL);
    assert_string_equal(digest.text, "untouched");
    assert_int_equal(wfe_digest_parse("sha256:" HEX_OF_ABC, &digest), 0);
    assert_string_equal(digest.text, "sha256:" HEX_OF_ABC);
}

static void digests_are_compared_whole(void **state)
{
    (void)state;
    struct wfe_digest a, b;
    wfe_digest_of("abc", 3, &a);
    b = a;
    assert_true(wfe_digest_equal(&a, &b));
    b.text[sizeof b.text - 2] ^= 1;
    assert_false(wfe_digest_equal(&a, &b));
}

static void a_chain_starts_with_its_first_diff_id(void **state)
{
    (void)state;
    struct wfe_digest first, chain;
    wfe_digest_of("abc", 3, &first);
    wfe_digest_chain(NULL, &first, &chain);
    assert_true(wfe_digest_equal(&first, &chain));
}

static void a_chain_id_hashes_parent_space_diff_id(void **state)
{
    (void)state;
    struct wfe_digest parent, diff_id, expected;
    wfe_digest_of("", 0, &parent);
    wfe_digest_of("abc", 3, &diff_id);
    static const char text[] = "sha256:" HEX_OF_NOTHING " sha256:" HEX_OF_ABC;
    wfe_digest_of(text, sizeof text - 1, &expected);
    wfe_digest_chain(&parent, &diff_id, &parent);
    assert_string_equal(parent.text, expected.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_hashes_come_out),
        cmocka_unit_test(a_hasher_takes_pieces_and_starts_anew_after_the_end),
        cmocka_unit_test(only_the_canonical_form_parses),
        cmocka_unit_test(digests_are_compared_whole),
        cmocka_unit_test(a_chain_starts_with_its_first_diff_id),
        cmocka_unit_test(a_chain_id_hashes_parent_space_diff_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
