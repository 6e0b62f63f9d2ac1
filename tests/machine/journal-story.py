"""`journalctl HUB_USER=alice` tells alice's story in order, with all fields; `journalctl -x` explains it."""

import testhost
from hubapi import Hub
from product import (FOUND, FREED, GONE, REFUSED, THROTTLED, TLJH_UNIT, eventually, expect, install, stage, spin,
                     stop_spinning, story, wait_guarded)

UNIT = TLJH_UNIT.format("alice")
EVERY = ("MESSAGE", "MESSAGE_ID", "HUB_USER", "HUB_SERVER", "HUB_SPAWNER", "CGROUP", "CASE_ID", "VERDICT_MODE")
VERDICTS = ("VERDICT", "REASON", "EVIDENCE")


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "credits": "3 core-seconds"})
    hub = Hub(machine)
    alice, bob = hub.login("alice"), hub.login("bob")
    alice.spawn()
    bob.spawn()
    wait_guarded(machine, "alice")
    for _ in range(3):  # the first of each is told, the others are not
        machine.probe([f"tcp,{testhost.V4},22", f"tcp,{testhost.V6},25"], unit=UNIT)
    spin(machine, UNIT)
    eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 30)
    stop_spinning(machine)
    eventually(lambda: stage(machine, "alice") == "free", "alice is free again", 60)
    alice.stop()
    records = eventually(lambda: (lambda told: told if told and told[-1]["MESSAGE_ID"] == GONE else None)(story(machine, "alice")),
                         "the story ends with the server's end")

    for record in records:
        print(record["MESSAGE"])
        missing = [field for field in EVERY if field not in record]
        expect(not missing, f"{record['MESSAGE']!r} has no {missing}")
        expect(record["SYSLOG_IDENTIFIER"] == "hubwarden" and record["HUB_USER"] == "alice", str(record))
        expect(record["HUB_SPAWNER"].lower().startswith("systemd"), f"HUB_SPAWNER={record['HUB_SPAWNER']}")
        expect(record["CGROUP"].strip("/") == f"jupyter.slice/{UNIT}", f"CGROUP={record['CGROUP']}")
        expect("alice" in record["MESSAGE"] and record["MESSAGE"].endswith("."), f"no sentence: {record['MESSAGE']!r}")
        expect("bob" not in record["MESSAGE"], f"bob in alice's story: {record['MESSAGE']}")
    kinds = [record["MESSAGE_ID"] for record in records]
    places = [kinds.index(kind) if kind in kinds else None for kind in (FOUND, REFUSED, THROTTLED, FREED, GONE)]
    expect(None not in places, f"of found, refused, throttled, freed, gone the story has {places}")
    expect(places == sorted(places), f"the story is out of order: {places}")
    refused = [record for record in records if record["MESSAGE_ID"] == REFUSED]
    targets = sorted(record["PORT"] for record in refused if "PORT" in record)
    expect(targets == ["22", "25"], f"refusals of ports {targets} are told, not each once")
    unlogged = sum(int(record.get("NOT_LOGGED", 0)) for record in refused)
    expect(unlogged == 4, f"of six packets that were refused two have a line, and {unlogged} are told of as a number")
    for kind, word in ((THROTTLED, "throttled"), (FREED, "free")):
        record = records[kinds.index(kind)]
        missing = [field for field in VERDICTS if not record.get(field)]
        expect(not missing, f"the verdict {word!r} has no {missing}")
        expect(record["VERDICT"].lower() == word and record["VERDICT_MODE"] == "enforce", f"VERDICT={record['VERDICT']}")

    # The catalog: every kind of this story is explained, with its fields filled in.
    explained = machine.run("journalctl -x --no-pager HUB_USER=alice").out
    expect(explained.count("░░ Subject:") == len(records), f"{explained.count('░░ Subject:')} of {len(records)} entries are explained")
    unfilled = [line for line in explained.splitlines() if line.startswith("░░") and "@" in line.replace("@example", "")]
    expect(not unfilled, f"fields left open in the catalog's text: {unfilled}")
    expect(story(machine, "bob"), "bob has no story of his own")
