// SPDX-License-Identifier: BSD-3-Clause
#include "fetcher.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace cvmfs {

namespace {

class TransactionSink : public download::Sink {
 public:
  TransactionSink(PosixCacheManager *cache, PosixCacheManager::Transaction *txn)
      : cache_(cache), txn_(txn) {}
  bool Write(const void *bytes, size_t count) override {
    return cache_->Write(bytes, count, txn_) == 0;
  }
  bool Reset() override { return cache_->Reset(txn_) == 0; }

 private:
  PosixCacheManager *cache_;
  PosixCacheManager::Transaction *txn_;
};

int ReceiveDescriptor(int pipe_end) {
  int fd = -EIO;
  while (read(pipe_end, &fd, sizeof(fd)) < 0 && errno == EINTR) {
  }
  return fd;
}

void SendDescriptor(int pipe_end, int fd) {
  while (write(pipe_end, &fd, sizeof(fd)) < 0 && errno == EINTR) {
  }
}

}  // namespace

// One per thread, kept for all its fetches.
struct Fetcher::ThreadState {
  ThreadState() {
    if (pipe2(wait_pipe, O_CLOEXEC) != 0) abort();
  }
  ~ThreadState() {
    close(wait_pipe[0]);
    close(wait_pipe[1]);
  }
  int wait_pipe[2];
  download::JobInfo job;
  std::function<bool()> interrupted;
};

Fetcher::ThreadState &Fetcher::State() {
  static thread_local ThreadState state;
  return state;
}

void Fetcher::SetInterrupted(std::function<bool()> interrupted) {
  State().interrupted = std::move(interrupted);
}

int Fetcher::Fetch(const CacheManager::LabeledObject &object, const std::string &alternative) {
  int fd = cache_->Open(object);
  if (fd >= 0) return fd;
  ThreadState &state = State();
  {
    std::unique_lock<std::mutex> guard(lock_);
    const auto found = under_way_.find(object.id);
    if (found != under_way_.end()) {
      found->second.push_back(state.wait_pipe[1]);
      guard.unlock();
      return ReceiveDescriptor(state.wait_pipe[0]);
    }
    // Another thread may have finished between the first look and the lock.
    fd = cache_->Open(object);
    if (fd >= 0) return fd;
    under_way_[object.id];
  }
  fd = Download(object, alternative, &state);
  Publish(object.id, fd);
  return fd;
}

int Fetcher::Download(const CacheManager::LabeledObject &object, const std::string &alternative,
                      ThreadState *state) {
  ++n_downloads_;
  PosixCacheManager::Transaction txn;
  int failure = cache_->StartTxn(object, &txn);
  if (failure != 0) return failure;
  TransactionSink sink(cache_, &txn);
  download::JobInfo *job = &state->job;
  job->path = "/" + (alternative.empty() ? "data/" + object.id.MakePath() : alternative);
  job->expected_hash = &object.id;
  job->compressed = true;
  job->sink = &sink;
  job->canceled = nullptr;
  if (state->interrupted) {
    job->canceled = [this, state, &object] {
      return state->interrupted() && !HasWaiters(object.id);
    };
  }
  const download::Failures outcome = downloads_->Fetch(job);
  if (outcome != download::kFailOk) {
    fprintf(stderr, "cvmfs2: failed to fetch %s for %s: %s\n", job->path.c_str(),
            object.label.path.c_str(), download::FailureText(outcome));
    cache_->AbortTxn(&txn);
    return -EIO;
  }
  const int fd = cache_->OpenFromTxn(&txn);
  if (fd < 0) {
    cache_->AbortTxn(&txn);
    return fd;
  }
  failure = cache_->CommitTxn(&txn);
  if (failure == 0) return fd;
  close(fd);
  return failure;
}

void Fetcher::Publish(const shash::Any &id, int fd) {
  const std::lock_guard<std::mutex> guard(lock_);
  for (int waiter : under_way_[id]) {
    SendDescriptor(waiter, fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : fd);
  }
  under_way_.erase(id);
}

bool Fetcher::HasWaiters(const shash::Any &id) {
  const std::lock_guard<std::mutex> guard(lock_);
  const auto found = under_way_.find(id);
  return found != under_way_.end() && !found->second.empty();
}

}  // namespace cvmfs
