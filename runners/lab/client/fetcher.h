// SPDX-License-Identifier: BSD-3-Clause
// From the name of an object to a descriptor of its unpacked content: out of the cache, or
// downloaded once however many threads ask.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "download.h"
#include "posix_cache.h"

namespace cvmfs {

class Fetcher {
 public:
  Fetcher(PosixCacheManager *cache, download::DownloadManager *downloads)
      : cache_(cache), downloads_(downloads) {}

  // A read-only descriptor that the caller closes, or -errno (-EIO where it could not be had).
  // `alternative` is the path below the repository's URL where it is not the object's own.
  PROBED int Fetch(const CacheManager::LabeledObject &object, const std::string &alternative = "");

  // What the calling thread serves may be given up when this says so; ends with an empty function.
  static void SetInterrupted(std::function<bool()> interrupted);

  int64_t downloads() const { return n_downloads_; }

 private:
  struct ThreadState;

  static ThreadState &State();
  int Download(const CacheManager::LabeledObject &object, const std::string &alternative,
               ThreadState *state);
  void Publish(const shash::Any &id, int fd);
  bool HasWaiters(const shash::Any &id);

  PosixCacheManager *cache_;
  download::DownloadManager *downloads_;
  std::mutex lock_;
  // Objects being downloaded, each with the pipes of the threads that wait for it.
  std::map<shash::Any, std::vector<int>> under_way_;
  std::atomic<int64_t> n_downloads_{0};
};

}  // namespace cvmfs
