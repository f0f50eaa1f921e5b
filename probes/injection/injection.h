// SPDX-License-Identifier: BSD-3-Clause
/* The library that CUDA's driver loads into a process (CUDA_INJECTION64_PATH): its parts.
 *
 * It must not be noticed: every function that CUPTI or the C library calls saves errno, no call may
 * end the process, and a failure becomes a line in the process's file of lines. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "gpu_layouts.h" /* generated from probes/events.py and probes/gpu.py */

/* --- files.c: PID-STARTTIME.records and .lines in the directory CVMPROF_GPU_DIR ---------------- */

/* Name this process's files and create them. Returns 0, or an errno. */
int create_files(void);
/* Append whole records. Returns how many could not be written. */
size_t write_records(const struct gpu_record *records, size_t count);
/* Append a line. In the format, which is JSON, %Q stands for a string to be quoted, %U for a u64. */
void write_line(const char *format, ...);
/* Why something is not recorded. */
void write_trouble(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t monotonic_ns(void);

/* --- records.c: CUPTI's buffers ---------------------------------------------------------------- */

/* What CUPTI calls for an empty buffer, and to hand over one with records. */
void buffer_requested(uint8_t **buffer, size_t *size, size_t *most_records);
void buffer_completed(void *context, uint32_t stream, uint8_t *buffer, size_t size, size_t used);
/* How many buffers CUPTI has asked for. */
uint64_t buffers_requested(void);
/* Write down how many records CUPTI or this library dropped since the last time. */
void report_dropped(void);

/* --- cupti.c: one CUPTI, and the driver -------------------------------------------------------- */

typedef int cupti_result; /* 0 is success */

struct cupti {
    char path[4096];
    uint32_t version;
    cupti_result (*get_version)(uint32_t *);
    cupti_result (*subscribe)(void **, void *, void *);
    cupti_result (*unsubscribe)(void *);
    cupti_result (*register_callbacks)(void (*)(uint8_t **, size_t *, size_t *),
                                       void (*)(void *, uint32_t, uint8_t *, size_t, size_t));
    cupti_result (*register_timestamp)(uint64_t (*)(void));
    cupti_result (*set_thread_id_type)(int);
    cupti_result (*enable)(uint32_t);
    cupti_result (*disable)(uint32_t);
    cupti_result (*enable_driver_function)(uint32_t, uint8_t);
    cupti_result (*enable_runtime_function)(uint32_t, uint8_t);
    cupti_result (*callback_name)(int, uint32_t, const char **);
    cupti_result (*next_record)(uint8_t *, size_t, uint8_t **);
    cupti_result (*dropped_records)(void *, uint32_t, size_t *);
    cupti_result (*flush_all)(uint32_t);
    cupti_result (*result_string)(cupti_result, const char **);
};
extern struct cupti cupti;

/* CUPTI's numbers of its kinds of records. */
enum { ACTIVITY_MEMCPY = 1, ACTIVITY_MEMSET = 2, ACTIVITY_DRIVER = 4, ACTIVITY_RUNTIME = 5,
       ACTIVITY_CONCURRENT_KERNEL = 10, ACTIVITY_MEMCPY_PEER = 22, ACTIVITY_GRAPH_TRACE = 51 };

/* Let the CUPTI of a path record. Returns 0, or -1 with the reason kept. */
int start_cupti_at(const char *path);
/* Let it record nothing any more. */
void stop_cupti(void);
/* Why those that were tried do not record, each with its path. */
const char *cupti_failures(void);
/* Whether another tool has subscribed to CUPTI since. */
int is_taken_over(void);
/* The name of a function that CUPTI records, by its domain and number there; NULL if unknown. */
enum { DOMAIN_DRIVER = 1, DOMAIN_RUNTIME = 2 };
const char *function_name(int domain, uint32_t number);
/* The version of the driver, 1000 * major + 10 * minor; 0 if it does not say. */
int driver_version(void);
/* A function of libcuda. */
void *driver_function(const char *name);

/* --- search.c ---------------------------------------------------------------------------------- */

/* Find a CUPTI and let it record. Returns 0, or -1 with the trouble written down. */
int start_cupti(void);

/* --- injection.c ------------------------------------------------------------------------------- */

/* The clock of all records: CLOCK_MONOTONIC, and CUPTI's own one after another tool took over. */
uint64_t record_clock(void);
/* Whether this is a child of the process that records: it has no part in its files and buffers. */
int is_child(void);
