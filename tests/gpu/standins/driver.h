// SPDX-License-Identifier: BSD-3-Clause
/* What the stand-ins of libcuda and of libcupti say to each other; no real library has it.
 *
 * Times are CLOCK_MONOTONIC nanoseconds. Declarations of CUDA are our own, of its public ABI. */
#pragma once

#include <stdint.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum operation_kind { KERNEL, GRAPH, COPY_IN, COPY_OUT, COPY_DEVICE, COPY_PEER, MEMSET };
/* A copy between devices is one on the device for cvmprof, but another record for CUPTI. */
static const char *const operation_names[] = {"kernel",      "graph",       "copy_in", "copy_out",
                                              "copy_device", "copy_device", "memset"};

/* A call of a function of the driver, at its return. */
struct call {
    const char *function;
    uint64_t start_ns, end_ns, bytes;
    uint32_t correlation, pid, tid;
    int result;
    uintptr_t pthread;
    int is_runtime; /* a function of the runtime, not of the driver */
    int is_nested;  /* made by the runtime, and with its correlation: CUPTI does not report it */
};

/* What a device did or will have done: it is known when it is submitted. */
struct operation {
    enum operation_kind kind;
    const char *name; /* of a kernel, as its module has it; lives as long as the process */
    uint64_t start_ns, end_ns, bytes;
    uint32_t correlation, device, context, stream, pid;
    int pageable, in_graph;
};

struct listener {
    void (*called)(const struct call *);
    void (*submitted)(const struct operation *);
};

/* Exported by the stand-in of libcuda: reports every call and operation from now on. */
void standin_listen(const struct listener *listener);
/* Exported by the stand-in of libcuda: the name of a function by number from 1 on; NULL at the end. */
const char *standin_function(uint32_t number);

/* Exported by the stand-in of libcuda for that of libcudart: this thread is inside a function of it. */
void standin_enter_runtime(const char *function);
int standin_leave_runtime(int result);

static inline uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static inline uint32_t thread_number(void) {
    return (uint32_t)syscall(SYS_gettid);
}
