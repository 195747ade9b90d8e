/* SPDX-License-Identifier: MIT */
#include "libcommon/digest.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

static const char PREFIX[] = "sha256:";

struct wfe_hasher {
    EVP_MD_CTX *context;
};

int wfe_digest_parse(const char *text, struct wfe_digest *ret)
{
    if (!text || strlen(text) != sizeof ret->text - 1)
        return -EINVAL;
    if (memcmp(text, PREFIX, sizeof PREFIX - 1) != 0)
        return -EINVAL;
    if (strspn(text + sizeof PREFIX - 1, "0123456789abcdef") != WFE_DIGEST_HEX_LENGTH)
        return -EINVAL;
    memcpy(ret->text, text, sizeof ret->text);
    return 0;
}

bool wfe_digest_equal(const struct wfe_digest *a, const struct wfe_digest *b)
{
    return strcmp(a->text, b->text) == 0;
}

const char *wfe_digest_hex(const struct wfe_digest *digest)
{
    return digest->text + sizeof PREFIX - 1;
}

static void format_digest(const unsigned char *raw, struct wfe_digest *ret)
{
    static const char digits[] = "0123456789abcdef";
    char *out = ret->text;
    memcpy(out, PREFIX, sizeof PREFIX - 1);
    out += sizeof PREFIX - 1;
    for (size_t i = 0; i < WFE_DIGEST_HEX_LENGTH / 2; i++) {
        *out++ = digits[raw[i] >> 4];
        *out++ = digits[raw[i] & 15];
    }
    *out = '\0';
}

int wfe_hasher_new(struct wfe_hasher **ret)
{
    struct wfe_hasher *hasher = calloc(1, sizeof *hasher);
    if (!hasher)
        return -ENOMEM;
    hasher->context = EVP_MD_CTX_new();
    if (!hasher->context || EVP_DigestInit_ex(hasher->context, EVP_sha256(), NULL) != 1) {
        wfe_hasher_free(hasher);
        return -ENOMEM;
    }
    *ret = hasher;
    return 0;
}

void wfe_hasher_free(struct wfe_hasher *hasher)
{
    if (!hasher)
        return;
    EVP_MD_CTX_free(hasher->context);
    free(hasher);
}

void wfe_hasher_update(struct wfe_hasher *hasher, const void *data, size_t length)
{
    int ok = EVP_DigestUpdate(hasher->context, data, length);
    assert(ok == 1);
    (void)ok;
}

void wfe_hasher_final(struct wfe_hasher *hasher, struct wfe_digest *ret)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    int ok = EVP_DigestFinal_ex(hasher->context, raw, NULL);
    assert(ok == 1);
    format_digest(raw, ret);
    ok = EVP_DigestInit_ex(hasher->context, NULL, NULL);
    assert(ok == 1);
    (void)ok;
}

void wfe_digest_of(const void *data, size_t length, struct wfe_digest *ret)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    int ok = EVP_Digest(data, length, raw, NULL, EVP_sha256(), NULL);
    assert(ok == 1);
    (void)ok;
    format_digest(raw, ret);
}

void wfe_digest_chain(
    const struct wfe_digest *parent, const struct wfe_digest *diff_id, struct wfe_digest *ret)
{
    if (!parent) {
        *ret = *diff_id;
        return;
    }
    char text[2 * sizeof parent->text];
    int length = snprintf(text, sizeof text, "%s %s", parent->text, diff_id->text);
    wfe_digest_of(text, (size_t)length, ret);
}
