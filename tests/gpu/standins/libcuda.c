// SPDX-License-Identifier: BSD-3-Clause
/* A stand-in of libcuda.so.1: devices that take time but compute nothing.
 *
 * Operations of a stream run one after the other, each for its time: a kernel for as many
 * microseconds as its grid has blocks in x, a graph for the sum of its kernels, a copy at
 * STANDIN_COPY_BYTES_S (default 10 GB/s), loading a module for STANDIN_LOAD_US. Device memory is the
 * process's own, and copies move bytes, so a copy from a mapped file faults inside the call.
 *
 * STANDIN_LOG names a file that gets a JSON line for each call and operation: the truth of a test.
 * STANDIN_DEVICES is the number of devices (default 1). CUDA_INJECTION64_PATH works as in libcuda. */
#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define SUBMIT_NS 5000 /* between a submission and its start on an idle stream */
#define MAX_STREAMS 1024
#define MAX_PINNED 256

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
       INVALID_CONTEXT = 201, NOT_FOUND = 500 };

typedef struct context { uint32_t number, device; struct stream *stream; } *CUcontext;
typedef struct stream { struct context *context; uint32_t number; uint64_t ready_ns; } *CUstream;
typedef struct module { int loaded; } *CUmodule;
typedef struct function { char name[256]; } *CUfunction;
typedef struct event { uint64_t ready_ns; } *CUevent;
typedef struct graph { uint64_t ns; } *CUgraph, *CUgraphExec;
typedef struct { unsigned grid[3], block[3], shared; CUstream stream; void *attributes; unsigned count; } launch_config;
typedef struct { CUfunction function; unsigned grid[3], block[3], shared; void **parameters, **extra; } node_parameters;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct listener listening;
static int initialised, log_file = -1;
static uint32_t correlations, contexts, streams;
static uint64_t copy_bytes_s = 10000000000, load_us = 100;
static int devices = 1;
static struct stream *all_streams[MAX_STREAMS];
static struct context *primary[16];
static struct { const char *start; size_t size; } pinned[MAX_PINNED];
static __thread struct context *current;
static __thread struct stream *per_thread;
static __thread struct call runtime; /* of the runtime, that this thread is in */

/* --- time, the log, who listens -------------------------------------------------------------- */

static uint64_t number_of(const char *variable, uint64_t otherwise) {
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void configure(void) {
    const char *path = getenv("STANDIN_LOG");
    if (path)
        log_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    copy_bytes_s = number_of("STANDIN_COPY_BYTES_S", copy_bytes_s);
    load_us = number_of("STANDIN_LOAD_US", load_us);
    devices = (int)number_of("STANDIN_DEVICES", 1);
}

static void wait_until(uint64_t ns) {
    struct timespec end = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL))
        ;
}

static void write_log(const char *line, int length) {
    if (log_file >= 0 && write(log_file, line, length) != length)
        abort();
}

static struct call begin(const char *function) {
    uint32_t of_runtime = runtime.correlation;
    return (struct call){
        .function = function,
        .is_nested = of_runtime != 0,
        .correlation = of_runtime ? of_runtime : __atomic_add_fetch(&correlations, 1, __ATOMIC_RELAXED),
        .pid = getpid(),
        .tid = thread_number(),
        .pthread = (uintptr_t)pthread_self(),
        .start_ns = monotonic_ns(),
    };
}

static CUresult finish(struct call *call, CUresult result) {
    call->result = result;
    call->end_ns = monotonic_ns();
    char line[512];
    int length = snprintf(line, sizeof line,
        "{\"kind\":\"call\",\"function\":\"%s\",\"start_ns\":%lu,\"end_ns\":%lu,\"bytes\":%lu,"
        "\"correlation\":%u,\"pid\":%u,\"tid\":%u,\"result\":%d}\n",
        call->function, call->start_ns, call->end_ns, call->bytes, call->correlation, call->pid,
        call->tid, result);
    write_log(line, length);
    if (listening.called)
        listening.called(call);
    return result;
}

static void log_operation(const struct operation *done, uint32_t tid) {
    char line[768];
    int length = snprintf(line, sizeof line,
        "{\"kind\":\"%s\",\"name\":\"%s\",\"start_ns\":%lu,\"end_ns\":%lu,\"bytes\":%lu,"
        "\"correlation\":%u,\"device\":%u,\"context\":%u,\"stream\":%u,\"pid\":%u,\"tid\":%u,"
        "\"pageable\":%d}\n",
        operation_names[done->kind], done->name ? done->name : "", done->start_ns, done->end_ns,
        done->bytes, done->correlation, done->device, done->context, done->stream, done->pid, tid,
        done->pageable);
    write_log(line, length);
}

API void standin_enter_runtime(const char *function) {
    runtime = begin(function);
    runtime.is_runtime = 1;
}

API int standin_leave_runtime(int result) {
    struct call call = runtime;
    runtime.correlation = 0;
    return finish(&call, result);
}

API void standin_listen(const struct listener *listener) {
    listening = *listener;
}

/* --- streams --------------------------------------------------------------------------------- */

/* Under the lock. */
static struct stream *add_stream(struct context *context) {
    struct stream *made = calloc(1, sizeof *made);
    made->context = context;
    made->number = ++streams;
    if (streams < MAX_STREAMS)
        all_streams[streams] = made;
    return made;
}

static struct stream *new_stream(struct context *context) {
    pthread_mutex_lock(&lock);
    struct stream *made = add_stream(context);
    pthread_mutex_unlock(&lock);
    return made;
}

/* The stream that a call means: NULL is the context's own, or the thread's. */
static struct stream *stream_of(struct stream *named, int of_thread) {
    if (named)
        return named;
    if (of_thread)
        return per_thread ? per_thread : (per_thread = new_stream(current));
    pthread_mutex_lock(&lock);
    if (!current->stream)
        current->stream = add_stream(current);
    pthread_mutex_unlock(&lock);
    return current->stream;
}

/* Queue what takes ns, and say when it will have ended. */
static uint64_t submit(struct stream *stream, struct call *call, struct operation done, uint64_t ns) {
    pthread_mutex_lock(&lock);
    uint64_t earliest = monotonic_ns() + SUBMIT_NS;
    done.start_ns = stream->ready_ns > earliest ? stream->ready_ns : earliest;
    done.end_ns = stream->ready_ns = done.start_ns + ns;
    pthread_mutex_unlock(&lock);
    done.correlation = call->correlation;
    done.device = stream->context->device;
    done.context = stream->context->number;
    done.stream = stream->number;
    done.pid = call->pid;
    log_operation(&done, call->tid);
    if (listening.submitted)
        listening.submitted(&done);
    return done.end_ns;
}

/* --- initialisation and devices --------------------------------------------------------------- */

static void inject(void) {
    const char *path = getenv("CUDA_INJECTION64_PATH");
    void *library = path && *path ? dlopen(path, RTLD_NOW) : NULL;
    int (*initialise)(void) = library ? (int (*)(void))dlsym(library, "InitializeInjection") : NULL;
    if (initialise)
        initialise();
}

API CUresult cuInit(unsigned flags) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct call call = begin("cuInit");
    (void)flags;
    pthread_once(&once, inject);
    initialised = 1;
    return finish(&call, SUCCESS);
}

API CUresult cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}

API CUresult cuDeviceGetCount(int *count) {
    *count = devices;
    return initialised ? SUCCESS : NOT_INITIALIZED;
}

API CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!initialised)
        return NOT_INITIALIZED;
    *device = ordinal;
    return ordinal >= 0 && ordinal < devices ? SUCCESS : INVALID_DEVICE;
}

API CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
    snprintf(name, size, "Stand-in %d", device);
    return SUCCESS;
}

API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    (void)device;
    *bytes = 16ull << 30;
    return SUCCESS;
}

API CUresult cuDeviceGetUuid_v2(unsigned char *uuid, CUdevice device) {
    for (int byte = 0; byte < 16; byte++)
        uuid[byte] = (unsigned char)(16 * device + byte);
    return SUCCESS;
}

API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    (void)attribute, (void)device;
    *value = 0;
    return SUCCESS;
}

/* --- contexts, streams, events ---------------------------------------------------------------- */

static struct context *new_context(CUdevice device) {
    struct context *made = calloc(1, sizeof *made);
    made->number = __atomic_add_fetch(&contexts, 1, __ATOMIC_RELAXED);
    made->device = device;
    return made;
}

API CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
    struct call call = begin("cuCtxCreate_v2");
    (void)flags;
    if (!initialised)
        return finish(&call, NOT_INITIALIZED);
    *context = current = new_context(device);
    return finish(&call, SUCCESS);
}

API CUresult cuCtxDestroy_v2(CUcontext context) {
    struct call call = begin("cuCtxDestroy_v2");
    if (current == context)
        current = NULL;
    return finish(&call, SUCCESS);
}

API CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    struct call call = begin("cuDevicePrimaryCtxRetain");
    if (!initialised)
        return finish(&call, NOT_INITIALIZED);
    pthread_mutex_lock(&lock);
    if (!primary[device])
        primary[device] = new_context(device);
    *context = primary[device];
    pthread_mutex_unlock(&lock);
    return finish(&call, SUCCESS);
}

API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    struct call call = begin("cuDevicePrimaryCtxRelease_v2");
    (void)device;
    return finish(&call, SUCCESS);
}

API CUresult cuCtxSetCurrent(CUcontext context) {
    current = context;
    return SUCCESS;
}

API CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return SUCCESS;
}

API CUresult cuCtxGetDevice(CUdevice *device) {
    *device = current ? (CUdevice)current->device : 0;
    return current ? SUCCESS : INVALID_CONTEXT;
}

API CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    (void)flags;
    if (!current)
        return INVALID_CONTEXT;
    *stream = new_stream(current);
    return SUCCESS;
}

API CUresult cuStreamDestroy_v2(CUstream stream) {
    (void)stream; /* its number and what it still runs stay valid */
    return SUCCESS;
}

API CUresult cuEventCreate(CUevent *event, unsigned flags) {
    (void)flags;
    *event = calloc(1, sizeof **event);
    return SUCCESS;
}

API CUresult cuEventDestroy_v2(CUevent event) {
    free(event);
    return SUCCESS;
}

API CUresult cuEventRecord(CUevent event, CUstream stream) {
    if (!current)
        return INVALID_CONTEXT;
    event->ready_ns = stream_of(stream, 0)->ready_ns;
    return SUCCESS;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static CUresult wait_for_stream(const char *name, CUstream stream, int of_thread) {
    struct call call = begin(name);
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    wait_until(stream_of(stream, of_thread)->ready_ns);
    return finish(&call, SUCCESS);
}

API CUresult cuStreamSynchronize(CUstream stream) {
    return wait_for_stream("cuStreamSynchronize", stream, 0);
}

API CUresult cuStreamSynchronize_ptsz(CUstream stream) {
    return wait_for_stream("cuStreamSynchronize_ptsz", stream, 1);
}

API CUresult cuCtxSynchronize(void) {
    struct call call = begin("cuCtxSynchronize");
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    uint64_t ready_ns = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t number = 1; number <= streams && number < MAX_STREAMS; number++)
        if (all_streams[number]->context == current && all_streams[number]->ready_ns > ready_ns)
            ready_ns = all_streams[number]->ready_ns;
    pthread_mutex_unlock(&lock);
    wait_until(ready_ns);
    return finish(&call, SUCCESS);
}

API CUresult cuEventSynchronize(CUevent event) {
    struct call call = begin("cuEventSynchronize");
    wait_until(event->ready_ns);
    return finish(&call, SUCCESS);
}

/* --- modules, kernels, graphs ----------------------------------------------------------------- */

API CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    struct call call = begin("cuModuleLoadData");
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    if (!image)
        return finish(&call, INVALID_VALUE);
    wait_until(call.start_ns + 1000 * load_us);
    *module = calloc(1, sizeof **module);
    return finish(&call, SUCCESS);
}

API CUresult cuModuleUnload(CUmodule module) {
    (void)module; /* names of its functions stay valid */
    return SUCCESS;
}

API CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
    (void)module;
    *function = calloc(1, sizeof **function);
    snprintf((*function)->name, sizeof (*function)->name, "%s", name);
    return SUCCESS;
}

static CUresult launch(const char *name, CUfunction function, unsigned blocks, CUstream stream, int of_thread) {
    struct call call = begin(name);
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    struct operation kernel = {.kind = KERNEL, .name = function->name};
    submit(stream_of(stream, of_thread), &call, kernel, 1000ull * blocks);
    return finish(&call, SUCCESS);
}

#define LAUNCH(function_name, of_thread)                                                          \
    API CUresult function_name(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, \
                               unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,  \
                               CUstream stream, void **parameters, void **extra) {                \
        (void)grid_y, (void)grid_z, (void)block_x, (void)block_y, (void)block_z, (void)shared;    \
        (void)parameters, (void)extra;                                                            \
        return launch(#function_name, function, grid_x, stream, of_thread);                       \
    }
#define LAUNCH_EX(function_name, of_thread)                                                       \
    API CUresult function_name(const launch_config *config, CUfunction function, void **parameters, \
                               void **extra) {                                                    \
        (void)parameters, (void)extra;                                                            \
        return launch(#function_name, function, config->grid[0], config->stream, of_thread);      \
    }
LAUNCH(cuLaunchKernel, 0)
LAUNCH(cuLaunchKernel_ptsz, 1)
LAUNCH_EX(cuLaunchKernelEx, 0)
LAUNCH_EX(cuLaunchKernelEx_ptsz, 1)

API CUresult cuGraphCreate(CUgraph *graph, unsigned flags) {
    (void)flags;
    *graph = calloc(1, sizeof **graph);
    return SUCCESS;
}

API CUresult cuGraphAddKernelNode_v2(void **node, CUgraph graph, void *const *before, size_t count,
                                     const node_parameters *parameters) {
    (void)before, (void)count;
    graph->ns += 1000ull * parameters->grid[0];
    *node = graph;
    return SUCCESS;
}

API CUresult cuGraphInstantiateWithParams(CUgraphExec *made, CUgraph graph, void *parameters) {
    struct call call = begin("cuGraphInstantiateWithParams");
    (void)parameters;
    *made = calloc(1, sizeof **made);
    **made = *graph;
    return finish(&call, SUCCESS);
}

static CUresult launch_graph(const char *name, CUgraphExec graph, CUstream stream, int of_thread) {
    struct call call = begin(name);
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    submit(stream_of(stream, of_thread), &call, (struct operation){.kind = GRAPH}, graph->ns);
    return finish(&call, SUCCESS);
}

API CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream) {
    return launch_graph("cuGraphLaunch", graph, stream, 0);
}

API CUresult cuGraphLaunch_ptsz(CUgraphExec graph, CUstream stream) {
    return launch_graph("cuGraphLaunch_ptsz", graph, stream, 1);
}

/* --- memory ----------------------------------------------------------------------------------- */

API CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    struct call call = begin("cuMemAlloc_v2");
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    *address = (uintptr_t)malloc(bytes);
    return finish(&call, *address ? SUCCESS : OUT_OF_MEMORY);
}

API CUresult cuMemFree_v2(CUdeviceptr address) {
    struct call call = begin("cuMemFree_v2");
    free((void *)(uintptr_t)address);
    return finish(&call, SUCCESS);
}

API CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
    struct call call = begin("cuMemHostAlloc");
    (void)flags;
    *address = malloc(bytes);
    pthread_mutex_lock(&lock);
    for (int slot = 0; slot < MAX_PINNED; slot++)
        if (!pinned[slot].start) {
            pinned[slot].start = *address, pinned[slot].size = bytes;
            break;
        }
    pthread_mutex_unlock(&lock);
    return finish(&call, SUCCESS);
}

API CUresult cuMemFreeHost(void *address) {
    struct call call = begin("cuMemFreeHost");
    pthread_mutex_lock(&lock);
    for (int slot = 0; slot < MAX_PINNED; slot++)
        if (pinned[slot].start == address)
            pinned[slot].start = NULL;
    pthread_mutex_unlock(&lock);
    free(address);
    return finish(&call, SUCCESS);
}

static int is_pageable(const char *address) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int slot = 0; slot < MAX_PINNED; slot++)
        found |= pinned[slot].start && address >= pinned[slot].start
                 && address < pinned[slot].start + pinned[slot].size;
    pthread_mutex_unlock(&lock);
    return !found;
}

/* How a copying function differs from the others. */
struct copy { const char *name; enum operation_kind kind; int is_async, of_thread; };

static CUresult copy(struct copy how, uint64_t to, uint64_t from, size_t bytes, CUstream stream) {
    struct call call = begin(how.name);
    call.bytes = bytes;
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, bytes);
    struct operation copied = {.kind = how.kind, .bytes = bytes};
    if (how.kind == COPY_IN || how.kind == COPY_OUT)
        copied.pageable = is_pageable((const char *)(uintptr_t)(how.kind == COPY_IN ? from : to));
    uint64_t ns = (uint64_t)((double)bytes * 1e9 / (double)copy_bytes_s);
    uint64_t end_ns = submit(stream_of(stream, how.of_thread), &call, copied, ns);
    if (!how.is_async)
        wait_until(end_ns);
    return finish(&call, SUCCESS);
}

#define COPY(name, kind, of_thread)                                     \
    API CUresult name(uint64_t to, uint64_t from, size_t bytes) {       \
        return copy((struct copy){#name, kind, 0, of_thread}, to, from, bytes, NULL); \
    }
#define COPY_ASYNC(name, kind, of_thread)                               \
    API CUresult name(uint64_t to, uint64_t from, size_t bytes, CUstream stream) { \
        return copy((struct copy){#name, kind, 1, of_thread}, to, from, bytes, stream); \
    }
COPY(cuMemcpyHtoD_v2, COPY_IN, 0)
COPY(cuMemcpyHtoD_v2_ptds, COPY_IN, 1)
COPY(cuMemcpyDtoH_v2, COPY_OUT, 0)
COPY(cuMemcpyDtoH_v2_ptds, COPY_OUT, 1)
COPY(cuMemcpyDtoD_v2, COPY_DEVICE, 0)
COPY_ASYNC(cuMemcpyHtoDAsync_v2, COPY_IN, 0)
COPY_ASYNC(cuMemcpyHtoDAsync_v2_ptsz, COPY_IN, 1)
COPY_ASYNC(cuMemcpyDtoHAsync_v2, COPY_OUT, 0)
COPY_ASYNC(cuMemcpyDtoHAsync_v2_ptsz, COPY_OUT, 1)
COPY_ASYNC(cuMemcpyDtoDAsync_v2, COPY_DEVICE, 0)

API CUresult cuMemcpyPeerAsync(uint64_t to, CUcontext to_context, uint64_t from, CUcontext from_context,
                               size_t bytes, CUstream stream) {
    (void)to_context, (void)from_context;
    return copy((struct copy){"cuMemcpyPeerAsync", COPY_PEER, 1, 0}, to, from, bytes, stream);
}

static CUresult set(const char *name, uint64_t address, int value, size_t bytes, CUstream stream, int of_thread) {
    struct call call = begin(name);
    call.bytes = bytes;
    if (!current)
        return finish(&call, INVALID_CONTEXT);
    memset((void *)(uintptr_t)address, value, bytes);
    uint64_t ns = (uint64_t)((double)bytes * 1e9 / (double)copy_bytes_s);
    struct operation done = {.kind = MEMSET, .bytes = bytes};
    submit(stream_of(stream, of_thread), &call, done, ns);
    return finish(&call, SUCCESS);
}

API CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, size_t bytes) {
    return set("cuMemsetD8_v2", address, value, bytes, NULL, 0);
}

API CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t bytes, CUstream stream) {
    return set("cuMemsetD8Async", address, value, bytes, stream, 0);
}

API CUresult cuMemsetD8Async_ptsz(CUdeviceptr address, unsigned char value, size_t bytes, CUstream stream) {
    return set("cuMemsetD8Async_ptsz", address, value, bytes, stream, 1);
}

/* --- functions by name ------------------------------------------------------------------------ */

/* The functions that report their calls, as CUPTI numbers them: from 1 on. */
static const char *const functions[] = {
    "cuInit", "cuCtxCreate_v2", "cuCtxDestroy_v2", "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2", "cuStreamSynchronize", "cuStreamSynchronize_ptsz",
    "cuCtxSynchronize", "cuEventSynchronize", "cuModuleLoadData", "cuLaunchKernel",
    "cuLaunchKernel_ptsz", "cuLaunchKernelEx", "cuLaunchKernelEx_ptsz",
    "cuGraphInstantiateWithParams", "cuGraphLaunch", "cuGraphLaunch_ptsz", "cuMemAlloc_v2",
    "cuMemFree_v2", "cuMemHostAlloc", "cuMemFreeHost", "cuMemcpyHtoD_v2", "cuMemcpyHtoD_v2_ptds",
    "cuMemcpyDtoH_v2", "cuMemcpyDtoH_v2_ptds", "cuMemcpyDtoD_v2", "cuMemcpyHtoDAsync_v2",
    "cuMemcpyHtoDAsync_v2_ptsz", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoHAsync_v2_ptsz",
    "cuMemcpyDtoDAsync_v2", "cuMemcpyPeerAsync", "cuMemsetD8_v2", "cuMemsetD8Async", "cuMemsetD8Async_ptsz",
};

API const char *standin_function(uint32_t number) {
    size_t count = sizeof functions / sizeof functions[0];
    return number && number <= count ? functions[number - 1] : NULL;
}

/* As libcuda does: the exported entry of the newest version, flag 2 the one of the thread's stream. */
API CUresult cuGetProcAddress_v2(const char *symbol, void **entry, int version, uint64_t flags, int *status) {
    static const char *const suffixes[] = {"_v2_ptsz", "_v2_ptds", "_ptsz", "_ptds", "_v4", "_v2", ""};
    (void)version;
    *entry = NULL;
    for (int number = flags & 2 ? 0 : 4; number < 7 && !*entry; number++) {
        char name[256];
        snprintf(name, sizeof name, "%s%s", symbol, suffixes[number]);
        *entry = dlsym(RTLD_DEFAULT, name);
    }
    if (status)
        *status = *entry ? 0 : 1;
    return *entry ? SUCCESS : NOT_FOUND;
}
