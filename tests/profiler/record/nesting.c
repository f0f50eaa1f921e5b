// SPDX-License-Identifier: BSD-3-Clause
/* Calls each function of nested_driver.c between two stops. */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>

extern int cuMemcpyHtoD_v2(uint64_t, const void *, size_t), cuMemcpy(uint64_t, uint64_t, size_t);
extern int cuMemcpyAsync(uint64_t, uint64_t, size_t), cuMemAlloc(uint64_t *, size_t);
extern int cuStreamSynchronize(void *), cuStreamSynchronize_ptsz(void *), cuNothing(void), cuLaunchKernel(void);
extern void leave_synchronising(void);

int main(void) {
    uint64_t place;
    raise(SIGSTOP);
    cuMemcpy(0, 0, 100);
    cuMemcpyAsync(0, 0, 200);
    cuMemAlloc(&place, 5);
    leave_synchronising();
    cuMemcpyHtoD_v2(0, NULL, 300);
    cuStreamSynchronize(NULL);
    cuStreamSynchronize_ptsz(NULL);
    cuLaunchKernel();
    cuNothing();
    raise(SIGSTOP);
    return 0;
}
