// SPDX-License-Identifier: BSD-3-Clause
#include "download.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

namespace download {

namespace {

constexpr int kPollWorkingMs = 1;
constexpr int kPollIdleMs = 60 * 1000;
constexpr long kLowSpeedBytesPerSecond = 1;
constexpr long kBufferBytes = 64 * 1024;

void MakePipe(int ends[2]) {
  if (pipe2(ends, O_CLOEXEC) != 0) abort();
}

template <typename Value>
void Send(int fd, const Value &value) {
  ssize_t sent;
  do {
    sent = write(fd, &value, sizeof(value));
  } while (sent < 0 && errno == EINTR);
  if (sent != sizeof(value)) abort();
}

template <typename Value>
Value Receive(int fd) {
  Value value;
  ssize_t received;
  do {
    received = read(fd, &value, sizeof(value));
  } while (received < 0 && errno == EINTR);
  if (received != sizeof(value)) abort();
  return value;
}

// Unpacks one piece into the sink; the zlib stream must end where the object ends.
Failures Unpack(JobInfo *info, unsigned char *bytes, size_t count) {
  unsigned char unpacked[kBufferBytes];
  info->unpacker.next_in = bytes;
  info->unpacker.avail_in = static_cast<uInt>(count);
  while (info->unpacker.avail_in > 0 || info->unpacker.avail_out == 0) {
    if (info->unpacked_all) return kFailBadData;
    info->unpacker.next_out = unpacked;
    info->unpacker.avail_out = sizeof(unpacked);
    const int state = inflate(&info->unpacker, Z_NO_FLUSH);
    if (state != Z_OK && state != Z_STREAM_END && state != Z_BUF_ERROR) return kFailBadData;
    const size_t ready = sizeof(unpacked) - info->unpacker.avail_out;
    if (ready > 0 && !info->sink->Write(unpacked, ready)) return kFailLocalIo;
    info->unpacked_all = state == Z_STREAM_END;
    if (state == Z_STREAM_END && info->unpacker.avail_in == 0) break;
  }
  return kFailOk;
}

size_t OnData(char *bytes, size_t size, size_t count, void *context) {
  JobInfo *info = static_cast<JobInfo *>(context);
  const size_t total = size * count;
  if (total == 0) return 0;
  if (info->expected_hash != nullptr) EVP_DigestUpdate(info->digest, bytes, total);
  if (info->compressed) {
    info->failure = Unpack(info, reinterpret_cast<unsigned char *>(bytes), total);
  } else if (!info->sink->Write(bytes, total)) {
    info->failure = kFailLocalIo;
  }
  return info->failure == kFailOk ? total : 0;
}

int OnProgress(void *context, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  JobInfo *info = static_cast<JobInfo *>(context);
  return info->canceled && info->canceled() ? 1 : 0;
}

}  // namespace

const char *FailureText(Failures failure) {
  switch (failure) {
    case kFailOk: return "no failure";
    case kFailLocalIo: return "the cache could not be written";
    case kFailHostHttp: return "the server answered with an error";
    case kFailHostConnection: return "no connection to the server, or it broke or fell silent";
    case kFailBadData: return "the content does not match its hash";
    case kFailCanceled: return "canceled";
  }
  return "unknown";
}

JobInfo::JobInfo() {
  MakePipe(result_pipe);
  digest = EVP_MD_CTX_new();
  memset(&unpacker, 0, sizeof(unpacker));
  if (inflateInit(&unpacker) != Z_OK) abort();
}

JobInfo::~JobInfo() {
  close(result_pipe[0]);
  close(result_pipe[1]);
  EVP_MD_CTX_free(digest);
  inflateEnd(&unpacker);
}

DownloadManager::DownloadManager(const Settings &settings) : settings_(settings) {
  MakePipe(jobs_pipe_);
  MakePipe(command_pipe_);
}

DownloadManager::~DownloadManager() {
  if (thread_.joinable()) {
    Send(command_pipe_[1], 'q');
    thread_.join();
  }
  for (int fd : {jobs_pipe_[0], jobs_pipe_[1], command_pipe_[0], command_pipe_[1]}) close(fd);
}

void DownloadManager::Spawn() {
  thread_ = std::thread([this] { MainDownload(); });
}

void DownloadManager::Abort() { Send(command_pipe_[1], 'a'); }

Failures DownloadManager::Fetch(JobInfo *info) {
  Send(jobs_pipe_[1], info);
  const Failures failure = Receive<Failures>(info->result_pipe[0]);
  return failure;
}

void DownloadManager::MainDownload() {
  prctl(PR_SET_NAME, "MainDownload");
  multi_ = curl_multi_init();
  headers_ = curl_slist_append(headers_, "Connection: Keep-Alive");
  int transfers = 0;
  while (true) {
    curl_waitfd waited[2] = {{command_pipe_[0], CURL_WAIT_POLLIN, 0},
                             {jobs_pipe_[0], CURL_WAIT_POLLIN, 0}};
    curl_multi_wait(multi_, waited, 2, transfers > 0 ? kPollWorkingMs : kPollIdleMs, nullptr);
    if (waited[0].revents != 0 && !TakeCommands()) break;
    if (waited[1].revents != 0) Begin(Receive<JobInfo *>(jobs_pipe_[0]));
    curl_multi_perform(multi_, &transfers);
    FinishTransfers();
    // A retry started by FinishTransfers counts too.
    transfers = static_cast<int>(running_.size());
  }
  for (CURL *handle : idle_handles_) curl_easy_cleanup(handle);
  curl_multi_cleanup(multi_);
  curl_slist_free_all(headers_);
}

bool DownloadManager::TakeCommands() {
  aborted_ = true;
  FailAll();
  return Receive<char>(command_pipe_[0]) != 'q';
}

void DownloadManager::FailAll() {
  const std::set<JobInfo *> failing = running_;
  for (JobInfo *info : failing) {
    curl_multi_remove_handle(multi_, info->handle);
    Answer(info, kFailCanceled);
  }
}

void DownloadManager::Begin(JobInfo *info) {
  info->url = settings_.base_url + info->path;
  info->attempts = 0;
  if (idle_handles_.empty()) {
    info->handle = curl_easy_init();
  } else {
    info->handle = idle_handles_.back();
    idle_handles_.pop_back();
  }
  running_.insert(info);
  if (aborted_) {
    Answer(info, kFailCanceled);
  } else {
    StartAttempt(info);
  }
}

void DownloadManager::StartAttempt(JobInfo *info) {
  ++info->attempts;
  info->failure = info->sink->Reset() ? kFailOk : kFailLocalIo;
  info->unpacked_all = false;
  inflateReset(&info->unpacker);
  info->unpacker.avail_out = 1;
  EVP_DigestInit_ex(info->digest, EVP_sha1(), nullptr);
  CURL *handle = info->handle;
  curl_easy_reset(handle);
  curl_easy_setopt(handle, CURLOPT_URL, info->url.c_str());
  curl_easy_setopt(handle, CURLOPT_PRIVATE, info);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, OnData);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, info);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, OnProgress);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, info);
  curl_easy_setopt(handle, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers_);
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "cvmprof-lab");
  curl_easy_setopt(handle, CURLOPT_PROXY, Proxy().c_str());
  if (!settings_.certificate.empty()) {
    curl_easy_setopt(handle, CURLOPT_CAINFO, settings_.certificate.c_str());
  }
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings_.timeout_s));
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.timeout_s));
  curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, kLowSpeedBytesPerSecond);
  curl_multi_add_handle(multi_, handle);
}

// The current proxy: the next one of the list after a connection has failed.
std::string DownloadManager::Proxy() const {
  std::vector<std::string> proxies;
  std::stringstream list(settings_.proxy);
  for (std::string one; std::getline(list, one, ';');) proxies.push_back(one);
  return proxies.empty() ? "" : proxies[proxies_failed_ % proxies.size()];
}

void DownloadManager::FinishTransfers() {
  int left = 0;
  while (CURLMsg *message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    JobInfo *info = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &info);
    curl_multi_remove_handle(multi_, info->handle);
    FinishAttempt(info, code);
  }
}

void DownloadManager::FinishAttempt(JobInfo *info, CURLcode code) {
  curl_off_t bytes = 0;
  curl_off_t microseconds = 0;
  curl_easy_getinfo(info->handle, CURLINFO_SIZE_DOWNLOAD_T, &bytes);
  curl_easy_getinfo(info->handle, CURLINFO_TOTAL_TIME_T, &microseconds);
  counters_.wire_bytes += bytes;
  counters_.transfer_us += microseconds;
  const Failures failure = Judge(info, code);
  if (failure == kFailHostConnection) ++proxies_failed_;
  const bool settled = failure == kFailOk || failure == kFailLocalIo || failure == kFailCanceled;
  if (settled || info->attempts > settings_.retries) {
    Answer(info, failure);
  } else {
    StartAttempt(info);
  }
}

Failures DownloadManager::Judge(JobInfo *info, CURLcode code) {
  if (info->failure != kFailOk) return info->failure;
  if (code == CURLE_ABORTED_BY_CALLBACK) return kFailCanceled;
  if (code == CURLE_HTTP_RETURNED_ERROR) return kFailHostHttp;
  if (code != CURLE_OK) return kFailHostConnection;
  if (info->compressed && !info->unpacked_all) return kFailBadData;
  if (info->expected_hash == nullptr) return kFailOk;
  unsigned char digest[EVP_MAX_MD_SIZE];
  EVP_DigestFinal_ex(info->digest, digest, nullptr);
  const bool same =
      memcmp(digest, info->expected_hash->digest, sizeof(info->expected_hash->digest)) == 0;
  return same ? kFailOk : kFailBadData;
}

void DownloadManager::Answer(JobInfo *info, Failures failure) {
  idle_handles_.push_back(info->handle);
  info->handle = nullptr;
  running_.erase(info);
  // From here on the job belongs to the asking thread again.
  Send(info->result_pipe[1], failure);
}

}  // namespace download
