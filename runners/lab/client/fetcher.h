// SPDX-License-Identifier: BSD-3-Clause
// From an object's name to a descriptor of its unpacked content: from the cache, or downloaded
// once, however many threads ask.
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

  // A read-only descriptor that the caller closes, or -errno (-EIO if it cannot be fetched).
  // `alternative` is the path below the repository's URL if it is not the object's own.
  PROBED int Fetch(const CacheManager::LabeledObject &object, const std::string &alternative = "");

  // The calling thread gives up its downloads when this returns true; an empty function resets it.
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
