// SPDX-License-Identifier: GPL-2.0-or-later
// Triangulates points that nearly lie on lines, by CGAL's exact kernel, which filters by intervals.
#include <CGAL/Delaunay_triangulation_2.h>
#include <CGAL/Exact_predicates_exact_constructions_kernel.h>
#include <cstdio>
#include <random>

int main()
{
	typedef CGAL::Exact_predicates_exact_constructions_kernel Kernel;
	std::mt19937 random(1);

	for (;;) {
		CGAL::Delaunay_triangulation_2<Kernel> triangles;

		for (int point = 0; point < 3000; point++) {
			double x = random() % 50, y = random() % 50;

			triangles.insert(Kernel::Point_2(x / 7, y / 7 + x / 49));
		}
		std::printf("%zu\n", triangles.number_of_faces());
	}
}
