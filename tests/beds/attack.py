"""The attacks of tests/attacks/ in a bed: built, laid into it, and started as a user in that user's unit.

Each is a session of its own. It is told by that, from /proc/PID/stat: whoever reads the command line of one that
holds its own mmap_lock, as pgrep and pkill do, waits for good.
"""

import json
import signal
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
    """Starts one in a unit, with the unit's uid; its session. `called` names its log where one is started twice."""
    words = " ".join(map(str, arguments))
    program = f"python3 {INSIDE}/{name}" if name.endswith(".py") else f"{INSIDE}/{name}"
    done = machine.run_in_unit(unit, f"setsid {program} {words} >{log(called or name)} 2>&1 </dev/null & echo $!")
    return int(done.out)


def wait_at_work(machine, name, timeout=60):
    try:
        eventually(lambda: "at work" in said(machine, name), f"{name} is at work", timeout, every=0.3)
    except Failed as failed:
        raise Failed(f"{failed}; it said: {said(machine, name)}") from None


def said(machine, name):
    """What one has printed, in a line."""
    return " ".join(machine.run(f"cat {log(name)}", check=False).out.split())


# In the machine: the processes of these sessions, as (id, state), after a signal to each if one is given.
OF_SESSIONS = """
import glob, json, os, sys
sessions, number, found = set(json.loads(sys.argv[1])), int(sys.argv[2]), []
for file in glob.glob("/proc/[0-9]*/stat"):
    try:
        pid = int(file.split("/")[2])
        state, _, _, session = open(file).read().rsplit(")", 1)[1].split()[:4]
        if int(session) in sessions:
            found.append((pid, state))
            if number:
                os.kill(pid, number)
    except OSError:
        pass
print(json.dumps(found))
"""


def processes(machine, sessions, send=0):
    """The processes of some attacks, with their states; each is sent the signal, if one is given."""
    done = machine.run(["python3", "-c", OF_SESSIONS, json.dumps(sorted(sessions)), str(int(send))])
    return json.loads(done.out)


def stop(machine, sessions, timeout=60):
    """Ends these attacks; returns when those that clean up have done so."""
    processes(machine, sessions, signal.SIGTERM)
    try:
        eventually(lambda: not processes(machine, sessions), "the attacks have ended", timeout, every=0.3)
    except Failed as failed:
        raise Failed(f"{failed}; left are {processes(machine, sessions)}") from None
