// SPDX-License-Identifier: BSD-3-Clause
/* A stand-in of libcudart.so: three functions that call the stand-in of libcuda, as the runtime does. */
#include "driver.h"

#define API __attribute__((visibility("default")))

typedef struct { unsigned x, y, z; } dim3;

extern int cuLaunchKernel(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                          void *, void **, void **);
extern int cuMemcpyHtoD_v2(uint64_t, uint64_t, size_t), cuMemcpyDtoH_v2(uint64_t, uint64_t, size_t);
extern int cuCtxSynchronize(void);

/* The function is one of the driver's, where the runtime has an address of the program. */
API int cudaLaunchKernel(void *function, dim3 grid, dim3 block, void **arguments, size_t shared, void *stream) {
    standin_enter_runtime("cudaLaunchKernel_v7000");
    return standin_leave_runtime(cuLaunchKernel(function, grid.x, grid.y, grid.z, block.x, block.y,
                                                block.z, (unsigned)shared, stream, arguments, NULL));
}

/* Kind 1 copies to the device, any other from it. */
API int cudaMemcpy(uint64_t to, uint64_t from, size_t bytes, int kind) {
    standin_enter_runtime("cudaMemcpy_v3020");
    return standin_leave_runtime(kind == 1 ? cuMemcpyHtoD_v2(to, from, bytes)
                                           : cuMemcpyDtoH_v2(to, from, bytes));
}

API int cudaDeviceSynchronize(void) {
    standin_enter_runtime("cudaDeviceSynchronize_v3020");
    return standin_leave_runtime(cuCtxSynchronize());
}
