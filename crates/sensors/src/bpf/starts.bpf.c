// SPDX-License-Identifier: GPL-2.0-or-later
//
// Tells which programs are started in guarded servers: file name and the first arguments.

#include "kernel.bpf.h"

// More starts of one server in a second are counted and not told: a build, or somebody who means
// to keep us busy. What goes on to compute is looked at again while it does.
#define MOST_A_SECOND 100

#define NAME_BYTES 104
#define ARGUMENT_BYTES 384

struct start {
	u64 cgroup;
	u32 group;
	u32 argument_bytes;
	char name[NAME_BYTES];
	char arguments[ARGUMENT_BYTES];
};

struct budget {
	u64 second;
	u64 told;
	u64 missed;
};

// All servers, by cgroup id.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct budget);
} guarded SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} starts SEC(".maps");

struct linux_binprm {
	const char *filename;
} KERNEL_TYPE;

// include/trace/events/sched.h: the task, its number before, and what is being started.
SEC("tp_btf/sched_process_exec")
int started(u64 *context)
{
	struct task_struct *task = (struct task_struct *)context[0];
	struct linux_binprm *program = (struct linux_binprm *)context[2];
	u64 cgroup = cgroup_in(&guarded);

	if (!cgroup)
		return 0;

	struct budget *budget = map_lookup(&guarded, &cgroup);

	if (!budget)
		return 0;

	u64 second = ktime_ns() / 1000000000;

	// Two CPUs may both begin a second: then it has a few more, which is no harm.
	if (budget->second != second) {
		budget->second = second;
		budget->told = 0;
	}
	__sync_fetch_and_add(&budget->told, 1);
	if (budget->told > MOST_A_SECOND) {
		__sync_fetch_and_add(&budget->missed, 1);
		return 0;
	}

	struct start *start = ring_reserve(&starts, sizeof(*start), 0);

	if (!start) {
		__sync_fetch_and_add(&budget->missed, 1);
		return 0;
	}
	start->cgroup = cgroup;
	start->group = thread_group();
	start->argument_bytes = 0;
	start->name[0] = 0;
	read_kernel_string(start->name, NAME_BYTES, program->filename);

	// They were written a moment ago, so they are in memory and can be read without waiting.
	unsigned long from = task->mm->arg_start;
	u64 length = task->mm->arg_end - from;

	if (length > ARGUMENT_BYTES)
		length = ARGUMENT_BYTES;
	if (length && !read_user(start->arguments, length, (void *)from))
		start->argument_bytes = length;
	ring_submit(start, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
