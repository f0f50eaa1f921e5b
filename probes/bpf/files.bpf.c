// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The path of a file and of its mount, by a walk from its dentry to the root of its namespace. */

#define PATH_DEPTH 48
#define PATH_BYTES 2048
#define NAME_BYTES 256

/* File that was reported -> birth of its mount: a later mount may have the same device number. A file that was
 * evicted is reported again. */
BPF_TABLE("lru_hash", struct file_identity, u64, seen_files, 65536);

/* A failure begins as a file does. A name may begin at the last byte of components, and is read into what follows
 * them, which is longer than a name. */
BPF_PERCPU_ARRAY(path_scratch, struct failure, THREAD_SLOTS);

struct path_step {
    u64 dentry;
    u64 vfsmount;
};

/* Appends one component and steps to its parent. Returns false at the root, or if there is no room left. */
static __always_inline bool step_up(struct file *file, struct path_step *at) {
    u64 parent = read_u64(at->dentry + OFFSET_DENTRY_D_PARENT);
    if (at->dentry == read_u64(at->vfsmount + OFFSET_VFSMOUNT_MNT_ROOT) || at->dentry == parent) {
        u64 mount = at->vfsmount - OFFSET_MOUNT_MNT;
        u64 above = read_u64(mount + OFFSET_MOUNT_MNT_PARENT);
        if (!above || above == mount) {
            file->complete = 1;
            return false;
        }
        if (file->mount_text == 0xffff)
            file->mount_text = file->text;
        at->dentry = read_u64(mount + OFFSET_MOUNT_MNT_MOUNTPOINT);
        at->vfsmount = above + OFFSET_MOUNT_MNT;
        return true;
    }
    u64 used = file->text;
    if (used > PATH_BYTES - 1)
        return false;
    u64 name = read_u64(at->dentry + OFFSET_DENTRY_D_NAME_NAME);
    long length = bpf_probe_read_kernel_str(&file->components[used], NAME_BYTES, (void *)name);
    if (length <= 0)
        return false;
    file->text = used + length;
    file->depth++;
    at->dentry = parent;
    return file->text <= PATH_BYTES - 1;
}

static __always_inline struct path_step path_of(u64 file) {
    return (struct path_step){
        .dentry = read_u64(file + OFFSET_FILE_F_PATH_DENTRY),
        .vfsmount = read_u64(file + OFFSET_FILE_F_PATH_MNT),
    };
}

static __always_inline void describe_inode(struct file *file, u64 inode, struct file_identity *identity) {
    u64 superblock = read_u64(inode + OFFSET_INODE_I_SB);
    file->time_ns = bpf_ktime_get_ns();
    file->ino = identity->ino;
    file->dev = identity->dev;
    file->generation = identity->generation;
    file->size = read_u64(inode + OFFSET_INODE_I_SIZE);
    file->magic = read_u64(superblock + OFFSET_SUPER_BLOCK_S_MAGIC);
    file->pid = bpf_get_current_pid_tgid() >> 32;
    file->text = file->depth = file->complete = 0;
    file->mount_text = 0xffff;
    __builtin_memset(file->filesystem, 0, sizeof(file->filesystem));
    u64 subtype = read_u64(superblock + OFFSET_SUPER_BLOCK_S_SUBTYPE);
    if (subtype)
        bpf_probe_read_kernel_str(file->filesystem, sizeof(file->filesystem), (void *)subtype);
}

/* The components from a file or directory up to the root of its namespace. */
static __always_inline void walk_up(struct file *file, struct path_step at) {
    NO_UNROLL
    for (int depth = 0; depth < PATH_DEPTH; depth++)
        if (!step_up(file, &at))
            break;
    if (file->mount_text == 0xffff)
        file->mount_text = file->text;
}

/* Reports a file of a traced superblock once for each mount. */
static __always_inline void report_file(u64 file_pointer) {
    struct file_identity identity = {};
    u64 inode = read_u64(file_pointer + OFFSET_FILE_F_INODE);
    identify(inode, &identity);
    u64 *birth = births.lookup(&identity.dev), *seen = seen_files.lookup(&identity);
    u64 born = birth ? *birth : 0;
    if (seen && *seen == born)
        return;
    seen_files.update(&identity, &born);
    u32 slot = thread_slot();
    struct file *file = (struct file *)path_scratch.lookup(&slot);
    if (!file)
        return;
    describe_inode(file, inode, &identity);
    walk_up(file, path_of(file_pointer));
    emit_file(file);
}
