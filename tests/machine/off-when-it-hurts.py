"""`hubwarden off` lifts everything when the daemon hangs, the disk is full, the state is damaged, the bus or systemd does not answer."""

import contextlib
import json
import os
import signal
import time

from faults import fill, make_room
from hubapi import Hub
from product import TLJH_UNIT, configure, eventually, expect, install, spin, status, wait_active, wait_guarded

USERS = ("alice", "bob")
UNITS = [TLJH_UNIT.format(user) for user in USERS]
STATE = "/var/lib/hubwarden/state.json"
MORE = """
freeze_after = "1s"
freeze_for = "10m"
[memory]
max = "2048 MiB"
[tasks]
max = 3000
[slice]
reserve = "0.5 cores"
"""
SETTINGS = {"mode": "enforce", "credits": "1 core-second", "baseline": "0.05 cores", "min_stay": "0s", "more": MORE}
SHOWN = ("CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "CPUWeight", "MemoryHigh", "MemoryMax", "TasksMax", "IOWeight", "FreezerState")
# Where this host's kernel has them on cgroup v2; the freezer is always there.
FILES = ("cgroup.freeze", "cpu.max", "cpu.weight", "memory.high", "memory.max", "pids.max")
# Longer than what is asked without an answer may take, and a bed shares its cores.
PATIENCE = 90


def scenario(machine):
    # What an admin set on every server, and on one.
    properties = {"CPUQuota": "150%", "TasksMax": "4000"}
    machine.put("/etc/bed/hub.json", json.dumps({"spawner": {"unit_extra_properties": properties}}))
    machine.boot()
    # The state's own file system, so that it can be full.
    machine.run("mkdir -p /var/lib/hubwarden && mount -t tmpfs -o size=1m,mode=0700 tmpfs /var/lib/hubwarden")
    # In observe mode it changes nothing yet.
    install(machine)
    hub = Hub(machine)
    for user in USERS:
        hub.login(user).spawn()
        wait_guarded(machine, user)
    machine.run(f"systemctl set-property --runtime {UNITS[1]} CPUWeight=300 MemoryMax=5G")
    # What observes has a table too, which rejects nothing.
    theirs = {**standing(machine), "tables": False}
    configure(machine, **SETTINGS)
    machine.run("systemctl restart hubwarden", timeout=60)
    for unit in UNITS:
        # Until the end of the scenario, so that they are frozen again each time.
        spin(machine, unit, seconds=3600, workers=1)
    for what, hurt, heal in (("the daemon stopped, the disk full", stopped_on_a_full_disk, go_on),
                             ("the state damaged", damage, None),
                             ("the state of a later version", later_version, None),
                             ("the bus stopped", stop_bus, continue_bus),
                             ("the daemon and the bus stopped, the disk and /run full, the state damaged", all_at_once, all_over),
                             ("the daemon just being started", begin_to_start, None),
                             ("a second daemon started beside", second_daemon, end_it)):
        wait_ours(machine, theirs)
        hurt(machine)
        off(machine, theirs, what)
        if heal:
            heal(machine)
        stays_off(machine, theirs, what)
        machine.run("hubwarden on", timeout=PATIENCE)
    wait_ours(machine, theirs)
    says_what_it_cannot_lift(machine, theirs)


def standing(machine):
    """What systemd and the kernel hold of each unit, and that there is no table of ours; nothing of it may be ours after `off`."""
    found = {}
    for unit in (*UNITS, "jupyter.slice"):
        out = machine.run(["systemctl", "show", "-p", ",".join(SHOWN), "--", unit]).out
        found.update({f"{unit} {line.split('=', 1)[0]}": line.split("=", 1)[1] for line in out.splitlines()})
    found.update(kernel(machine))
    return found


def kernel(machine):
    """In one command, as this is asked often."""
    found = {"tables": "hubwarden" in machine.run("nft list tables").out}
    # What this host's kernel does not have ends grep with an error, after all the others.
    out = machine.run(f"for unit in {' '.join(UNITS)}; do cd /sys/fs/cgroup/*.slice/$unit && "
                      f"grep -s '' {' '.join(FILES)} | sed \"s|^|$unit/|\"; done", check=False).out
    found.update(line.replace("/", " ", 1).split(":", 1) for line in out.splitlines())
    return found


def difference(theirs, now):
    return [f"{key} is {now.get(key)} and was {theirs[key]}" for key in theirs if now.get(key) != theirs[key]]


def wait_ours(machine, theirs):
    """Until both are frozen, so that all that can be set is."""
    wait_active(machine, 60)
    groups = [f"/sys/fs/cgroup/*.slice/{unit}/cgroup.events" for unit in UNITS]
    eventually(lambda: all("frozen 1" in machine.run(f"cat {group}").out for group in groups), "both are frozen", PATIENCE, every=0.3)
    eventually(lambda: len(difference(theirs, standing(machine))) >= 8, "limits of ours stand", PATIENCE, every=0.3)


def off(machine, theirs, what):
    began = time.monotonic()
    done = machine.run("hubwarden off", check=False, timeout=PATIENCE)
    print(f"{what}: off took {time.monotonic() - began:.1f} s and said {done.out.strip()} {done.err.strip()}")
    left = difference(theirs, standing(machine))
    expect(done.code == 0 and not left, f"{what}: {done}; left: {left}")


def stays_off(machine, theirs, what):
    """The daemon that systemd starts knows it, and so does the one after a reboot, without /run."""
    machine.run("systemctl restart hubwarden", timeout=60)
    wait_active(machine, 60)
    expect(machine.run("test -e /var/lib/hubwarden/off", check=False).code == 0, f"{what}: off is not noted for later boots")
    eventually(lambda: status(machine)["off"], f"{what}: status says off", 30)
    time.sleep(2)
    left = difference(theirs, standing(machine))
    expect(not left, f"{what}: after a restart {left}")


# -- what hurts -----------------------------------------------------------------------------------

def stopped_on_a_full_disk(machine):
    fill(machine, "/var/lib/hubwarden")
    machine.run("systemctl kill --kill-whom=main -s STOP hubwarden")


def go_on(machine):
    make_room(machine, "/var/lib/hubwarden")


def damage(machine):
    restart_with_state(machine, '{"version": 1, "ser')


def later_version(machine):
    restart_with_state(machine, '{"version": 99}')


def restart_with_state(machine, text):
    machine.run("systemctl stop hubwarden", timeout=60)
    machine.run(["sh", "-c", f"printf '%s' \"$1\" >{STATE}", "sh", text])
    machine.run("systemctl start hubwarden", timeout=60)
    wait_active(machine, 60)


def bus(machine, name):
    machine.run(f"kill -{name} {machine.unit_property('dbus.service', 'MainPID')}")


def stop_bus(machine):
    bus(machine, "STOP")


def continue_bus(machine):
    bus(machine, "CONT")


def all_at_once(machine):
    machine.run("systemctl kill --kill-whom=main -s STOP hubwarden")
    bus(machine, "STOP")
    machine.run(f"printf damaged >{STATE}")
    fill(machine, "/var/lib/hubwarden")
    fill(machine, "/run")


def all_over(machine):
    make_room(machine, "/run")
    go_on(machine)
    bus(machine, "CONT")


def begin_to_start(machine):
    """What a daemon does first is done in some milliseconds: at another moment each time."""
    machine.run("systemctl stop hubwarden", timeout=60)
    for n in range(8):
        machine.run(f"systemctl start --no-block hubwarden; sleep 0.0{n}; hubwarden off", timeout=60)
        machine.run("hubwarden on; systemctl stop hubwarden", timeout=60)
    machine.run("systemctl start --no-block hubwarden")


def second_daemon(machine):
    second = machine.run("timeout 20 hubwarden run", check=False, timeout=40)
    expect(second.code not in (0, 124) and "another hubwarden runs already" in second.err, f"a second daemon: {second}")
    # Not even one that was killed in between leaves the field to two.
    machine.run("systemctl kill --kill-whom=main -s KILL hubwarden; (setsid timeout 300 hubwarden run >/dev/null 2>&1 </dev/null &)")
    eventually(lambda: machine.run("hubwarden status", check=False).code == 0, "one of two daemons answers", 60)


def end_it(machine):
    """Whoever has the lock, so that systemd's is the only one."""
    machine.run("kill -KILL $(cat /run/hubwarden/lock)", check=False)


# -- what it cannot lift --------------------------------------------------------------------------

def says_what_it_cannot_lift(machine, theirs):
    """While systemd itself stands still, processes are let go by the kernel; what systemd would bring back is named."""
    machine.run("systemctl kill --kill-whom=main -s STOP hubwarden")
    began = time.monotonic()
    with standing_still(machine.leader):
        done = machine.run("hubwarden off", check=False, timeout=300)
        took = time.monotonic() - began
        left = [line for line in difference(theirs, kernel_as(theirs, machine)) if "cpu.weight" not in line]
    print(f"systemd stands still: off took {took:.1f} s, ended with {done.code} and said:\n{done.err.strip()}")
    expect(done.code != 0, f"off says that all is lifted: {done}")
    for unit in UNITS:
        expect(unit in done.err and "daemon-reload" in done.err, f"off does not name {unit} or what would bring its limits back: {done}")
    expect(not left, f"in the kernel there is still: {left}")
    off(machine, theirs, "once systemd goes on")
    stays_off(machine, theirs, "once systemd goes on")
    # Where it cannot be noted, that is said.
    machine.run("hubwarden on", timeout=PATIENCE)
    wait_ours(machine, theirs)
    machine.run("systemctl kill --kill-whom=main -s STOP hubwarden; mount -o remount,ro /var/lib/hubwarden")
    done = machine.run("hubwarden off", check=False, timeout=PATIENCE)
    print(f"the disk read-only: off ended with {done.code} and said: {done.err.strip()}")
    expect(done.code != 0 and "after a reboot" in done.err, f"off on a read-only disk: {done}")
    left = difference(theirs, standing(machine))
    expect(not left, f"the disk read-only: left: {left}")


def kernel_as(theirs, machine):
    return {**theirs, **kernel(machine)}


@contextlib.contextmanager
def standing_still(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
