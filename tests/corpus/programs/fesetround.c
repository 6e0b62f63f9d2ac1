// SPDX-License-Identifier: GPL-2.0-or-later
// Computes with each rounding mode in turn, a while each, for ever.
#include <fenv.h>
#include <math.h>

int main(void)
{
	const int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO };
	volatile double sum = 0;

	for (unsigned long turn = 0;; turn++) {
		fesetround(modes[turn % 4]);
		for (int term = 1; term < 100000; term++)
			sum += sqrt(term) / 3;
	}
}
