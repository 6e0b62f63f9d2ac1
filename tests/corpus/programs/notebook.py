"""What a person at a notebook keeps a kernel busy with: bursts of computing, pauses of reading."""
import time

while True:
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        sum(number * number for number in range(10_000))
    time.sleep(0.3)
