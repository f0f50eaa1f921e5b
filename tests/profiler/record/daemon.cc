// SPDX-License-Identifier: BSD-3-Clause
// cvmfs2 by name: calls its library's functions READS times, and once DEPTH deep, between two stops.
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

extern "C" void serve_reads(uint64_t count);
extern "C" void serve_nested(uint64_t depth);

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    raise(SIGSTOP);
    serve_reads(strtoul(argv[1], nullptr, 10));
    serve_nested(strtoul(argv[2], nullptr, 10));
    raise(SIGSTOP);
    return 0;
}
