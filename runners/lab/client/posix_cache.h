// SPDX-License-Identifier: BSD-3-Clause
// The client's cache: a directory of unpacked objects, CACHE/ab/cdef…, filled through CACHE/txn.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "object_id.h"

class CacheManager {
 public:
  // An object's name and what else is known of it.
  struct Label {
    std::string path;            // the file that needs it, for messages
    uint64_t size = UINT64_MAX;  // unpacked; UINT64_MAX: not known
  };

  // The name comes first: probes read it from the start of the object.
  struct LabeledObject {
    LabeledObject(const shash::Any &name, const Label &about) : id(name), label(about) {}
    shash::Any id;
    Label label;
  };
};

class PosixCacheManager : public CacheManager {
 public:
  // An object on its way into the cache: written to a temporary file, then renamed.
  struct Transaction {
    int fd = -1;
    std::string temporary;
    std::string final_path;
    uint64_t expected_size = UINT64_MAX;
    uint64_t size = 0;
    std::vector<char> buffer;
  };

  explicit PosixCacheManager(const std::string &directory) : directory_(directory) {}

  // Makes the directories and removes what an earlier client left in txn. 0 or -errno.
  int Prepare();
  // A read-only descriptor, or -errno: -ENOENT is a miss.
  PROBED int Open(const LabeledObject &object);
  int StartTxn(const LabeledObject &object, Transaction *txn);
  int Write(const void *bytes, size_t count, Transaction *txn);
  int Reset(Transaction *txn);
  // Opens the temporary file for reading; survives the commit.
  int OpenFromTxn(Transaction *txn);
  int CommitTxn(Transaction *txn);
  void AbortTxn(Transaction *txn);

  const std::string &directory() const { return directory_; }

 private:
  int Flush(Transaction *txn);

  std::string directory_;
};
