// SPDX-License-Identifier: GPL-2.0-or-later
//
// What our programs in the kernel have in common: helpers, map definitions, and whose process it is.
//
// Only the fields that are read are described; the loader finds them in the running kernel's own
// type information (CO-RE), so that neither a header of the kernel nor bpftool is needed.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define KERNEL_TYPE __attribute__((preserve_access_index))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name
// enum bpf_field_info_kind, BPF_FIELD_EXISTS
#define field_exists(field) __builtin_preserve_field_info(field, 2)

// include/uapi/linux/bpf.h, enum bpf_func_id
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u64 (*ktime_ns)(void) = (void *)5;
static u64 (*current_pid_tgid)(void) = (void *)14;
static long (*skb_load_bytes)(const void *skb, u32 offset, void *to, u32 length) = (void *)26;
static u64 (*skb_cgroup_id)(void *skb) = (void *)79;
static u64 (*current_cgroup_id)(void) = (void *)80;
static u64 (*skb_ancestor_cgroup_id)(void *skb, int level) = (void *)83;
static void *(*full_socket)(void *socket) = (void *)95;
static void *(*tcp_socket)(void *socket) = (void *)96;
static void *(*socket_storage)(void *table, void *socket, void *value, u64 flags) = (void *)107;
static long (*read_user)(void *to, u32 length, const void *from) = (void *)112;
static long (*read_kernel)(void *to, u32 length, const void *from) = (void *)113;
static long (*read_kernel_string)(void *to, u32 length, const void *from) = (void *)115;
static u64 (*current_ancestor_cgroup_id)(int level) = (void *)123;
static void *(*ring_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*ring_submit)(void *data, u64 flags) = (void *)132;
static void *(*current_task)(void) = (void *)158;

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_SK_STORAGE 24
#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_ANY 0
#define BPF_F_NO_PREALLOC 1
#define BPF_SK_STORAGE_GET_F_CREATE 1

// A server's processes may be in cgroups below its own, as Podman's are.
#define DEEPEST 8

// The current task's cgroup or the nearest above it that is a key of `table`; 0 for none.
static inline u64 cgroup_in(void *table)
{
	u64 cgroup = current_cgroup_id();

	if (map_lookup(table, &cgroup))
		return cgroup;
#pragma unroll
	for (int level = 1; level < DEEPEST; level++) {
		cgroup = current_ancestor_cgroup_id(level);
		if (!cgroup)
			break;
		if (map_lookup(table, &cgroup))
			return cgroup;
	}
	return 0;
}

struct ns_common {
	u32 inum;
} KERNEL_TYPE;

struct pid_namespace {
	struct ns_common ns;
} KERNEL_TYPE;

struct upid {
	int nr;
	struct pid_namespace *ns;
} KERNEL_TYPE;

struct pid {
	u32 level;
	struct upid numbers[1];
} KERNEL_TYPE;

struct mm_struct {
	unsigned long arg_start;
	unsigned long arg_end;
} KERNEL_TYPE;

struct task_struct {
	struct task_struct *group_leader;
	struct pid *thread_pid;
	struct mm_struct *mm;
} KERNEL_TYPE;

// The inode of /proc/self/ns/pid of whoever loads the program, so that a process has the number
// that its /proc shows; 0 where that is the kernel's first.
const volatile u32 our_pid_ns = 0;

// The current thread group's number. In a container that has its own /proc the kernel's number
// would name another process.
static inline u32 thread_group(void)
{
	u32 group = current_pid_tgid() >> 32;

	if (!our_pid_ns)
		return group;

	struct task_struct *task = current_task();
	struct pid *pid = task->group_leader->thread_pid;
	u32 deepest = pid->level;

	for (u32 level = 0; level < 4; level++) {
		struct upid *at = (void *)pid + __builtin_preserve_field_info(pid->numbers, 0) + level * 16;
		struct {
			int nr;
			int pad;
			struct pid_namespace *ns;
		} upid;
		u32 inum = 0;

		if (level > deepest)
			break;
		if (read_kernel(&upid, sizeof(upid), at))
			break;

		// By way of a variable: from the nameless struct the loader would look for nameless types,
		// of which kernel 6.1 has many.
		struct pid_namespace *ns = upid.ns;

		if (read_kernel(&inum, sizeof(inum), __builtin_preserve_access_index(&ns->ns.inum)))
			break;
		if (inum == our_pid_ns)
			return upid.nr;
	}
	return group;
}
