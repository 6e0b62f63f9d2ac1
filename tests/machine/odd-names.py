"""Odd user names map to the right user or are refused with a clear line; none reaches a shell, a path or a rule."""

import hashlib

import testhost
from hubapi import Hub
from product import NOT_MAPPED, eventually, expect, expect_reach, install, rules_as_text, server_of, status, story

# The hub can start these, unit name and all.
BY_HUB = ("dave@example.org", "eve adams", "zoë", "x" * 200, "-2d", "jupyterhub", "root", "per%cent", "$(touch pwned)")
# These too, or would if its own quoting did not fail; started with the spawner's own command line.
BY_HAND = ("名前", "a-2db", "alice-singleuser", "back\\slash", "semi;touch pwned", "o'brien", '"quoted"', "star*", "new\nline",
           "`touch pwned`", "two@at@signs", "..", "\\x2d", "{USERNAME}", "jupyter-jupyter", "x" * 230)
MUST = ("dave@example.org", "zoë", "x" * 200, "-2d", "jupyterhub", "root", "a-2db", "alice-singleuser", "eve adams")
SSH = f"tcp,{testhost.V4},22"
WEB = f"tcp,{testhost.V4},80"


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    hub = Hub(machine)
    mapped, refused = [], []
    for name in BY_HUB:
        session = hub.login(name)
        session.spawn(timeout=30)
        verdict(machine, session.name, mapped, refused)
        session.stop()
    for name in BY_HAND:
        if by_hand(machine, name):
            verdict(machine, name, mapped, refused)
            stop_all(machine)
        else:
            print(f"systemd itself refuses a unit for {name!r}")
    for name in mapped:
        print(f"mapped: {name!r}")
    for name, why in refused:
        print(f"refused: {name!r}: {why}")
    for must in MUST:
        expect(must in mapped, f"{must!r} was not mapped")
    found = machine.run("find / -xdev -name pwned", check=False).out
    expect(not found, f"a name was run by a shell: {found}")
    expect(machine.unit_property("hubwarden", "NRestarts") == "0", "the daemon was restarted on the way")
    expect(machine.unit_property("jupyterhub", "NRestarts") == "0", "the hub was restarted on the way")


def by_hand(machine, name):
    """What SystemdSpawner runs for a name under TLJH, without a hub; whether systemd took it."""
    unix = "jupyter-" + name
    if len(unix) >= 26:
        unix = unix[:26] + "-" + hashlib.sha256(unix.encode()).hexdigest()[:5]
    if machine.run(["useradd", "--badname", "--", unix], check=False).code != 0:
        unix = "jupyter-h" + hashlib.sha256(name.encode()).hexdigest()[:10]
        machine.run(["useradd", "--", unix])
    return machine.run(["systemd-run", "--quiet", "--collect", "--unit", f"jupyter-{name}", f"--uid={unix}", "sleep", "60"],
                       check=False).code == 0


def running_units(machine):
    out = machine.run("systemctl list-units --plain --no-legend --state=running 'jupyter-*.service'").out
    return [line.split()[0] for line in out.splitlines()]


def stop_all(machine):
    machine.run(["systemctl", "stop", "--", *running_units(machine)])


def verdict(machine, name, mapped, refused):
    """The one server that runs now is mapped and guarded, or refused with a line and reaches nothing."""
    units = running_units(machine)
    expect(len(units) == 1, f"running servers: {units}")
    unit, cgroup = units[0], machine.unit_cgroup(units[0])

    def answer():
        server = server_of(machine, name)
        if server:
            return "mapped", server
        lines = [record for record in machine.journal(f"MESSAGE_ID={NOT_MAPPED}") if record.get("UNIT_NAME") == unit]
        return ("refused", lines[-1]) if lines else None

    kind, what = eventually(answer, f"{name!r} ({unit} in {cgroup}) is mapped or refused with a line")
    if kind == "mapped":
        expect(what["unit"] == unit, f"{name!r} is listed with {what['unit']}, runs in {unit}")
        expect(what["class"] == "standard", f"{name!r} has class {what['class']}")
        expect_reach(machine.probe([WEB, SSH], unit=unit), [WEB], [SSH], repr(name))
        told = [record for record in story(machine, name) if record.get("MESSAGE")]
        expect(told, f"journalctl HUB_USER={name!r} shows nothing")
        mapped.append(name)
    else:
        expect(len(what.get("REASON", "")) > 10, f"{name!r} was refused without a reason: {what.get('MESSAGE')}")
        expect_reach(machine.probe([WEB, SSH], unit=unit), [], [WEB, SSH], f"{name!r}, which is not mapped")
        refused.append((name, what["REASON"]))
    others = [server["user"] for server in status(machine)["servers"] if server["user"] != name]
    expect(not others, f"while only {name!r} runs, status lists {others}")
    text = rules_as_text(machine)
    expect("chain" in text, "there are no rules")
    for part in ("example.org", "adams", "pwned", "slash", "xxxx", "brien", "quoted"):
        expect(part not in text, f"{part!r} of a name stands in the rules")
