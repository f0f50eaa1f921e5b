// SPDX-License-Identifier: BSD-3-Clause
/* Launches in a loop with work between them, timed from within: launches COUNT WORK. Prints seconds on the CPU,
 * which what others do on a shared machine changes least.
 * With one argument, US: prints how much WORK takes that many microseconds. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

extern int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *);
extern int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **);

static char function[256];

static double now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void work(long amount) {
    for (volatile long left = amount; left; left--)
        ;
}

static long amount_for(double us) {
    double least = 1e9;
    for (int round = 0; round < 20; round++) {
        double begun = now_s();
        work(1000000);
        double took = now_s() - begun;
        if (took < least)
            least = took;
    }
    return us * 1e-6 / least * 1000000;
}

int main(int argc, char **argv) {
    void *context;
    if (argc == 2)
        return printf("%ld\n", amount_for(atof(argv[1]))) < 0;
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context))
        return 1;
    long count = atol(argv[1]), amount = atol(argv[2]);
    double begun = now_s();
    for (long number = 0; number < count; number++) {
        work(amount);
        if (cuLaunchKernel(function, 0, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL))
            return 1;
    }
    printf("%.4f\n", now_s() - begun);
    return 0;
}
