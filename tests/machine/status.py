"""`hubwarden status`, as a table and as JSON; a user sees their own server only."""

import json

from hubapi import Hub
from product import TLJH_UNIT, eventually, expect, install, server_of, spin, status, stop_spinning, wait_guarded

FIELDS = ("user", "server", "unit", "cgroup", "cpu_cores", "credits_core_seconds", "credits_size_core_seconds", "stage", "class")


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    expect(status(machine)["servers"] == [], "there are servers before anybody logged in")
    hub = Hub(machine)
    for user in ("alice", "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)

    whole = status(machine)
    expect(whole["mode"] == "enforce" and whole["off"] is False, f"mode and off: {whole}")
    expect({server["user"] for server in whole["servers"]} == {"alice", "bob"}, str(whole))
    for server in whole["servers"]:
        missing = [field for field in FIELDS if field not in server]
        expect(not missing, f"no {missing} in {server}")
        expect(server["stage"].lower() == "free" and server["class"] == "standard", str(server))
        expect(3000 < server["credits_core_seconds"] <= server["credits_size_core_seconds"] == 3600, str(server))

    unit = TLJH_UNIT.format("alice")
    spin(machine, unit, workers=1)
    eventually(lambda: shown_as_used(machine, unit), "alice's spinner shows with what it uses", 60)
    expect(server_of(machine, "bob")["cpu_cores"] < 0.5, "bob is shown as busy")
    eventually(lambda: server_of(machine, "alice")["credits_core_seconds"] < 3600, "alice's credits drain", 20)
    table = machine.run("hubwarden status").out
    print(table)
    for word in ("alice", "bob", "standard", "free"):
        expect(word in table.lower(), f"{word!r} is not in the table:\n{table}")
    stop_spinning(machine)

    # As alice's own Unix user: her own line, nothing of bob's; and no brake in her hands.
    as_alice = "runuser -u jupyter-alice -- "
    hers = json.loads(machine.run(as_alice + "hubwarden status --json").out)
    expect([server["user"] for server in hers["servers"]] == ["alice"], f"alice sees {hers}")
    expect("bob" not in machine.run(as_alice + "hubwarden status").out, "alice sees bob in the table")
    for verb in ("off", "on", "reload"):
        done = machine.run(as_alice + f"hubwarden {verb}", check=False)
        expect(done.code != 0, f"alice may say `hubwarden {verb}`: {done}")
    expect(status(machine)["off"] is False, "alice has switched it off")
    # From inside her server, where she really is.
    inside = json.loads(machine.run_in_unit(unit, "hubwarden status --json").out)
    expect([server["user"] for server in inside["servers"]] == ["alice"], f"alice sees from her server {inside}")
    # Somebody without a server.
    nobody = machine.run("runuser -u nobody -- hubwarden status --json", check=False)
    expect(nobody.code != 0 or json.loads(nobody.out)["servers"] == [], f"nobody sees {nobody.out}")

    # The ways out that nothing counts are named.
    said = machine.run("hubwarden check", check=False).out
    for job, unit in (("cron jobs", "cron.service"), ("at jobs", "atd.service")):
        expect(f"users' {job} run in {unit}" in said, f"check does not name {unit}:\n{said}")

    # Of what the daemon asks of the bus nothing is refused and logged: it would be at every look.
    refused = machine.run("journalctl -q -b | grep -F 'Rejected send message' | grep -F '/usr/bin/hubwarden run\") interface='", check=False).out
    expect(refused == "", f"the bus refuses what the daemon sends:\n{refused}")

    # Without the daemon it says so.
    machine.run("systemctl stop hubwarden")
    down = machine.run("hubwarden status", check=False)
    expect(down.code != 0 and down.err.strip() and "panicked" not in down.err, f"without the daemon: {down}")


def shown_as_used(machine, unit):
    """Whether alice's CPU is what her cgroup's own counter says: a core where the machine is idle."""
    counter = f"sed -n 's/^usage_usec //p' /sys/fs/cgroup{machine.unit_cgroup(unit)}/cpu.stat"
    before, after = machine.run(f"{counter}; sleep 2; {counter}").out.split()
    used = (int(after) - int(before)) / 2e6
    shown = server_of(machine, "alice")["cpu_cores"]
    return used > 0.3 and used / 2 < shown < used * 2
