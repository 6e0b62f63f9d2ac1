"""A program on a FUSE mount that does not answer holds whoever reads it; hubwarden restarts and stops all the same."""

import tempfile
import time
from pathlib import Path

from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, status, story, wait_active, wait_guarded
from rootfs import PROJECT, sh

ALICE = TLJH_UNIT.format("alice")
HOSTILE = "/usr/local/lib/bed/hostile"
# systemd waits for 15 s twice before it gives a process up.
AT_ONCE = 10.0


def scenario(machine):
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/config.toml", config(mode="enforce", tick="1s"))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    Hub(machine).login("alice").spawn()
    wait_guarded(machine, "alice")
    hold(machine)
    eventually(lambda: any("a file system that does not answer" in record["MESSAGE"] for record in story(machine, "alice")),
               "evidence names the process that holds", 60)
    held = helpers(machine)
    impaired = dict(status(machine)["lacks"]).get("constants", "")
    print(f"held: {held}; {impaired}")
    expect(held and "cannot be read" in impaired, f"helpers {held}, status says {impaired!r}")

    main = machine.unit_property("hubwarden.service", "MainPID")
    took = timed(lambda: machine.run("systemctl restart hubwarden", timeout=90))
    wait_active(machine)
    expect(machine.unit_property("hubwarden.service", "MainPID") != main, "it was not restarted")
    expect(set(held) & set(helpers(machine)), "nobody was held at the restart")
    print(f"restarted in {took:.1f} s")
    expect(took < AT_ONCE, f"the restart took {took:.1f} s")
    eventually(lambda: len(helpers(machine)) > 1, "the new one is held too", 60)
    took = timed(lambda: machine.run("systemctl stop hubwarden", timeout=90))
    print(f"stopped in {took:.1f} s, with {len(helpers(machine))} left behind")
    expect(took < AT_ONCE, f"the stop took {took:.1f} s")
    expect(machine.unit_property("hubwarden.service", "Result") == "success", "the unit failed")

    machine.run("pkill -KILL -f '[h]ostile held'")
    eventually(lambda: not helpers(machine), "who was held ends with the file system", 20)


def hold(machine):
    """Has a program run in alice's server, from a file that is never read to its end."""
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "hostile"
        sh("cc", "-O1", "-static", "-o", built, PROJECT / "tests/evidence/hostile.c")
        machine.put(HOSTILE, built, mode=0o755)
    machine.run("[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229; touch /run/python")
    procs = f"/sys/fs/cgroup{machine.unit_cgroup(ALICE)}/cgroup.procs"
    machine.run(f"setsid sh -c 'echo $$ > {procs}; exec {HOSTILE} held /run/python' >/dev/null 2>&1 </dev/null &")


def helpers(machine):
    """Those that do not end though they were killed: held in the kernel."""
    found = machine.run("pgrep -f '[h]elp-with processes'", check=False).out.split()
    return [pid for pid in found if pid]


def timed(what):
    began = time.monotonic()
    what()
    return time.monotonic() - began
