// SPDX-License-Identifier: BSD-3-Clause
#include "trust.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <time.h>

#include <cstdlib>
#include <memory>
#include <sstream>

namespace trust {

namespace {

struct Freed {
  void operator()(BIO *bio) const { BIO_free(bio); }
  void operator()(EVP_PKEY *key) const { EVP_PKEY_free(key); }
  void operator()(EVP_PKEY_CTX *context) const { EVP_PKEY_CTX_free(context); }
  void operator()(X509 *certificate) const { X509_free(certificate); }
};

template <typename Thing>
using Owned = std::unique_ptr<Thing, Freed>;

const unsigned char *Bytes(const std::string &text) {
  return reinterpret_cast<const unsigned char *>(text.data());
}

std::string Sha1Hex(const std::string &text) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(Bytes(text), text.size(), digest);
  return shash::Hex(digest, sizeof(digest));
}

Owned<X509> ReadCertificate(const std::string &pem) {
  const Owned<BIO> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return Owned<X509>(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
}

// A letter: lines, "--", the SHA-1 of those lines in hex, and a signature.
bool SplitLetter(const std::string &letter, std::string *payload, std::string *hash,
                 std::string *signature) {
  const size_t mark = letter.find("\n--\n");
  if (mark == std::string::npos) return false;
  const size_t hash_at = mark + 4;
  const size_t end = letter.find('\n', hash_at);
  if (end == std::string::npos) return false;
  *payload = letter.substr(0, mark + 1);
  *hash = letter.substr(hash_at, end - hash_at);
  *signature = letter.substr(end + 1);
  return true;
}

// What is signed: the text of the hash itself, or its SHA-1 with the identifier of that algorithm.
enum class Signed { kText, kDigest };

std::string SignedContent(const std::string &text, Signed how) {
  if (how == Signed::kText) return text;
  static const std::string identifier(
      "\x30\x21\x30\x09\x06\x05\x2b\x0e\x03\x02\x1a\x05\x00\x04\x14", 15);
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(Bytes(text), text.size(), digest);
  return identifier + std::string(digest, digest + sizeof(digest));
}

bool Verify(const std::string &letter, EVP_PKEY *key, Signed how) {
  std::string payload, hash, signature;
  if (key == nullptr || !SplitLetter(letter, &payload, &hash, &signature)) return false;
  if (Sha1Hex(payload) != hash) return false;
  const std::string content = SignedContent(hash, how);
  const Owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new(key, nullptr));
  return context && EVP_PKEY_verify_init(context.get()) == 1 &&
         EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_PADDING) == 1 &&
         EVP_PKEY_verify(context.get(), Bytes(signature), signature.size(), Bytes(content),
                         content.size()) == 1;
}

std::string Fingerprint(X509 *certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  if (X509_digest(certificate, EVP_sha1(), digest, &length) != 1) return "";
  static const char digits[] = "0123456789ABCDEF";
  std::string text;
  for (unsigned i = 0; i < length; ++i) {
    if (i > 0) text += ':';
    text += digits[digest[i] >> 4];
    text += digits[digest[i] & 15];
  }
  return text;
}

// Compares "E20270101120000" with the clock, both UTC.
bool Expired(const std::string &line) {
  if (line.size() != 15 || line[0] != 'E') return true;
  char now_text[16];
  const time_t now = time(nullptr);
  tm broken_down;
  gmtime_r(&now, &broken_down);
  strftime(now_text, sizeof(now_text), "%Y%m%d%H%M%S", &broken_down);
  return line.substr(1) <= now_text;
}

}  // namespace

bool ParseManifest(const std::string &letter, Manifest *manifest) {
  std::istringstream lines(letter);
  std::string line;
  bool has_root = false;
  while (std::getline(lines, line) && line != "--") {
    if (line.empty()) continue;
    const std::string value = line.substr(1);
    if (line[0] == 'C')
      has_root = shash::FromHex(value, shash::kSuffixCatalog, &manifest->root_hash);
    if (line[0] == 'X' &&
        !shash::FromHex(value, shash::kSuffixCertificate, &manifest->certificate_hash))
      return false;
    if (line[0] == 'S') manifest->revision = strtoull(value.c_str(), nullptr, 10);
    if (line[0] == 'N') manifest->repository = value;
  }
  return has_root;
}

bool VerifyWithPublicKey(const std::string &letter, const std::string &public_key_pem) {
  const Owned<BIO> bio(
      BIO_new_mem_buf(public_key_pem.data(), static_cast<int>(public_key_pem.size())));
  const Owned<EVP_PKEY> key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  return Verify(letter, key.get(), Signed::kText);
}

bool VerifyWithCertificate(const std::string &letter, const std::string &certificate_pem) {
  const Owned<X509> certificate = ReadCertificate(certificate_pem);
  return certificate && Verify(letter, X509_get0_pubkey(certificate.get()), Signed::kDigest);
}

bool Allows(const std::string &whitelist, const std::string &repository,
            const std::string &certificate_pem, std::string *why) {
  const Owned<X509> certificate = ReadCertificate(certificate_pem);
  const std::string fingerprint = certificate ? Fingerprint(certificate.get()) : "";
  std::istringstream lines(whitelist);
  std::string created, expiry, name, line;
  std::getline(lines, created);
  std::getline(lines, expiry);
  std::getline(lines, name);
  if (Expired(expiry)) {
    *why = "the whitelist has expired";
    return false;
  }
  if (name != "N" + repository) {
    *why = "the whitelist is for another repository";
    return false;
  }
  while (std::getline(lines, line) && line != "--") {
    if (!fingerprint.empty() && line.compare(0, fingerprint.size(), fingerprint) == 0) return true;
  }
  *why = "the whitelist does not name the certificate";
  return false;
}

}  // namespace trust
