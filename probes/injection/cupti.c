// SPDX-License-Identifier: BSD-3-Clause
/* One CUPTI: its functions, and how it is made to record. */
#define _GNU_SOURCE
#include "injection.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define MAX_FUNCTIONS 4096
#define MAX_TRIED 32

enum { MAX_LIMIT_REACHED = 12, NOT_INITIALIZED = 15, MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39 };
enum { SYSTEM_THREAD_IDS = 1 };

struct cupti cupti;
static const char *function_names[3][MAX_FUNCTIONS]; /* by domain and number: those we record */
static char failure[256];   /* why the CUPTI that is being tried does not record */
static char failures[1024]; /* the same of all that were tried, each with its path */
static int is_taken;        /* another tool uses CUPTI: no other CUPTI is tried then */
static int is_registered;   /* one has our callbacks, which call its functions: the same */

const char *function_name(int domain, uint32_t number) {
    return number < MAX_FUNCTIONS ? function_names[domain][number] : NULL;
}

/* --- the driver --------------------------------------------------------------------------------- */

void *driver_function(const char *name) {
    static void *libcuda;
    if (!libcuda)
        libcuda = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    return libcuda ? dlsym(libcuda, name) : NULL;
}

int driver_version(void) {
    int (*get)(int *), version = 0;
    *(void **)&get = driver_function("cuDriverGetVersion");
    return get && !get(&version) ? version : 0;
}

/* --- one CUPTI ---------------------------------------------------------------------------------- */

/* A subscriber that gets no events, since it enables none. */
static void ignore(void *data, int domain, uint32_t number, const void *parameters) {
    (void)data, (void)domain, (void)number, (void)parameters;
}

/* Whether a function of CUPTI failed; the reason is kept. */
static int failed(const char *function, cupti_result result) {
    const char *text = NULL;
    if (!result)
        return 0;
    if (!cupti.result_string || cupti.result_string(result, &text))
        text = NULL;
    snprintf(failure, sizeof failure, "%s returned %d%s%s%s", function, result, text ? ", " : "",
             text ? text : "",
             result == NOT_INITIALIZED ? ": it may be newer than the driver"
             : is_taken                ? ": another tool uses CUPTI in this process" : "");
    return 1;
}

static int bind_functions(void *library) {
    struct { const char *name; void *function; int is_optional; } wanted[] = {
        {"cuptiGetVersion", &cupti.get_version, 0},
        {"cuptiSubscribe", &cupti.subscribe, 0},
        {"cuptiUnsubscribe", &cupti.unsubscribe, 0},
        {"cuptiActivityRegisterCallbacks", &cupti.register_callbacks, 0},
        {"cuptiActivityRegisterTimestampCallback", &cupti.register_timestamp, 0},
        {"cuptiSetThreadIdType", &cupti.set_thread_id_type, 0},
        {"cuptiActivityEnable", &cupti.enable, 0},
        {"cuptiActivityDisable", &cupti.disable, 0},
        {"cuptiActivityEnableDriverApi", &cupti.enable_driver_function, 0},
        {"cuptiActivityEnableRuntimeApi", &cupti.enable_runtime_function, 0},
        {"cuptiGetCallbackName", &cupti.callback_name, 0},
        {"cuptiActivityGetNextRecord", &cupti.next_record, 0},
        {"cuptiActivityGetNumDroppedRecords", &cupti.dropped_records, 0},
        {"cuptiActivityFlushAll", &cupti.flush_all, 0},
        {"cuptiGetResultString", &cupti.result_string, 1},
    };
    for (size_t index = 0; index < sizeof wanted / sizeof *wanted; index++) {
        void *found = dlsym(library, wanted[index].name);
        *(void **)wanted[index].function = found;
        if (!found && !wanted[index].is_optional) {
            snprintf(failure, sizeof failure, "it is too old: it has no %s", wanted[index].name);
            return -1;
        }
    }
    return 0;
}

/* Whether a name in CUPTI's list, such as cuMemcpyHtoD_v2_ptds or cudaMemcpy_ptds_v7000, is one of
 * the names without the suffixes of versions and of default streams. */
static int is_named(const char *name, const char *const *wanted) {
    for (; *wanted; wanted++) {
        size_t length = strlen(*wanted);
        const char *rest = name + length;
        if (strncmp(name, *wanted, length))
            continue;
        while (*rest == '_' && (!strncmp(rest, "_ptsz", 5) || !strncmp(rest, "_ptds", 5)
                                || (rest[1] == 'v' && rest[2] >= '0' && rest[2] <= '9')))
            rest += 1 + strcspn(rest + 1, "_");
        if (!*rest)
            return 1;
    }
    return 0;
}

/* Have the calls of these functions recorded. */
static int enable_functions(int domain, const char *const *wanted,
                            cupti_result (*enable)(uint32_t, uint8_t)) {
    const char *name = NULL;
    int count = 0;
    for (uint32_t number = 1, unknown = 0; number < MAX_FUNCTIONS && unknown < 64; number++) {
        if (cupti.callback_name(domain, number, &name) || !name) {
            unknown++;
        } else if (is_named(name, wanted)
                   && !failed("enabling the record of a function", enable(number, 1))) {
            function_names[domain][number] = name;
            count++;
        }
        name = NULL;
    }
    if (!count && !*failure)
        snprintf(failure, sizeof failure, "it knows none of the functions to record");
    return count ? 0 : -1;
}

static int enable_activities(void) {
    static const uint32_t kinds[] = {ACTIVITY_CONCURRENT_KERNEL, ACTIVITY_MEMCPY,
                                     ACTIVITY_MEMCPY_PEER, ACTIVITY_MEMSET};
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++)
        if (failed("cuptiActivityEnable", cupti.enable(kinds[index])))
            return -1;
    cupti.enable(ACTIVITY_GRAPH_TRACE); /* without it, the kernels of graphs are recorded */
    if (enable_functions(DOMAIN_DRIVER, gpu_driver_functions, cupti.enable_driver_function))
        return -1;
    if (enable_functions(DOMAIN_RUNTIME, gpu_runtime_functions, cupti.enable_runtime_function))
        write_trouble("calls of the CUDA runtime are not recorded: %s", failure);
    return 0;
}

/* What is enabled twice, or was not, does no harm: results are not looked at. */
void stop_cupti(void) {
    static const uint32_t kinds[] = {ACTIVITY_CONCURRENT_KERNEL, ACTIVITY_MEMCPY, ACTIVITY_MEMCPY_PEER,
                                     ACTIVITY_MEMSET, ACTIVITY_GRAPH_TRACE, ACTIVITY_DRIVER,
                                     ACTIVITY_RUNTIME};
    for (uint32_t number = 1; number < MAX_FUNCTIONS; number++) {
        if (function_names[DOMAIN_DRIVER][number])
            cupti.enable_driver_function(number, 0);
        if (function_names[DOMAIN_RUNTIME][number])
            cupti.enable_runtime_function(number, 0);
    }
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++)
        cupti.disable(kinds[index]);
}

/* Another tool keeps its place: we only look whether there is one, and do not stay subscribed. */
static int is_free(void) {
    void *subscriber = NULL;
    cupti_result result = cupti.subscribe(&subscriber, (void *)ignore, NULL);
    is_taken = result == MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED || result == MAX_LIMIT_REACHED;
    if (failed("cuptiSubscribe", result))
        return 0;
    cupti.unsubscribe(subscriber);
    return 1;
}

/* The clock and the threads' numbers come before any record. */
static int start_free(void) {
    if (failed("cuptiActivityRegisterCallbacks",
               cupti.register_callbacks(buffer_requested, buffer_completed)))
        return -1;
    is_registered = 1;
    if (!failed("cuptiActivityRegisterTimestampCallback", cupti.register_timestamp(record_clock))
        && !failed("cuptiSetThreadIdType", cupti.set_thread_id_type(SYSTEM_THREAD_IDS))
        && !enable_activities())
        return 0;
    stop_cupti();
    return -1;
}

/* Let an open CUPTI record. */
static int start_open(void *library) {
    *failure = 0;
    return bind_functions(library) || failed("cuptiGetVersion", cupti.get_version(&cupti.version))
                   || !is_free() || start_free()
               ? -1 : 0;
}

/* Whether a library was tried before, by another path. */
static int was_tried(void *library) {
    static void *tried[MAX_TRIED];
    int index = 0;
    while (index < MAX_TRIED - 1 && tried[index] && tried[index] != library)
        index++;
    int result = tried[index] == library;
    tried[index] = library;
    return result;
}

int start_cupti_at(const char *path) {
    size_t length = strlen(failures);
    int is_last = is_taken || is_registered;
    void *library = is_last ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (is_last || (library && was_tried(library)))
        return -1;
    if (!library)
        snprintf(failure, sizeof failure, "%s", dlerror());
    else if (!start_open(library)) {
        snprintf(cupti.path, sizeof cupti.path, "%s", path);
        return 0;
    }
    snprintf(failures + length, sizeof failures - length, "%s%s: %s", length ? "; " : "", path, failure);
    return -1;
}

const char *cupti_failures(void) {
    return failures;
}

int is_taken_over(void) {
    return !is_free() && is_taken;
}
