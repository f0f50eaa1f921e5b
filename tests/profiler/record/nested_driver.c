// SPDX-License-Identifier: BSD-3-Clause
/* A driver whose functions call one another, as functions of a library may, and one that is left by longjmp(3). */
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

static volatile int calls;
static jmp_buf way_out;

int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) { return calls++, (void)to, (void)from, (int)bytes; }
/* Calls another, which does not count, three times. */
int cuMemcpy(uint64_t to, uint64_t from, size_t bytes) {
    int sum = 0;
    for (int number = 0; number < 3; number++)
        sum += cuMemcpyHtoD_v2(to, (const void *)from, 1);
    return sum + (int)bytes;
}
int cuLaunchKernel(void) { return calls++; }
/* Launches while it copies: the copy is what counts. */
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes) {
    (void)to, (void)from;
    return cuLaunchKernel() < 0 ? 1 : (int)bytes;
}
/* Calls itself until it is called with nothing. */
int cuMemAlloc_v2(uint64_t *at, size_t bytes) { return bytes ? cuMemAlloc_v2(at, bytes - 1) + 1 : 0; }
/* Becomes the other: a jump, not a call. */
int cuMemAlloc(uint64_t *at, size_t bytes) { return cuMemAlloc_v2(at, bytes); }
/* Does not return. */
int cuCtxSynchronize(void) { longjmp(way_out, 1); }
/* One function with two names. */
int cuStreamSynchronize(void *stream) { return calls++, (void)stream, 7; }
int cuStreamSynchronize_ptsz(void *) __attribute__((alias("cuStreamSynchronize")));
/* No function of the driver. */
int cuNothing(void) { return calls++; }

void leave_synchronising(void) {
    if (!setjmp(way_out))
        cuCtxSynchronize();
}
