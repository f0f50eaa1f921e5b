// SPDX-License-Identifier: BSD-3-Clause
// From a public key to a root catalog: the whitelist is signed with the master key, names the
// certificate, and the certificate's key signed the manifest.
#pragma once

#include <cstdint>
#include <string>

#include "object_id.h"

namespace trust {

struct Manifest {
  std::string repository;
  shash::Any root_hash;
  shash::Any certificate_hash;
  uint64_t revision = 0;
};

// False where the text is not a manifest.
bool ParseManifest(const std::string &letter, Manifest *manifest);
// Checks hash and signature with a public key in PEM.
bool VerifyWithPublicKey(const std::string &letter, const std::string &public_key_pem);
// Checks hash and signature with the key of a certificate in PEM.
bool VerifyWithCertificate(const std::string &letter, const std::string &certificate_pem);
// Whether the whitelist is for this repository, has not expired and names this certificate. The
// reason otherwise goes to `why`.
bool Allows(const std::string &whitelist, const std::string &repository,
            const std::string &certificate_pem, std::string *why);

}  // namespace trust
