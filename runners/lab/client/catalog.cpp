// SPDX-License-Identifier: BSD-3-Clause
#include "catalog.h"

#include <string.h>

namespace catalog {

namespace {

constexpr int kFlagChunked = 64;
constexpr uint64_t kInodeOffset = 255;
// MD5 of the empty path: the root.
constexpr unsigned char kRootKey[16] = {0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04,
                                        0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e};

// Catalogs older than schema revision 7 have no nanoseconds.
std::string Columns(bool has_nanoseconds) {
  const std::string nanoseconds = has_nanoseconds ? "mtimens" : "0";
  return "SELECT rowid, md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, "
         "mtime, " +
         nanoseconds + ", flags, name, symlink, uid, gid FROM catalog ";
}

std::string Text(sqlite3_stmt *statement, int column) {
  const unsigned char *text = sqlite3_column_text(statement, column);
  return text == nullptr ? "" : reinterpret_cast<const char *>(text);
}

bool Hash(sqlite3_stmt *statement, int column, char suffix, shash::Any *hash) {
  if (sqlite3_column_bytes(statement, column) != sizeof(hash->digest)) return false;
  memcpy(hash->digest, sqlite3_column_blob(statement, column), sizeof(hash->digest));
  hash->suffix = suffix;
  return true;
}

void BindKey(sqlite3_stmt *statement, const std::pair<int64_t, int64_t> &key) {
  sqlite3_bind_int64(statement, 1, key.first);
  sqlite3_bind_int64(statement, 2, key.second);
}

}  // namespace

Catalog::~Catalog() {
  for (sqlite3_stmt *statement : {by_row_, by_key_, by_name_, by_parent_, chunks_})
    sqlite3_finalize(statement);
  sqlite3_close(database_);
}

bool Catalog::Open(const std::string &path, std::string *why) {
  const std::string uri = "file:" + path + "?immutable=1";
  const int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(uri.c_str(), &database_, flags, nullptr) != SQLITE_OK) {
    *why = sqlite3_errmsg(database_);
    return false;
  }
  const std::string columns = Columns(HasColumn("mtimens"));
  by_row_ = Prepare(columns + "WHERE rowid = ?1", why);
  by_key_ = Prepare(columns + "WHERE md5path_1 = ?1 AND md5path_2 = ?2", why);
  by_name_ = Prepare(columns + "WHERE parent_1 = ?1 AND parent_2 = ?2 AND name = ?3", why);
  by_parent_ = Prepare(columns + "WHERE parent_1 = ?1 AND parent_2 = ?2 ORDER BY name", why);
  chunks_ = Prepare(
      "SELECT offset, size, hash FROM chunks WHERE md5path_1 = ?1 AND md5path_2 = ?2 ORDER BY "
      "offset",
      why);
  if (!by_row_ || !by_key_ || !by_name_ || !by_parent_ || !chunks_) return false;
  std::pair<int64_t, int64_t> root;
  memcpy(&root.first, kRootKey, 8);
  memcpy(&root.second, kRootKey + 8, 8);
  BindKey(by_key_, root);
  if (sqlite3_step(by_key_) == SQLITE_ROW) root_row_ = sqlite3_column_int64(by_key_, 0);
  sqlite3_reset(by_key_);
  if (root_row_ == 0) *why = "it has no root directory";
  return root_row_ != 0;
}

bool Catalog::HasColumn(const std::string &name) {
  std::string why;
  sqlite3_stmt *statement =
      Prepare("SELECT 1 FROM pragma_table_info('catalog') WHERE name = '" + name + "'", &why);
  const bool found = statement != nullptr && sqlite3_step(statement) == SQLITE_ROW;
  sqlite3_finalize(statement);
  return found;
}

sqlite3_stmt *Catalog::Prepare(const std::string &sql, std::string *why) {
  sqlite3_stmt *statement = nullptr;
  if (sqlite3_prepare_v2(database_, sql.c_str(), -1, &statement, nullptr) != SQLITE_OK)
    *why = sqlite3_errmsg(database_);
  return statement;
}

uint64_t Catalog::InodeOf(int64_t row) const {
  return row == root_row_ ? kRootInode : static_cast<uint64_t>(row) + kInodeOffset;
}

int64_t Catalog::RowOf(uint64_t inode) const {
  return inode == kRootInode ? root_row_ : static_cast<int64_t>(inode - kInodeOffset);
}

Entry Catalog::ReadEntry(sqlite3_stmt *statement) {
  Entry entry;
  entry.inode = InodeOf(sqlite3_column_int64(statement, 0));
  entry.path_key = {sqlite3_column_int64(statement, 1), sqlite3_column_int64(statement, 2)};
  entry.parent_key = {sqlite3_column_int64(statement, 3), sqlite3_column_int64(statement, 4)};
  entry.has_hash = Hash(statement, 6, shash::kSuffixNone, &entry.hash);
  entry.chunked = (sqlite3_column_int(statement, 11) & kFlagChunked) != 0;
  entry.name = Text(statement, 12);
  entry.symlink = Text(statement, 13);
  struct stat &status = entry.status;
  status.st_ino = entry.inode;
  status.st_nlink = static_cast<nlink_t>(sqlite3_column_int64(statement, 5) & 0xffffffff);
  status.st_mode = static_cast<mode_t>(sqlite3_column_int(statement, 8));
  status.st_size = S_ISLNK(status.st_mode) ? static_cast<off_t>(entry.symlink.size())
                                           : static_cast<off_t>(sqlite3_column_int64(statement, 7));
  status.st_blksize = 4096;
  status.st_blocks = (status.st_size + 511) / 512;
  status.st_mtim.tv_sec = sqlite3_column_int64(statement, 9);
  status.st_mtim.tv_nsec = sqlite3_column_int64(statement, 10);
  status.st_atim = status.st_ctim = status.st_mtim;
  status.st_uid = static_cast<uid_t>(sqlite3_column_int64(statement, 14));
  status.st_gid = static_cast<gid_t>(sqlite3_column_int64(statement, 15));
  return entry;
}

bool Catalog::ReadOne(sqlite3_stmt *statement, Entry *entry) {
  const bool found = sqlite3_step(statement) == SQLITE_ROW;
  if (found) *entry = ReadEntry(statement);
  sqlite3_reset(statement);
  return found;
}

bool Catalog::FindInode(uint64_t inode, Entry *entry) {
  const std::lock_guard<std::mutex> guard(lock_);
  sqlite3_bind_int64(by_row_, 1, RowOf(inode));
  return ReadOne(by_row_, entry);
}

bool Catalog::FindChild(uint64_t parent, const std::string &name, Entry *entry) {
  Entry directory;
  if (!FindInode(parent, &directory)) return false;
  const std::lock_guard<std::mutex> guard(lock_);
  BindKey(by_name_, directory.path_key);
  sqlite3_bind_text(by_name_, 3, name.data(), static_cast<int>(name.size()), SQLITE_TRANSIENT);
  return ReadOne(by_name_, entry);
}

bool Catalog::FindParent(const Entry &entry, Entry *parent) {
  const std::lock_guard<std::mutex> guard(lock_);
  BindKey(by_key_, entry.parent_key);
  return ReadOne(by_key_, parent);
}

std::vector<Entry> Catalog::Children(const Entry &parent) {
  const std::lock_guard<std::mutex> guard(lock_);
  std::vector<Entry> entries;
  BindKey(by_parent_, parent.path_key);
  while (sqlite3_step(by_parent_) == SQLITE_ROW) entries.push_back(ReadEntry(by_parent_));
  sqlite3_reset(by_parent_);
  return entries;
}

std::shared_ptr<const ChunkList> Catalog::Chunks(const Entry &entry) {
  const std::lock_guard<std::mutex> guard(lock_);
  const auto cached = chunk_lists_.find(entry.inode);
  if (cached != chunk_lists_.end()) return cached->second;
  auto list = std::make_shared<ChunkList>();
  BindKey(chunks_, entry.path_key);
  while (sqlite3_step(chunks_) == SQLITE_ROW) {
    Chunk chunk;
    chunk.offset = static_cast<uint64_t>(sqlite3_column_int64(chunks_, 0));
    chunk.size = static_cast<uint64_t>(sqlite3_column_int64(chunks_, 1));
    if (Hash(chunks_, 2, shash::kSuffixPartial, &chunk.hash)) list->push_back(chunk);
  }
  sqlite3_reset(chunks_);
  if (list->empty()) return nullptr;
  chunk_lists_[entry.inode] = list;
  return list;
}

}  // namespace catalog
