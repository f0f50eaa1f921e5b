// SPDX-License-Identifier: BSD-3-Clause
/* Prints where the members lie that the injection library reads of CUPTI's records: by its own
 * declarations, and by NVIDIA's headers, which are not part of this project. Compiled with the newest
 * types of the headers as KERNEL, COPY, PEER, SET, API and GRAPH. */
#include "records.c"

#include <cupti_activity.h>
#include <stdio.h>

#define SHOW(ours, theirs, member, name)                                                           \
    printf(#ours "." #member " %zu %zu\n", offsetof(struct ours, member), offsetof(theirs, name))

/* What records.c calls of the other parts; nothing is called here. */
struct cupti cupti;
const char *function_name(int domain, uint32_t number) { return NULL; }
size_t write_records(const struct gpu_record *records, size_t count) { return 0; }
void write_line(const char *format, ...) {}
uint64_t monotonic_ns(void) { return 0; }
int is_child(void) { return 0; }

int main(void) {
    SHOW(kernel_activity, KERNEL, start, start);
    SHOW(kernel_activity, KERNEL, end, end);
    SHOW(kernel_activity, KERNEL, device, deviceId);
    SHOW(kernel_activity, KERNEL, context, contextId);
    SHOW(kernel_activity, KERNEL, stream, streamId);
    SHOW(kernel_activity, KERNEL, correlation, correlationId);
    SHOW(kernel_activity, KERNEL, name, name);
    SHOW(kernel_activity, KERNEL, graph_node, graphNodeId);
    SHOW(copy_activity, COPY, copy, copyKind);
    SHOW(copy_activity, COPY, from, srcKind);
    SHOW(copy_activity, COPY, to, dstKind);
    SHOW(copy_activity, COPY, bytes, bytes);
    SHOW(copy_activity, COPY, start, start);
    SHOW(copy_activity, COPY, end, end);
    SHOW(copy_activity, COPY, device, deviceId);
    SHOW(copy_activity, COPY, context, contextId);
    SHOW(copy_activity, COPY, stream, streamId);
    SHOW(copy_activity, COPY, correlation, correlationId);
    SHOW(copy_activity, COPY, graph_node, graphNodeId);
    SHOW(peer_activity, PEER, bytes, bytes);
    SHOW(peer_activity, PEER, start, start);
    SHOW(peer_activity, PEER, end, end);
    SHOW(peer_activity, PEER, device, deviceId);
    SHOW(peer_activity, PEER, context, contextId);
    SHOW(peer_activity, PEER, stream, streamId);
    SHOW(peer_activity, PEER, correlation, correlationId);
    SHOW(peer_activity, PEER, graph_node, graphNodeId);
    SHOW(set_activity, SET, bytes, bytes);
    SHOW(set_activity, SET, start, start);
    SHOW(set_activity, SET, end, end);
    SHOW(set_activity, SET, device, deviceId);
    SHOW(set_activity, SET, context, contextId);
    SHOW(set_activity, SET, stream, streamId);
    SHOW(set_activity, SET, correlation, correlationId);
    SHOW(set_activity, SET, graph_node, graphNodeId);
    SHOW(api_activity, API, number, cbid);
    SHOW(api_activity, API, start, start);
    SHOW(api_activity, API, end, end);
    SHOW(api_activity, API, pid, processId);
    SHOW(api_activity, API, tid, threadId);
    SHOW(api_activity, API, correlation, correlationId);
    SHOW(api_activity, API, result, returnValue);
    SHOW(graph_activity, GRAPH, correlation, correlationId);
    SHOW(graph_activity, GRAPH, start, start);
    SHOW(graph_activity, GRAPH, end, end);
    SHOW(graph_activity, GRAPH, device, deviceId);
    SHOW(graph_activity, GRAPH, context, contextId);
    SHOW(graph_activity, GRAPH, stream, streamId);
}
