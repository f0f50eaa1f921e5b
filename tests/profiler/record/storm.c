// SPDX-License-Identifier: BSD-3-Clause
/* A known number of system calls: storm getppid COUNT BATCH | storm pread COUNT FILE.
 * Stops itself before it begins, after every BATCH calls, and when it is done. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buffer[4096];

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int reads = !strcmp(argv[1], "pread");
    long count = atol(argv[2]), batch = reads ? count : atol(argv[3]);
    int file = reads ? open(argv[3], O_RDONLY) : -1;
    if (reads && pread(file, buffer, sizeof(buffer), 0) != sizeof(buffer))
        return 1; /* also takes the page faults that come with a first call */
    for (long number = 0; number < count; number++) {
        if (number % batch == 0)
            raise(SIGSTOP);
        if (reads)
            pread(file, buffer, sizeof(buffer), 0);
        else
            syscall(SYS_getppid);
    }
    raise(SIGSTOP);
    return 0;
}
