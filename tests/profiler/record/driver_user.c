// SPDX-License-Identifier: BSD-3-Clause
/* Uses a CUDA driver as the lines of its standard input say, and answers each with a line:
 *   open PATH   loads a driver          launch N, sync N, in N BYTES   calls a function of it N times
 *   child       a child goes on; its parent waits for it */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void *driver;

static void *function(const char *name) {
    void *found = driver ? dlsym(driver, name) : NULL;
    if (!found) {
        fprintf(stderr, "no %s\n", name);
        exit(1);
    }
    return found;
}

static void launch(int count) {
    int (*call)(void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **) =
        function("cuLaunchKernel");
    while (count--)
        call(NULL, 0, 1, 1, 1, 1, 1, 0, NULL, NULL, NULL);
}

static void synchronise(int count) {
    int (*call)(void) = function("cuCtxSynchronize");
    while (count--)
        call();
}

static void copy(int count, size_t bytes) {
    int (*call)(uint64_t, const void *, size_t) = function("cuMemcpyHtoD_v2");
    while (count--)
        call(0, NULL, bytes);
}

static void go_on_as_child(void) {
    pid_t child = fork();
    if (child) {
        waitpid(child, NULL, 0);
        exit(0);
    }
}

int main(void) {
    char line[4096], *step = line;
    setvbuf(stdin, NULL, _IONBF, 0); /* a child reads on where its parent stopped */
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = strchr(step, ' ') ? strchr(step, ' ') + 1 : "";
        if (!strncmp(step, "open ", 5) && !(driver = dlopen(rest, RTLD_NOW | RTLD_LOCAL)))
            return fprintf(stderr, "%s\n", dlerror()), 1;
        if (!strncmp(step, "launch ", 7))
            launch(atoi(rest));
        if (!strncmp(step, "sync ", 5))
            synchronise(atoi(rest));
        if (!strncmp(step, "in ", 3))
            copy(atoi(rest), strtoul(strchr(rest, ' '), NULL, 10));
        if (!strcmp(step, "child"))
            go_on_as_child();
        printf("%d\n", getpid());
        fflush(stdout);
    }
    return 0;
}
