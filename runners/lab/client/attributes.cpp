// SPDX-License-Identifier: BSD-3-Clause
// The extended attributes that describe the client and its files.
#include <openssl/evp.h>
#include <unistd.h>

#include <functional>

#include "repository.h"

namespace cvmfs {

namespace {

constexpr size_t kPageCharacters = 40000;
constexpr const char *kVersion = "0.lab";
constexpr const char *kRootNames[] = {
    "user.chunk_list", "user.chunks",    "user.compression", "user.fqrn",      "user.hash",
    "user.host",       "user.lab_cache", "user.lhash",       "user.ndownload", "user.nioerr",
    "user.pid",        "user.proxy",     "user.revision",    "user.root_hash", "user.rx",
    "user.speed",      "user.timeout",   "user.version"};

using Pages = std::vector<std::string>;

void AddChunk(const shash::Any &hash, uint64_t offset, uint64_t size, Pages *pages) {
  static const std::string header = "hash,offset,size\n";
  if (pages->empty() || pages->back().size() > kPageCharacters) pages->push_back(header);
  pages->back() +=
      hash.ToString() + "," + std::to_string(offset) + "," + std::to_string(size) + "\n";
}

bool ChunkPages(Repository *repository, const catalog::Entry &entry, Pages *pages) {
  if (!entry.chunked) {
    AddChunk(entry.hash, 0, static_cast<uint64_t>(entry.status.st_size), pages);
    return entry.has_hash;
  }
  const auto chunks = repository->tree().Chunks(entry);
  if (!chunks) return false;
  for (const catalog::Chunk &chunk : *chunks) AddChunk(chunk.hash, chunk.offset, chunk.size, pages);
  return true;
}

std::string CountChunks(Repository *repository, const catalog::Entry &entry) {
  if (!entry.chunked) return "1";
  const auto chunks = repository->tree().Chunks(entry);
  return std::to_string(chunks ? chunks->size() : 0);
}

// The hash of the cached content, unpacked as it lies on disk.
std::string LocalHash(Repository *repository, const catalog::Entry &entry) {
  const int fd =
      repository->cache().Open(CacheManager::LabeledObject(entry.hash, CacheManager::Label()));
  if (fd < 0) return "Not in cache";
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  EVP_DigestInit_ex(context, EVP_sha1(), nullptr);
  std::vector<char> buffer(1 << 20);
  ssize_t count;
  while ((count = read(fd, buffer.data(), buffer.size())) > 0) {
    EVP_DigestUpdate(context, buffer.data(), static_cast<size_t>(count));
  }
  close(fd);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context, digest, &length);
  EVP_MD_CTX_free(context);
  return count < 0 ? "I/O error" : shash::Hex(digest, length);
}

bool FileAttribute(Repository *repository, const catalog::Entry &entry, const std::string &name,
                   Pages *pages) {
  if (!S_ISREG(entry.status.st_mode)) return false;
  if (name == "user.chunk_list") return ChunkPages(repository, entry, pages);
  if (name == "user.chunks") {
    pages->push_back(CountChunks(repository, entry));
  } else if (name == "user.compression") {
    pages->push_back("zlib");
  } else if (name == "user.hash" && entry.has_hash) {
    pages->push_back(entry.hash.ToString());
  } else if (name == "user.lhash" && entry.has_hash) {
    pages->push_back(LocalHash(repository, entry));
  }
  return !pages->empty();
}

std::string Speed(const download::Counters &counters) {
  const int64_t milliseconds = counters.transfer_us / 1000;
  return milliseconds == 0 ? "n/a"
                           : std::to_string(1000 * (counters.wire_bytes / 1024) / milliseconds);
}

bool MountAttribute(Repository *repository, const std::string &name, Pages *pages) {
  const Settings &settings = repository->settings();
  const download::Counters &counters = repository->downloads().counters();
  const std::map<std::string, std::function<std::string()>> values = {
      {"user.fqrn", [&] { return settings.repository; }},
      {"user.pid", [] { return std::to_string(getpid()); }},
      {"user.version", [] { return std::string(kVersion); }},
      {"user.revision", [&] { return std::to_string(repository->manifest().revision); }},
      {"user.root_hash", [&] { return repository->manifest().root_hash.ToString(); }},
      {"user.host", [&] { return settings.download.base_url; }},
      {"user.proxy",
       [&] { return settings.download.proxy.empty() ? "DIRECT" : settings.download.proxy; }},
      {"user.ndownload", [&] { return std::to_string(repository->fetcher().downloads()); }},
      {"user.nioerr", [&] { return std::to_string(repository->io_errors()); }},
      {"user.rx", [&] { return std::to_string(counters.wire_bytes / 1024); }},
      {"user.speed", [&] { return Speed(counters); }},
      {"user.timeout", [&] { return std::to_string(settings.download.timeout_s); }},
      {"user.lab_cache", [&] { return settings.cache; }},
  };
  const auto found = values.find(name);
  if (found == values.end()) return false;
  pages->push_back(found->second());
  return true;
}

}  // namespace

// "NAME" is the first page, "NAME~2" the third, "NAME~?" the number of pages.
bool ReadAttribute(Repository *repository, const catalog::Entry &entry, const std::string &name,
                   std::string *value) {
  const size_t mark = name.find('~');
  const std::string base = name.substr(0, mark);
  const std::string which = mark == std::string::npos ? "0" : name.substr(mark + 1);
  Pages pages;
  if (!MountAttribute(repository, base, &pages) && !FileAttribute(repository, entry, base, &pages))
    return false;
  if (which == "?") {
    *value = "num_pages, " + std::to_string(pages.size());
    return true;
  }
  if (which.empty() || which.find_first_not_of("0123456789") != std::string::npos) return false;
  const unsigned long page = strtoul(which.c_str(), nullptr, 10);
  if (page >= pages.size()) return false;
  *value = pages[page];
  return true;
}

std::string ListAttributes(const catalog::Entry &entry) {
  std::string names;
  if (entry.inode != catalog::kRootInode) return names;
  for (const char *name : kRootNames) names.append(name).push_back('\0');
  return names;
}

}  // namespace cvmfs
