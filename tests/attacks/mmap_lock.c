// SPDX-License-Identifier: GPL-2.0-or-later
//
// mmap_lock SECONDS PROCESSES
//
// Processes that hold their own mmap_lock for writing: who reads their /proc/PID/cmdline, maps, mem or
// environ waits, and not even SIGKILL ends that wait. Needs no privilege: the FUSE file system is in a
// user namespace of this program's own. A page of its one file is being read and never arrives; a
// mapping of the same file in direct I/O invalidates the file's pages first, and so waits for that one
// under the lock (fuse_file_mmap() in fs/fuse/file.c). All of it ends with the file system's server.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		fail(path);
	close(file);
}

static void answer(int fuse, uint64_t to, int error, const void *bytes, size_t length)
{
	char out[sizeof(struct fuse_out_header) + 256];
	struct fuse_out_header header = {
		.len = sizeof(header) + length, .error = error, .unique = to,
	};

	memcpy(out, &header, sizeof(header));
	if (length)
		memcpy(out + sizeof(header), bytes, length);
	if (write(fuse, out, header.len) < 0 && errno == ENODEV)
		exit(0);
}

// The first to open the file reads it by pages, each one later in direct I/O. No read is answered;
// the first is told to `reading`.
static void serve(int fuse, int reading)
{
	static char in[512 << 10];
	struct fuse_attr_out attributes = {
		.attr = { .ino = 1, .size = 1 << 20, .mode = S_IFREG | 0666, .nlink = 1, .blksize = 4096 },
		.attr_valid = 1000,
	};
	struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 64 << 10 };
	struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE };
	struct fuse_in_header *header = (void *)in;

	for (;;) {
		if (read(fuse, in, sizeof(in)) < 0) {
			if (errno == ENODEV)
				exit(0);
			continue;
		}
		switch (header->opcode) {
		case FUSE_INIT:
			answer(fuse, header->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			answer(fuse, header->unique, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			answer(fuse, header->unique, 0, &opened, sizeof(opened));
			opened.open_flags = FOPEN_DIRECT_IO;
			break;
		case FUSE_READ:
			if (write(reading, "", 1) < 0)
				fail("pipe");
			break;
		case FUSE_INTERRUPT:
		case FUSE_FORGET:
			break;
		default:
			answer(fuse, header->unique, -ENOSYS, NULL, 0);
		}
	}
}

static void *compute(void *unused)
{
	for (volatile unsigned long turn = 0;; turn++)
		;
	return unused;
}

static void hold(const char *path)
{
	pthread_t thread;
	int direct = open(path, O_RDWR);

	if (direct < 0)
		fail(path);
	// Busy, as a sensor looks at what is busy.
	pthread_create(&thread, NULL, compute, NULL);
	mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, direct, 0);
	exit(0);
}

// A child that ends with this program and has no hand on the file system: that ends with its server.
static pid_t start(int fuse)
{
	pid_t child = fork();

	if (child < 0)
		fail("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fuse >= 0)
			close(fuse);
	}
	return child;
}

int main(int count, char **arguments)
{
	char path[] = "/tmp/mmap-lock-XXXXXX", line[128], byte;
	int uid = getuid(), gid = getgid(), reading[2];

	if (count != 3) {
		fprintf(stderr, "usage: mmap_lock SECONDS PROCESSES\n");
		return 2;
	}
	alarm(atoi(arguments[1]));
	close(mkstemp(path));

	if (pipe(reading) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		fail("a user namespace");
	write_file("/proc/self/setgroups", "deny");
	snprintf(line, sizeof(line), "0 %d 1", uid);
	write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof(line), "0 %d 1", gid);
	write_file("/proc/self/gid_map", line);

	// Opened here: it can be mounted only in the user namespace in which it was opened.
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fuse < 0 || mount("none", "/", 0, MS_REC | MS_PRIVATE, 0))
		fail("/dev/fuse");
	if (start(-1) == 0)
		serve(fuse, reading[1]);
	snprintf(line, sizeof(line), "fd=%d,rootmode=100666,user_id=0,group_id=0", fuse);
	if (mount("held", path, "fuse", 0, line))
		fail("mount of FUSE");
	if (start(fuse) == 0) {
		int cached = open(path, O_RDWR);

		(void)!pread(cached, &byte, 1, 0);
		return 0;
	}
	if (read(reading[0], &byte, 1) != 1)
		fail("pipe");
	for (int left = atoi(arguments[2]); left > 0; left--)
		if (start(fuse) == 0)
			hold(path);
	close(fuse);
	printf("at work\n");
	fflush(stdout);
	for (;;)
		pause();
}
