// SPDX-License-Identifier: BSD-3-Clause
/* Calls in a loop, timed from within: storm pread FILE COUNT | storm getppid COUNT. Prints ns per call. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv) {
    static char buffer[4096];
    int reads = argc == 4 && !strcmp(argv[1], "pread");
    long count = atol(argv[argc - 1]);
    int fd = reads ? open(argv[2], O_RDONLY) : -1;
    off_t pages = reads ? lseek(fd, 0, SEEK_END) / 4096 : 1;
    for (int warm = 0; reads && warm < pages; warm++)
        if (pread(fd, buffer, 4096, warm * 4096L) != 4096)
            return 1;
    double start = now_ns();
    for (long number = 0; number < count; number++) {
        if (!reads)
            syscall(SYS_getppid);
        else if (pread(fd, buffer, 4096, number % pages * 4096) != 4096)
            return 1;
    }
    printf("%.3f\n", (now_ns() - start) / count);
    return 0;
}
