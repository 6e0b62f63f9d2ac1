"""check-config names every mistake with line and column; a bad file is refused at start and at reload."""

import re

from hubapi import Hub
from product import CONFIG, TLJH_UNIT, config, configure, eventually, expect, install, rules, status, wait_active, wait_guarded

BAD = '''mode = "enforce"
tick = "soon"

[cpu]
limit = "0 cores"
baselin = "0.25 cores"

[egress.classes.standard]
services = ["dns", "tcp/99999"]
'''
# (line, what the message must name)
MISTAKES = ((2, "tick"), (5, "limit"), (6, "baselin"), (9, "tcp/99999"))


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    Hub(machine).login("alice").spawn()
    wait_guarded(machine, "alice")
    before = rules(machine)
    expect(machine.run("hubwarden check-config").code == 0, "a good file is not accepted")

    machine.put("/root/bad.toml", BAD)
    done = machine.run("hubwarden check-config /root/bad.toml", check=False)
    expect(done.code == 2, f"check-config of a bad file: {done}")
    said = done.out + done.err
    for line, what in MISTAKES:
        named = [text for text in said.splitlines() if re.search(rf"bad\.toml:{line}:\d+", text)]
        expect(named, f"no `bad.toml:{line}:COLUMN` in:\n{said}")
        expect(any(what in text for text in said.splitlines()), f"{what!r} is not named in:\n{said}")
    print(said.strip())
    for text, why in (("mode = ", "cut off"), ("", "empty"), ("\x00\x01", "binary"), ("mode = 3\n", "wrong type")):
        machine.put("/root/odd.toml", text)
        code = machine.run("hubwarden check-config /root/odd.toml", check=False).code
        expect(code == (0 if why == "empty" else 2), f"check-config of a file that is {why} ended with {code}")
    expect(machine.run("hubwarden check-config /root/none.toml", check=False).code == 2, "a missing file was accepted")

    # Reload: fails visibly, and the old policy stays.
    machine.put(CONFIG, BAD)
    reload = machine.run("systemctl reload hubwarden", check=False)
    expect(reload.code != 0, f"reload with a bad file: {reload}")
    expect(machine.unit_property("hubwarden", "ActiveState") == "active", "the daemon ended at a bad reload")
    expect(status(machine)["mode"] == "enforce" and rules(machine) == before, "the old policy did not stay")

    # Start: refused, says where, and is not tried again and again; rules stay.
    machine.run("systemctl restart hubwarden", check=False, timeout=60)
    eventually(lambda: machine.unit_property("hubwarden", "ActiveState") == "failed", "the unit shows as failed")
    expect(machine.unit_property("hubwarden", "ExecMainStatus") == "2", "the exit code is not 2")
    journal = "\n".join(str(record.get("MESSAGE")) for record in machine.journal("-u", "hubwarden", "-n", "40"))
    expect(re.search(r"config\.toml:2:\d+", journal), f"the journal does not name line 2:\n{journal}")
    expect(rules(machine) == before, "the rules of before did not stay")

    # A good file again; a good reload takes effect.
    configure(machine, mode="enforce")
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    machine.put(CONFIG, config(mode="observe"))
    machine.run("systemctl reload hubwarden")
    expect(status(machine)["mode"] == "observe", "a good reload did not take effect")
    expect(machine.probe(["tcp,192.0.2.2,22"], unit=TLJH_UNIT.format("alice"))["tcp,192.0.2.2,22"]["ok"],
           "after the reload to observe, port 22 is still refused")
