// SPDX-License-Identifier: BSD-3-Clause
/* Finds the CUPTI that suits the process, and lets it record.
 *
 * The one that is loaded already is taken, else the one of the Python environment (wheels, conda),
 * else the toolkit's. A CUPTI that is newer than the driver does not start: then the next is tried. */
#define _GNU_SOURCE
#include "injection.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_FUNCTIONS 4096
#define MAX_DIRECTORIES 64
#define MAX_TRIED 32
#define NAME "libcupti.so.[1-9][0-9]" /* of the major versions of CUDA */

enum { ACTIVITY_MEMCPY = 1, ACTIVITY_MEMSET = 2, ACTIVITY_CONCURRENT_KERNEL = 10,
       ACTIVITY_MEMCPY_PEER = 22, ACTIVITY_GRAPH_TRACE = 51 };
enum { MAX_LIMIT_REACHED = 12, NOT_INITIALIZED = 15, MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED = 39 };
enum { SYSTEM_THREAD_IDS = 1 };

struct cupti cupti;
static const char *function_names[3][MAX_FUNCTIONS]; /* by domain and number: those we record */
static char failure[256];   /* why the CUPTI that is being tried does not record */
static char failures[1024]; /* the same of all that were tried, each with its path */
static int is_taken;        /* another tool uses CUPTI: no other CUPTI is tried then */

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

/* A subscriber that is told of nothing, since it enables nothing. */
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
        } else if (is_named(name, wanted)) {
            if (failed("cuptiActivityEnableDriverApi", enable(number, 1)))
                return -1;
            function_names[domain][number] = name;
            count++;
        }
        name = NULL;
    }
    if (count)
        return 0;
    snprintf(failure, sizeof failure, "it knows none of the functions to record");
    return -1;
}

static int enable_activities(void) {
    static const uint32_t kinds[] = {ACTIVITY_CONCURRENT_KERNEL, ACTIVITY_MEMCPY,
                                     ACTIVITY_MEMCPY_PEER, ACTIVITY_MEMSET};
    for (size_t index = 0; index < sizeof kinds / sizeof *kinds; index++)
        if (failed("cuptiActivityEnable", cupti.enable(kinds[index])))
            return -1;
    cupti.enable(ACTIVITY_GRAPH_TRACE); /* without it, the kernels of graphs are recorded */
    return enable_functions(DOMAIN_DRIVER, gpu_driver_functions, cupti.enable_driver_function)
                   || enable_functions(DOMAIN_RUNTIME, gpu_runtime_functions, cupti.enable_runtime_function)
               ? -1 : 0;
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

/* Let an open CUPTI record. The clock and the threads' numbers come before any record. */
static int start_open(void *library) {
    return bind_functions(library) || failed("cuptiGetVersion", cupti.get_version(&cupti.version))
                   || !is_free()
                   || failed("cuptiActivityRegisterCallbacks",
                             cupti.register_callbacks(buffer_requested, buffer_completed))
                   || failed("cuptiActivityRegisterTimestampCallback",
                             cupti.register_timestamp(record_clock))
                   || failed("cuptiSetThreadIdType", cupti.set_thread_id_type(SYSTEM_THREAD_IDS))
                   || enable_activities()
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

/* Let the CUPTI of a path record. Returns 0, or -1 with the reason kept. */
static int start(const char *path) {
    size_t length = strlen(failures);
    void *library = is_taken ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (is_taken || (library && was_tried(library)))
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

int is_taken_over(void) {
    return !is_free() && is_taken;
}

/* --- where it may be ---------------------------------------------------------------------------- */

/* Directories that Python packages are in, by the libraries that are loaded from there. */
static char directories[MAX_DIRECTORIES][4096];
static int directory_count;

static void add_directory(const char *path, size_t length) {
    if (length >= sizeof *directories || directory_count == MAX_DIRECTORIES)
        return;
    for (int index = 0; index < directory_count; index++)
        if (!strncmp(directories[index], path, length) && !directories[index][length])
            return;
    memcpy(directories[directory_count], path, length);
    directories[directory_count++][length] = 0;
}

/* Keep the path of a loaded CUPTI, and the directory of packages that a library is in. */
static int note_library(struct dl_phdr_info *library, size_t size, void *found) {
    const char *name = library->dlpi_name ? library->dlpi_name : "", *base = strrchr(name, '/');
    const char *packages = strstr(name, "/site-packages/");
    (void)size;
    if (!packages)
        packages = strstr(name, "/dist-packages/");
    if (packages)
        add_directory(name, (size_t)(packages - name) + strlen("/site-packages"));
    if (base && !strncmp(base, "/libcupti.so", strlen("/libcupti.so")))
        snprintf(found, sizeof cupti.path, "%s", name);
    return 0;
}

/* The 12 of libcupti.so.12. */
static int major_of(const char *path) {
    return atoi(strrchr(path, '.') + 1);
}

/* Try each library that a pattern names and that is no newer than the driver, the newest first. */
static int try_pattern(const char *pattern) {
    glob_t found;
    int newest = driver_version() / 1000, result = -1;
    if (glob(pattern, 0, NULL, &found))
        return -1;
    for (size_t index = found.gl_pathc; index-- && result;)
        if (!newest || major_of(found.gl_pathv[index]) <= newest)
            result = start(found.gl_pathv[index]);
    globfree(&found);
    return result;
}

static int try_below(const char *directory, const char *below) {
    char pattern[8192];
    snprintf(pattern, sizeof pattern, "%.4095s/%.255s/" NAME, directory, below);
    return try_pattern(pattern);
}

static int try_packages(const char *directory) {
    return try_below(directory, "nvidia/cu1[3-9]/lib") && try_below(directory, "nvidia/cuda_cupti/lib");
}

/* An environment of Python or conda. */
static int try_environment(const char *prefix) {
    if (!prefix || *prefix != '/')
        return -1;
    return try_below(prefix, "lib*/python3*/[sd]i[ts]*-packages/nvidia/cu1[3-9]/lib")
           && try_below(prefix, "lib*/python3*/[sd]i[ts]*-packages/nvidia/cuda_cupti/lib")
           && try_below(prefix, "lib") && try_below(prefix, "extras/CUPTI/lib64");
}

/* The environment of the interpreter: its name, not followed, lies in PREFIX/bin. */
static int try_own_environment(void) {
    char name[4096], prefix[4096];
    FILE *file = fopen("/proc/self/cmdline", "re");
    size_t length = file ? fread(name, 1, sizeof name - 1, file) : 0;
    if (file)
        fclose(file);
    name[length] = 0;
    char *base = strrchr(name, '/');
    if (!base)
        return -1;
    strcpy(base, "/..");
    return realpath(name, prefix) ? try_environment(prefix) : -1;
}

static int try_toolkit(void) {
    const char *home = getenv("CUDA_HOME");
    return try_environment(home ? home : getenv("CUDA_PATH"))
           && try_pattern("/usr/local/cuda*/extras/CUPTI/lib64/" NAME)
           && try_pattern("/usr/local/cuda*/lib*/" NAME)
           && try_pattern("/usr/lib/*-linux-gnu/" NAME) ? -1 : 0;
}

static int try_each(void) {
    int result = -1;
    for (int index = 0; index < directory_count && result; index++)
        result = try_packages(directories[index]);
    return result && try_own_environment() && try_environment(getenv("VIRTUAL_ENV"))
                   && try_environment(getenv("CONDA_PREFIX")) && try_toolkit()
               ? -1 : 0;
}

int start_cupti(void) {
    char loaded[sizeof cupti.path] = "";
    dl_iterate_phdr(note_library, loaded);
    if (*loaded ? !start(loaded) : !try_each())
        return 0;
    if (*failures)
        write_trouble("CUPTI does not record: %s", failures);
    else
        write_trouble("no CUPTI was found that suits the driver, in this process, its Python"
                      " environment or the toolkit (pip install nvidia-cuda-cupti)");
    return -1;
}
