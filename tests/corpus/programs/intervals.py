"""Interval arithmetic by codac, for ever."""
from codac import Interval, exp, sin

while True:
    x = Interval(0.1, 0.2)
    for _ in range(1000):
        x = sin(x) + exp(x) / 10
