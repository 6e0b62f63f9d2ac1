"""kill -9, restart, reinstallation and upgrade keep cases, limits and rules, without an open moment."""

import testhost
from hubapi import Hub
from product import (TLJH_UNIT, deb, eventually, expect, install, quota, rules, stage, server_of, spin, stop_spinning, story,
                     wait_active, wait_guarded)

UNIT = TLJH_UNIT.format("alice")
KNOCK = f"""
import socket, time
while True:
    try:
        socket.create_connection(("{testhost.V4}", 22), timeout=0.5).close()
    except OSError:
        pass
    time.sleep(0.01)
"""


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "credits": "3 core-seconds"})
    alice = Hub(machine).login("alice")
    alice.spawn()
    wait_guarded(machine, "alice")
    spin(machine, UNIT)
    eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 30)
    eventually(lambda: quota(machine, UNIT) == 0.25, "alice's quota is the baseline")
    case = {record.get("CASE_ID") for record in story(machine, "alice")}
    expect(len(case) == 1, f"alice's story has cases {case}")

    # Somebody in alice's server tries a refused port all the time from here on.
    machine.put("/usr/local/lib/bed/bed-knock.py", KNOCK)
    machine.run_in_unit(UNIT, "setsid python3 /usr/local/lib/bed/bed-knock.py >/dev/null 2>&1 </dev/null &")
    machine.arrivals(clear=True)

    steps = (("kill -9", lambda: kill_minus_nine(machine)),
             ("restart", lambda: machine.run("systemctl restart hubwarden", timeout=40)),
             ("reinstallation", lambda: install(machine)),
             ("upgrade", lambda: upgrade(machine)))
    for what, act in steps:
        before = rules(machine)
        act()
        now = rules(machine)
        expect(now and "hubwarden" in now, f"after {what} the table is gone")
        wait_active(machine)
        eventually(lambda: server_of(machine, "alice"), f"alice is listed after {what}")
        expect(stage(machine, "alice") == "throttled", f"after {what} alice is {stage(machine, 'alice')}")
        expect(quota(machine, UNIT) == 0.25, f"after {what} alice's quota is {quota(machine, UNIT)}")
        expect(server_of(machine, "alice")["credits_core_seconds"] < 1.5, f"after {what} alice's credits are full again")
        cases = {record.get("CASE_ID") for record in story(machine, "alice")}
        expect(cases == case, f"after {what} alice's cases are {cases}, before {case}")
        leaked = [arrival for arrival in machine.arrivals() if arrival["port"] == 22]
        expect(not leaked, f"during {what} {len(leaked)} packets reached port 22")
        eventually(lambda: rules(machine) == before, f"after {what} the rules are as before", 10)
        print(f"{what}: rules, limit, credits and case kept")

    # What was kept is carried on, to its end too.
    machine.run("pkill -KILL -f '[b]ed-knock'", check=False)
    stop_spinning(machine)
    eventually(lambda: stage(machine, "alice") == "free", "alice is free again when she rests", 60)
    eventually(lambda: quota(machine, UNIT) == 2.0, "alice has the limit that everybody has")


def kill_minus_nine(machine):
    old = machine.unit_property("hubwarden", "MainPID")
    before = rules(machine)
    machine.run(f"kill -9 {old}")
    expect(rules(machine) == before, "the rules changed when the daemon was killed")
    expect(quota(machine, UNIT) == 0.25, "the limit changed when the daemon was killed")
    eventually(lambda: machine.unit_property("hubwarden", "MainPID") not in ("0", old), "systemd starts it again", 20)


def upgrade(machine):
    """The same package under a higher version number."""
    machine.put("/root/old.deb", deb())
    machine.run("cd /root && rm -rf unpacked && dpkg-deb -R old.deb unpacked && "
                "sed -i 's/^Version: .*/Version: 99.0-1/' unpacked/DEBIAN/control && dpkg-deb -b unpacked new.deb && "
                "DEBIAN_FRONTEND=noninteractive apt-get install -y -o Dpkg::Use-Pty=0 /root/new.deb", timeout=120)
    expect("99.0" in machine.run("dpkg-query -W hubwarden").out, "the upgrade did not take place")
