"""Cgroups nested beyond PATH_MAX hide no miner, and 20,000 empty ones of one user's delay no other user's evidence."""

import time

import miner
from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, status, story, wait_active, wait_guarded, when

EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
ALICE, BOB = (TLJH_UNIT.format(user) for user in ("alice", "bob"))
# 40 levels of names as long as the kernel allows: 10,240 bytes, where a path has 4,096.
LEVELS, EMPTY = 40, 20_000
# A quiet machine takes 5 s; this one may be busy.
IN_TIME = 30.0

NEST = f"""
import os, sys
top, uid, *command = sys.argv[1:]
here = os.open(top, os.O_DIRECTORY)
os.mkdir("wide", dir_fd=here)
wide = os.open("wide", os.O_DIRECTORY, dir_fd=here)
for number in range({EMPTY}):
    os.mkdir(str(number), dir_fd=wide)
name = "-" * 255
for level in range({LEVELS}):
    os.mkdir(name, dir_fd=here)
    below = os.open(name, os.O_DIRECTORY, dir_fd=here)
    os.close(here)
    here = below
procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=here)
os.write(procs, b"0")
os.setgid(int(uid))
os.setuid(int(uid))
print("nested", flush=True)
for file in (1, 2):
    os.dup2(os.open("/dev/null", os.O_RDWR), file)
os.execv(command[0], command)
"""


def scenario(machine):
    machine.boot()
    install(machine)
    evidence = '[evidence]\nstop_after = "5s"\nstop = "processes"\n'
    machine.put("/etc/hubwarden/config.toml", config(mode="enforce", tick="1s", more=evidence))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    hub = Hub(machine)
    for user in ("alice", "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    alices, bobs = miner.put(machine, "alice"), miner.put(machine, "bob")
    lacks = status(machine)["lacks"]

    begun = nested(machine, alices)
    main = machine.unit_property(ALICE, "MainPID")
    took = named(machine, "alice", begun)
    print(f"figure nested_miner_named_s {took:.1f}")
    begun = time.time()
    miner.start(machine, BOB, bobs)
    took = named(machine, "bob", begun)
    print(f"figure miner_beside_20000_cgroups_named_s {took:.1f}")

    eventually(lambda: any("the process that mined was ended" in record["MESSAGE"] for record in story(machine, "alice")),
               "it is told that the nested miner was ended", 60)
    eventually(lambda: not machine.run("pgrep -f '[a]lice/work/python'", check=False).out, "the nested miner is ended", 10)
    expect(machine.unit_property(ALICE, "MainPID") == main, "alice's server is another one")
    eventually(lambda: not machine.run("pgrep -f '[b]ob/work/python'", check=False).out, "bob's miner is ended too", 60)
    expect(status(machine)["lacks"] == lacks, f"all were searched in time, but status says {status(machine)['lacks']}")


def nested(machine, program):
    """Starts alice's miner at the end of a nest in her server's cgroup, beside very many empty ones; when that was."""
    machine.put("/usr/local/lib/bed/nest.py", NEST)
    uid = machine.run("id -u jupyter-alice").out.strip()
    top = f"/sys/fs/cgroup{machine.unit_cgroup(ALICE)}"
    started = f"setsid python3 /usr/local/lib/bed/nest.py {top} {uid} {program} 300 jit >/run/nested 2>&1 </dev/null &"
    begun = time.time()
    machine.run(started)
    eventually(lambda: machine.run("cat /run/nested").out.strip() == "nested", "the cgroups are made", 60)
    cgroup = machine.run("cat /proc/$(pgrep -f '[a]lice/work/python')/cgroup", check=False).out
    expect(len(cgroup) == 0 or len(cgroup) >= 4096, f"not nested beyond PATH_MAX: {cgroup}")
    return begun


def named(machine, user, begun):
    """Seconds until evidence on a user is certain, constants in memory among it; that takes its process."""
    def certain():
        return [record for record in story(machine, user)
                if record.get("MESSAGE_ID") == EVIDENCE and when(record) >= begun
                and record["EVIDENCE_LEVEL"] == "certain" and "constants" in record["EVIDENCE"].split(",")]
    found = eventually(certain, f"{user}'s miner is known by its memory", IN_TIME)
    print(f"  {found[0]['MESSAGE']}")
    return when(found[0]) - begun
