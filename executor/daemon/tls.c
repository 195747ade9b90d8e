/* SPDX-License-Identifier: MIT */
#include "executor/daemon/tls.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "libcommon/cleanup.h"
#include "libcommon/file.h"

#define PEM_MAX_BYTES (1024 * 1024)

static BIO *bio_of(const char *pem)
{
    return BIO_new_mem_buf(pem, -1);
}

static X509 *read_certificate(const char *pem)
{
    BIO *bio = bio_of(pem);
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return certificate;
}

/* A key with a passphrase is none: nobody is there to type it. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = bio_of(pem);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static int load_certificate(const char *path, char **ret, struct wfe_error *err)
{
    WFE_FREE char *pem = NULL;
    size_t length;
    int r = wfe_read_file(path, PEM_MAX_BYTES, &pem, &length, err);
    if (r < 0)
        return r;
    X509 *certificate = read_certificate(pem);
    if (!certificate)
        return wfe_error_set(err, WFE_ERROR_INPUT, EINVAL, "%s: found no PEM certificate", path);
    X509_free(certificate);
    *ret = wfe_steal(&pem);
    return 0;
}

static int load_key(
    const char *path, const char *cert_path, struct wfe_rpc_tls *tls, struct wfe_error *err)
{
    WFE_FREE char *pem = NULL;
    size_t length;
    int r = wfe_read_file(path, PEM_MAX_BYTES, &pem, &length, err);
    if (r < 0)
        return r;
    EVP_PKEY *key = read_key(pem);
    X509 *certificate = read_certificate(tls->cert_pem);
    if (!key)
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "%s: found no PEM private key without a passphrase", path);
    else if (!certificate || X509_check_private_key(certificate, key) != 1)
        r = wfe_error_set(
            err, WFE_ERROR_INPUT, EINVAL, "%s: it is not the key of %s", path, cert_path);
    X509_free(certificate);
    EVP_PKEY_free(key);
    memset(pem, 0, r < 0 ? length : 0);
    if (r == 0)
        tls->key_pem = wfe_steal(&pem);
    return r;
}

int wfe_tls_load(const struct wfe_tls_files *files, struct wfe_rpc_tls *ret, struct wfe_error *err)
{
    struct wfe_rpc_tls tls = {.ca_pem = NULL};
    int r = files->ca ? load_certificate(files->ca, &tls.ca_pem, err) : 0;
    if (r == 0 && !files->cert != !files->key)
        r = wfe_error_set(err, WFE_ERROR_INPUT, EINVAL,
            "TLS: found only one of a certificate and its key; allowed: both of them, or neither");
    if (r == 0 && files->cert)
        r = load_certificate(files->cert, &tls.cert_pem, err);
    if (r == 0 && files->key)
        r = load_key(files->key, files->cert, &tls, err);
    ERR_clear_error();
    if (r < 0)
        wfe_tls_done(&tls);
    else
        *ret = tls;
    return r;
}

void wfe_tls_done(struct wfe_rpc_tls *tls)
{
    free(tls->ca_pem);
    free(tls->cert_pem);
    free(tls->key_pem);
    *tls = (struct wfe_rpc_tls){.ca_pem = NULL};
}

static int dial(const struct wfe_address *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(address->host, address->port, &hints, &found) != 0)
        return -1;
    int fd = -1;
    struct timeval patience = {
        .tv_sec = WFE_TLS_PROBE_MS / 2 / 1000, .tv_usec = WFE_TLS_PROBE_MS / 2 % 1000 * 1000};
    for (struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        if (connect(fd, at->ai_addr, at->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    return fd;
}

static void trust(SSL_CTX *context, const char *ca_pem)
{
    BIO *bio = ca_pem ? bio_of(ca_pem) : NULL;
    if (!ca_pem)
        SSL_CTX_set_default_verify_paths(context);
    X509 *certificate;
    while (bio && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate);
        X509_free(certificate);
    }
    BIO_free(bio);
}

static void introduce(SSL_CTX *context, const struct wfe_rpc_tls *tls)
{
    if (!tls->cert_pem)
        return;
    X509 *certificate = read_certificate(tls->cert_pem);
    EVP_PKEY *key = read_key(tls->key_pem);
    if (certificate && key) {
        SSL_CTX_use_certificate(context, certificate);
        SSL_CTX_use_PrivateKey(context, key);
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* The name that the certificate must be for (RFC 6125); of an address in digits it is that. */
static void expect_name(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host) != 1) {
        SSL_set_tlsext_host_name(ssl, host);
        X509_VERIFY_PARAM_set1_host(param, host, 0);
    }
}

static void explain_certificate(
    long verdict, const struct wfe_address *address, char *why, size_t size)
{
    switch (verdict) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        snprintf(why, size, "the daemon's certificate is not for '%s'", address->host);
        break;
    case X509_V_ERR_CERT_HAS_EXPIRED:
        snprintf(why, size, "the daemon's certificate has expired");
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        snprintf(why, size, "the daemon's certificate is not valid yet");
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
        snprintf(why, size,
            "the daemon's certificate was issued by none of the trusted authorities (tls.ca)");
        break;
    default:
        snprintf(why, size, "the daemon's certificate is refused: %s",
            X509_verify_cert_error_string(verdict));
    }
}

/* Alerts of the peer that speak of our certificate (RFC 8446, section 6.2). */
static bool is_about_our_certificate(int reason)
{
    switch (reason - SSL_AD_REASON_OFFSET) {
    case SSL_AD_HANDSHAKE_FAILURE:
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
    case SSL_AD_CERTIFICATE_REQUIRED:
        return true;
    default:
        return false;
    }
}

/* The handshake has failed, or what came right after it was an alert. */
static bool explain_failure(SSL *ssl, const struct wfe_address *address,
    const struct wfe_rpc_tls *tls, char *why, size_t size)
{
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
        explain_certificate(verdict, address, why, size);
    } else if (reason == SSL_R_WRONG_VERSION_NUMBER) {
        snprintf(why, size, "it does not speak TLS: tcp:// is for that");
    } else if (is_about_our_certificate(reason)) {
        snprintf(why, size, "the daemon %s (%s)",
            tls->cert_pem ? "refuses our certificate, tls.cert"
                          : "wants a certificate of ours, tls.cert",
            ERR_reason_error_string(error));
    } else if (reason != 0) {
        snprintf(why, size, "TLS failed: %s", ERR_reason_error_string(error));
    } else {
        return false;
    }
    return true;
}

/* With TLS 1.3 the peer judges our certificate when the handshake is over for us; a gRPC server
 * speaks first after it (RFC 9113, section 3.4). */
static bool probe(SSL *ssl, const struct wfe_address *address, const struct wfe_rpc_tls *tls,
    char *why, size_t size)
{
    ERR_clear_error();
    char byte;
    bool greets = SSL_connect(ssl) == 1;
    const unsigned char *protocol;
    unsigned length = 0;
    SSL_get0_alpn_selected(ssl, &protocol, &length);
    if (greets && length == 0) {
        snprintf(why, size, "TLS is spoken there, but HTTP/2 is not offered by it (ALPN h2)");
        return true;
    }
    bool works = greets && SSL_read(ssl, &byte, 1) == 1;
    return !works && explain_failure(ssl, address, tls, why, size);
}

/* Whether a peer that a plain connection has failed with answers to TLS. */
static bool speaks_tls(SSL *ssl)
{
    return SSL_connect(ssl) == 1 || SSL_get_verify_result(ssl) != X509_V_OK;
}

static bool explain_on(SSL_CTX *context, int fd, const struct wfe_address *address,
    const struct wfe_rpc_tls *tls, char *why, size_t size)
{
    static const unsigned char http2[] = {2, 'h', '2'};
    SSL *ssl = SSL_new(context);
    if (!ssl || SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return false;
    }
    SSL_set_alpn_protos(ssl, http2, sizeof http2);
    SSL_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    expect_name(ssl, address->host);
    bool told;
    if (tls) {
        told = probe(ssl, address, tls, why, size);
    } else {
        told = speaks_tls(ssl);
        if (told)
            snprintf(why, size, "it speaks TLS: https:// is for that");
    }
    SSL_free(ssl);
    return told;
}

bool wfe_tls_explain(
    const struct wfe_address *address, const struct wfe_rpc_tls *tls, char *why, size_t size)
{
    int fd = address->host ? dial(address) : -1;
    if (fd < 0)
        return false;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    bool told = false;
    if (context) {
        trust(context, tls ? tls->ca_pem : NULL);
        if (tls)
            introduce(context, tls);
        told = explain_on(context, fd, address, tls, why, size);
    }
    SSL_CTX_free(context);
    ERR_clear_error();
    close(fd);
    return told;
}
