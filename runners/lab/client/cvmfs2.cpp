// SPDX-License-Identifier: BSD-3-Clause
// The program: it only loads the library beside it, as cvmfs2 does.
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include <string>

int main(int argc, char **argv) {
  char self[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self));
  if (length <= 0) return 1;
  const std::string program(self, static_cast<size_t>(length));
  const std::string library = program.substr(0, program.rfind('/')) + "/libcvmfs_fuse3.so";
  void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    fprintf(stderr, "cvmfs2: %s\n", dlerror());
    return 1;
  }
  using Main = int (*)(int, char **);
  const Main lab_main = reinterpret_cast<Main>(dlsym(handle, "cvmprof_lab_main"));
  return lab_main == nullptr ? 1 : lab_main(argc, argv);
}
