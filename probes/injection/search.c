// SPDX-License-Identifier: BSD-3-Clause
/* Searches the CUPTI that suits the process.
 *
 * The one that is loaded already is taken, else the one of the Python environment (wheels, conda),
 * else the toolkit's. A CUPTI that is newer than the driver does not start: then the next is tried. */
#define _GNU_SOURCE
#include "injection.h"

#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DIRECTORIES 64
#define NAME "libcupti.so.[1-9][0-9]" /* of the major versions of CUDA */

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
            result = start_cupti_at(found.gl_pathv[index]);
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
    size_t length = file ? fread(name, 1, sizeof name - sizeof "/..", file) : 0;
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
    if (*loaded ? !start_cupti_at(loaded) : !try_each())
        return 0;
    if (*cupti_failures())
        write_trouble("CUPTI does not record: %s", cupti_failures());
    else
        write_trouble("no CUPTI was found that suits the driver, in this process, its Python"
                      " environment or the toolkit (pip install nvidia-cuda-cupti)");
    return -1;
}
