// SPDX-License-Identifier: BSD-3-Clause
/* The two files of a process.
 *
 * Each is opened for each write, so that no descriptor stays open in the process: the program may
 * close all, use their numbers again, or fork. */
#define _GNU_SOURCE
#include "injection.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_PROGRAMS 100 /* that one process executes one after the other */
#define MAX_LINE 16384

static char records_path[4096], lines_path[4096];
static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

uint64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- names ------------------------------------------------------------------------------------- */

/* Field 22 of /proc/self/stat; 0 if it cannot be read. */
static unsigned long long start_time(void) {
    char stat[1024];
    unsigned long long ticks = 0;
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, stat, sizeof stat - 1);
    if (file >= 0)
        close(file);
    if (length < 0)
        return 0;
    stat[length] = 0;
    char *field = strrchr(stat, ')'); /* ends the name, which may contain anything */
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    if (field)
        sscanf(field, " %llu", &ticks);
    return ticks;
}

/* Create a file that does not exist yet. Returns 0 or an errno. */
static int create(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return errno;
    close(file);
    return 0;
}

static int name_file(char *path, const char *ending, int program) {
    const char *directory = secure_getenv("CVMPROF_GPU_DIR");
    char number[16] = "";
    if (!directory || *directory != '/')
        return ENOENT;
    if (program > 1)
        snprintf(number, sizeof number, "-%d", program);
    int length = snprintf(path, sizeof records_path, "%s/%d-%llu%s.%s", directory, (int)getpid(),
                          start_time(), number, ending);
    return length < (int)sizeof records_path ? 0 : ENAMETOOLONG;
}

/* A process that executes another program keeps its number and start time: from the second program
 * on, names end in "-2", "-3" and so on. */
int create_files(void) {
    int error = EEXIST;
    for (int program = 1; error == EEXIST && program <= MAX_PROGRAMS; program++) {
        error = name_file(lines_path, "lines", program);
        if (!error)
            error = name_file(records_path, "records", program);
        if (!error)
            error = create(lines_path);
    }
    return error ? error : create(records_path);
}

/* --- records ----------------------------------------------------------------------------------- */

/* Bytes that a file may still grow by. Beyond the limit the kernel would send SIGXFSZ. */
static size_t growth(off_t size) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    return limit.rlim_cur > (rlim_t)size ? limit.rlim_cur - (rlim_t)size : 0;
}

/* Append up to size bytes in units of unit. Returns how many bytes the file grew by. */
static size_t append(const char *path, const void *bytes, size_t size, size_t unit) {
    struct stat status;
    size_t written = 0;
    int file = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return 0;
    if (!fstat(file, &status) && S_ISREG(status.st_mode)) {
        size_t room = growth(status.st_size);
        errno = size <= room ? ENOSPC : EFBIG; /* where write says nothing itself */
        size = size < room ? size : room - room % unit;
        ssize_t result = size ? write(file, bytes, size) : 0;
        written = result > 0 ? (size_t)result - (size_t)result % unit : 0;
        if (result > 0 && written != (size_t)result) /* the disk is full: end after a whole unit */
            (void)!ftruncate(file, status.st_size + (off_t)written);
    }
    close(file);
    return written;
}

static int last_error;

size_t write_records(const struct gpu_record *records, size_t count) {
    pthread_mutex_lock(&writing);
    size_t written = append(records_path, records, count * sizeof *records, sizeof *records);
    int error = errno;
    size_t missing = count - written / sizeof *records;
    int is_new = missing && error != last_error; /* their number is among the dropped */
    if (missing)
        last_error = error;
    pthread_mutex_unlock(&writing);
    if (is_new)
        write_trouble("records could not be written: %s", strerror(error));
    return missing;
}

/* --- lines ------------------------------------------------------------------------------------- */

/* A line that is being written; what does not fit is left out. */
struct line { char text[MAX_LINE]; size_t length; };

static void add(struct line *line, const char *text, size_t length) {
    if (line->length + length > sizeof line->text)
        return;
    memcpy(line->text + line->length, text, length);
    line->length += length;
}

/* Bytes that are not ASCII are written as the character of that number. */
static void add_quoted(struct line *line, const char *text) {
    add(line, "\"", 1);
    for (; *text && line->length < sizeof line->text - 64; text++) {
        unsigned char byte = (unsigned char)*text;
        char escaped[8];
        if (byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\')
            add(line, text, 1);
        else
            add(line, escaped, (size_t)snprintf(escaped, sizeof escaped, "\\u%04x", byte));
    }
    add(line, "\"", 1);
}

void write_line(const char *format, ...) {
    struct line line = {.length = 0};
    char number[32];
    va_list values;
    va_start(values, format);
    for (; *format; format++) {
        if (*format != '%') {
            add(&line, format, 1);
        } else if (*++format == 'Q') {
            add_quoted(&line, va_arg(values, const char *));
        } else {
            uint64_t value = va_arg(values, uint64_t);
            add(&line, number, (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)value));
        }
    }
    va_end(values);
    add(&line, "\n", 1);
    pthread_mutex_lock(&writing);
    append(lines_path, line.text, line.length, line.length);
    pthread_mutex_unlock(&writing);
}

void write_trouble(const char *format, ...) {
    char text[1024];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    write_line("{\"kind\":\"trouble\",\"time_ns\":%U,\"text\":%Q}", monotonic_ns(), text);
}
