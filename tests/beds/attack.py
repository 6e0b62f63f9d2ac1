"""The attacks of tests/attacks/ in a bed: built, laid into it, and started as a user in that user's unit."""

import tempfile
from pathlib import Path

from product import Failed, eventually
from rootfs import PROJECT, sh

SOURCES = PROJECT / "tests/attacks"
INSIDE = "/usr/local/lib/bed/attacks"


def put(machine):
    """Lays all of them into the machine, and makes what they need of it."""
    with tempfile.TemporaryDirectory() as directory:
        for source in sorted(SOURCES.glob("*.c")):
            built = Path(directory) / source.stem
            sh("cc", "-O1", "-static", "-o", built, source, "-lpthread")
            machine.put(f"{INSIDE}/{built.name}", built, mode=0o755)
    for source in SOURCES.glob("*.py"):
        machine.put(f"{INSIDE}/{source.name}", source)
    machine.run("[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229")


def log(name):
    return f"/tmp/attack-{name}.log"


def start(machine, unit, name, *arguments, called=None):
    """Starts one in a unit, with the unit's uid; `called` names its log where one is started twice."""
    words = " ".join(map(str, arguments))
    program = f"python3 {INSIDE}/{name}" if name.endswith(".py") else f"{INSIDE}/{name}"
    machine.run_in_unit(unit, f"setsid {program} {words} >{log(called or name)} 2>&1 </dev/null &")


def wait_at_work(machine, name, timeout=60):
    try:
        eventually(lambda: "at work" in said(machine, name), f"{name} is at work", timeout, every=0.3)
    except Failed as failed:
        raise Failed(f"{failed}; it said: {said(machine, name)}") from None


def said(machine, name):
    """What one has printed, in a line."""
    return " ".join(machine.run(f"cat {log(name)}", check=False).out.split())


def stop_all(machine):
    """Ends all of them; returns when those that clean up have done so."""
    machine.run("pkill -TERM -f '[/]attacks/'", check=False)
    eventually(lambda: machine.run("pgrep -f '[/]attacks/'", check=False).code == 1, "the attacks have ended", 60)
