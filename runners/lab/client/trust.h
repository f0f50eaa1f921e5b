// SPDX-License-Identifier: BSD-3-Clause
// The chain of trust: the master key signs the whitelist, the whitelist names the certificate, and
// the certificate's key signs the manifest, which names the root catalog.
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

// False if the text is not a manifest.
bool ParseManifest(const std::string &letter, Manifest *manifest);
// Checks hash and signature with a public key in PEM.
bool VerifyWithPublicKey(const std::string &letter, const std::string &public_key_pem);
// Checks hash and signature with the key of a certificate in PEM.
bool VerifyWithCertificate(const std::string &letter, const std::string &certificate_pem);
// Whether the whitelist is for this repository, has not expired and names this certificate; if
// not, `why` gets the reason.
bool Allows(const std::string &whitelist, const std::string &repository,
            const std::string &certificate_pem, std::string *why);

}  // namespace trust
