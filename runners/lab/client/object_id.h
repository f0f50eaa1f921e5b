// SPDX-License-Identifier: BSD-3-Clause
// The name of a content-addressed object. Probes read it as raw memory, so its layout is part of
// the contract: 20 bytes of digest, the algorithm as a 32-bit integer, then the suffix that says
// what kind of object it is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

// A function that uprobes attach to: exactly one copy, never inlined, cloned, specialised or split.
#define PROBED __attribute__((noinline, noclone, used))

namespace shash {

enum Algorithms : int32_t { kMd5 = 0, kSha1 = 1, kRmd160 = 2, kShake128 = 3, kAny = 4 };

constexpr char kSuffixNone = 0;
constexpr char kSuffixCatalog = 'C';
constexpr char kSuffixPartial = 'P';
constexpr char kSuffixCertificate = 'X';

struct Any {
  unsigned char digest[20] = {};
  Algorithms algorithm = kSha1;
  char suffix = kSuffixNone;

  std::string ToString() const;
  // "ab/cdef…": its path in the cache; with the suffix appended, its path on the server.
  std::string MakePathWithoutSuffix() const;
  std::string MakePath() const;

  bool operator==(const Any &other) const {
    return memcmp(digest, other.digest, sizeof(digest)) == 0;
  }
  bool operator<(const Any &other) const {
    const int order = memcmp(digest, other.digest, sizeof(digest));
    return order != 0 ? order < 0 : suffix < other.suffix;
  }
};

static_assert(offsetof(Any, digest) == 0 && offsetof(Any, algorithm) == 20 &&
                  offsetof(Any, suffix) == 24,
              "the probes read the object's name at these offsets");

// From 40 hex digits; false if `hex` is anything else.
bool FromHex(const std::string &hex, char suffix, Any *result);
std::string Hex(const unsigned char *bytes, size_t count);

}  // namespace shash
