// SPDX-License-Identifier: GPL-2.0-or-later
//
// Computes RandomX hashes of a counter, offline, for a corpus that a detector is measured against.
// Nothing is mined: there is no pool, no block and no network here.
//
//   randomx SECONDS [jit] [secure] [fast] [duty=PERCENT] [burst=SECONDS/PERIOD] [honest=THREADS]
//
// secure: pages are never writable and executable at once (W^X). fast: the data set of 2 GB is
// computed first. honest: so many threads beside the hashing one do ordinary arithmetic.
#include <pthread.h>
#include <randomx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void rest(double seconds)
{
	struct timespec pause = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };

	if (seconds > 0)
		nanosleep(&pause, NULL);
}

static void *honest(void *unused)
{
	(void)unused;
	for (volatile double sum = 0;;)
		for (int term = 1; term < 1000000; term++)
			sum += 1.0 / term;
	return NULL;
}

struct part {
	randomx_dataset *dataset;
	randomx_cache *cache;
	unsigned long first, count;
};

static void *compute(void *argument)
{
	struct part *part = argument;

	randomx_init_dataset(part->dataset, part->cache, part->first, part->count);
	return NULL;
}

static randomx_dataset *computed(randomx_flags flags, randomx_cache *cache)
{
	randomx_dataset *dataset = randomx_alloc_dataset(flags);
	long threads = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned long items = randomx_dataset_item_count();
	pthread_t started[threads];
	struct part parts[threads];

	if (!dataset)
		return NULL;
	for (long number = 0; number < threads; number++) {
		unsigned long first = items * number / threads;

		parts[number] = (struct part){ dataset, cache, first, items * (number + 1) / threads - first };
		if (pthread_create(&started[number], NULL, compute, &parts[number]))
			return NULL;
	}
	for (long number = 0; number < threads; number++)
		pthread_join(started[number], NULL);
	return dataset;
}

int main(int count, char **arguments)
{
	if (count < 2)
		return 2;
	double begun = now(), end = begun + atof(arguments[1]);
	randomx_flags flags = RANDOMX_FLAG_HARD_AES;
	int duty = 100, others = 0;
	double on = 1, period = 1;

	for (int at = 2; at < count; at++) {
		const char *word = arguments[at];

		if (strcmp(word, "jit") == 0)
			flags |= RANDOMX_FLAG_JIT;
		else if (strcmp(word, "secure") == 0)
			flags |= RANDOMX_FLAG_SECURE;
		else if (strcmp(word, "fast") == 0)
			flags |= RANDOMX_FLAG_FULL_MEM;
		else if (sscanf(word, "duty=%d", &duty) != 1 && sscanf(word, "honest=%d", &others) != 1 &&
			 sscanf(word, "burst=%lf/%lf", &on, &period) != 2)
			return 2;
	}
	for (int number = 0; number < others; number++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, honest, NULL))
			return 1;
	}
	randomx_cache *cache = randomx_alloc_cache(flags);

	if (!cache)
		return 1;
	randomx_init_cache(cache, "corpus", 6);
	randomx_dataset *dataset = NULL;

	if (flags & RANDOMX_FLAG_FULL_MEM) {
		dataset = computed(flags, cache);
		if (!dataset)
			return 1;
		printf("the data set took %.0f s\n", now() - begun);
		fflush(stdout);
	}
	randomx_vm *machine = randomx_create_vm(flags, cache, dataset);
	unsigned long nonce = 0;
	char hash[RANDOMX_HASH_SIZE];

	if (!machine)
		return 1;
	while (now() < end) {
		double before = now();

		double turn = (before - begun) / period;

		if ((turn - (long)turn) * period >= on) {
			rest(0.05);
			continue;
		}
		randomx_calculate_hash(machine, &nonce, sizeof nonce, hash);
		nonce++;
		rest((now() - before) * (100 - duty) / duty);
	}
	printf("%lu hashes\n", nonce);
	return 0;
}
