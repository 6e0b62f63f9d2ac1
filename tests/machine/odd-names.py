"""Odd user names map to the right user or are refused with a clear line; none reaches a shell, a path or a rule."""

from hubapi import Hub, HubError
from product import NOT_MAPPED, eventually, expect, expect_reach, install, rules_as_text, server_of, status, story
import testhost

NAMES = ("dave@example.org", "eve adams", "zoë", "名前", "x" * 200, "-2d", "a-2db", "jupyterhub", "root",
         "back\\slash", "$(touch /tmp/pwned)", "semi;touch /tmp/pwned", "o'brien", '"quoted"', "per%cent", "star*",
         "alice-singleuser", "new\nline")
PORT = f"tcp,{testhost.V4},22"
WEB = f"tcp,{testhost.V4},80"


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    hub = Hub(machine)
    mapped, refused, not_started = [], [], []
    for name in NAMES:
        try:
            session = hub.login(name)
            session.spawn(timeout=40)
        except HubError as error:
            # The hub or the spawner has its own limits; the daemon must not have minded.
            not_started.append((name, str(error)[:120]))
            continue
        verdict(machine, session.name, mapped, refused)
        session.stop()
    for name, why in not_started:
        print(f"not started by the hub itself: {name!r}: {why}")
    print(f"mapped: {mapped}\nrefused with a line: {refused}")
    for must in ("dave@example.org", "zoë", "x" * 200, "-2d", "a-2db", "jupyterhub", "root", "alice-singleuser"):
        expect(must in mapped, f"{must!r} was not mapped")
    expect(machine.run("ls /tmp/pwned", check=False).code != 0, "a name was run by a shell")
    expect(machine.unit_property("hubwarden", "NRestarts") == "0", "the daemon was restarted on the way")
    expect(machine.unit_property("jupyterhub", "NRestarts") == "0", "the hub was restarted on the way")


def newest_unit(machine):
    """The one server that runs now, whatever its name: (unit, cgroup)."""
    out = machine.run("systemctl list-units --plain --no-legend --state=running 'jupyter-*.service'").out
    units = [line.split()[0] for line in out.splitlines()]
    expect(len(units) == 1, f"running servers: {units}")
    return units[0], machine.unit_cgroup(units[0])


def verdict(machine, name, mapped, refused):
    unit, cgroup = newest_unit(machine)

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
        expect_reach(machine.probe([WEB, PORT], unit=unit), [WEB], [PORT], repr(name))
        told = [record for record in story(machine, name) if record.get("MESSAGE")]
        expect(told, f"journalctl HUB_USER={name!r} shows nothing")
        mapped.append(name)
    else:
        expect(len(what.get("REASON", "")) > 10, f"{name!r} was refused without a reason: {what.get('MESSAGE')}")
        expect_reach(machine.probe([WEB, PORT], unit=unit), [], [WEB, PORT], f"{name!r}, which is not mapped")
        refused.append((name, what["REASON"]))
    others = [server["user"] for server in status(machine)["servers"] if server["user"] != name]
    expect(not others, f"while only {name!r} runs, status lists {others}")
    text = rules_as_text(machine)
    expect("chain" in text, "there are no rules")
    for part in ("example.org", "adams", "pwned", "slash", "xxxx", "brien", "quoted"):
        expect(part not in text, f"{part!r} of a name stands in the rules")
