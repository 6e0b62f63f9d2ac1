"""`make demo`: the whole story on a real hub, told to a person. Ends by itself, with a summary.

Two acts: demo_story.py in the machine bed, and, where this host's cpu controller is not on cgroup
v2, demo_quota.py in the vm bed, because there the quota can bite.
"""

import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import leftovers  # noqa: E402
import rootfs  # noqa: E402
import run  # noqa: E402


def act(name, bed, file, summary):
    """One act; its lines marked `SUMMARY` are kept for the end."""
    passed, _, said = run.run_one(name, run.Scenario(bed, file, rootfs.BOOKWORM), live=True)
    for line in said:
        if line.startswith("SUMMARY "):
            summary.append(("ok    ", line[8:]))
        elif line.startswith("REASON "):
            summary.append(("FAILED", line[7:].replace(run.BREAK, " ")))
    return passed


def main():
    started = time.monotonic()
    run.stop_on_signals()
    leftovers.remove_stale()
    print("\nhubwarden on a real hub: a demonstration\n", flush=True)
    rootfs.root(rootfs.BOOKWORM)
    summary = []
    good = act("demo-story", "machine", HERE / "demo_story.py", summary)
    if leftovers.has_cpu_controller():
        print("\nThis host's cpu controller is on cgroup v2: the limit you saw set has also held alice back.")
    else:
        print("\nThis host's cpu controller is not on cgroup v2, so the limit that was set above cannot bite here.\n"
              "The same on Debian's own kernel in a virtual machine, where it does:\n", flush=True)
        rootfs.image(rootfs.BOOKWORM)
        good = act("demo-quota", "vm", HERE / "demo_quota.py", summary) and good
    print("\nSummary")
    for mark, line in summary:
        print(f"  {mark}  {line}")
    print(f"  {time.monotonic() - started:.0f} s in all; nothing of it is left on this machine but target/.")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except run.Ended as ended:
        print(f"stopped by {ended}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except rootfs.BedError as error:
        print(f"FAILED beds {error}", file=sys.stderr)
        sys.exit(1)
