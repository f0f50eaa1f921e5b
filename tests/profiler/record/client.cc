// SPDX-License-Identifier: BSD-3-Clause
// Functions named as the client's, which only call one another. Built as the client's library.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include <string>

#define PROBED __attribute__((noipa))

struct fuse_req { uint64_t flags, unique; };
struct fuse_file_info;
struct LabeledObject { unsigned char digest[20]; uint32_t algorithm; char suffix; char more[64]; };

namespace download {
struct JobInfo;
struct DownloadManager { PROBED int Fetch(JobInfo *info); };
PROBED int DownloadManager::Fetch(JobInfo *info) { return info ? 1 : 7; }
}  // namespace download

struct PosixCacheManager { PROBED int Open(const LabeledObject &object); };
PROBED int PosixCacheManager::Open(const LabeledObject &object) {
    return object.digest[0] % 2 ? -2 : 5;
}

namespace cvmfs {
struct Fetcher { PROBED int Fetch(const LabeledObject &object, const std::string &name); };
PROBED int Fetcher::Fetch(const LabeledObject &object, const std::string &name) {
    int descriptor = PosixCacheManager().Open(object);
    if (descriptor < 0)
        descriptor = download::DownloadManager().Fetch(nullptr) + static_cast<int>(name.size());
    return descriptor;
}

PROBED static void cvmfs_read(fuse_req *req, uint64_t ino, size_t size, off_t off, fuse_file_info *) {
    LabeledObject object = {};
    memset(object.digest, static_cast<int>(req->unique % 251), sizeof(object.digest));
    object.algorithm = 1;
    object.suffix = 'P';
    snprintf(object.more, sizeof(object.more), "%zu %zu %zu", size_t(ino), size, size_t(off));
    Fetcher().Fetch(object, "name");
}

PROBED static void cvmfs_statfs(fuse_req *req, uint64_t depth) {
    if (depth > 1)
        cvmfs_statfs(req, depth - 1);
    req->flags++;
}
}  // namespace cvmfs

extern "C" void serve_reads(uint64_t count) {
    for (uint64_t number = 1; number <= count; number++) {
        fuse_req request = {0, number};
        cvmfs::cvmfs_read(&request, number + 1000, number + 2000, number + 3000, nullptr);
    }
}

extern "C" void serve_nested(uint64_t depth) {
    fuse_req request = {0, 1};
    cvmfs::cvmfs_statfs(&request, depth);
}
