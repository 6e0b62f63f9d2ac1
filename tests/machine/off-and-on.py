"""`hubwarden off` lifts every verdict and rule and puts back what stood there; `on` resumes."""

import json

import testhost
from hubapi import Hub
from product import (TLJH_UNIT, eventually, expect, expect_reach, install, outside, quota, stage, spin, status, stop_spinning,
                     table, wait_active, wait_guarded)

UNIT = TLJH_UNIT.format("alice")


def scenario(machine):
    # SystemdSpawner's own cpu_limit: an admin's 150 % stands there before anything of ours.
    machine.put("/etc/bed/hub.json", json.dumps({"spawner": {"cpu_limit": 1.5}}))
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "credits": "3 core-seconds"})
    alice = Hub(machine).login("alice")
    alice.spawn()
    expect(quota(machine, UNIT) == 1.5, f"the spawner's own limit is {quota(machine, UNIT)}")
    wait_guarded(machine, "alice")
    spin(machine, UNIT)
    eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 30)
    eventually(lambda: quota(machine, UNIT) == 0.25, "alice's quota is the baseline")
    guarded(machine)

    machine.run("hubwarden off")
    lifted(machine, "after off")
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    lifted(machine, "after off and a restart")
    # While off, a new server is left alone too.
    bob = Hub(machine).login("bob")
    bob.spawn()
    expect_reach(machine.probe([f"tcp,{testhost.V4},22"], unit=TLJH_UNIT.format("bob")), [f"tcp,{testhost.V4},22"], [],
                 "bob, spawned while off")

    machine.run("hubwarden on")
    expect(status(machine)["off"] is False, "status still says off")
    eventually(lambda: quota(machine, UNIT) == 0.25, "alice is at the baseline again, her spinner never stopped", 30)
    for user in ("alice", "bob"):
        wait_guarded(machine, user)
    guarded(machine)
    stop_spinning(machine)
    eventually(lambda: quota(machine, UNIT) == 1.5, "150 % is back when she rests", 60)


def guarded(machine):
    allowed, refused = outside()
    expect_reach(machine.probe(allowed + refused, unit=UNIT), allowed, refused, "alice")


def lifted(machine, when):
    expect(status(machine)["off"] is True, f"{when} status does not say off")
    expect(quota(machine, UNIT) == 1.5, f"{when} alice's quota is {quota(machine, UNIT)}, not the admin's 1.5")
    weight = machine.unit_property(UNIT, "CPUWeight")
    expect(weight in ("[not set]", "18446744073709551615"), f"{when} alice's weight is {weight}")
    allowed, refused = outside()
    everything = allowed + refused
    expect_reach(machine.probe(everything, unit=UNIT), everything, [], f"alice {when}")
    left = table(machine)
    expect(left is None or "reject" not in left, f"{when} the table still rejects:\n{left}")
