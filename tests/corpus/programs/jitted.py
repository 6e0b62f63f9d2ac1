"""A loop that numba compiles."""
import numba


@numba.njit
def loop(n):
    total = 0.0
    for i in range(1, n):
        total += 1.0 / i
    return total


while True:
    loop(10_000_000)
