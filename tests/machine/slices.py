"""Servers stay where their spawner puts them; the first packet is held all the same; a hub called jupyter-hub is neither moved nor closed."""

import json

import testhost
from hubapi import Hub
from product import (TLJH_UNIT, configure, eventually, expect, expect_reach, install, outside, status, wait_active,
                     wait_guarded)

SUITES = ("bookworm", "trixie")
HUB = "jupyter-hub.service"
MORE = f'[hub]\nhub_units = ["{HUB}"]\n'
OPEN = f"tcp,{testhost.V4},22"
DROP_INS = "ls /run/systemd/system/*/10-hubwarden.conf 2>/dev/null | xargs -r -n1 dirname | xargs -r -n1 basename"


def scenario(machine):
    # The hub's unit begins as those of its servers do.
    machine.boot(hub=False)
    machine.run(f"mv /etc/systemd/system/jupyterhub.service /etc/systemd/system/{HUB}; systemctl daemon-reload; systemctl start {HUB}")
    hub = Hub(machine)
    hub.wait_up()

    # As installed: nothing is moved, and nothing is there that could move anything.
    install(machine)
    expect(status(machine)["mode"] == "observe", "the mode after installation")
    alice = hub.login("alice")
    alice.spawn()
    wait_guarded(machine, "alice")
    expect(slice_of(machine, "alice") == "system.slice", f"in observe alice's server is in {slice_of(machine, 'alice')}")
    expect(drop_ins(machine) == [], f"in observe there are drop-ins: {drop_ins(machine)}")

    # In force: who comes is held from the first packet, and the hub stays where it is.
    configure(machine, more=MORE)
    machine.run("hubwarden reload")
    expect(drop_ins(machine) == ["jupyter-.service.d", f"{HUB}.d"], f"drop-ins: {drop_ins(machine)}")
    allowed, refused = outside()
    hub.login("bob").spawn()
    wait_guarded(machine, "bob")
    expect(slice_of(machine, "bob") == "jupyter.slice", f"bob's server is in {slice_of(machine, 'bob')}")
    for user in ("alice", "bob"):
        expect_reach(machine.probe(allowed + refused, unit=TLJH_UNIT.format(user)), allowed, refused, user)
    unknown(machine, [])
    restart_hub(machine, hub, "with the daemon running")
    machine.run("systemctl stop hubwarden")
    restart_hub(machine, hub, "with the daemon stopped")
    machine.run("systemctl start hubwarden")
    wait_active(machine)

    # Off: the next server is where its spawner puts it; bob's stays where it runs, in systemd's mind too.
    machine.run("hubwarden off")
    hub.login("carol").spawn()
    expect(slice_of(machine, "carol") == "system.slice", f"when off carol's server is in {slice_of(machine, 'carol')}")
    expect(drop_ins(machine) == [f"{TLJH_UNIT.format('bob')}.d"], f"when off: {drop_ins(machine)}")
    machine.run("systemctl daemon-reload")
    expect(slice_of(machine, "bob") == "jupyter.slice", f"when off bob's server is in {slice_of(machine, 'bob')}")
    restart_hub(machine, hub, "when off")
    machine.run("hubwarden on")

    # An admin's own slice, with a limit on it.
    machine.put("/etc/systemd/system/jhub-users.slice", "[Slice]\nTasksMax=500\n")
    machine.put("/etc/bed/hub.json", json.dumps({"spawner": {"slice": "jhub-users.slice"}}))
    machine.run(f"systemctl daemon-reload; systemctl restart {HUB}", timeout=90)
    hub.wait_up()
    hub.login("dora").spawn()
    unit = TLJH_UNIT.format("dora")
    if slice_of(machine, "dora") != "jhub-users.slice":
        # The first one told what the spawner asks for, and those after it are left there.
        eventually(lambda: "jupyter-.service.d" not in drop_ins(machine), "the drop-in is gone")
        print("the first server of a spawner with a slice of its own was moved once")
        unit = TLJH_UNIT.format("erin")
        hub.login("erin").spawn()
    wait_guarded(machine, unit.removeprefix("jupyter-").removesuffix(".service"))
    expect(machine.unit_property(unit, "Slice") == "jhub-users.slice", f"{unit} is in {machine.unit_property(unit, 'Slice')}")
    expect_reach(machine.probe(allowed + refused, unit=unit), allowed, refused, unit)
    eventually(lambda: not unknown_reaches(machine, ["--slice=jhub-users.slice"]), "an unknown unit in the spawner's slice is held")
    # The daemon is gone, and so is everybody in the slice: it is held all the same.
    machine.run(f"systemctl stop {unit}; systemctl kill -s KILL hubwarden; systemctl stop hubwarden")
    unknown(machine, ["--slice=jhub-users.slice"])
    machine.run("systemctl start hubwarden")
    wait_active(machine)
    # Something of the admin's comes into it: from then on it is open for what is not known, and that is said.
    machine.put("/etc/systemd/system/database.service", "[Service]\nSlice=jhub-users.slice\nExecStart=/bin/sleep infinity\n")
    machine.run("systemctl daemon-reload; systemctl start database")
    lack = eventually(lambda: dict(status(machine)["lacks"]).get("new servers"), "status says that the slice is shared")
    print(lack)
    machine.run("systemctl stop hubwarden; systemctl restart database")
    results = machine.probe([OPEN], unit="database.service")
    expect(results[OPEN]["ok"], f"an admin's service in the spawner's slice is closed: {results}")


def slice_of(machine, user):
    """By systemd's word and by the kernel's, which have to be one."""
    unit = TLJH_UNIT.format(user)
    said = machine.unit_property(unit, "Slice")
    is_in = str(machine.unit_property(unit, "ControlGroup")).rsplit("/", 2)[-2]
    return said if said == is_in else f"{said} by systemd's word and {is_in} by the kernel's"


def drop_ins(machine):
    return machine.run(DROP_INS, check=False).out.split()


def unknown_reaches(machine, options):
    """Whether a unit that is nobody's reaches what is refused to everybody."""
    machine.run(f"systemd-run --quiet --collect --unit=jupyter-nobody-else --uid=games {' '.join(options)} sleep 60")
    try:
        return machine.probe([OPEN], unit="jupyter-nobody-else.service")[OPEN]["ok"]
    finally:
        machine.run("systemctl stop jupyter-nobody-else")


def unknown(machine, options):
    expect(not unknown_reaches(machine, options), f"a unit that is nobody's ({options}) reached {OPEN}")


def restart_hub(machine, hub, when):
    machine.run(f"systemctl restart {HUB}", timeout=90)
    hub.wait_up()
    where = machine.unit_property(HUB, "ControlGroup")
    expect(where == f"/system.slice/{HUB}", f"{when} the hub is in {where}")
    # The hub and its proxy speak over loopback.
    expect(hub.api("GET", "/users") is not None, f"{when} the hub does not answer")
