// SPDX-License-Identifier: BSD-3-Clause
// The FUSE side. The functions have the names by which profilers recognise cvmfs2.
#define FUSE_USE_VERSION 35

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>
#include <unordered_map>

#include "repository.h"

namespace cvmfs {

namespace {

constexpr double kTimeoutS = 60.0;
constexpr uint64_t kChunkedBit = 1ULL << 62;
constexpr unsigned kHandleLocks = 128;
constexpr unsigned kIdleThreads = 10;

// An open chunked file, and which of its chunks is open.
struct ChunkedHandle {
  std::shared_ptr<const catalog::ChunkList> chunks;
  std::string name;
  int fd = -1;
  size_t index = 0;
};

Repository *g_repository = nullptr;
void (*g_ready)() = nullptr;

std::mutex g_handles_lock;
std::unordered_map<uint64_t, ChunkedHandle> g_handles;
uint64_t g_next_handle = 1;
// One download at a time per handle; unrelated handles may share a lock.
std::array<std::mutex, kHandleLocks> g_read_locks;

std::mutex g_listings_lock;
std::unordered_map<uint64_t, std::string> g_listings;
uint64_t g_next_listing = 1;

// Gives up the downloads of a request when its caller is interrupted.
class RequestScope {
 public:
  explicit RequestScope(fuse_req_t request) {
    Fetcher::SetInterrupted([request] { return fuse_req_interrupted(request) != 0; });
  }
  ~RequestScope() { Fetcher::SetInterrupted(nullptr); }
};

fuse_entry_param EntryParameter(const catalog::Entry &entry) {
  fuse_entry_param parameter = {};
  parameter.ino = entry.inode;
  parameter.generation = 1;
  parameter.attr = entry.status;
  parameter.attr_timeout = kTimeoutS;
  parameter.entry_timeout = kTimeoutS;
  return parameter;
}

CacheManager::Label LabelOf(const std::string &name, uint64_t size) {
  CacheManager::Label label;
  label.path = name;
  label.size = size;
  return label;
}

// Each thread keeps it from one read to the next.
char *ThreadBuffer(size_t size) {
  static thread_local std::vector<char> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

ssize_t ReadFully(int fd, char *buffer, size_t size, off_t offset) {
  size_t done = 0;
  while (done < size) {
    const ssize_t count = pread(fd, buffer + done, size - done, offset + static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return -errno;
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(done);
}

size_t FindChunk(const catalog::ChunkList &chunks, uint64_t offset) {
  size_t low = 0;
  size_t high = chunks.size();
  while (high - low > 1) {
    const size_t middle = (low + high) / 2;
    if (chunks[middle].offset <= offset) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

ChunkedHandle LoadHandle(uint64_t handle) {
  const std::lock_guard<std::mutex> guard(g_handles_lock);
  return g_handles[handle];
}

void StoreHandle(uint64_t handle, const ChunkedHandle &state) {
  const std::lock_guard<std::mutex> guard(g_handles_lock);
  g_handles[handle] = state;
}

// Opens chunk `index`, fetching it if necessary. 0 or -errno.
int TakeChunk(size_t index, ChunkedHandle *state) {
  if (state->fd >= 0 && state->index == index) return 0;
  if (state->fd >= 0) close(state->fd);
  const catalog::Chunk &chunk = (*state->chunks)[index];
  state->fd = g_repository->fetcher().Fetch(
      CacheManager::LabeledObject(chunk.hash, LabelOf(state->name, chunk.size)));
  state->index = index;
  if (state->fd >= 0) return 0;
  const int failure = state->fd;
  state->fd = -1;
  return failure;
}

// Bytes read, fewer at the file's end, or -errno.
ssize_t ReadChunks(ChunkedHandle *state, char *buffer, size_t size, off_t offset) {
  const catalog::ChunkList &chunks = *state->chunks;
  size_t done = 0;
  for (size_t index = FindChunk(chunks, static_cast<uint64_t>(offset));
       index < chunks.size() && done < size; ++index) {
    const uint64_t inside = static_cast<uint64_t>(offset) + done - chunks[index].offset;
    if (inside >= chunks[index].size) break;
    const int failure = TakeChunk(index, state);
    if (failure != 0) return failure;
    const size_t piece = std::min<uint64_t>(size - done, chunks[index].size - inside);
    const ssize_t count = ReadFully(state->fd, buffer + done, piece, static_cast<off_t>(inside));
    if (count < 0) return count;
    if (static_cast<size_t>(count) < piece) return -EIO;
    done += static_cast<size_t>(count);
  }
  return static_cast<ssize_t>(done);
}

ssize_t ReadChunkedFile(uint64_t handle, char *buffer, size_t size, off_t offset) {
  const std::lock_guard<std::mutex> guard(g_read_locks[handle % kHandleLocks]);
  ChunkedHandle state = LoadHandle(handle);
  const ssize_t count = ReadChunks(&state, buffer, size, offset);
  StoreHandle(handle, state);
  return count;
}

void OpenChunked(fuse_req_t req, const catalog::Entry &entry, fuse_file_info *fi) {
  ChunkedHandle state;
  state.chunks = g_repository->tree().Chunks(entry);
  state.name = entry.name;
  if (!state.chunks) {
    g_repository->CountIoError();
    fuse_reply_err(req, EIO);
    return;
  }
  uint64_t handle;
  {
    const std::lock_guard<std::mutex> guard(g_handles_lock);
    handle = g_next_handle++;
    g_handles[handle] = state;
  }
  fi->fh = handle | kChunkedBit;
  fuse_reply_open(req, fi);
}

void ReplyText(fuse_req_t req, const std::string &text, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, text.size());
  } else if (text.size() > size) {
    fuse_reply_err(req, ERANGE);
  } else {
    fuse_reply_buf(req, text.data(), text.size());
  }
}

void AddToListing(fuse_req_t req, const std::string &name, const struct stat &status,
                  std::string *listing) {
  const size_t start = listing->size();
  const size_t length = fuse_add_direntry(req, nullptr, 0, name.c_str(), nullptr, 0);
  listing->resize(start + length);
  fuse_add_direntry(req, listing->data() + start, length, name.c_str(), &status,
                    static_cast<off_t>(start + length));
}

std::string MakeListing(fuse_req_t req, const catalog::Entry &directory) {
  std::string listing;
  catalog::Entry parent = directory;
  g_repository->tree().FindParent(directory, &parent);
  AddToListing(req, ".", directory.status, &listing);
  AddToListing(req, "..", parent.status, &listing);
  for (const catalog::Entry &child : g_repository->tree().Children(directory)) {
    AddToListing(req, child.name, child.status, &listing);
  }
  return listing;
}

}  // namespace

PROBED static void cvmfs_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
  catalog::Entry entry;
  if (g_repository->tree().FindChild(parent, name, &entry)) {
    const fuse_entry_param parameter = EntryParameter(entry);
    fuse_reply_entry(req, &parameter);
    return;
  }
  // An entry without inode lets the kernel cache that the name does not exist.
  fuse_entry_param nothing = {};
  nothing.entry_timeout = kTimeoutS;
  fuse_reply_entry(req, &nothing);
}

PROBED static void cvmfs_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info *) {
  catalog::Entry entry;
  if (g_repository->tree().FindInode(ino, &entry)) {
    fuse_reply_attr(req, &entry.status, kTimeoutS);
  } else {
    fuse_reply_err(req, ENOENT);
  }
}

PROBED static void cvmfs_readlink(fuse_req_t req, fuse_ino_t ino) {
  catalog::Entry entry;
  if (g_repository->tree().FindInode(ino, &entry)) {
    fuse_reply_readlink(req, entry.symlink.c_str());
  } else {
    fuse_reply_err(req, ENOENT);
  }
}

PROBED static void cvmfs_opendir(fuse_req_t req, fuse_ino_t ino, fuse_file_info *fi) {
  catalog::Entry directory;
  if (!g_repository->tree().FindInode(ino, &directory)) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  std::string listing = MakeListing(req, directory);
  {
    const std::lock_guard<std::mutex> guard(g_listings_lock);
    fi->fh = g_next_listing++;
    g_listings[fi->fh] = std::move(listing);
  }
  fi->cache_readdir = 1;
  fi->keep_cache = 1;
  fuse_reply_open(req, fi);
}

PROBED static void cvmfs_readdir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset,
                                 fuse_file_info *fi) {
  std::string slice;
  {
    const std::lock_guard<std::mutex> guard(g_listings_lock);
    const std::string &listing = g_listings[fi->fh];
    if (static_cast<size_t>(offset) < listing.size())
      slice = listing.substr(static_cast<size_t>(offset), size);
  }
  fuse_reply_buf(req, slice.data(), slice.size());
}

PROBED static void cvmfs_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info *fi) {
  {
    const std::lock_guard<std::mutex> guard(g_listings_lock);
    g_listings.erase(fi->fh);
  }
  fuse_reply_err(req, 0);
}

PROBED static void cvmfs_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info *fi) {
  const RequestScope scope(req);
  catalog::Entry entry;
  if (!g_repository->tree().FindInode(ino, &entry)) {
    fuse_reply_err(req, ENOENT);
    return;
  }
  // Content never changes: what the kernel has cached stays valid.
  fi->keep_cache = 1;
  if (entry.chunked) {
    OpenChunked(req, entry, fi);
    return;
  }
  const int fd = g_repository->fetcher().Fetch(CacheManager::LabeledObject(
      entry.hash, LabelOf(entry.name, static_cast<uint64_t>(entry.status.st_size))));
  if (fd < 0) {
    g_repository->CountIoError();
    fuse_reply_err(req, -fd);
    return;
  }
  fi->fh = static_cast<uint64_t>(fd);
  fuse_reply_open(req, fi);
}

PROBED static void cvmfs_read(fuse_req_t req, fuse_ino_t, size_t size, off_t offset,
                              fuse_file_info *fi) {
  const RequestScope scope(req);
  char *buffer = ThreadBuffer(size);
  ssize_t count;
  if ((fi->fh & kChunkedBit) != 0) {
    count = ReadChunkedFile(fi->fh & ~kChunkedBit, buffer, size, offset);
  } else {
    count = ReadFully(static_cast<int>(fi->fh), buffer, size, offset);
  }
  if (count < 0) {
    g_repository->CountIoError();
    fuse_reply_err(req, static_cast<int>(-count));
    return;
  }
  fuse_reply_buf(req, buffer, static_cast<size_t>(count));
}

PROBED static void cvmfs_release(fuse_req_t req, fuse_ino_t, fuse_file_info *fi) {
  int fd = static_cast<int>(fi->fh);
  if ((fi->fh & kChunkedBit) != 0) {
    const std::lock_guard<std::mutex> guard(g_handles_lock);
    fd = g_handles[fi->fh & ~kChunkedBit].fd;
    g_handles.erase(fi->fh & ~kChunkedBit);
  }
  if (fd >= 0) close(fd);
  fuse_reply_err(req, 0);
}

PROBED static void cvmfs_statfs(fuse_req_t req, fuse_ino_t) {
  struct statvfs about = {};
  about.f_bsize = 4096;
  about.f_frsize = 4096;
  about.f_namemax = 255;
  about.f_flag = ST_RDONLY;
  fuse_reply_statfs(req, &about);
}

PROBED static void cvmfs_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
  catalog::Entry entry;
  std::string value;
  if (!g_repository->tree().FindInode(ino, &entry)) {
    fuse_reply_err(req, ENOENT);
  } else if (!ReadAttribute(g_repository, entry, name, &value)) {
    fuse_reply_err(req, ENODATA);
  } else {
    ReplyText(req, value, size);
  }
}

PROBED static void cvmfs_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
  catalog::Entry entry;
  if (g_repository->tree().FindInode(ino, &entry)) {
    ReplyText(req, ListAttributes(entry), size);
  } else {
    fuse_reply_err(req, ENOENT);
  }
}

PROBED static void cvmfs_init(void *, fuse_conn_info *) { g_ready(); }

static fuse_lowlevel_ops Operations() {
  fuse_lowlevel_ops operations = {};
  operations.init = cvmfs_init;
  operations.lookup = cvmfs_lookup;
  operations.getattr = cvmfs_getattr;
  operations.readlink = cvmfs_readlink;
  operations.opendir = cvmfs_opendir;
  operations.readdir = cvmfs_readdir;
  operations.releasedir = cvmfs_releasedir;
  operations.open = cvmfs_open;
  operations.read = cvmfs_read;
  operations.release = cvmfs_release;
  operations.statfs = cvmfs_statfs;
  operations.getxattr = cvmfs_getxattr;
  operations.listxattr = cvmfs_listxattr;
  return operations;
}

namespace {

constexpr int kWatchMs = 200;
constexpr int kGraceRounds = 10;

std::atomic<bool> g_loop_ended{false};

void IgnoreSignal(int) {}

// Waits for SIGTERM, SIGINT or an unmount. Hanging downloads are then given up, so that no thread
// keeps the process alive; if it does not end by itself, it is killed.
void WatchForEnd(fuse_session *session, pthread_t loop) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  const timespec pause = {0, kWatchMs * 1000000L};
  while (sigtimedwait(&signals, nullptr, &pause) < 0 && !fuse_session_exited(session)) {
  }
  if (g_loop_ended) return;
  g_repository->downloads().Abort();
  fuse_session_exit(session);
  for (int round = 0; round < kGraceRounds && !g_loop_ended; ++round) {
    // The loop waits on a semaphore; a signal makes it check whether the session has ended.
    pthread_kill(loop, SIGUSR1);
    nanosleep(&pause, nullptr);
  }
  if (g_loop_ended) return;
  umount2(g_repository->settings().mountpoint.c_str(), MNT_DETACH);
  _exit(1);
}

int RunLoop(fuse_session *session) {
  struct sigaction action = {};
  action.sa_handler = IgnoreSignal;
  sigaction(SIGUSR1, &action, nullptr);
  std::thread watcher(WatchForEnd, session, pthread_self());
  fuse_loop_config config = {};
  config.clone_fd = 1;
  config.max_idle_threads = kIdleThreads;
  const int failure = fuse_session_loop_mt(session, &config);
  g_loop_ended = true;
  pthread_kill(watcher.native_handle(), SIGTERM);
  watcher.join();
  return failure < 0 ? 1 : 0;
}

}  // namespace

int Serve(Repository *repository, void (*ready)(), std::string *why) {
  g_repository = repository;
  g_ready = ready;
  std::string options = "ro,nodev,nosuid,default_permissions,fsname=cvmfs2";
  if (repository->settings().allow_other) options += ",allow_other";
  const char *arguments[] = {"cvmfs2", "-o", options.c_str()};
  fuse_args args = FUSE_ARGS_INIT(3, const_cast<char **>(arguments));
  const fuse_lowlevel_ops operations = Operations();
  fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), nullptr);
  fuse_opt_free_args(&args);
  if (session == nullptr) {
    *why = "FUSE refused the options " + options;
    return 1;
  }
  if (fuse_session_mount(session, repository->settings().mountpoint.c_str()) != 0) {
    *why = "cannot mount on " + repository->settings().mountpoint;
    fuse_session_destroy(session);
    return 1;
  }
  const int status = RunLoop(session);
  fuse_session_unmount(session);
  fuse_session_destroy(session);
  return status;
}

}  // namespace cvmfs
