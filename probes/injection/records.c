// SPDX-License-Identifier: BSD-3-Clause
/* From CUPTI's activity records to ours.
 *
 * Only the beginnings of CUPTI's records are read. They have been the same from CUPTI 11 to 13.5:
 * newer versions of a record are longer. */
#define _GNU_SOURCE
#include "injection.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* CUPTI keeps a buffer back while one of its operations still runs: with small ones a process that is
 * killed beside a busy device loses little. */
#define BUFFER_BYTES (64u << 10)
#define MAX_BUFFERS 1024 /* that CUPTI may have at once; beyond, it drops records and counts them */
#define MAX_SPARE 64     /* that are kept to be lent again */
#define SMALLEST_RECORD 40
#define MAX_NAMES 65536

/* Numbers of CUPTI's kinds of copies and memory. */
enum { COPY_HOST_TO_DEVICE = 1, COPY_DEVICE_TO_HOST = 2, COPY_HOST_TO_ARRAY = 3,
       COPY_ARRAY_TO_HOST = 4 };
enum { MEMORY_PAGEABLE = 1 };

#define BEGINNING __attribute__((packed, aligned(8)))
struct BEGINNING kernel_activity { /* CONCURRENT_KERNEL */
    uint32_t kind; uint8_t skipped[12]; uint64_t start, end; uint8_t skipped2[8];
    uint32_t device, context, stream; uint8_t skipped3[40]; uint32_t correlation;
    uint8_t skipped4[8]; const char *name; uint8_t skipped5[32]; uint64_t graph_node;
};
struct BEGINNING copy_activity { /* MEMCPY */
    uint32_t kind; uint8_t copy, from, to, flags; uint64_t bytes, start, end;
    uint32_t device, context, stream, correlation; uint8_t skipped[16]; uint64_t graph_node;
};
struct BEGINNING peer_activity { /* MEMCPY2: between devices */
    uint32_t kind; uint8_t skipped[4]; uint64_t bytes, start, end; uint32_t device, context, stream;
    uint8_t skipped2[16]; uint32_t correlation; uint8_t skipped3[8]; uint64_t graph_node;
};
struct BEGINNING set_activity { /* MEMSET */
    uint32_t kind, value; uint64_t bytes, start, end; uint32_t device, context, stream, correlation;
    uint8_t skipped[16]; uint64_t graph_node;
};
struct BEGINNING api_activity { /* DRIVER, RUNTIME */
    uint32_t kind, number; uint64_t start, end; uint32_t pid, tid, correlation, result;
};
struct BEGINNING graph_activity { /* GRAPH_TRACE */
    uint32_t kind, correlation; uint64_t start, end; uint32_t device, graph, context, stream;
};

_Static_assert(offsetof(struct kernel_activity, correlation) == 92, "CUPTI's layout");
_Static_assert(offsetof(struct kernel_activity, name) == 104, "CUPTI's layout");
_Static_assert(offsetof(struct kernel_activity, graph_node) == 144, "CUPTI's layout");
_Static_assert(offsetof(struct copy_activity, correlation) == 44, "CUPTI's layout");
_Static_assert(offsetof(struct copy_activity, graph_node) == 64, "CUPTI's layout");
_Static_assert(offsetof(struct peer_activity, correlation) == 60, "CUPTI's layout");
_Static_assert(offsetof(struct peer_activity, graph_node) == 72, "CUPTI's layout");
_Static_assert(offsetof(struct set_activity, graph_node) == 64, "CUPTI's layout");
_Static_assert(sizeof(struct api_activity) == SMALLEST_RECORD, "CUPTI's layout");
_Static_assert(offsetof(struct graph_activity, stream) == 36, "CUPTI's layout");

/* Two locks: CUPTI may ask for a buffer while it hands over another. */
static pthread_mutex_t lending = PTHREAD_MUTEX_INITIALIZER, translating = PTHREAD_MUTEX_INITIALIZER;
static struct gpu_record translated[BUFFER_BYTES / SMALLEST_RECORD];
static uint8_t *spare[MAX_SPARE];
static unsigned spare_count, buffers_out;
static uint64_t request_count, lost;

/* --- names, numbered from 1 on ------------------------------------------------------------------ */

static struct { char *text; uint32_t number; } names[2 * MAX_NAMES];
static uint32_t name_count;

static uint64_t hash_of(const char *text) { /* FNV-1a */
    uint64_t hash = 14695981039346656037u;
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

/* As the source has it, where the process has a C++ library; to be freed. NULL if not. */
static char *demangled(const char *text) {
    char *(*demangle)(const char *, char *, size_t *, int *);
    int status = -1;
    *(void **)&demangle = dlsym(RTLD_DEFAULT, "__cxa_demangle");
    char *result = demangle && !strncmp(text, "_Z", 2) ? demangle(text, NULL, NULL, &status) : NULL;
    return status ? NULL : result;
}

/* The number of a name; 0 for none, and where there are too many. */
static uint32_t number_of(const char *text) {
    if (!text || !*text)
        return 0;
    size_t slot = hash_of(text) % (2 * MAX_NAMES);
    while (names[slot].text && strcmp(names[slot].text, text))
        slot = (slot + 1) % (2 * MAX_NAMES);
    if (names[slot].text || name_count == MAX_NAMES)
        return names[slot].number;
    names[slot].text = strdup(text);
    if (!names[slot].text)
        return 0;
    names[slot].number = ++name_count;
    char *readable = demangled(text);
    write_line("{\"kind\":\"name\",\"number\":%U,\"text\":%Q}", (uint64_t)name_count,
               readable ? readable : text);
    free(readable);
    return name_count;
}

/* --- one record --------------------------------------------------------------------------------- */

static void from_kernel(const struct kernel_activity *activity, struct gpu_record *record) {
    record->kind = GPU_RECORD_KERNEL;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->device = activity->device, record->context = activity->context;
    record->stream = activity->stream, record->correlation = activity->correlation;
    record->name = number_of(activity->name);
    record->flags = activity->graph_node ? GPU_IN_GRAPH : 0;
}

static void from_copy(const struct copy_activity *activity, struct gpu_record *record) {
    int is_in = activity->copy == COPY_HOST_TO_DEVICE || activity->copy == COPY_HOST_TO_ARRAY;
    int is_out = activity->copy == COPY_DEVICE_TO_HOST || activity->copy == COPY_ARRAY_TO_HOST;
    uint8_t memory = is_in ? activity->from : is_out ? activity->to : 0;
    record->kind = is_in    ? GPU_RECORD_COPY_IN
                   : is_out ? GPU_RECORD_COPY_OUT
                            : GPU_RECORD_COPY_DEVICE;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->bytes = activity->bytes;
    record->device = activity->device, record->context = activity->context;
    record->stream = activity->stream, record->correlation = activity->correlation;
    record->flags = (memory == MEMORY_PAGEABLE ? GPU_PAGEABLE : 0)
                    | (activity->graph_node ? GPU_IN_GRAPH : 0);
}

static void from_peer(const struct peer_activity *activity, struct gpu_record *record) {
    record->kind = GPU_RECORD_COPY_DEVICE;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->bytes = activity->bytes;
    record->device = activity->device, record->context = activity->context;
    record->stream = activity->stream, record->correlation = activity->correlation;
    record->flags = activity->graph_node ? GPU_IN_GRAPH : 0;
}

static void from_set(const struct set_activity *activity, struct gpu_record *record) {
    record->kind = GPU_RECORD_MEMSET;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->bytes = activity->bytes;
    record->device = activity->device, record->context = activity->context;
    record->stream = activity->stream, record->correlation = activity->correlation;
    record->flags = activity->graph_node ? GPU_IN_GRAPH : 0;
}

static void from_graph(const struct graph_activity *activity, struct gpu_record *record) {
    record->kind = GPU_RECORD_GRAPH;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->device = activity->device, record->context = activity->context;
    record->stream = activity->stream, record->correlation = activity->correlation;
}

static void from_call(const struct api_activity *activity, struct gpu_record *record) {
    int domain = activity->kind == ACTIVITY_DRIVER ? DOMAIN_DRIVER : DOMAIN_RUNTIME;
    record->kind = GPU_RECORD_CALL;
    record->start_ns = activity->start, record->end_ns = activity->end;
    record->correlation = activity->correlation;
    record->name = number_of(function_name(domain, activity->number));
    record->tid = activity->tid;
    record->result = (int32_t)activity->result;
}

/* Returns whether the activity is one to record. Without both times it is lost: CUPTI hands over what
 * still runs at the end so. */
static int translate(const uint8_t *activity, uint32_t process, struct gpu_record *record) {
    const void *given = activity;
    memset(record, 0, sizeof *record);
    record->pid = process;
    switch (*(const uint32_t *)given) {
    case ACTIVITY_CONCURRENT_KERNEL: from_kernel(given, record); break;
    case ACTIVITY_MEMCPY: from_copy(given, record); break;
    case ACTIVITY_MEMCPY_PEER: from_peer(given, record); break;
    case ACTIVITY_MEMSET: from_set(given, record); break;
    case ACTIVITY_GRAPH_TRACE: from_graph(given, record); break;
    case ACTIVITY_DRIVER:
    case ACTIVITY_RUNTIME: from_call(given, record); break;
    default: return 0;
    }
    if (record->start_ns && record->end_ns)
        return 1;
    lost++;
    return 0;
}

/* --- buffers ------------------------------------------------------------------------------------ */

/* A thread of the program may be in here: it must not be cancelled while it holds a lock. */
static int enter(pthread_mutex_t *lock) {
    int state;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    pthread_mutex_lock(lock);
    return state;
}

static void leave(pthread_mutex_t *lock, int state) {
    pthread_mutex_unlock(lock);
    pthread_setcancelstate(state, NULL);
}

/* In a child a thread of its parent may hold the locks for ever: it gets no buffer, and what is handed
 * over there is left. */
void buffer_requested(uint8_t **buffer, size_t *size, size_t *most_records) {
    *buffer = NULL, *size = 0, *most_records = 0;
    if (is_child())
        return;
    int error = errno, state = enter(&lending);
    if (spare_count)
        *buffer = spare[--spare_count];
    else if (buffers_out < MAX_BUFFERS)
        *buffer = malloc(BUFFER_BYTES); /* aligned to 16 bytes; CUPTI needs 8 */
    buffers_out += *buffer != NULL;
    request_count++;
    leave(&lending, state);
    *size = *buffer ? BUFFER_BYTES : 0; /* of records, as many as fit */
    errno = error;
}

static void take_back(uint8_t *buffer) {
    int state = enter(&lending);
    buffers_out--;
    if (spare_count < MAX_SPARE)
        spare[spare_count++] = buffer;
    else
        free(buffer);
    leave(&lending, state);
}

void buffer_completed(void *context, uint32_t stream, uint8_t *buffer, size_t size, size_t used) {
    if (is_child())
        return;
    int error = errno, state = enter(&translating);
    const size_t most = sizeof translated / sizeof *translated;
    uint32_t process = (uint32_t)getpid();
    uint8_t *activity = NULL;
    size_t count = 0;
    (void)context, (void)stream, (void)size;
    while (count < most && used && !cupti.next_record(buffer, used, &activity))
        count += (size_t)translate(activity, process, &translated[count]);
    if (count)
        lost += write_records(translated, count);
    leave(&translating, state);
    if (buffer)
        take_back(buffer);
    errno = error;
}

uint64_t buffers_requested(void) {
    return __atomic_load_n(&request_count, __ATOMIC_RELAXED);
}

void report_dropped(void) {
    size_t dropped = 0;
    if (cupti.dropped_records(NULL, 0, &dropped))
        dropped = 0;
    int state = enter(&translating);
    uint64_t count = dropped + lost;
    lost = 0;
    leave(&translating, state);
    if (count)
        write_line("{\"kind\":\"dropped\",\"count\":%U,\"time_ns\":%U}", count, monotonic_ns());
}
