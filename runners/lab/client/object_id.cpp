// SPDX-License-Identifier: BSD-3-Clause
#include "object_id.h"

namespace shash {

namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string Hex(const unsigned char *bytes, size_t count) {
  static const char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    text += digits[bytes[i] >> 4];
    text += digits[bytes[i] & 15];
  }
  return text;
}

bool FromHex(const std::string &hex, char suffix, Any *result) {
  if (hex.size() != 2 * sizeof(result->digest)) return false;
  for (size_t i = 0; i < sizeof(result->digest); ++i) {
    const int high = HexDigit(hex[2 * i]);
    const int low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    result->digest[i] = static_cast<unsigned char>(high << 4 | low);
  }
  result->algorithm = kSha1;
  result->suffix = suffix;
  return true;
}

std::string Any::ToString() const { return Hex(digest, sizeof(digest)); }

std::string Any::MakePathWithoutSuffix() const {
  const std::string hex = ToString();
  return hex.substr(0, 2) + "/" + hex.substr(2);
}

std::string Any::MakePath() const {
  std::string path = MakePathWithoutSuffix();
  if (suffix != kSuffixNone) path += suffix;
  return path;
}

}  // namespace shash
