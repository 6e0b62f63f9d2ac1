"""A frozen server thaws by itself: the daemon stopped, dead by its configuration or ended, the bus and systemd in trouble, /run full."""

import time

import containers
import miner
from faults import fill, make_room
from hubapi import Hub
from product import CONFIG, TLJH_UNIT, Failed, config, configure, eventually, expect, install, wait_active, wait_guarded

ALICE = TLJH_UNIT.format("alice")
FREEZE_FOR, GRACE = 3, 10
SETTINGS = {
    "mode": "enforce", "credits": "1 core-second", "baseline": "0.05 cores", "min_stay": "0s",
    # A miner stays frozen for as long as the evidence stands, whoever else computes for three seconds at a time.
    "more": f'freeze_after = "1s"\nfreeze_for = "{FREEZE_FOR}s"\n[evidence]\nhigh = "freeze"\ncertain = "freeze"\nstop_after = "none"\n',
}
# The daemon would be ended by systemd for not answering, and what starts in its place would thaw.
NO_WATCHDOG = "[Service]\nWatchdogSec=0\nRestartSec=100ms\n"
THAW = "hubwarden-thaw-*"


def scenario(machine):
    machine.boot()
    machine.put("/etc/systemd/system/hubwarden.service.d/bed.conf", NO_WATCHDOG)
    install(machine, reload_with=SETTINGS)
    Hub(machine).login("alice").spawn()
    wait_guarded(machine, "alice")
    containers.start_docker(machine)
    container = containers.run(machine, "jupyter-carol", {"JUPYTERHUB_USER": "carol"}, "while :; do :; done")
    groups = {"alice": machine.unit_cgroup(ALICE), "carol, in a container": f"/system.slice/docker-{container}.scope"}
    wait_guarded(machine, "carol", 30)
    miner.start(machine, ALICE, miner.put(machine, "alice"), seconds=600)
    for what, cut_off, more, mend in (
            ("the daemon stopped, the bus too, systemd executed anew, /run full", stop, all_fail, all_go_on),
            ("the daemon killed, and dead by its configuration", kill_with_a_bad_configuration, stays_dead, mend_configuration),
            ("systemctl stop hubwarden", end, nothing, nothing)):
        wait_frozen(machine, groups)
        cut_off(machine)
        thaws(machine, groups, what, more)
        mend(machine)
        machine.run("systemctl start hubwarden", timeout=60)
        wait_active(machine)
    nothing_is_frozen_without_its_timer(machine, groups)


def frozen(machine, group):
    return "frozen 1" in machine.run(f"cat /sys/fs/cgroup{group}/cgroup.events").out


def wait_frozen(machine, groups):
    """Until all are, at the same time."""
    eventually(lambda: all(frozen(machine, group) for group in groups.values()), f"{', '.join(groups)} are frozen", 90)


def thaws(machine, groups, what, more):
    began = time.monotonic()
    # Only the daemon's word, or the timer's, would end that of a miner.
    expect(frozen(machine, groups["alice"]), f"{what}: alice runs on already")
    more(machine)
    for who, group in groups.items():
        try:
            eventually(lambda group=group: not frozen(machine, group), f"{what}: {who} thaws by itself", FREEZE_FOR + GRACE + 60)
        except Failed as failed:
            raise Failed(f"{failed}; {machine.run(f'systemctl list-timers --all {THAW}', check=False).out}") from None
        print(f"{what}: {who} thawed after {time.monotonic() - began:.1f} s")
    expect(not runs(machine), f"{what}: the daemon runs")


def runs(machine):
    """Whether there is a daemon, and it is not stopped."""
    main = machine.unit_property("hubwarden.service", "MainPID")
    return main != "0" and machine.run(f"cat /proc/{main}/stat").out.rpartition(") ")[2][0] != "T"


def nothing(_):
    pass


def stop(machine):
    machine.run("systemctl kill --kill-whom=main -s STOP hubwarden")


def all_fail(machine):
    machine.run("systemctl daemon-reexec", timeout=60)
    bus(machine, "STOP")
    fill(machine, "/run")


def all_go_on(machine):
    make_room(machine, "/run")
    bus(machine, "CONT")
    # What starts in its place finds a frozen server or none, and goes on.
    machine.run("systemctl kill --kill-whom=main -s CONT hubwarden")


def bus(machine, signal):
    machine.run(f"kill -{signal} {machine.unit_property('dbus.service', 'MainPID')}")


def kill_with_a_bad_configuration(machine):
    machine.put(CONFIG, config(tick="no time"))
    machine.run("systemctl kill --kill-whom=main -s KILL hubwarden")


def stays_dead(machine):
    eventually(lambda: machine.unit_property("hubwarden.service", "ActiveState") == "failed", "the daemon does not come back", 30)


def mend_configuration(machine):
    configure(machine, **SETTINGS)


def end(machine):
    machine.run("systemctl stop hubwarden", timeout=60)


def nothing_is_frozen_without_its_timer(machine, groups):
    """With /run full systemd may not take the timer: then a server is not frozen, or it thaws all the same."""
    wait_frozen(machine, groups)
    machine.run("systemctl kill --kill-whom=main -s KILL hubwarden; systemctl stop hubwarden", timeout=60)
    eventually(lambda: not any(frozen(machine, group) for group in groups.values()), "both thaw", FREEZE_FOR + GRACE + 60)
    machine.run("systemctl start hubwarden", timeout=60)
    wait_active(machine)
    fill(machine, "/run")
    time.sleep(10)
    stop(machine)
    stand = [who for who, group in groups.items() if frozen(machine, group)]
    print(f"with /run full frozen all the same: {', '.join(stand) or 'none'}")
    eventually(lambda: not any(frozen(machine, group) for group in groups.values()), "with /run full both thaw", FREEZE_FOR + GRACE + 60)
    make_room(machine, "/run")
