"""One user holds whoever reads processes; a miner of another is named all the same, and hubwarden restarts and stops."""

import tempfile
import time
from pathlib import Path

import miner
from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, spin, status, story, wait_active, wait_guarded, when
from rootfs import PROJECT, sh

ALICE, BOB = TLJH_UNIT.format("alice"), TLJH_UNIT.format("bob")
HOSTILE = "/usr/local/lib/bed/hostile"
EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
# systemd waits for 15 s twice before it gives a process up.
AT_ONCE = 10.0
# A program that is never read to its end. Other ways are in tests/evidence/held.rs.
WAYS = ("held",)


def scenario(machine):
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/config.toml", config(mode="enforce", tick="1s"))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    hub = Hub(machine)
    for user in ("alice", "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    program = miner.put(machine, "bob")
    build(machine)
    # Who is not hot is not looked into.
    spin(machine, ALICE, workers=1)

    for way in WAYS:
        others_are_read_while_alice_holds(machine, way, program)
    restarts_and_stops_while_it_is_held(machine)


def others_are_read_while_alice_holds(machine, way, program):
    began = time.time()
    hold(machine, way)
    eventually(lambda: [record for record in story(machine, "alice") if when(record) >= began
                        and "it holds whoever reads" in record["MESSAGE"]] or impaired(machine),
               f"{way}: status says that alice cannot be read", 60)
    eventually(lambda: "alice" in impaired(machine), f"{way}: status names alice", 30)
    expect("bob" not in impaired(machine), f"{way}: {impaired(machine)}")
    begun = time.time()
    miner.start(machine, BOB, program, seconds=25)
    found = eventually(lambda: [record for record in story(machine, "bob") if record.get("MESSAGE_ID") == EVIDENCE
                                and when(record) >= begun and "constants" in record.get("EVIDENCE", "")],
                       f"{way}: bob's miner is known by its memory", 60)
    print(f"{way}: bob's miner is named {when(found[0]) - begun:.1f} s after its start; {impaired(machine)[:100]}")
    top = machine.run("hubwarden explain bob", timeout=30).out
    expect("python" in top, f"{way}: what runs in bob's server is not shown:\n{top}")
    print(f"{way}: explain alice: " + "; ".join(line.strip() for line in machine.run("hubwarden explain alice", timeout=30).out.splitlines()
                                                if "unreadable" in line))
    if way == WAYS[0]:
        took = timed(lambda: machine.run("hubwarden off", timeout=60))
        machine.run("hubwarden on", timeout=60)
        print(f"{way}: off took {took:.1f} s")
        expect(took < AT_ONCE, f"off took {took:.1f} s")
    # What is said of bob is said once; a new daemon says it again.
    if way != WAYS[-1]:
        let_go(machine)
        machine.run("systemctl restart hubwarden", timeout=90)
        wait_active(machine)


def restarts_and_stops_while_it_is_held(machine):
    held = eventually(lambda: helpers(machine), "a helper is held", 30)
    main = machine.unit_property("hubwarden.service", "MainPID")
    took = timed(lambda: machine.run("systemctl restart hubwarden", timeout=90))
    wait_active(machine)
    expect(machine.unit_property("hubwarden.service", "MainPID") != main, "it was not restarted")
    print(f"restarted in {took:.1f} s, with {held} held before")
    expect(took < AT_ONCE, f"the restart took {took:.1f} s")
    eventually(lambda: "alice" in impaired(machine), "the new one is held too", 60)
    took = timed(lambda: machine.run("systemctl stop hubwarden", timeout=90))
    print(f"stopped in {took:.1f} s, with {len(helpers(machine))} left behind")
    expect(took < AT_ONCE, f"the stop took {took:.1f} s")
    expect(machine.unit_property("hubwarden.service", "Result") == "success", "the unit failed")
    let_go(machine)


def impaired(machine):
    return " ".join(why for sense, why in status(machine)["lacks"] if "cannot be read" in why)


def build(machine):
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "hostile"
        sh("cc", "-O1", "-static", "-o", built, PROJECT / "tests/evidence/hostile.c")
        machine.put(HOSTILE, built, mode=0o755)
    machine.run("[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229")


def hold(machine, way):
    """Has a program run in alice's server that holds whoever reads it."""
    file = f"/run/{way}/python"
    machine.run(f"mkdir -p -m 777 /run/{way}; touch {file}; chmod 666 {file}")
    procs = f"/sys/fs/cgroup{machine.unit_cgroup(ALICE)}/cgroup.procs"
    machine.run(f"setsid sh -c 'echo $$ > {procs}; exec {HOSTILE} {way} {file}' >/dev/null 2>&1 </dev/null &")


def let_go(machine):
    """Ends the servers of the file systems, and so who waits for them: by name, since to read arguments would hold pkill."""
    machine.run("pkill -KILL -x hostile")
    eventually(lambda: not helpers(machine), "who was held ends with the file system", 20)


def helpers(machine):
    """Helpers that read processes; one that is held does not end though it was killed."""
    return machine.run("pgrep -f '[h]elp-with processes'", check=False).out.split()


def timed(what):
    began = time.monotonic()
    what()
    return time.monotonic() - began
