// SPDX-License-Identifier: GPL-2.0-or-later
//
// cgroups SECONDS DIRECTORY EMPTY   below DIRECTORY: a busy process deeper than PATH_MAX, and EMPTY cgroups
// cgroups clean DIRECTORY           what one that was killed has left there
//
// DIRECTORY is a cgroup that its user may write to: a unit with Delegate=, or one below user@.service.
// Removed when the time is over, and on SIGTERM.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEEP "deep"
#define WIDE "wide"
// 30 times 201 bytes: a path of 6,000, where PATH_MAX is 4,096.
#define LEVELS 30
#define NAME 200
// So many beside each other.
#define A_ROW 200

static int made;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int below(int parent, const char *name, int make)
{
	int child;

	if (make && mkdirat(parent, name, 0755) && errno != EEXIST)
		fail(name);
	child = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (child < 0 && make)
		fail(name);
	made += make;
	return child;
}

// Removes a cgroup with all below it, the deepest first; a descriptor a level, never a path. The
// processes in it are ended, so a directory that is busy still is tried again.
static void remove_tree(int parent, const char *name)
{
	int top = below(parent, name, 0);
	int kill_file;
	DIR *entries;

	if (top < 0)
		return;
	kill_file = openat(top, "cgroup.kill", O_WRONLY | O_CLOEXEC);
	if (kill_file >= 0) {
		(void)!write(kill_file, "1", 1);
		close(kill_file);
	}
	entries = fdopendir(top);
	for (struct dirent *entry; entries && (entry = readdir(entries));)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			remove_tree(top, entry->d_name);
	closedir(entries);
	for (int tries = 0; unlinkat(parent, name, AT_REMOVEDIR) && errno == EBUSY && tries < 200; tries++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

// A process that computes, in the lowest of nested cgroups.
static void nest(int directory)
{
	char name[NAME + 1];
	int at = below(directory, DEEP, 1);

	memset(name, 'n', NAME);
	name[NAME] = 0;
	for (int level = 0; level < LEVELS; level++) {
		int next = below(at, name, 1);

		close(at);
		at = next;
	}
	if (fork() == 0) {
		int procs = openat(at, "cgroup.procs", O_WRONLY);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (procs < 0 || write(procs, "0", 1) != 1)
			fail("cgroup.procs of the lowest");
		for (volatile unsigned long turn = 0;; turn++)
			;
	}
	close(at);
}

static void spread(int directory, int many)
{
	int row = -1, wide = below(directory, WIDE, 1);
	char name[32];

	for (int left = 0; left < many; left++) {
		snprintf(name, sizeof(name), "%d", left / A_ROW);
		if (left % A_ROW == 0) {
			close(row);
			row = below(wide, name, 1);
		}
		snprintf(name, sizeof(name), "empty-%d", left);
		close(below(row, name, 1));
	}
	close(row);
	close(wide);
}

int main(int count, char **arguments)
{
	int clean = count == 3 && strcmp(arguments[1], "clean") == 0, signal_number;
	int directory = count >= 3 ? open(arguments[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct timespec patience = { 0 };
	sigset_t ends;

	if (!clean && count != 4) {
		fprintf(stderr, "usage: cgroups SECONDS DIRECTORY EMPTY | cgroups clean DIRECTORY\n");
		return 2;
	}
	if (directory < 0)
		fail(arguments[2]);
	if (!clean) {
		// Asked for once all is made, so that whatever ends it, it cleans up.
		sigemptyset(&ends);
		sigaddset(&ends, SIGTERM);
		sigaddset(&ends, SIGINT);
		sigprocmask(SIG_BLOCK, &ends, NULL);
		patience.tv_sec = atoi(arguments[1]);
		nest(directory);
		spread(directory, atoi(arguments[3]));
		printf("at work: %d cgroups\n", made);
		fflush(stdout);
		do
			signal_number = sigtimedwait(&ends, NULL, &patience);
		while (signal_number < 0 && errno == EINTR);
	}
	remove_tree(directory, DEEP);
	remove_tree(directory, WIDE);
	return 0;
}
