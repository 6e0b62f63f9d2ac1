"""Grants: given, listed, told with who gave them, kept over restart and kill -9, expired by themselves, revoked; admins only."""

import json
import time

from hubapi import Hub
from product import (TLJH_UNIT, eventually, expect, install, quota, stage, server_of, spin, stop_spinning, story, wait_active,
                     wait_guarded, when)

UNIT = TLJH_UNIT.format("alice")
# src/report/kind.rs
GRANTED = "7843628846414835a560ebd54e5f79fc"
REVOKED = "bab1553501e042afa7729d3d5622ab35"
THESIS = 'hubwarden grant alice --cpu 8 --credits unlimited --for 3d --reason "thesis training"'
THREE_DAYS = 3 * 86400

# What is wrong with each, in the words that the answer must have.
BAD = {
    "hubwarden grant alice --for 3d --reason x": "what is granted",
    "hubwarden grant alice --cpu 8 --for 3d": "--reason",
    "hubwarden grant alice --cpu 8 --reason x": "--for",
    "hubwarden grant alice --cpu 8 --for 3d --reason ' '": "a reason is needed",
    "hubwarden grant alice --cpu 0 --for 3d --reason x": "0.01 to 4096",
    "hubwarden grant alice --cpu many --for 3d --reason x": "number of cores",
    "hubwarden grant alice --cpu 8 --for ever --reason x": "--for",
    "hubwarden grant alice --cpu 8 --for 0s --reason x": "1s",
    "hubwarden grant alice --cpu 8 --for 400d --reason x": "366d",
    "hubwarden grant alice --credits lots --for 3d --reason x": "--credits",
    "hubwarden grant alice --credits '2000 core-hours' --for 3d --reason x": "1000 core-hours",
    "hubwarden grant alice --class nosuch --for 3d --reason x": "nosuch",
    "hubwarden grant '' --cpu 8 --for 3d --reason x": "a user",
    "hubwarden revoke dave": "dave has no grant",
}


def listed(machine):
    """User → (order, words) of the grants that hold."""
    grants = json.loads(machine.run("hubwarden grants --json").out)
    return {grant["order"]["user"]: (grant["order"], grant["words"]) for grant in grants}


def told(machine, user, kind):
    return [record for record in story(machine, user) if record.get("MESSAGE_ID") == kind]


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "credits": "3 core-seconds"})
    expect(machine.run("hubwarden grants").out.strip() == "No grants.", "there are grants before any was given")
    expect(listed(machine) == {}, "there are grants before any was given")
    Hub(machine).login("alice").spawn()
    wait_guarded(machine, "alice")
    spin(machine, UNIT)
    eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 30)

    print(machine.run(THESIS).out.strip())
    eventually(lambda: stage(machine, "alice") == "free", "the grant frees alice at once", 5)
    eventually(lambda: quota(machine, UNIT) == 8.0, "alice's limit is 8 cores")
    check_thesis(machine, "as given")
    time.sleep(5)  # with three core-seconds and two spinners: long spent
    expect(stage(machine, "alice") == "free", "alice is held in spite of unlimited credits")
    server = server_of(machine, "alice")
    expect(server["granted"] and server["credits_unlimited"], f"status does not show the grant: {server}")

    table = machine.run("hubwarden grants").out
    print(table.strip())
    for word in ("alice", "8 cores", "unlimited credits", "thesis training", "by root"):
        expect(word in table, f"{word!r} is not in the list:\n{table}")

    # Another admin, a member of the group, by her own name.
    machine.run("useradd -G hubwarden carla")
    machine.run("runuser -u carla -- hubwarden grant bob --baseline 0.5 --for 8h --reason 'course in June'")
    expect(listed(machine)["bob"][0]["by"] == "carla", f"bob's grant: {listed(machine)['bob']}")

    refuse_bad_orders(machine)
    refuse_alice(machine)

    main = machine.unit_property("hubwarden", "MainPID")
    for what, act in (("restart", lambda: machine.run("systemctl restart hubwarden", timeout=40)),
                      ("kill -9", lambda: kill(machine))):
        act()
        wait_active(machine)
        expect(machine.unit_property("hubwarden", "MainPID") != main, f"{what} left the old daemon")
        main = machine.unit_property("hubwarden", "MainPID")
        check_thesis(machine, f"after {what}")
        expect("bob" in listed(machine), f"bob's grant is gone after {what}")
        eventually(lambda: server_of(machine, "alice"), f"alice is listed after {what}")
        time.sleep(2)
        expect(stage(machine, "alice") == "free", f"alice is {stage(machine, 'alice')} after {what}")
        expect(quota(machine, UNIT) == 8.0, f"alice's limit is {quota(machine, UNIT)} after {what}")
        print(f"kept over {what}")

    # Who, for whom and why is in the journal, once.
    records = told(machine, "alice", GRANTED)
    expect(len(records) == 1, f"alice's grant is told {len(records)} times")
    expect(records[0]["ADMIN"] == "root" and records[0]["REASON"] == "thesis training", str(records[0]))
    expect("root" in records[0]["MESSAGE"] and "alice" in records[0]["MESSAGE"], records[0]["MESSAGE"])
    expect([record["ADMIN"] for record in told(machine, "bob", GRANTED)] == ["carla"], "bob's story does not name carla")

    expires(machine)

    print(machine.run("hubwarden revoke alice").out.strip())
    expect("alice" not in listed(machine), "alice's grant stands after it was revoked")
    expect([record.get("ADMIN") for record in told(machine, "alice", REVOKED)] == ["root"], "who revoked is not told")
    eventually(lambda: stage(machine, "alice") == "throttled", "alice, still spinning, is throttled again", 15)
    eventually(lambda: quota(machine, UNIT) == 0.25, "alice has the baseline again")
    expect(not server_of(machine, "alice")["granted"], "status still shows the grant")
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    expect(set(listed(machine)) == {"bob"}, f"after a restart the grants are {sorted(listed(machine))}")
    stop_spinning(machine)


def check_thesis(machine, moment):
    grants = listed(machine)
    expect("alice" in grants, f"alice's grant is not listed {moment}")
    order = grants["alice"][0]
    expect(order["limit_cores"] == 8 and order["credits_core_seconds"] < 0, f"{moment}: {order}")
    expect(order["reason"] == "thesis training" and order["by"] == "root", f"{moment}: {order}")
    expect(THREE_DAYS - 300 < order["seconds"] <= THREE_DAYS, f"{moment} it holds for {order['seconds']} s")


def kill(machine):
    old = machine.unit_property("hubwarden", "MainPID")
    machine.run(f"kill -9 {old}")
    eventually(lambda: machine.unit_property("hubwarden", "MainPID") not in ("0", old), "systemd starts it again", 20)


def refuse_bad_orders(machine):
    def orders():
        return {user: {**order, "seconds": 0} for user, (order, _) in listed(machine).items()}

    before = orders()
    for command, word in BAD.items():
        done = machine.run(command, check=False)
        first = (done.err.strip().splitlines() or [""])[0]
        print(f"{done.code}  {first}")
        expect(done.code in (1, 2), f"a bad order ended otherwise: {done!r}")
        expect(word in done.err and not done.out.strip() and "panicked" not in done.err, f"{word!r} is not said: {done!r}")
        expect(first.startswith(("hubwarden: ", "error: ")) and len(first) < 200, f"no clear line: {done!r}")
    expect(orders() == before, "a bad order changed the list")


def refuse_alice(machine):
    """Alice's own Unix user: from a login of hers, and from inside her server."""
    orders = (THESIS.replace("--cpu 8", "--cpu 64"), "hubwarden revoke alice", "hubwarden grants", "hubwarden grants --json")
    for order in orders:
        for where, done in (("login", machine.run("runuser -u jupyter-alice -- " + order, check=False)),
                            ("server", machine.run_in_unit(UNIT, order, check=False))):
            expect(done.code == 1, f"alice, from her {where}: {done!r}")
            expect("only root and members of group hubwarden may do that" in done.err, f"alice, from her {where}: {done!r}")
            expect("thesis" not in done.out, f"alice, from her {where}, is shown grants: {done!r}")
    print(machine.run("runuser -u jupyter-alice -- " + THESIS, check=False).err.strip())
    check_thesis(machine, "after alice tried")


def expires(machine):
    """By itself: while the daemon runs, and while it does not."""
    machine.run("hubwarden grant dave --cpu 4 --for 3s --reason 'a short one'")
    given = time.monotonic()
    expect("dave" in listed(machine), "dave's grant is not listed")
    eventually(lambda: "dave" not in listed(machine), "dave's grant expires by itself", 8)
    took = time.monotonic() - given
    expect(2.5 < took < 6, f"three seconds took {took:.1f} s")
    ended = eventually(lambda: told(machine, "dave", REVOKED), "its end is told")
    lasted = when(ended[0]) - when(told(machine, "dave", GRANTED)[0])
    expect(len(ended) == 1 and 2.9 < lasted < 5.5, f"by the journal it held for {lasted:.2f} s: {ended}")
    print(ended[0]["MESSAGE"])

    machine.run("hubwarden grant erin --cpu 4 --for 3s --reason 'a short one'")
    machine.run("systemctl stop hubwarden", timeout=40)
    time.sleep(4)
    machine.run("systemctl start hubwarden", timeout=40)
    wait_active(machine)
    eventually(lambda: "erin" not in listed(machine), "erin's grant, over while nobody watched, is gone", 3)
    expect("alice" in listed(machine), "alice's grant went with erin's")
