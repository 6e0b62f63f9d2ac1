// SPDX-License-Identifier: GPL-2.0-or-later
// Interval arithmetic by Boost, for ever.
#include <boost/numeric/interval.hpp>
#include <cstdio>

int main()
{
	typedef boost::numeric::interval<double> Interval;

	for (;;) {
		Interval x(0.1, 0.2);

		for (int turn = 0; turn < 1000000; turn++)
			x = sqrt(x * x + Interval(0.01, 0.02)) / Interval(1.0, 1.1);
		std::printf("%g %g\n", x.lower(), x.upper());
	}
}
