// SPDX-License-Identifier: BSD-3-Clause
// Objects over HTTP: one thread, named MainDownload, drives all transfers with libcurl and also
// unpacks and verifies what arrives. Other threads hand it a JobInfo and wait on a pipe.
#pragma once

#include <curl/curl.h>
#include <openssl/evp.h>
#include <zlib.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "object_id.h"

namespace download {

enum Failures : int32_t {
  kFailOk = 0,
  kFailLocalIo,
  kFailHostHttp,        // an answer other than 200
  kFailHostConnection,  // no connection, a connection that broke, a time-out
  kFailBadData,         // the content does not match the hash, or cannot be unpacked
  kFailCanceled,
};

const char *FailureText(Failures failure);

// Where unpacked bytes go.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual bool Write(const void *bytes, size_t count) = 0;
  virtual bool Reset() = 0;
};

class MemorySink : public Sink {
 public:
  bool Write(const void *bytes, size_t count) override {
    content.append(static_cast<const char *>(bytes), count);
    return true;
  }
  bool Reset() override {
    content.clear();
    return true;
  }
  std::string content;
};

// One download. It belongs to the asking thread, which reuses it for the next one.
struct JobInfo {
  JobInfo();
  ~JobInfo();
  JobInfo(const JobInfo &) = delete;
  JobInfo &operator=(const JobInfo &) = delete;

  std::string path;                           // below the repository's URL, with a leading slash
  const shash::Any *expected_hash = nullptr;  // of the bytes as they arrive; null: not checked
  bool compressed = true;
  Sink *sink = nullptr;
  std::function<bool()> canceled;  // asked by the download thread about once a second

  // Used by the download thread while it works on the job.
  int result_pipe[2];
  std::string url;
  CURL *handle = nullptr;
  unsigned attempts = 0;
  Failures failure = kFailOk;
  EVP_MD_CTX *digest = nullptr;
  z_stream unpacker;
  bool unpacked_all = false;
};

struct Settings {
  std::string base_url;
  std::string proxy;        // one, or several separated by ; and tried in turn; empty: direct
  std::string certificate;  // of the authority that verifies an https server
  unsigned timeout_s = 10;  // to connect, and without a byte; 0: wait for ever
  unsigned retries = 1;
};

struct Counters {
  std::atomic<int64_t> wire_bytes{0};
  std::atomic<int64_t> transfer_us{0};
};

class DownloadManager {
 public:
  explicit DownloadManager(const Settings &settings);
  ~DownloadManager();

  void Spawn();
  // Waits until the job is done; the sink then holds the content.
  PROBED Failures Fetch(JobInfo *info);
  // Fails every download, current and future.
  void Abort();

  const Settings &settings() const { return settings_; }
  const Counters &counters() const { return counters_; }

 private:
  void MainDownload();
  bool TakeCommands();
  void Begin(JobInfo *info);
  void StartAttempt(JobInfo *info);
  void FinishTransfers();
  void FinishAttempt(JobInfo *info, CURLcode code);
  void Answer(JobInfo *info, Failures failure);
  void FailAll();
  Failures Judge(JobInfo *info, CURLcode code);
  std::string Proxy() const;

  Settings settings_;
  Counters counters_;
  CURLM *multi_ = nullptr;
  curl_slist *headers_ = nullptr;
  int jobs_pipe_[2];
  int command_pipe_[2];
  bool aborted_ = false;
  size_t proxies_failed_ = 0;
  std::set<JobInfo *> running_;
  std::vector<CURL *> idle_handles_;
  std::thread thread_;
};

}  // namespace download
