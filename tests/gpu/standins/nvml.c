// SPDX-License-Identifier: BSD-3-Clause
/* A stand-in of libnvidia-ml.so.1: two devices that answer the same numbers each time.
 *
 * Device N has utilisation 10 + N, 1000 + N bytes in use of 5000 + N, 70000 + N mW, 1500 + N MHz, and
 * receives 3 + N and sends 4 + N KB/s. Switches by environment:
 *   STANDIN_NVML_FAILS     nvmlInit fails: the driver is not loaded
 *   STANDIN_NVML_WITHOUT   a letter for each question not supported: U, M, P, C, T (throughput)
 *   STANDIN_NVML_LOST      device 1 is lost after so many questions for its utilisation
 *   STANDIN_NVML_DEVICES   how many devices (default 2)
 * Declarations are our own, of the library's public ABI. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
typedef struct { unsigned number; } *device;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct { unsigned long long total, free, used; } memory;

static struct { unsigned number; } devices[64];
static int asked;

static int lacks(char question) {
    const char *without = getenv("STANDIN_NVML_WITHOUT");
    return without && strchr(without, question);
}

static int is_lost(device of) {
    const char *after = getenv("STANDIN_NVML_LOST");
    return after && of->number == 1 && asked > atoi(after);
}

static int answer(device of, char question, unsigned *to, unsigned number) {
    if (is_lost(of))
        return GPU_IS_LOST;
    if (lacks(question))
        return NOT_SUPPORTED;
    *to = number + of->number;
    return SUCCESS;
}

API int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return getenv("STANDIN_NVML_FAILS") ? DRIVER_NOT_LOADED : SUCCESS;
}

API int nvmlShutdown(void) { return SUCCESS; }

API const char *nvmlErrorString(int error) {
    return error == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "another error";
}

API int nvmlDeviceGetCount_v2(unsigned *count) {
    const char *number = getenv("STANDIN_NVML_DEVICES");
    *count = number ? (unsigned)atoi(number) : 2;
    return SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned number, device *to) {
    devices[number].number = number;
    *to = (device)&devices[number];
    return SUCCESS;
}

API int nvmlDeviceGetUUID(device of, char *to, unsigned size) {
    unsigned n = of->number; /* as libcuda's stand-in numbers them */
    snprintf(to, size, "GPU-%x0%x1%x2%x3-%x4%x5-%x6%x7-%x8%x9-%xa%xb%xc%xd%xe%xf", n, n, n, n, n, n, n,
             n, n, n, n, n, n, n, n, n);
    return SUCCESS;
}

API int nvmlDeviceGetName(device of, char *to, unsigned size) {
    snprintf(to, size, "Stand-in %u", of->number);
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(device of, memory *to) {
    if (is_lost(of))
        return GPU_IS_LOST;
    if (lacks('M') && asked)
        return NOT_SUPPORTED;
    *to = (memory){.total = 5000 + of->number, .used = 1000 + of->number};
    return SUCCESS;
}

API int nvmlDeviceGetUtilizationRates(device of, utilisation *to) {
    asked++;
    return answer(of, 'U', &to->gpu, 10);
}

API int nvmlDeviceGetPowerUsage(device of, unsigned *to) { return answer(of, 'P', to, 70000); }

API int nvmlDeviceGetClockInfo(device of, int which, unsigned *to) {
    return which == 1 ? answer(of, 'C', to, 1500) : NOT_SUPPORTED; /* 1: of its processors */
}

API int nvmlDeviceGetPcieThroughput(device of, int which, unsigned *to) {
    return answer(of, 'T', to, which ? 3 : 4); /* 0: sent, 1: received */
}
