// SPDX-License-Identifier: BSD-3-Clause
// The command line, and the life of the process. It goes into the background unless -f is given;
// the parent returns when the mount is ready.
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "repository.h"

namespace {

// Where the parent waits to learn that the mount is ready, or why it is not.
int g_ready_pipe[2] = {-1, -1};

void ReportReady() {
  if (g_ready_pipe[1] < 0) return;
  // The parent has given up: nobody wants this mount any more.
  if (write(g_ready_pipe[1], "", 1) < 0) kill(getpid(), SIGTERM);
  close(g_ready_pipe[1]);
  g_ready_pipe[1] = -1;
}

bool ParseNumber(const char *text, unsigned *number) {
  char *end = nullptr;
  errno = 0;
  const unsigned long value = strtoul(text, &end, 10);
  *number = static_cast<unsigned>(value);
  return errno == 0 && end != text && *end == '\0' && value < 1000000;
}

bool ParseOption(int option, cvmfs::Settings *settings) {
  switch (option) {
    case 'f': settings->foreground = true; return true;
    case 'a': settings->allow_other = true; return true;
    case 'r': settings->repository = optarg; return true;
    case 'u': settings->download.base_url = optarg; return true;
    case 'c': settings->cache = optarg; return true;
    case 'k': settings->public_key = optarg; return true;
    case 'p': settings->pid_file = optarg; return true;
    case 'l': settings->log_file = optarg; return true;
    case 'x': settings->download.proxy = optarg; return true;
    case 'C': settings->download.certificate = optarg; return true;
    case 't': return ParseNumber(optarg, &settings->download.timeout_s);
    case 'n': return ParseNumber(optarg, &settings->download.retries);
    default: return false;
  }
}

bool Parse(int argc, char **argv, cvmfs::Settings *settings) {
  static const option options[] = {{"allow-other", no_argument, nullptr, 'a'},
                                   {"repository", required_argument, nullptr, 'r'},
                                   {"url", required_argument, nullptr, 'u'},
                                   {"cache", required_argument, nullptr, 'c'},
                                   {"public-key", required_argument, nullptr, 'k'},
                                   {"pid-file", required_argument, nullptr, 'p'},
                                   {"log", required_argument, nullptr, 'l'},
                                   {"proxy", required_argument, nullptr, 'x'},
                                   {"certificate", required_argument, nullptr, 'C'},
                                   {"timeout", required_argument, nullptr, 't'},
                                   {"retries", required_argument, nullptr, 'n'},
                                   {nullptr, 0, nullptr, 0}};
  int option;
  while ((option = getopt_long(argc, argv, "f", options, nullptr)) != -1) {
    if (!ParseOption(option, settings)) return false;
  }
  if (optind != argc - 1) return false;
  settings->mountpoint = argv[optind];
  return !settings->repository.empty() && !settings->download.base_url.empty() &&
         !settings->cache.empty() && !settings->public_key.empty();
}

volatile pid_t g_child = 0;

void EndChild(int) {
  kill(g_child, SIGKILL);
  _exit(1);
}

// In the parent: waits until the child is ready or has failed, and returns the exit status. The
// child writes to the same stderr. A signal that ends the parent also ends the child.
int AwaitChild(pid_t child) {
  g_child = child;
  signal(SIGTERM, EndChild);
  signal(SIGINT, EndChild);
  close(g_ready_pipe[1]);
  char ready;
  ssize_t count;
  do {
    count = read(g_ready_pipe[0], &ready, 1);
  } while (count < 0 && errno == EINTR);
  return count == 1 ? 0 : 1;
}

// A daemon's standard streams: nothing to read, output to the log.
void TurnToLog(const cvmfs::Settings &settings) {
  const char *log = settings.log_file.empty() ? "/dev/null" : settings.log_file.c_str();
  const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  const int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (null >= 0) dup2(null, 0);
  if (out >= 0) {
    dup2(out, 1);
    dup2(out, 2);
  }
}

const cvmfs::Settings *g_settings = nullptr;

void ReadyAsDaemon() {
  TurnToLog(*g_settings);
  ReportReady();
}

void WritePid(const std::string &path) {
  FILE *file = path.empty() ? nullptr : fopen(path.c_str(), "w");
  if (file == nullptr) return;
  fprintf(file, "%d\n", getpid());
  fclose(file);
}

void BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
}

// Every file open on the mount is also open in this process.
void RaiseFileLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int RunRepository(const cvmfs::Settings &settings) {
  std::string why;
  cvmfs::Repository repository(settings);
  repository.downloads().Spawn();
  int status = 1;
  if (repository.Load(&why)) {
    status = cvmfs::Serve(&repository, settings.foreground ? ReportReady : ReadyAsDaemon, &why);
  }
  if (!why.empty()) fprintf(stderr, "cvmfs2: %s\n", why.c_str());
  if (!settings.pid_file.empty()) unlink(settings.pid_file.c_str());
  return status;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int cvmprof_lab_main(int argc, char **argv) {
  cvmfs::Settings settings;
  if (!Parse(argc, argv, &settings)) {
    fprintf(stderr,
            "usage: cvmfs2 [-f] [--allow-other] --repository NAME --url URL --cache DIR "
            "--public-key FILE\n"
            "              [--pid-file FILE] [--log FILE] [--proxy URL;…] [--certificate FILE]\n"
            "              [--timeout S] [--retries N] MOUNTPOINT\n");
    return 2;
  }
  if (!settings.foreground) {
    if (pipe2(g_ready_pipe, O_CLOEXEC) != 0) return 1;
    const pid_t child = fork();
    if (child < 0) return 1;
    if (child > 0) return AwaitChild(child);
    setsid();
  }
  curl_global_init(CURL_GLOBAL_ALL);
  BlockSignals();
  RaiseFileLimit();
  g_settings = &settings;
  WritePid(settings.pid_file);
  return RunRepository(settings);
}
