// SPDX-License-Identifier: GPL-2.0-or-later
//
// fork_bomb SECONDS MOST
//
// Each process of it starts others as fast as it may. The unit's TasksMax= is what holds it; MOST does
// where that has no effect, as on a host with the pids controller on cgroup v1. SIGTERM to any one ends all.
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct {
	atomic_int alive;
	atomic_int over;
} *all;

static void end_all(int number)
{
	(void)number;
	all->over = 1;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
	all = mmap(NULL, sizeof(*all), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (count != 3 || all == MAP_FAILED) {
		fprintf(stderr, "usage: fork_bomb SECONDS MOST\n");
		return 2;
	}

	double end = now() + atoi(arguments[1]);
	int most = atoi(arguments[2]);

	// The dead are not waited for.
	signal(SIGCHLD, SIG_IGN);
	signal(SIGTERM, end_all);
	all->alive = 1;
	printf("at work\n");
	fflush(stdout);
	while (now() < end && !all->over) {
		if (atomic_fetch_add(&all->alive, 1) >= most) {
			atomic_fetch_sub(&all->alive, 1);
			usleep(2000);
			// Some end, so that others can start: a bomb never rests.
			if (rand() % 8 == 0 && atomic_load(&all->alive) > most / 2)
				break;
			continue;
		}

		pid_t child = fork();

		if (child < 0) {
			atomic_fetch_sub(&all->alive, 1);
			usleep(2000);
		} else if (child == 0) {
			srand(getpid());
		}
	}
	atomic_fetch_sub(&all->alive, 1);
	return 0;
}
