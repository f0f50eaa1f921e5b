// SPDX-License-Identifier: BSD-3-Clause
#include "repository.h"

#include <string.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace cvmfs {

namespace {

bool ReadAll(int fd, std::string *content) {
  char buffer[4096];
  ssize_t count;
  while ((count = read(fd, buffer, sizeof(buffer))) > 0)
    content->append(buffer, static_cast<size_t>(count));
  return count == 0;
}

}  // namespace

Repository::Repository(const Settings &settings)
    : settings_(settings),
      cache_(settings.cache),
      downloads_(settings.download),
      fetcher_(&cache_, &downloads_) {}

bool Repository::Load(std::string *why) {
  const int failure = cache_.Prepare();
  if (failure != 0) {
    *why = "cannot use the cache directory " + settings_.cache + ": " + strerror(-failure);
    return false;
  }
  std::string manifest, whitelist, certificate;
  if (!LoadText(".cvmfspublished", &manifest, why)) return false;
  if (!trust::ParseManifest(manifest, &manifest_) || manifest_.repository != settings_.repository) {
    *why = "the server's manifest is not one of " + settings_.repository;
    return false;
  }
  if (!LoadText(".cvmfswhitelist", &whitelist, why) || !LoadCertificate(&certificate, why))
    return false;
  std::ifstream key_file(settings_.public_key);
  std::stringstream key;
  key << key_file.rdbuf();
  if (!trust::VerifyWithPublicKey(whitelist, key.str())) {
    *why = "the whitelist is not signed by the key in " + settings_.public_key;
    return false;
  }
  if (!trust::Allows(whitelist, settings_.repository, certificate, why)) return false;
  if (!trust::VerifyWithCertificate(manifest, certificate)) {
    *why = "the manifest is not signed by the certificate that it names";
    return false;
  }
  return LoadCatalog(why);
}

bool Repository::LoadText(const std::string &name, std::string *text, std::string *why) {
  download::JobInfo job;
  download::MemorySink sink;
  job.path = "/" + name;
  job.compressed = false;
  job.sink = &sink;
  const download::Failures failure = downloads_.Fetch(&job);
  if (failure != download::kFailOk) {
    *why = "cannot get " + settings_.download.base_url + job.path + ": " +
           download::FailureText(failure);
    return false;
  }
  *text = sink.content;
  return true;
}

bool Repository::LoadCertificate(std::string *pem, std::string *why) {
  CacheManager::Label label;
  label.path = "the certificate of " + settings_.repository;
  const int fd = fetcher_.Fetch(CacheManager::LabeledObject(manifest_.certificate_hash, label));
  const bool complete = fd >= 0 && ReadAll(fd, pem);
  if (fd >= 0) close(fd);
  if (!complete) *why = "cannot get " + label.path;
  return complete;
}

bool Repository::LoadCatalog(std::string *why) {
  CacheManager::Label label;
  label.path = "the catalog of " + settings_.repository;
  const int fd = fetcher_.Fetch(CacheManager::LabeledObject(manifest_.root_hash, label));
  if (fd < 0) {
    *why = "cannot get " + label.path;
    return false;
  }
  // SQLite keeps its own descriptor, so the cache may be emptied while the catalog is in use.
  const bool opened = tree_.Open("/proc/self/fd/" + std::to_string(fd), why);
  close(fd);
  if (!opened) *why = label.path + " cannot be read: " + *why;
  return opened;
}

}  // namespace cvmfs
