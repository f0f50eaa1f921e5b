// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The daemons' TCP connections and the requests on them, by the socket system calls. */

#define AF_INET 2
#define AF_INET6 10
#define SOCKET_STREAM 1
#define MODE_SOCKET 0140000
#define WORD_GET 0x20544547     /* "GET " */
#define WORD_CONNECT 0x4e4e4f43 /* "CONN" */
#define TLS_HANDSHAKE 0x16
#define TLS_DATA 0x17
#define UNSEEN (DOWNLOAD_TLS | DOWNLOAD_TUNNEL) /* the request is not visible */
#define TLS_REQUEST_BYTES 80 /* the end of a handshake is shorter, a request is longer */

enum { SENT_OTHER, SENT_GET, SENT_TUNNEL, SENT_HELLO, SENT_ENCRYPTED };

BPF_HASH(downloads, u64, struct download, 8192);  /* pid << 32 | fd -> the connection's last download */
BPF_PERCPU_ARRAY(download_scratch, struct download, THREAD_SLOTS);

static __always_inline u64 connection_key(struct thread *thread, u32 descriptor) {
    return (u64)thread->pid << 32 | descriptor;
}

/* The struct sock of a descriptor's TCP socket; 0 if it is something else. */
static __always_inline u64 tcp_sock_of(u32 descriptor) {
    u64 file = file_of(descriptor);
    u64 inode = file ? read_u64(file + OFFSET_FILE_F_INODE) : 0;
    if (!inode || (read_u32(inode + OFFSET_INODE_I_MODE) & MODE_TYPE) != MODE_SOCKET)
        return 0;
    u64 socket = read_u64(file + OFFSET_FILE_PRIVATE_DATA);
    u64 sock = read_u64(socket + OFFSET_SOCKET_SK);
    u16 type = read_u32(socket + OFFSET_SOCKET_TYPE), family = read_u32(sock + OFFSET_SOCK_FAMILY);
    return type == SOCKET_STREAM && (family == AF_INET || family == AF_INET6) ? sock : 0;
}

static __always_inline void read_address(u8 *to, u16 family, u64 v4, u64 v6) {
    if (family == AF_INET6)
        bpf_probe_read_kernel(to, 16, (void *)v6);
    else
        bpf_probe_read_kernel(to, 4, (void *)v4);
}

#if !defined(OFFSET_SOCK_V6_DADDR) || !defined(OFFSET_SOCK_V6_RCV_SADDR)
#define OFFSET_SOCK_V6_DADDR OFFSET_SOCK_DADDR
#define OFFSET_SOCK_V6_RCV_SADDR OFFSET_SOCK_RCV_SADDR
#endif

static __always_inline void read_local(struct download *connection, u64 sock) {
    connection->local_port = read_u32(sock + OFFSET_SOCK_NUM);
    read_address(connection->local, connection->family, sock + OFFSET_SOCK_RCV_SADDR, sock + OFFSET_SOCK_V6_RCV_SADDR);
}

static __always_inline void read_remote(struct download *connection, u64 sock) {
    connection->remote_port = __builtin_bswap16(read_u32(sock + OFFSET_SOCK_DPORT));
    read_address(connection->remote, connection->family, sock + OFFSET_SOCK_DADDR, sock + OFFSET_SOCK_V6_DADDR);
}

/* Fills in the connection of a system call's descriptor. Returns false if it is not a TCP socket. */
static __always_inline bool describe_connection(struct download *connection, struct thread *thread) {
    u64 sock = tcp_sock_of(thread->syscall_fd);
    if (!sock)
        return false;
    __builtin_memset(connection, 0, sizeof(*connection));
    connection->pid = thread->pid;
    connection->tid = thread->tid;
    connection->fd = thread->syscall_fd;
    connection->family = read_u32(sock + OFFSET_SOCK_FAMILY);
    connection->socket = read_u64(read_u64(file_of(thread->syscall_fd) + OFFSET_FILE_F_INODE) + OFFSET_INODE_I_INO);
#ifdef OFFSET_SOCK_NET
    connection->net_namespace = read_u32(read_u64(sock + OFFSET_SOCK_NET) + OFFSET_NET_NS_INUM);
#endif
    read_local(connection, sock);
    read_remote(connection, sock);
    return true;
}

static __always_inline void emit_of(struct download *download) {
    if (!serves_others(download->pid))
        emit_download(download);
}

/* Reports once that the connection exists, for the session, which samples it. */
static __always_inline void announce(struct download *connection) {
    if (connection->flags & DOWNLOAD_KNOWN || serves_others(connection->pid))
        return;
    connection->flags |= DOWNLOAD_ANNOUNCED;
    emit_download(connection);
    connection->flags ^= DOWNLOAD_ANNOUNCED | DOWNLOAD_KNOWN;
}

/* The address given to connect(2): if connecting fails, the socket does not keep it. */
static __always_inline void read_peer(struct download *connection, u64 address) {
    u16 port = 0;
    read_user(&port, sizeof(port), (void *)(address + 2));
    connection->remote_port = __builtin_bswap16(port);
    if (connection->family == AF_INET6)
        read_user(connection->remote, 16, (void *)(address + 8));
    else
        read_user(connection->remote, 4, (void *)(address + 4));
}

/* The kind of a message by its first bytes: with TLS (RFC 8446, 5.1) type, version and length. */
static __always_inline u32 kind_of_message(u64 begin) {
    u8 type = begin, version = begin >> 8;
    u32 length = (begin >> 24 & 0xff) << 8 | (begin >> 32 & 0xff);
    if ((u32)begin == WORD_GET)
        return SENT_GET;
    if ((u32)begin == WORD_CONNECT)
        return SENT_TUNNEL;
    if (version == 3 && type == TLS_HANDSHAKE)
        return SENT_HELLO;
    return version == 3 && type == TLS_DATA && length >= TLS_REQUEST_BYTES ? SENT_ENCRYPTED : SENT_OTHER;
}

/* Copies the connection's state to its next download. Returns false if this message does not begin one. */
static __always_inline bool carry_on(struct download *next, struct download *last, u32 sent) {
    if (last->sent_ns && (sent == SENT_TUNNEL || sent == SENT_HELLO || (sent == SENT_ENCRYPTED && !last->first_byte_ns)))
        return false;
    next->connect_ns = last->connect_ns;
    next->sequence = last->sent_ns ? last->sequence + 1 : 0;
    next->flags = last->flags;
    if (last->flags & UNSEEN)
        bpf_probe_read_kernel(next->request, sizeof(next->request), last->request);
    return true;
}

static __always_inline void read_message(struct download *next, u32 sent, u64 buffer) {
    if (sent == SENT_GET || sent == SENT_TUNNEL)
        read_user_string(next->request, sizeof(next->request), (void *)buffer);
    else if (sent == SENT_HELLO && !(next->flags & UNSEEN))
        read_user(next->request, sizeof(next->request), (void *)buffer);
    if (sent == SENT_TUNNEL)
        next->flags |= DOWNLOAD_TUNNEL;
    else if (sent != SENT_GET)
        next->flags |= DOWNLOAD_TLS;
}
