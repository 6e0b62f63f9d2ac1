"""Users hold whoever reads their processes, each in another way; a miner is named all the same, and hubwarden restarts and stops."""

import re
import tempfile
import time
from pathlib import Path

import miner
from hubapi import Hub
from product import TLJH_UNIT, Failed, config, eventually, expect, install, status, story, wait_active, wait_guarded, when
from rootfs import PROJECT, sh

HOSTILE = "/usr/local/lib/bed/hostile"
EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
# Who is not hot is not looked into, and all of them share a core or two with whatever else the host does.
HOT = '[evidence]\nhot = "0.05 cores"\n'
# systemd waits for 15 s twice before it gives a process up.
AT_ONCE = 10.0
# Who holds a reader, and how (tests/evidence/hostile.c): a program that is never read to its end; a process
# that holds its own mmap_lock; a program, and code that a program has mapped, of a file system with a server
# that is stopped and answers no question, not even for attributes.
HOLDERS = {"alice": "held", "carol": "locked", "dave": "stopped", "erin": "mapped"}
# Needs no privilege, so it is done as the user.
AS_USER = ("locked",)


def scenario(machine):
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/config.toml", config(mode="enforce", tick="1s", more=HOT))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    hub = Hub(machine)
    for user in (*HOLDERS, "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    program = miner.put(machine, "bob")
    build(machine)
    holding = []
    for user, way in HOLDERS.items():
        holding.append(hold(machine, user, way))

    bob_is_read_while_all_hold(machine, program)
    off_is_quick(machine)
    restarts_and_stops_while_they_hold(machine)


def bob_is_read_while_all_hold(machine, program):
    begun = time.time()
    miner.start(machine, TLJH_UNIT.format("bob"), program, seconds=60)
    found = eventually(lambda: [record for record in story(machine, "bob") if record.get("MESSAGE_ID") == EVIDENCE
                                and when(record) >= begun and "constants" in record.get("EVIDENCE", "")],
                       "bob's miner is known by its memory", 60)
    print(f"bob's miner is named {when(found[0]) - begun:.1f} s after its start")
    all_are_named(machine)
    for user, way in HOLDERS.items():
        told = eventually(lambda user=user: [record["MESSAGE"] for record in story(machine, user) if "it holds whoever reads" in record["MESSAGE"]],
                          f"the journal says that {user} ({way}) cannot be read", 60)
        print(f"{user} ({way}): {told[0]}")
    top = machine.run("hubwarden explain bob", timeout=30).out
    expect("python" in top, f"what runs in bob's server is not shown:\n{top}")
    for user in HOLDERS:
        said = machine.run(f"hubwarden explain {user}", timeout=30).out
        print("; ".join([user, *(line.strip() for line in said.splitlines() if "unreadable" in line)]))


def all_are_named(machine):
    """`status` names each who cannot be read, and no other user."""
    try:
        eventually(lambda: impaired(machine) == set(HOLDERS), "status names all who hold a reader", 90, every=0.5)
    except Failed as failed:
        raise Failed(f"{failed}; it names {sorted(impaired(machine))} of {HOLDERS}") from None


def off_is_quick(machine):
    took = timed(lambda: machine.run("hubwarden off", timeout=60))
    print(f"off took {took:.1f} s")
    expect(took < AT_ONCE, f"off took {took:.1f} s")
    machine.run("hubwarden on", timeout=60)


def restarts_and_stops_while_they_hold(machine):
    held = eventually(lambda: workers(machine), "a worker is held", 30)
    main = machine.unit_property("hubwarden.service", "MainPID")
    took = timed(lambda: machine.run("systemctl restart hubwarden", timeout=90))
    wait_active(machine)
    expect(machine.unit_property("hubwarden.service", "MainPID") != main, "it was not restarted")
    print(f"restarted in {took:.1f} s, with {len(held)} workers held before")
    expect(took < AT_ONCE, f"the restart took {took:.1f} s")
    all_are_named(machine)
    took = timed(lambda: machine.run("systemctl stop hubwarden", timeout=90))
    print(f"stopped in {took:.1f} s, with {len(workers(machine))} left behind")
    expect(took < AT_ONCE, f"the stop took {took:.1f} s")
    expect(machine.unit_property("hubwarden.service", "Result") == "success", "the unit failed")
    let_go(machine)


def impaired(machine):
    """Who cannot be read, by `status`."""
    named = (re.match("programs and memory of (.*) cannot be read", why) for _, why in status(machine)["lacks"])
    return {user for found in named if found for user in found[1].split(", ")}


def build(machine):
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "hostile"
        sh("cc", "-O1", "-static", "-o", built, PROJECT / "tests/evidence/hostile.c")
        machine.put(HOSTILE, built, mode=0o755)
    # As udev makes it.
    machine.run("[ -e /dev/fuse ] || mknod /dev/fuse c 10 229; chmod 666 /dev/fuse")


def hold(machine, user, way):
    """Has a program run in a user's server that holds whoever reads it; the program, which ends with this side."""
    file = f"/home/jupyter-{user}/python"
    machine.run(f"touch {file}; chmod 666 {file}")
    uid = [machine.run(f"id {which} jupyter-{user}").out.strip() for which in ("-u", "-g")] if way in AS_USER else None
    program = machine.start(f"exec {HOSTILE} {way} {file}", cgroup=machine.unit_cgroup(TLJH_UNIT.format(user)), uid=uid)
    pid = program.stdout.readline().strip()
    expect(pid.isdigit(), f"{user} ({way}) holds no reader: {program.stderr.read() if not pid else pid}")
    return program


def let_go(machine):
    """Ends the servers of the file systems, and so who waits for them: by name, since to read arguments would hold pkill."""
    machine.run("for process in /proc/[0-9]*; do read -r name 2>/dev/null <$process/comm && [ \"$name\" = hostile ] && "
                "kill -KILL ${process#/proc/}; done; true")
    eventually(lambda: not workers(machine), "who was held ends with the file system", 20)


def workers(machine):
    """Workers that are held: what is left of the service besides the daemon, and sleeps where no signal wakes it."""
    main = machine.unit_property("hubwarden.service", "MainPID")
    processes = machine.run("cat /sys/fs/cgroup/system.slice/hubwarden.service/cgroup.procs", check=False).out.split()
    stats = [machine.run(f"cat /proc/{pid}/stat", check=False).out for pid in processes if pid != main]
    return [stat.split()[0] for stat in stats if stat.rpartition(") ")[2][:1] == "D"]


def timed(what):
    began = time.monotonic()
    what()
    return time.monotonic() - began
