// SPDX-License-Identifier: BSD-3-Clause
// One mounted repository: its settings, and the parts that serve it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "catalog.h"
#include "download.h"
#include "fetcher.h"
#include "posix_cache.h"
#include "trust.h"

namespace cvmfs {

struct Settings {
  std::string repository;
  std::string mountpoint;
  std::string cache;       // holds ab/cdef… and txn
  std::string public_key;  // path of a PEM file
  std::string pid_file;
  std::string log_file;
  bool allow_other = false;
  bool foreground = false;
  download::Settings download;
};

class Repository {
 public:
  explicit Repository(const Settings &settings);

  // Fetches and verifies manifest, whitelist, certificate and catalog. False, with the reason in
  // `why`, if one of them fails.
  bool Load(std::string *why);

  const Settings &settings() const { return settings_; }
  const trust::Manifest &manifest() const { return manifest_; }
  catalog::Catalog &tree() { return tree_; }
  Fetcher &fetcher() { return fetcher_; }
  PosixCacheManager &cache() { return cache_; }
  download::DownloadManager &downloads() { return downloads_; }
  void CountIoError() { ++n_io_errors_; }
  int64_t io_errors() const { return n_io_errors_; }

 private:
  bool LoadText(const std::string &name, std::string *text, std::string *why);
  bool LoadCertificate(std::string *pem, std::string *why);
  bool LoadCatalog(std::string *why);

  Settings settings_;
  PosixCacheManager cache_;
  download::DownloadManager downloads_;
  Fetcher fetcher_;
  trust::Manifest manifest_;
  catalog::Catalog tree_;
  std::atomic<int64_t> n_io_errors_{0};
};

// Page `page` of a file's extended attribute; false if the file has none of this name.
bool ReadAttribute(Repository *repository, const catalog::Entry &entry, const std::string &name,
                   std::string *value);
// Names separated by NUL, as listxattr returns them: only the root lists its attributes.
std::string ListAttributes(const catalog::Entry &entry);

// Mounts and serves until unmounted or ended; calls `ready` once the kernel can use the mount.
// Returns the process's exit status, with the reason in `why` if it could not start.
int Serve(Repository *repository, void (*ready)(), std::string *why);

}  // namespace cvmfs
