// SPDX-License-Identifier: BSD-3-Clause
/* A stand-in of libcupti.so: the Activity API, fed by the stand-in of libcuda.
 *
 * An operation becomes a record when a flush finds that it has ended; a forced flush also hands over
 * those that still run, with times of 0. Switches, by environment:
 *
 * STANDIN_CUPTI_NEWER=1        newer than the driver: every function returns NOT_INITIALIZED
 * STANDIN_CUPTI_SUBSCRIBED=1   another tool has subscribed
 * STANDIN_CUPTI_DROP=N         drops each Nth record, and counts it
 * STANDIN_CUPTI_BUFFER=BYTES   uses no more of a buffer
 * STANDIN_CUPTI_NO_GRAPHS=1    does not trace graphs as a whole: one kernel stands for each
 * STANDIN_CUPTI_REFUSE=KIND    does not enable this kind of records
 * STANDIN_CUPTI_CRASH=N        the process gets SIGSEGV when the Nth record is written
 *
 * Compiled with -DOLDER it lacks what CUDA 11 lacks. Declarations are our own, of the public ABI. */
#define _GNU_SOURCE
#include "driver.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define API __attribute__((visibility("default")))
#define KINDS 64

typedef int CUptiResult;
enum { SUCCESS = 0, INVALID_PARAMETER = 1, NOT_INITIALIZED = 15, MAX_LIMIT_REACHED = 12,
       MULTIPLE_SUBSCRIBERS = 39 };
enum { ACTIVITY_MEMCPY = 1, ACTIVITY_MEMSET = 2, ACTIVITY_DRIVER = 4, ACTIVITY_RUNTIME = 5,
       ACTIVITY_CONCURRENT_KERNEL = 10, ACTIVITY_MEMCPY_PEER = 22, ACTIVITY_GRAPH_TRACE = 51 };
enum { DOMAIN_DRIVER = 1, DOMAIN_RUNTIME = 2 };

/* The records, as CUDA 12.9 lays them out. */
#define RECORD __attribute__((packed, aligned(8)))
struct RECORD kernel_record {
    uint32_t kind; uint8_t unused[12]; uint64_t start, end; uint8_t unused2[8];
    uint32_t device, context, stream; uint8_t unused3[40]; uint32_t correlation; uint8_t unused4[8];
    const char *name; uint8_t unused5[32]; uint64_t graph_node; uint8_t unused6[4]; uint32_t graph;
    uint8_t unused7[48];
};
struct RECORD copy_record {
    uint32_t kind; uint8_t copy, from, to, flags; uint64_t bytes, start, end;
    uint32_t device, context, stream, correlation, runtime; uint8_t unused[12]; uint64_t graph_node;
    uint32_t graph; uint8_t unused2[20];
};
struct RECORD peer_record {
    uint32_t kind; uint8_t copy, from, to, flags; uint64_t bytes, start, end;
    uint32_t device, context, stream, from_device, from_context, to_device, to_context, correlation;
    uint8_t unused[8]; uint64_t graph_node; uint8_t unused2[16];
};
struct RECORD set_record {
    uint32_t kind, value; uint64_t bytes, start, end;
    uint32_t device, context, stream, correlation; uint8_t unused[16]; uint64_t graph_node;
    uint32_t graph; uint8_t unused2[12];
};
struct RECORD api_record {
    uint32_t kind, number; uint64_t start, end; uint32_t pid, tid, correlation, result;
};
struct RECORD graph_record {
    uint32_t kind, correlation; uint64_t start, end; uint32_t device, graph, context, stream;
    uint8_t unused[16];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void (*request)(uint8_t **, size_t *, size_t *);
static void (*complete)(void *, uint32_t, uint8_t *, size_t, size_t);
static uint64_t (*timestamp)(void);
static uint8_t enabled[KINDS], chosen[3][1024], has_chosen[3], system_threads, is_subscribed;
static struct operation *pending;
static size_t pending_count, pending_room, dropped;
static uint64_t drop_each, crash_at, written, limit, refused;
static int is_newer, is_taken, has_no_graphs;

/* The buffer being filled, and full ones not yet handed over. */
struct buffer { uint8_t *bytes; size_t size, used; struct buffer *next; };
static struct buffer *filling, *full;

static uint64_t number_of(const char *variable) {
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void configure(void) {
    drop_each = number_of("STANDIN_CUPTI_DROP");
    crash_at = number_of("STANDIN_CUPTI_CRASH");
    limit = number_of("STANDIN_CUPTI_BUFFER");
    refused = number_of("STANDIN_CUPTI_REFUSE");
    has_no_graphs = (int)number_of("STANDIN_CUPTI_NO_GRAPHS");
    is_newer = (int)number_of("STANDIN_CUPTI_NEWER");
    is_taken = (int)number_of("STANDIN_CUPTI_SUBSCRIBED");
}

/* --- buffers and records ---------------------------------------------------------------------- */

static struct buffer *requested(void) {
    struct buffer *made = calloc(1, sizeof *made);
    size_t most = 0;
    request(&made->bytes, &made->size, &most);
    if (limit && made->size > limit)
        made->size = limit;
    return made;
}

/* Under the lock: add a record, in a new buffer where it does not fit. */
static void add(const void *record, size_t size) {
    if (crash_at && ++written == crash_at)
        raise(SIGSEGV);
    if (drop_each && ++written % drop_each == 0) {
        dropped++;
        return;
    }
    if (filling && filling->used + size > filling->size) {
        struct buffer **last = &full;
        while (*last)
            last = &(*last)->next;
        *last = filling;
        filling = NULL;
    }
    if (!filling)
        filling = requested();
    if (!filling->bytes || size > filling->size) {
        dropped++;
        return;
    }
    memcpy(filling->bytes + filling->used, record, size);
    filling->used += size;
}

/* Hand over full buffers, and with is_all also the one that is being filled. */
static void hand_over(int is_all) {
    pthread_mutex_lock(&lock);
    struct buffer *list = full, **last = &list;
    full = NULL;
    while (*last)
        last = &(*last)->next;
    if (is_all && filling) {
        *last = filling;
        filling = NULL;
    }
    pthread_mutex_unlock(&lock);
    while (list) {
        struct buffer *next = list->next;
        complete(NULL, 0, list->bytes, list->size, list->used);
        free(list);
        list = next;
    }
}

/* On the clock of the registered callback; on CLOCK_REALTIME where there is none. */
static uint64_t clock_offset(void) {
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    uint64_t now = timestamp ? timestamp() : real.tv_sec * 1000000000ull + real.tv_nsec;
    int64_t offset = (int64_t)(now - monotonic_ns());
    return offset > -1000000000 && offset < 1000000000 ? 0 : (uint64_t)offset;
}

static void add_copy(const struct operation *done, uint64_t start, uint64_t end) {
    static const uint8_t kinds[] = {[COPY_IN] = 1, [COPY_OUT] = 2, [COPY_DEVICE] = 8};
    uint8_t host = done->pageable ? 1 : 2, device = 3;
    struct copy_record record = {
        .kind = ACTIVITY_MEMCPY, .copy = kinds[done->kind],
        .from = done->kind == COPY_IN ? host : device, .to = done->kind == COPY_OUT ? host : device,
        .bytes = done->bytes, .start = start, .end = end, .device = done->device,
        .context = done->context, .stream = done->stream, .correlation = done->correlation};
    add(&record, sizeof record);
}

static void add_operation(const struct operation *done, int has_ended) {
    uint64_t offset = clock_offset();
    uint64_t start = has_ended ? done->start_ns + offset : 0;
    uint64_t end = has_ended ? done->end_ns + offset : 0;
    if (done->kind == KERNEL || (done->kind == GRAPH && has_no_graphs)) {
        struct kernel_record record = {
            .kind = ACTIVITY_CONCURRENT_KERNEL, .start = start, .end = end, .device = done->device,
            .context = done->context, .stream = done->stream, .correlation = done->correlation,
            .name = done->kind == KERNEL ? done->name : "node", .graph_node = done->kind == GRAPH};
        add(&record, sizeof record);
    } else if (done->kind == GRAPH) {
        struct graph_record record = {
            .kind = ACTIVITY_GRAPH_TRACE, .correlation = done->correlation, .start = start, .end = end,
            .device = done->device, .context = done->context, .stream = done->stream, .graph = 1};
        add(&record, sizeof record);
    } else if (done->kind == COPY_PEER) {
        struct peer_record record = {
            .kind = ACTIVITY_MEMCPY_PEER, .copy = 10, .bytes = done->bytes, .start = start, .end = end,
            .device = done->device, .context = done->context, .stream = done->stream,
            .correlation = done->correlation};
        add(&record, sizeof record);
    } else if (done->kind == MEMSET) {
        struct set_record record = {
            .kind = ACTIVITY_MEMSET, .bytes = done->bytes, .start = start, .end = end,
            .device = done->device, .context = done->context, .stream = done->stream,
            .correlation = done->correlation};
        add(&record, sizeof record);
    } else {
        add_copy(done, start, end);
    }
}

/* --- what the stand-in of libcuda reports ----------------------------------------------------- */

/* The name of a function of a domain, by number from 1 on; NULL at the end. */
static const char *function_of(int domain, uint32_t number) {
    static const char *const runtime[] = {"cudaLaunchKernel_v7000", "cudaMemcpy_v3020",
                                          "cudaDeviceSynchronize_v3020"};
    if (domain == DOMAIN_DRIVER)
        return standin_function(number);
    return domain == DOMAIN_RUNTIME && number && number <= 3 ? runtime[number - 1] : NULL;
}

static void called(const struct call *call) {
    int domain = call->is_runtime ? DOMAIN_RUNTIME : DOMAIN_DRIVER;
    uint32_t kind = call->is_runtime ? ACTIVITY_RUNTIME : ACTIVITY_DRIVER, number = 1;
    while (function_of(domain, number) && strcmp(function_of(domain, number), call->function))
        number++;
    pthread_mutex_lock(&lock);
    int is_wanted = request && enabled[kind] && (!has_chosen[domain] || chosen[domain][number])
                    && !call->is_nested;
    if (is_wanted) {
        uint64_t offset = clock_offset();
        struct api_record record = {
            .kind = kind, .number = number, .start = call->start_ns + offset,
            .end = call->end_ns + offset, .pid = call->pid, .correlation = call->correlation,
            .tid = system_threads ? call->tid : (uint32_t)call->pthread, .result = call->result};
        add(&record, sizeof record);
    }
    pthread_mutex_unlock(&lock);
    if (is_wanted)
        hand_over(0);
}

static void submitted(const struct operation *operation) {
    static const int kinds[] = {[KERNEL] = ACTIVITY_CONCURRENT_KERNEL, [GRAPH] = ACTIVITY_GRAPH_TRACE,
                                [COPY_IN] = ACTIVITY_MEMCPY, [COPY_OUT] = ACTIVITY_MEMCPY,
                                [COPY_DEVICE] = ACTIVITY_MEMCPY, [COPY_PEER] = ACTIVITY_MEMCPY_PEER,
                                [MEMSET] = ACTIVITY_MEMSET};
    pthread_mutex_lock(&lock);
    int kind = has_no_graphs && operation->kind == GRAPH ? ACTIVITY_CONCURRENT_KERNEL : kinds[operation->kind];
    if (enabled[kind]) {
        if (pending_count == pending_room) {
            pending_room = pending_room ? 2 * pending_room : 1024;
            pending = realloc(pending, pending_room * sizeof *pending);
        }
        pending[pending_count++] = *operation;
    }
    pthread_mutex_unlock(&lock);
}

static void listen(void) {
    static const struct listener listener = {called, submitted};
    standin_listen(&listener);
}

static CUptiResult ready(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (is_newer)
        return NOT_INITIALIZED;
    pthread_once(&once, listen);
    return SUCCESS;
}

/* --- the public functions --------------------------------------------------------------------- */

API CUptiResult cuptiGetVersion(uint32_t *version) {
#ifdef OLDER
    *version = 12;
#else
    *version = 130000;
#endif
    return SUCCESS;
}

API CUptiResult cuptiGetResultString(CUptiResult result, const char **text) {
    *text = result == NOT_INITIALIZED ? "CUPTI_ERROR_NOT_INITIALIZED"
            : result == MULTIPLE_SUBSCRIBERS ? "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"
                                             : "CUPTI_ERROR_UNKNOWN";
    return SUCCESS;
}

API CUptiResult cuptiSubscribe(void **subscriber, void *callback, void *data) {
    (void)callback, (void)data;
    if (is_newer)
        return NOT_INITIALIZED;
    if (is_taken || is_subscribed)
        return MULTIPLE_SUBSCRIBERS;
    is_subscribed = 1;
    *subscriber = &is_subscribed;
    return SUCCESS;
}

API CUptiResult cuptiUnsubscribe(void *subscriber) {
    (void)subscriber;
    is_subscribed = 0;
    return SUCCESS;
}

API CUptiResult cuptiActivityRegisterCallbacks(
    void (*requested_function)(uint8_t **, size_t *, size_t *),
    void (*completed_function)(void *, uint32_t, uint8_t *, size_t, size_t)) {
    request = requested_function;
    complete = completed_function;
    return ready();
}

API CUptiResult cuptiActivityEnable(uint32_t kind) {
    if (kind >= KINDS || kind == refused || (kind == ACTIVITY_GRAPH_TRACE && has_no_graphs))
        return INVALID_PARAMETER;
    enabled[kind] = 1;
    return ready();
}

API CUptiResult cuptiActivityDisable(uint32_t kind) {
    if (kind >= KINDS)
        return INVALID_PARAMETER;
    enabled[kind] = 0;
    return ready();
}

API CUptiResult cuptiSetThreadIdType(int type) {
    system_threads = type == 1;
    return ready();
}

API CUptiResult cuptiGetCallbackName(int domain, uint32_t number, const char **name) {
    const char *found = function_of(domain, number);
    if (found)
        *name = found;
    return found ? SUCCESS : INVALID_PARAMETER;
}

#ifndef OLDER
API CUptiResult cuptiActivityRegisterTimestampCallback(uint64_t (*function)(void)) {
    timestamp = function;
    return ready();
}

static CUptiResult choose(int domain, uint32_t kind, uint32_t number, uint8_t is_enabled) {
    if (number >= sizeof chosen[0])
        return INVALID_PARAMETER;
    has_chosen[domain] = enabled[kind] = 1;
    chosen[domain][number] = is_enabled;
    return ready();
}

API CUptiResult cuptiActivityEnableDriverApi(uint32_t number, uint8_t is_enabled) {
    return choose(DOMAIN_DRIVER, ACTIVITY_DRIVER, number, is_enabled);
}

API CUptiResult cuptiActivityEnableRuntimeApi(uint32_t number, uint8_t is_enabled) {
    return choose(DOMAIN_RUNTIME, ACTIVITY_RUNTIME, number, is_enabled);
}
#endif

/* Take what is to become records from the list of operations; to be freed. */
static struct operation *taken(int is_forced, uint64_t now, size_t *count) {
    pthread_mutex_lock(&lock);
    struct operation *result = malloc((pending_count + 1) * sizeof *result);
    size_t kept = 0;
    *count = 0;
    for (size_t index = 0; index < pending_count; index++) {
        if (pending[index].end_ns <= now || is_forced)
            result[(*count)++] = pending[index];
        else
            pending[kept++] = pending[index];
    }
    pending_count = kept;
    pthread_mutex_unlock(&lock);
    return result;
}

API CUptiResult cuptiActivityFlushAll(uint32_t flag) {
    uint64_t now = monotonic_ns();
    size_t count;
    if (is_newer || !request)
        return NOT_INITIALIZED;
    struct operation *operations = taken(flag & 1, now, &count);
    for (size_t index = 0; index < count; index++) {
        pthread_mutex_lock(&lock);
        add_operation(&operations[index], operations[index].end_ns <= now);
        pthread_mutex_unlock(&lock);
        hand_over(0);
    }
    free(operations);
    hand_over(1);
    return SUCCESS;
}

API CUptiResult cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, uint8_t **record) {
    static const size_t sizes[KINDS] = {
        [ACTIVITY_MEMCPY] = sizeof(struct copy_record), [ACTIVITY_MEMSET] = sizeof(struct set_record),
        [ACTIVITY_MEMCPY_PEER] = sizeof(struct peer_record),
        [ACTIVITY_DRIVER] = sizeof(struct api_record), [ACTIVITY_RUNTIME] = sizeof(struct api_record),
        [ACTIVITY_CONCURRENT_KERNEL] = sizeof(struct kernel_record),
        [ACTIVITY_GRAPH_TRACE] = sizeof(struct graph_record)};
    uint8_t *next = *record ? *record + sizes[*(uint32_t *)*record] : buffer;
    if (!buffer || next >= buffer + valid)
        return MAX_LIMIT_REACHED;
    *record = next;
    return SUCCESS;
}

API CUptiResult cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *count) {
    (void)context, (void)stream;
    *count = __atomic_exchange_n(&dropped, 0, __ATOMIC_RELAXED);
    return SUCCESS;
}

API CUptiResult cuptiFinalize(void) {
    return SUCCESS;
}
