/* SPDX-License-Identifier: MIT
 * web_tls.h - certificates, and the authorities behind them, for a web server of tests.
 */
#ifndef EVECC_WEB_TLS_H
#define EVECC_WEB_TLS_H

#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

static EVP_PKEY *web_key; /* one for all: it is not the keys that are tested */

static void web_add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    if (ext == NULL)
        abort();
    X509_add_ext(cert, ext, -1);
    X509_EXTENSION_free(ext);
}

/* Valid from FROM_S to TO_S, seconds from now; ISSUER NULL: an authority, signed by
 * itself. */
static X509 *web_certificate(const char *name, const char *san, long from_s, long to_s,
                             X509 *issuer)
{
    static long serial;
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name,
                               -1, -1, 0);
    X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : subject);
    X509_set_pubkey(cert, web_key);
    if (issuer == NULL)
        web_add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
    if (san != NULL)
        web_add_extension(cert, NID_subject_alt_name, san);
    if (X509_sign(cert, web_key, EVP_sha256()) <= 0)
        abort();
    return cert;
}

static SSL_CTX *web_tls(X509 *cert, int max_version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    SSL_CTX_set_security_level(ctx, 0); /* lets it speak TLS 1.1 at all */
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, max_version);
    if (SSL_CTX_use_certificate(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey(ctx, web_key) != 1)
        abort();
    return ctx;
}

#endif
