// SPDX-License-Identifier: BSD-3-Clause
// cvmfs2 by name: calls its library's functions READS times, and once DEPTH deep, between two stops. With a third
// argument that many threads at once call them READS times each.
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#include <thread>
#include <vector>

extern "C" void serve_reads(uint64_t count);
extern "C" void serve_nested(uint64_t depth);

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    uint64_t reads = strtoul(argv[1], nullptr, 10);
    raise(SIGSTOP);
    if (argc == 3)
        serve_reads(reads);
    std::vector<std::thread> threads;
    for (int left = argc > 3 ? atoi(argv[3]) : 0; left; left--)
        threads.emplace_back(serve_reads, reads);
    for (std::thread &each : threads)
        each.join();
    serve_nested(strtoul(argv[2], nullptr, 10));
    raise(SIGSTOP);
    return 0;
}
