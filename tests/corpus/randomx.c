// SPDX-License-Identifier: GPL-2.0-or-later
//
// Computes RandomX hashes of a counter, offline, for a corpus that a detector is measured against.
// Nothing is mined: there is no pool, no block and no network here.
//
//   randomx SECONDS jit|interpreter [duty cycle in percent]
#include <randomx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
	if (count < 3)
		return 2;
	double end = now() + atof(arguments[1]);
	int duty = count > 3 ? atoi(arguments[3]) : 100;
	randomx_flags flags = RANDOMX_FLAG_HARD_AES;

	if (strcmp(arguments[2], "jit") == 0)
		flags |= RANDOMX_FLAG_JIT;
	randomx_cache *cache = randomx_alloc_cache(flags);

	if (!cache)
		return 1;
	randomx_init_cache(cache, "corpus", 6);
	randomx_vm *machine = randomx_create_vm(flags, cache, NULL);
	unsigned long nonce = 0;
	char hash[RANDOMX_HASH_SIZE];

	if (!machine)
		return 1;
	while (now() < end) {
		double begun = now();

		randomx_calculate_hash(machine, &nonce, sizeof nonce, hash);
		nonce++;
		double rest = (now() - begun) * (100 - duty) / duty;
		struct timespec pause = { (time_t)rest, (long)((rest - (time_t)rest) * 1e9) };

		if (rest > 0)
			nanosleep(&pause, NULL);
	}
	printf("%lu hashes\n", nonce);
	return 0;
}
