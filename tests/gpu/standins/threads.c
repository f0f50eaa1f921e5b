// SPDX-License-Identifier: BSD-3-Clause
/* Preloaded, in place of functions of the C library that start threads. Switches, by environment:
 *
 * STANDIN_NAMING_US=N   naming a thread takes so many microseconds, in which the thread runs
 * STANDIN_NO_THREADS=1  no thread can be started */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))

API int pthread_setname_np(pthread_t thread, const char *name) {
    int (*set)(pthread_t, const char *);
    const char *us = getenv("STANDIN_NAMING_US");
    *(void **)&set = dlsym(RTLD_NEXT, "pthread_setname_np");
    if (us)
        usleep((useconds_t)atoi(us));
    return set(thread, name);
}

API int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    return getenv("STANDIN_NO_THREADS") ? EAGAIN : create(thread, attributes, run, argument);
}
