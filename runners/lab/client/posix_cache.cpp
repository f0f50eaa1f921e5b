// SPDX-License-Identifier: BSD-3-Clause
#include "posix_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace {

constexpr size_t kBufferBytes = 64 * 1024;

int MakeDirectory(const std::string &path) {
  return mkdir(path.c_str(), 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

void EmptyDirectory(const std::string &path) {
  DIR *directory = opendir(path.c_str());
  if (directory == nullptr) return;
  while (const dirent *entry = readdir(directory)) {
    if (entry->d_name[0] != '.') unlinkat(dirfd(directory), entry->d_name, 0);
  }
  closedir(directory);
}

int WriteAll(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = write(fd, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return -errno;
    bytes += written;
    count -= static_cast<size_t>(written);
  }
  return 0;
}

}  // namespace

int PosixCacheManager::Prepare() {
  int failure = MakeDirectory(directory_);
  for (int i = 0; i < 256 && failure == 0; ++i) {
    const unsigned char byte = static_cast<unsigned char>(i);
    failure = MakeDirectory(directory_ + "/" + shash::Hex(&byte, 1));
  }
  if (failure == 0) failure = MakeDirectory(directory_ + "/txn");
  if (failure == 0) EmptyDirectory(directory_ + "/txn");
  return failure;
}

int PosixCacheManager::Open(const LabeledObject &object) {
  const std::string path = directory_ + "/" + object.id.MakePathWithoutSuffix();
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  return fd >= 0 ? fd : -errno;
}

int PosixCacheManager::StartTxn(const LabeledObject &object, Transaction *txn) {
  txn->final_path = directory_ + "/" + object.id.MakePathWithoutSuffix();
  txn->temporary = directory_ + "/txn/fetchXXXXXX";
  txn->expected_size = object.label.size;
  txn->fd = mkostemp(txn->temporary.data(), O_CLOEXEC);
  txn->buffer.reserve(kBufferBytes);
  return txn->fd >= 0 ? 0 : -errno;
}

int PosixCacheManager::Write(const void *bytes, size_t count, Transaction *txn) {
  const char *from = static_cast<const char *>(bytes);
  txn->size += count;
  if (txn->size > txn->expected_size) return -EFBIG;
  while (count > 0) {
    const size_t batch = std::min(count, kBufferBytes - txn->buffer.size());
    txn->buffer.insert(txn->buffer.end(), from, from + batch);
    from += batch;
    count -= batch;
    if (txn->buffer.size() == kBufferBytes) {
      const int failure = Flush(txn);
      if (failure != 0) return failure;
    }
  }
  return 0;
}

int PosixCacheManager::Flush(Transaction *txn) {
  const int failure = WriteAll(txn->fd, txn->buffer.data(), txn->buffer.size());
  txn->buffer.clear();
  return failure;
}

int PosixCacheManager::Reset(Transaction *txn) {
  txn->buffer.clear();
  txn->size = 0;
  if (lseek(txn->fd, 0, SEEK_SET) < 0 || ftruncate(txn->fd, 0) != 0) return -errno;
  return 0;
}

int PosixCacheManager::OpenFromTxn(Transaction *txn) {
  const int failure = Flush(txn);
  if (failure != 0) return failure;
  const int fd = open(txn->temporary.c_str(), O_RDONLY | O_CLOEXEC);
  return fd >= 0 ? fd : -errno;
}

int PosixCacheManager::CommitTxn(Transaction *txn) {
  const bool complete = txn->expected_size == UINT64_MAX || txn->size == txn->expected_size;
  if (!complete) {
    AbortTxn(txn);
    return -EIO;
  }
  close(txn->fd);
  if (rename(txn->temporary.c_str(), txn->final_path.c_str()) == 0) return 0;
  const int failure = -errno;
  unlink(txn->temporary.c_str());
  return failure;
}

void PosixCacheManager::AbortTxn(Transaction *txn) {
  close(txn->fd);
  unlink(txn->temporary.c_str());
}
