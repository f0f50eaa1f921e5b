// SPDX-License-Identifier: BSD-3-Clause
// The directory tree: one SQLite catalog (schema 2.5), read-only. Nested catalogs are not followed.
#pragma once

#include <sqlite3.h>
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "object_id.h"

namespace catalog {

constexpr uint64_t kRootInode = 1;

struct Entry {
  uint64_t inode = 0;
  std::pair<int64_t, int64_t> path_key;  // MD5 of the path
  std::pair<int64_t, int64_t> parent_key;
  std::string name;
  std::string symlink;
  shash::Any hash;
  bool has_hash = false;
  bool chunked = false;
  struct stat status = {};
};

struct Chunk {
  shash::Any hash;
  uint64_t offset = 0;
  uint64_t size = 0;
};

using ChunkList = std::vector<Chunk>;

// Safe for threads. Inodes are stable for one catalog.
class Catalog {
 public:
  ~Catalog();
  // False if the file is not a catalog; `why` gets the reason.
  bool Open(const std::string &path, std::string *why);
  bool FindInode(uint64_t inode, Entry *entry);
  bool FindChild(uint64_t parent, const std::string &name, Entry *entry);
  bool FindParent(const Entry &entry, Entry *parent);
  std::vector<Entry> Children(const Entry &parent);
  // Null if the catalog has no chunks for this file.
  std::shared_ptr<const ChunkList> Chunks(const Entry &entry);

 private:
  bool HasColumn(const std::string &name);
  sqlite3_stmt *Prepare(const std::string &sql, std::string *why);
  Entry ReadEntry(sqlite3_stmt *statement);
  uint64_t InodeOf(int64_t row) const;
  int64_t RowOf(uint64_t inode) const;
  bool ReadOne(sqlite3_stmt *statement, Entry *entry);

  std::mutex lock_;
  sqlite3 *database_ = nullptr;
  sqlite3_stmt *by_row_ = nullptr;
  sqlite3_stmt *by_key_ = nullptr;
  sqlite3_stmt *by_name_ = nullptr;
  sqlite3_stmt *by_parent_ = nullptr;
  sqlite3_stmt *chunks_ = nullptr;
  int64_t root_row_ = 0;
  std::map<uint64_t, std::shared_ptr<const ChunkList>> chunk_lists_;
};

}  // namespace catalog
