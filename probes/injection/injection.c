// SPDX-License-Identifier: BSD-3-Clause
/* What the driver calls, and a thread that flushes CUPTI's records twice a second. */
#define _GNU_SOURCE
#include "injection.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_MS 500
#define FIRST_FLUSH_MS 20 /* soon after the start: the devices are named then */
#define IDLE_FLUSHES 2    /* without a new buffer; after each so many it is looked for another tool */
#define EXIT_S 2          /* that the end of the process waits for the thread at most */
#define FORCED 1

enum { OFF, RECORDING, TAKEN_OVER, IN_CHILD };

static _Atomic int state = OFF;
static int is_stopping;
static pthread_t flusher;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken;

uint64_t record_clock(void) {
    struct timespec now;
    if (state != TAKEN_OVER)
        return monotonic_ns();
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- the devices -------------------------------------------------------------------------------- */

static void format_uuid(const unsigned char *bytes, char *text) {
    static const char digits[] = "0123456789abcdef";
    strcpy(text, "GPU-");
    text += 4;
    for (int index = 0; index < 16; index++) {
        if (index == 4 || index == 6 || index == 8 || index == 10)
            *text++ = '-';
        *text++ = digits[bytes[index] >> 4];
        *text++ = digits[bytes[index] & 15];
    }
    *text = 0;
}

static void write_device(int number) {
    int (*get)(int *, int), (*get_name)(char *, int, int), (*get_uuid)(unsigned char *, int);
    int (*get_memory)(size_t *, int), device;
    char name[256] = "", text[64] = "";
    unsigned char uuid[16];
    size_t memory = 0;
    *(void **)&get = driver_function("cuDeviceGet");
    *(void **)&get_name = driver_function("cuDeviceGetName");
    *(void **)&get_memory = driver_function("cuDeviceTotalMem_v2");
    *(void **)&get_uuid = driver_function("cuDeviceGetUuid_v2");
    if (!get || !get_name || !get_memory || get(&device, number))
        return;
    if (get_name(name, sizeof name, device))
        *name = 0;
    name[sizeof name - 1] = 0;
    if (get_uuid && !get_uuid(uuid, device))
        format_uuid(uuid, text);
    if (get_memory(&memory, device))
        memory = 0;
    write_line("{\"kind\":\"device\",\"device\":%U,\"uuid\":%Q,\"name\":%Q,\"memory_bytes\":%U}",
               (uint64_t)number, text, name, (uint64_t)memory);
}

/* Name the devices, once the driver is initialised. Returns whether that is done. */
static int write_devices(void) {
    int (*get_count)(int *), count = 0;
    *(void **)&get_count = driver_function("cuDeviceGetCount");
    if (!get_count || get_count(&count))
        return 0;
    for (int number = 0; number < count; number++)
        write_device(number);
    return 1;
}

/* --- flushing ----------------------------------------------------------------------------------- */

/* Wait, at most so long. Returns whether to stop. */
static int wait_ms(long ms) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += ms * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    while (!is_stopping && !pthread_cond_timedwait(&woken, &lock, &end))
        ;
    int stop = is_stopping;
    pthread_mutex_unlock(&lock);
    return stop;
}

/* A tool that subscribed has CUPTI's buffers from now on: leave it alone.
 *
 * Until it is noticed, at most IDLE_FLUSHES flushes later, its records have the times of our clock. A
 * tool that subscribes in the very moment in which is_taken_over() has the place is refused. */
static void step_back(void) {
    state = TAKEN_OVER;
    write_trouble("another tool subscribed to CUPTI in this process: nothing is recorded from here on");
}

static void *flush(void *unused) {
    uint64_t requested = 0;
    int has_devices = 0, idle = 0;
    (void)unused;
    for (long ms = FIRST_FLUSH_MS; !wait_ms(ms) && state == RECORDING; ms = FLUSH_MS) {
        if (!has_devices)
            has_devices = write_devices();
        cupti.flush_all(0);
        report_dropped();
        idle = buffers_requested() == requested ? idle + 1 : 0;
        requested = buffers_requested();
        if (idle && idle % IDLE_FLUSHES == 0 && requested && is_taken_over())
            step_back();
    }
    if (!has_devices)
        write_devices();
    return NULL;
}

/* No signal of the program may be handled in this thread. */
static int start_thread(void) {
    sigset_t all, before;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&woken, &attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&flusher, NULL, flush, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        pthread_setname_np(flusher, "cvmprof-gpu");
    return error;
}

/* --- the process's end, and children ------------------------------------------------------------- */

static pid_t recording_pid;

static void at_exit(void) {
    struct timespec end;
    /* A child made by the system call alone has no thread of ours to wait for. */
    if ((state != RECORDING && state != TAKEN_OVER) || getpid() != recording_pid)
        return;
    pthread_mutex_lock(&lock);
    is_stopping = 1;
    pthread_cond_signal(&woken);
    pthread_mutex_unlock(&lock);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += EXIT_S;
    if (pthread_timedjoin_np(flusher, NULL, &end))
        return;
    if (state == RECORDING) {
        int result = cupti.flush_all(FORCED);
        if (result)
            write_trouble("the last records were not handed over: cuptiActivityFlushAll returned %d", result);
        report_dropped();
    }
    state = OFF;
    write_line("{\"kind\":\"end\",\"time_ns\":%U}", monotonic_ns());
}

/* A child has no thread of ours, and CUDA does not work in it: only a program that it executes may
 * record, in files of its own. */
static void in_child(void) {
    state = IN_CHILD;
}

int is_child(void) {
    return state == IN_CHILD;
}

/* --- the start ---------------------------------------------------------------------------------- */

/* Have CUPTI's records flushed, or CUPTI stopped. The thread ends where nothing is recorded, so the
 * state comes before it. */
static void start_flushing(void) {
    int error = pthread_atfork(NULL, NULL, in_child);
    state = RECORDING;
    if (!error)
        error = start_thread();
    if (!error) {
        atexit(at_exit);
        return;
    }
    state = OFF;
    stop_cupti();
    write_trouble("nothing is recorded: no thread could be started: %s", strerror(error));
}

__attribute__((visibility("default"))) int InitializeInjection(void) {
    static int is_initialised;
    int error = errno;
    if (!is_initialised && !create_files()) {
        is_initialised = 1;
        recording_pid = getpid();
        int has_started = !start_cupti();
        write_line("{\"kind\":\"process\",\"pid\":%U,\"time_ns\":%U,\"cupti\":%Q,"
                   "\"cupti_version\":%U,\"driver_version\":%U}",
                   (uint64_t)getpid(), monotonic_ns(), has_started ? cupti.path : "",
                   has_started ? (uint64_t)cupti.version : 0, (uint64_t)driver_version());
        if (has_started)
            start_flushing();
    }
    errno = error;
    return 1;
}
