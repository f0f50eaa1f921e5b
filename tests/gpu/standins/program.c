// SPDX-License-Identifier: BSD-3-Clause
/* A program that uses the driver in the steps that its arguments name, one after the other:
 *
 *   init                cuInit, a context of device 0, a module, a stream for each thread
 *   device N            goes on with device N
 *   launch N US         N kernels of US microseconds each     graph N US    N graphs of two kernels
 *   in N BYTES          N copies to the device                out N BYTES   N copies from it
 *   set N BYTES         N memory sets                         sync N        N synchronisations
 *   peer N BYTES        N copies between devices              on N BYTES    N copies on the device
 *   file PATH           maps a file, copies it to the device, prints its bytes' sum from there
 *   threads K           the steps that follow run in K threads, which share each N between them
 *   runtime N US        N times a kernel, a copy of US bytes to the device and a synchronisation,
 *                       through the stand-in of the runtime
 *   ptsz                calls the functions of the thread's own stream from here on
 *   pinned              copies from and to pinned memory from here on
 *   proc                gets the functions from cuGetProcAddress, in place of calling the exported ones
 *   tool                subscribes to CUPTI and counts kernels, as a profiler in the process does
 *   count               prints how many kernels it counted
 *   sleep US, print TEXT, exit CODE, crash (SIGSEGV)
 *   pause               closes standard output, waits for a signal
 *   fork                a child does the rest too, and is waited for        exec   the rest as a new program
 *   rawfork             the same by the system call alone: no handler of a fork runs
 *
 * A failing call ends it with code 70. Declarations are our own, of the driver's public ABI. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void *handle;
typedef struct { handle function; unsigned grid[3], block[3], shared; void **parameters, **extra; } node_parameters;

extern int cuInit(unsigned);
extern int cuDevicePrimaryCtxRetain(handle *, int);
extern int cuCtxSetCurrent(handle);
extern int cuModuleLoadData(handle *, const void *);
extern int cuModuleGetFunction(handle *, handle, const char *);
extern int cuStreamCreate(handle *, unsigned);
extern int cuStreamSynchronize(handle), cuStreamSynchronize_ptsz(handle);
extern int cuLaunchKernel(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **);
extern int cuLaunchKernel_ptsz(handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, handle, void **, void **);
extern int cuGraphCreate(handle *, unsigned);
extern int cuGraphAddKernelNode_v2(handle *, handle, handle const *, size_t, const node_parameters *);
extern int cuGraphInstantiateWithParams(handle *, handle, void *);
extern int cuGraphLaunch(handle, handle), cuGraphLaunch_ptsz(handle, handle);
extern int cuMemAlloc_v2(uint64_t *, size_t), cuMemFree_v2(uint64_t);
extern int cuMemHostAlloc(void **, size_t, unsigned), cuMemFreeHost(void *);
extern int cuMemcpyHtoD_v2(uint64_t, const void *, size_t);
extern int cuMemcpyDtoH_v2(void *, uint64_t, size_t);
extern int cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t, handle);
extern int cuMemcpyHtoDAsync_v2_ptsz(uint64_t, const void *, size_t, handle);
extern int cuMemcpyDtoHAsync_v2(void *, uint64_t, size_t, handle);
extern int cuMemcpyDtoHAsync_v2_ptsz(void *, uint64_t, size_t, handle);
extern int cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t, handle);
extern int cuMemcpyPeerAsync(uint64_t, handle, uint64_t, handle, size_t, handle);
extern int cuMemsetD8Async(uint64_t, unsigned char, size_t, handle);
extern int cuMemsetD8Async_ptsz(uint64_t, unsigned char, size_t, handle);
typedef struct { unsigned x, y, z; } dim3;
extern int cudaLaunchKernel(handle, dim3, dim3, void **, size_t, handle);
extern int cudaMemcpy(uint64_t, const void *, size_t, int);
extern int cudaDeviceSynchronize(void);
extern int cuGetProcAddress_v2(const char *, void **, int, uint64_t, int *);

/* The functions that may be reached in several ways. */
static struct {
    __typeof__(&cuLaunchKernel) launch;
    __typeof__(&cuGraphLaunch) graph;
    __typeof__(&cuMemcpyHtoDAsync_v2) in;
    __typeof__(&cuMemcpyDtoHAsync_v2) out;
    __typeof__(&cuMemsetD8Async) set;
    __typeof__(&cuStreamSynchronize) sync;
} driver = {cuLaunchKernel, cuGraphLaunch, cuMemcpyHtoDAsync_v2, cuMemcpyDtoHAsync_v2,
            cuMemsetD8Async, cuStreamSynchronize};

static handle context, kernel;
static int is_pinned, is_ptsz;

/* What one thread works with: its steps, its number and its share. */
struct worker { char **steps; int index, count; handle stream; };

static void check(int result, const char *what) {
    if (result) {
        fprintf(stderr, "%s: %d\n", what, result);
        _exit(70);
    }
}
#define CHECK(call) check((call), #call)

static int share(const struct worker *worker, const char *total) {
    int all = atoi(total);
    return all / worker->count + (worker->index < all % worker->count);
}

static void start(int device, struct worker *worker) {
    handle module;
    CHECK(cuDevicePrimaryCtxRetain(&context, device));
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuModuleLoadData(&module, "image"));
    CHECK(cuModuleGetFunction(&kernel, module, "_Z6squarePKfPf"));
    CHECK(cuStreamCreate(&worker->stream, 0));
}

static void launch(const struct worker *worker, int count, unsigned us) {
    while (count--)
        CHECK(driver.launch(kernel, us, 1, 1, 32, 1, 1, 0, is_ptsz ? NULL : worker->stream, NULL, NULL));
}

static void launch_graphs(const struct worker *worker, int count, unsigned us) {
    handle graph, node, made;
    node_parameters parameters = {.function = kernel, .grid = {us / 2, 1, 1}, .block = {32, 1, 1}};
    CHECK(cuGraphCreate(&graph, 0));
    CHECK(cuGraphAddKernelNode_v2(&node, graph, NULL, 0, &parameters));
    CHECK(cuGraphAddKernelNode_v2(&node, graph, &node, 1, &parameters));
    CHECK(cuGraphInstantiateWithParams(&made, graph, NULL));
    while (count--)
        CHECK(driver.graph(made, is_ptsz ? NULL : worker->stream));
}

static void copy(const struct worker *worker, char kind, int count, size_t bytes) {
    uint64_t there;
    void *here;
    handle stream = is_ptsz ? NULL : worker->stream;
    CHECK(cuMemAlloc_v2(&there, bytes));
    if (is_pinned)
        CHECK(cuMemHostAlloc(&here, bytes, 0));
    else
        here = calloc(1, bytes);
    while (count--)
        CHECK(kind == 'i'   ? driver.in(there, here, bytes, stream)
              : kind == 'o' ? driver.out(here, there, bytes, stream)
                            : driver.set(there, 7, bytes, stream));
    CHECK(driver.sync(stream));
    if (is_pinned)
        CHECK(cuMemFreeHost(here));
    else
        free(here);
    CHECK(cuMemFree_v2(there));
}

static void copy_there(const struct worker *worker, int is_peer, int count, size_t bytes) {
    uint64_t to, from;
    CHECK(cuMemAlloc_v2(&to, bytes));
    CHECK(cuMemAlloc_v2(&from, bytes));
    while (count--)
        CHECK(is_peer ? cuMemcpyPeerAsync(to, context, from, context, bytes, worker->stream)
                      : cuMemcpyDtoDAsync_v2(to, from, bytes, worker->stream));
    CHECK(driver.sync(worker->stream));
}

static void copy_file(const char *path) {
    struct stat status;
    int file = open(path, O_RDONLY);
    check(file < 0 || fstat(file, &status), path);
    unsigned char *mapped = mmap(NULL, status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    unsigned char *back = malloc(status.st_size);
    uint64_t there, sum = 0;
    check(mapped == MAP_FAILED, "mmap");
    CHECK(cuMemAlloc_v2(&there, status.st_size));
    CHECK(cuMemcpyHtoD_v2(there, mapped, status.st_size));
    CHECK(cuMemcpyDtoH_v2(back, there, status.st_size));
    for (off_t byte = 0; byte < status.st_size; byte++)
        sum += back[byte];
    printf("sum %lu\n", sum);
}

static void use_runtime(const struct worker *worker, int count, unsigned us) {
    uint64_t there;
    char *here = calloc(1, us);
    dim3 grid = {us, 1, 1}, block = {32, 1, 1};
    CHECK(cuMemAlloc_v2(&there, us));
    while (count--) {
        CHECK(cudaLaunchKernel(kernel, grid, block, NULL, 0, worker->stream));
        CHECK(cudaMemcpy(there, here, us, 1));
        CHECK(cudaDeviceSynchronize());
    }
    CHECK(cuMemFree_v2(there));
    free(here);
}

static void by_address(void) {
    struct { const char *name; void **entry; } wanted[] = {
        {"cuLaunchKernel", (void **)&driver.launch}, {"cuGraphLaunch", (void **)&driver.graph},
        {"cuMemcpyHtoDAsync", (void **)&driver.in},  {"cuMemcpyDtoHAsync", (void **)&driver.out},
        {"cuMemsetD8Async", (void **)&driver.set},   {"cuStreamSynchronize", (void **)&driver.sync}};
    for (size_t number = 0; number < sizeof wanted / sizeof wanted[0]; number++)
        CHECK(cuGetProcAddress_v2(wanted[number].name, wanted[number].entry, 13000, is_ptsz ? 2 : 1, NULL));
}

static void of_thread(void) {
    is_ptsz = 1;
    driver.launch = cuLaunchKernel_ptsz;
    driver.graph = cuGraphLaunch_ptsz;
    driver.in = cuMemcpyHtoDAsync_v2_ptsz;
    driver.out = cuMemcpyDtoHAsync_v2_ptsz;
    driver.set = cuMemsetD8Async_ptsz;
    driver.sync = cuStreamSynchronize_ptsz;
}

static void run(struct worker *worker);

static void *run_thread(void *argument) {
    struct worker *worker = argument;
    CHECK(cuCtxSetCurrent(context));
    CHECK(cuStreamCreate(&worker->stream, 0));
    run(worker);
    return NULL;
}

static void in_threads(char **steps, int count) {
    pthread_t threads[64];
    struct worker workers[64];
    for (int index = 0; index < count; index++) {
        workers[index] = (struct worker){steps, index, count, NULL};
        pthread_create(&threads[index], NULL, run_thread, &workers[index]);
    }
    for (int index = 0; index < count; index++)
        pthread_join(threads[index], NULL);
}

/* --- a profiler in the process ----------------------------------------------------------------- */

static int (*next_record)(uint8_t *, size_t, uint8_t **);
static unsigned counted;

static void lend(uint8_t **buffer, size_t *size, size_t *most) {
    *size = 1 << 16;
    *buffer = malloc(*size);
    *most = 0;
}

static void count_kernels(void *of, uint32_t stream, uint8_t *buffer, size_t size, size_t used) {
    uint8_t *record = NULL;
    (void)of, (void)stream, (void)size;
    while (!next_record(buffer, used, &record))
        counted += *(uint32_t *)record == 10;
}

static void *tool_function(const char *name) {
    static void *library;
    if (!library)
        library = dlopen("libcupti.so.13", RTLD_LAZY | RTLD_NOLOAD);
    return dlsym(library, name);
}

static void start_tool(void) {
    int (*subscribe)(void **, void *, void *) = (int (*)(void **, void *, void *))tool_function("cuptiSubscribe");
    int (*buffers)(void *, void *) = (int (*)(void *, void *))tool_function("cuptiActivityRegisterCallbacks");
    int (*enable)(uint32_t) = (int (*)(uint32_t))tool_function("cuptiActivityEnable");
    void *subscriber;
    next_record = (int (*)(uint8_t *, size_t, uint8_t **))tool_function("cuptiActivityGetNextRecord");
    CHECK(subscribe(&subscriber, (void *)start_tool, NULL));
    CHECK(buffers((void *)lend, (void *)count_kernels));
    CHECK(enable(10));
}

static void print_count(void) {
    int (*flush)(uint32_t) = (int (*)(uint32_t))tool_function("cuptiActivityFlushAll");
    CHECK(flush(0));
    printf("counted %u\n", counted);
}

/* --- steps -------------------------------------------------------------------------------------- */

static void wait_for_signal(void) {
    fclose(stdout);
    for (;;)
        pause();
}

static void fork_child(int is_raw) {
    fflush(stdout);
    pid_t child = is_raw ? (pid_t)syscall(SYS_fork) : fork();
    if (child)
        waitpid(child, NULL, 0);
}

/* Steps that work on the device; the number of arguments that one took, 0 if it is none of them. */
static int device_step(struct worker *worker, char **step) {
    if (!strcmp(*step, "launch"))
        return launch(worker, share(worker, step[1]), atoi(step[2])), 2;
    if (!strcmp(*step, "graph"))
        return launch_graphs(worker, share(worker, step[1]), atoi(step[2])), 2;
    if (!strcmp(*step, "in") || !strcmp(*step, "out") || !strcmp(*step, "set"))
        return copy(worker, **step, share(worker, step[1]), atol(step[2])), 2;
    if (!strcmp(*step, "peer") || !strcmp(*step, "on"))
        return copy_there(worker, **step == 'p', share(worker, step[1]), atol(step[2])), 2;
    if (!strcmp(*step, "runtime"))
        return use_runtime(worker, share(worker, step[1]), atoi(step[2])), 2;
    if (!strcmp(*step, "file"))
        return copy_file(step[1]), 1;
    if (!strcmp(*step, "device"))
        return start(atoi(step[1]), worker), 1;
    if (strcmp(*step, "sync"))
        return 0;
    for (int left = share(worker, step[1]); left; left--)
        CHECK(driver.sync(is_ptsz ? NULL : worker->stream));
    return 1;
}

/* All other steps; the number of arguments that one took. */
static int other_step(struct worker *worker, char **step) {
    if (!strcmp(*step, "init"))
        return check(cuInit(0), "cuInit"), start(0, worker), 0;
    if (!strcmp(*step, "ptsz"))
        return of_thread(), 0;
    if (!strcmp(*step, "proc"))
        return by_address(), 0;
    if (!strcmp(*step, "tool"))
        return start_tool(), 0;
    if (!strcmp(*step, "count"))
        return print_count(), 0;
    if (!strcmp(*step, "pinned"))
        return is_pinned = 1, 0;
    if (!strcmp(*step, "sleep"))
        return usleep(atoi(step[1])), 1;
    if (!strcmp(*step, "print"))
        return puts(step[1]), fflush(stdout), 1;
    if (!strcmp(*step, "exit"))
        exit(atoi(step[1]));
    if (!strcmp(*step, "crash"))
        return raise(SIGSEGV), 0;
    if (!strcmp(*step, "pause"))
        return wait_for_signal(), 0;
    if (!strcmp(*step, "fork") || !strcmp(*step, "rawfork"))
        return fork_child(**step == 'r'), 0;
    fprintf(stderr, "unknown step: %s\n", *step);
    exit(64);
}

static void run(struct worker *worker) {
    static char *self = "/proc/self/exe";
    for (char **step = worker->steps; *step; step++) {
        if (!strcmp(*step, "threads"))
            return in_threads(step + 2, atoi(step[1]));
        if (!strcmp(*step, "exec")) {
            fflush(stdout);
            *step = self;
            execv(self, step);
        }
        int taken = device_step(worker, step);
        step += taken ? taken : other_step(worker, step);
    }
}

int main(int count, char **words) {
    (void)count;
    struct worker worker = {words + 1, 0, 1, NULL};
    run(&worker);
    return 0;
}
