// SPDX-License-Identifier: GPL-2.0-or-later
//
// Processes that do not want to be looked at. hostile WAY [ARGUMENT...]
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

// RandomX's constants, so that only what this writes has them, and not its file.
static const uint64_t turned[] = {
	~9298411001130361340u, ~12065312585734608966u, ~9306329213124626780u, ~5281919268842080866u,
	~10536153434571861004u, ~3398623926847679864u, ~9549104520008361294u,
};

static void compute(void)
{
	for (volatile unsigned long turn = 0;; turn++)
		;
}

static char *map(size_t length)
{
	char *place = mmap(NULL, length, PROT_READ | PROT_WRITE | PROT_EXEC,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (place == MAP_FAILED)
		exit(3);
	return place;
}

static void write_constants(char *place, size_t apart)
{
	for (int number = 0; number < 7; number++) {
		volatile uint64_t constant = ~turned[number];
		uint64_t copy = constant;

		memcpy(place + number * apart, &copy, sizeof(copy));
	}
}

// A buffer among the program's own data, where a program may keep what it reads.
static char buffer[64 << 10] = { 1 };

// Maps a whole file so, and has every page of it there.
static char *map_file(int file, int access, int kind)
{
	struct stat stat;

	if (file < 0 || fstat(file, &stat))
		exit(9);

	volatile char *place = mmap(NULL, stat.st_size, access, kind, file, 0);

	if (place == MAP_FAILED)
		exit(10);
	for (off_t at = 0; at < stat.st_size; at += 4096)
		(void)place[at];
	return (char *)place;
}

// Has what others may have laid there: reads it, maps it, attaches it.
static int take(const char *way, const char *what)
{
	if (strcmp(way, "read") == 0) {
		char *heap = malloc(sizeof(buffer));

		for (int turn = 0; turn < 2; turn++) {
			int file = open(what, O_RDONLY);
			ssize_t length;

			// A pipe has nothing in it between two writers.
			while ((length = read(file, turn ? heap : buffer, sizeof(buffer))) == 0)
				usleep(1000);
			if (length < 0)
				return 11;
		}
	} else if (strcmp(way, "map") == 0) {
		map_file(open(what, O_RDONLY), PROT_READ, MAP_SHARED);
		map_file(open(what, O_RDONLY), PROT_READ | PROT_WRITE, MAP_PRIVATE)[0] = 1;
	} else if (strcmp(way, "map-code") == 0) {
		map_file(open(what, O_RDONLY), PROT_READ | PROT_EXEC, MAP_PRIVATE);
	} else if (strcmp(way, "map-shared-code") == 0) {
		map_file(open(what, O_RDONLY), PROT_READ | PROT_EXEC, MAP_SHARED);
	} else if (strcmp(way, "map-and-write-code") == 0) {
		write_constants(map_file(open(what, O_RDONLY), PROT_READ | PROT_WRITE | PROT_EXEC,
					 MAP_PRIVATE), 8);
	} else if (strcmp(way, "memory-of-own") == 0) {
		int file = memfd_create("code", 0);

		if (ftruncate(file, 4096))
			return 12;
		write_constants(map_file(file, PROT_READ | PROT_WRITE, MAP_SHARED), 8);
		map_file(file, PROT_READ | PROT_EXEC, MAP_SHARED);
	} else if (strcmp(way, "attach") == 0) {
		volatile char *place = shmat(atoi(what), NULL, SHM_RDONLY | SHM_EXEC);

		if (place == (char *)-1)
			return 13;
		(void)place[0];
	} else if (strcmp(way, "all-executable") == 0) {
		// Holds for what is mapped from now on.
		personality(READ_IMPLIES_EXEC);
		map_file(open(what, O_RDONLY), PROT_READ, MAP_PRIVATE);

		int file = open(what, O_RDONLY);

		if (read(file, map(sizeof(buffer)), sizeof(buffer)) <= 0)
			return 14;
	} else {
		return 15;
	}
	printf("taken\n");
	fflush(stdout);
	compute();
	return 0;
}

// Another user's: memory given to who becomes the first one, and a segment that anybody attaches.
static int give(const char *way)
{
	char number[16];

	if (strcmp(way, "memory") == 0) {
		if (seteuid(65533))
			return 16;

		int file = memfd_create("code", 0);

		if (ftruncate(file, 4096))
			return 17;
		write_constants(map_file(file, PROT_READ | PROT_WRITE, MAP_SHARED), 8);
		snprintf(number, sizeof(number), "/proc/self/fd/%d", file);
		if (seteuid(0) || setgid(65534) || setuid(65534))
			return 18;
		execl("/proc/self/exe", "hostile", "take", "map-shared-code", number, NULL);
	} else {
		int segment = shmget(IPC_PRIVATE, 4096, 0777 | IPC_CREAT);

		if (segment < 0)
			return 19;
		write_constants(shmat(segment, NULL, 0), 8);
		shmctl(segment, IPC_RMID, NULL);
		snprintf(number, sizeof(number), "%d", segment);
		// Gone with the last who has it: this one is there until the other has it too.
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (setgid(65534) || setuid(65534))
				_exit(20);
			take("attach", number);
			_exit(21);
		}
		wait(NULL);
	}
	return 22;
}

// A file for others to take: RandomX's constants, and nothing else.
static int lay(const char *what)
{
	static char page[4096];

	write_constants(page, 8);
	int file = open(what, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	return write(file, page, sizeof(page)) == sizeof(page) ? 0 : 23;
}

static void answer(int fuse, uint64_t to, int error, const void *bytes, size_t length)
{
	static char out[512 << 10];
	struct fuse_out_header header = {
		.len = sizeof(header) + length, .error = error, .unique = to,
	};

	memcpy(out, &header, sizeof(header));
	if (length)
		memcpy(out + sizeof(header), bytes, length);
	if (write(fuse, out, header.len) < 0 && errno == ENODEV)
		exit(0);
}

// This program's own file, with a megabyte behind it that is never read to an end.
static void serve(int fuse, int attr_valid)
{
	static char in[512 << 10], bytes[256 << 10];
	int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat stat;

	fstat(own, &stat);

	struct fuse_attr attr = {
		.ino = 1, .size = stat.st_size + (1 << 20), .mode = S_IFREG | 0755, .nlink = 1,
		.uid = 65534, .gid = 65534, .blksize = 4096,
	};

	for (;;) {
		if (read(fuse, in, sizeof(in)) < 0) {
			if (errno == ENODEV)
				exit(0);
			continue;
		}

		struct fuse_in_header *header = (void *)in;
		struct fuse_read_in *wanted = (void *)(in + sizeof(*header));
		struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 64 << 10 };
		struct fuse_attr_out attributes = { .attr = attr, .attr_valid = attr_valid };
		struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE };

		switch (header->opcode) {
		case FUSE_INIT:
			answer(fuse, header->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			answer(fuse, header->unique, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			answer(fuse, header->unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			if (wanted->offset > (uint64_t)stat.st_size + (256 << 10) ||
			    wanted->size > sizeof(bytes))
				break;
			memset(bytes, 0, sizeof(bytes));
			if (pread(own, bytes, wanted->size, wanted->offset) < 0)
				exit(5);
			answer(fuse, header->unique, 0, bytes, wanted->size);
			break;
		case FUSE_INTERRUPT:
		case FUSE_FORGET:
			break;
		default:
			answer(fuse, header->unique, -ENOSYS, NULL, 0);
		}
	}
}

static void stay_mapped(const char *at)
{
	int file = open(at, O_RDONLY);
	struct stat stat;

	// The kernel knows its size only once it has asked.
	if (file < 0 || fstat(file, &stat))
		_exit(8);
	volatile char *place = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);

	if (place == MAP_FAILED)
		_exit(8);
	(void)place[0];
	raise(SIGSTOP);
	compute();
}

// Runs from a file system of its own, under the name of python; says who that is.
static int run_held(const char *at, int stopped)
{
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[128];

	if (fuse < 0 || unshare(CLONE_NEWNS) ||
	    mount("none", "/", 0, MS_REC | MS_PRIVATE, 0))
		return 6;
	snprintf(options, sizeof(options), "fd=%d,rootmode=100755,user_id=0,group_id=0,allow_other",
		 fuse);

	pid_t server = fork();

	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		// Attributes are asked for each time, where nobody is going to answer.
		serve(fuse, stopped ? 0 : 1000);
	}
	if (mount("held", at, "fuse", 0, options))
		return 7;

	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fuse);
		if (stopped == 2)
			stay_mapped(at);
		execl(at, "python", stopped ? "resident" : "compute", NULL);
		_exit(8);
	}
	if (stopped) {
		int status;

		// What it needs of the file is in memory before it says so by stopping.
		if (waitpid(child, &status, WUNTRACED) != child || !WIFSTOPPED(status))
			return 8;
		kill(server, SIGSTOP);
		kill(child, SIGCONT);
	}
	close(fuse);
	printf("%d\n", child);
	fflush(stdout);
	pause();
	return 0;
}

// The second that opens this file does so in direct I/O, and reads are not answered.
static void serve_lock(int fuse, int told)
{
	static char in[512 << 10];
	int opened_before = 0;
	struct fuse_attr attr = {
		.ino = 1, .size = 1 << 20, .mode = S_IFREG | 0666, .nlink = 1, .blksize = 4096,
	};

	for (;;) {
		if (read(fuse, in, sizeof(in)) < 0) {
			if (errno == ENODEV)
				exit(0);
			continue;
		}

		struct fuse_in_header *header = (void *)in;
		struct fuse_init_out init = { .major = 7, .minor = 31, .max_write = 64 << 10 };
		struct fuse_attr_out attributes = { .attr = attr, .attr_valid = 1000 };
		struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE };

		switch (header->opcode) {
		case FUSE_INIT:
			answer(fuse, header->unique, 0, &init, sizeof(init));
			break;
		case FUSE_GETATTR:
			answer(fuse, header->unique, 0, &attributes, sizeof(attributes));
			break;
		case FUSE_OPEN:
			if (opened_before++)
				opened.open_flags = FOPEN_DIRECT_IO;
			answer(fuse, header->unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			if (write(told, "r", 1) < 0)
				exit(5);
			break;
		case FUSE_INTERRUPT:
		case FUSE_FORGET:
			break;
		default:
			answer(fuse, header->unique, -ENOSYS, NULL, 0);
		}
	}
}

static int failed(int code)
{
	perror("hostile");
	return code;
}

static void write_file(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		exit(failed(9));
	close(file);
}

static void *read_one(void *file)
{
	char byte;

	(void)!pread(*(int *)file, &byte, 1, 0);
	return NULL;
}

static void *compute_on(void *unused)
{
	compute();
	return unused;
}

// Holds its own mmap_lock for writing, as any user can: the file system is in a user namespace of its own.
static int run_locked(const char *at)
{
	char map[64], options[128], device[256];
	int told[2];

	// Where only root may open /dev/fuse; elsewhere (0666 by udev) any user can do all of this.
	snprintf(device, sizeof(device), "%s.fuse", at);
	umask(0);
	if (mknod(device, S_IFCHR | 0666, makedev(10, 229)))
		strcpy(device, "/dev/fuse");
	if (getuid() == 0 && (setgid(65534) || setuid(65534)))
		return failed(6);
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int uid = getuid(), gid = getgid();
	if (pipe(told) || unshare(CLONE_NEWUSER | CLONE_NEWNS))
		return failed(6);
	// The user namespace that opens it is the one that mounts.
	int fuse = open(device, O_RDWR | O_CLOEXEC);

	if (fuse < 0)
		return failed(6);
	snprintf(map, sizeof(map), "0 %d 1", uid);
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "0 %d 1", gid);
	write_file("/proc/self/gid_map", map);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100666,user_id=0,group_id=0", fuse);
	if (mount("none", "/", 0, MS_REC | MS_PRIVATE, 0))
		return failed(6);
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve_lock(fuse, told[1]);
	}
	if (mount("held", at, "fuse", 0, options))
		return failed(7);

	pid_t child = fork();

	if (child == 0) {
		static int file;
		pthread_t thread;
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		// Only the server keeps the connection, so that it ends with the server.
		close(fuse);
		pthread_create(&thread, NULL, compute_on, NULL);
		file = open(at, O_RDWR);
		if (file < 0)
			_exit(8);
		int direct = open(at, O_RDWR);

		// A page of it is being read, so whoever invalidates it waits.
		pthread_create(&thread, NULL, read_one, &file);
		(void)!read(told[0], &byte, 1);
		mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, direct, 0);
		_exit(10);
	}
	close(fuse);
	printf("%d\n", child);
	fflush(stdout);
	pause();
	return 0;
}

int main(int count, char **arguments)
{
	const char *way = count > 1 ? arguments[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (strcmp(way, "compute") == 0)
		compute();
	if (strcmp(way, "resident") == 0) {
		raise(SIGSTOP);
		compute();
	}
	// Code of a miner, behind a mapping that takes longer to look through than there is time.
	if (strcmp(way, "behind") == 0) {
		char *hole = map((size_t)16 << 40);

		hole[(size_t)8 << 40] = 1;
		write_constants(map(1 << 20), 8);
		compute();
	}
	// Code of a miner, all over a terabyte.
	if (strcmp(way, "within") == 0) {
		write_constants(map((size_t)1 << 40) + 4093, 5 << 20);
		compute();
	}
	// Another name and other arguments each time somebody looks.
	if (strcmp(way, "rename") == 0) {
		size_t length = strlen(arguments[2]);

		for (unsigned turn = 0;; turn++) {
			char name[16];

			snprintf(name, sizeof(name), "x) R %u\n\x1b[2", turn % 10);
			prctl(PR_SET_NAME, name);
			memset(arguments[2], turn % 255 + 1, length);
		}
	}
	// Is traced by its own parent, as an anti-debugger has it.
	if (strcmp(way, "traced") == 0) {
		pid_t child = fork();

		if (child == 0) {
			ptrace(PTRACE_TRACEME, 0, 0, 0);
			prctl(PR_SET_DUMPABLE, 0);
			raise(SIGSTOP);
			write_constants(map(1 << 20), 8);
			compute();
		}
		int status;

		waitpid(child, &status, 0);
		ptrace(PTRACE_CONT, child, 0, 0);
		printf("%d\n", child);
		fflush(stdout);
		waitpid(child, &status, 0);
	}
	if (strcmp(way, "held") == 0)
		return run_held(arguments[2], 0);
	// The same, and its server is stopped once the program runs.
	if (strcmp(way, "stopped") == 0)
		return run_held(arguments[2], 1);
	// And here it is no program that is on the file system, but code that a program has mapped.
	if (strcmp(way, "mapped") == 0)
		return run_held(arguments[2], 2);
	if (strcmp(way, "locked") == 0)
		return run_locked(arguments[2]);
	if (strcmp(way, "take") == 0)
		return take(arguments[2], arguments[3]);
	if (strcmp(way, "give") == 0)
		return give(arguments[2]);
	if (strcmp(way, "lay") == 0)
		return lay(arguments[2]);
	// Is gone before anybody has looked.
	if (strcmp(way, "die") == 0) {
		char *place = map(32 << 20);

		memset(place, 1, 32 << 20);
		return 0;
	}
	return 2;
}
