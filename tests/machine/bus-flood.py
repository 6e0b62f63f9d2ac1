"""While a user floods the system bus, verdicts land, off takes a moment, and admins are answered; who may give orders is followed."""

import json
import time

import testhost
from hubapi import Hub
from product import (TLJH_UNIT, eventually, expect, install, quota, spin, status, stop_spinning, table, wait_guarded)

FLOOD = "/usr/local/lib/bed/busflood.py"
PROBE = "/usr/local/lib/bed/probe.py"
CONNECTIONS = 20
LONG = 150
# The goals are two ticks and two seconds; a machine that runs other things beside this is given more.
LATER, OFF = 20.0, 10.0
# The files of accounts are looked at each tick; a look-up is a moment.
FOLLOWED = 15


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "credits": "2 core-seconds"})
    hub = Hub(machine)
    machine.run("for user in alice bob carol; do useradd --create-home jupyter-$user; done")
    for user in ("alice", "bob", "carol"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    machine.run("useradd --create-home dave && usermod -aG hubwarden dave && useradd --create-home erin")
    usual = throttled_after(machine, "carol")
    print(f"figure throttled_s {usual:.1f}")
    stop_spinning(machine)
    since = restarts(machine)

    flood = machine.start(in_unit(machine, "alice", f"python3 {FLOOD} {LONG} {CONNECTIONS}"))
    expect(flood.stdout.readline().strip() == "flooding", "the flood did not start")
    deaf = machine.start(in_unit(machine, "alice", f"python3 {FLOOD} {LONG} {CONNECTIONS} deaf huge"))
    expect(deaf.stdout.readline().strip() == "flooding", "the second flood did not start")
    took = throttled_after(machine, "bob")
    print(f"figure throttled_in_a_flood_s {took:.1f}")
    expect(took < usual + LATER, f"bob was throttled after {took:.1f} s, carol before the flood after {usual:.1f} s")
    admins_are_answered(machine)
    nobody_else_may_connect(machine)
    half_open(machine)
    began = time.monotonic()
    machine.run("hubwarden off", timeout=120)
    took = time.monotonic() - began
    print(f"figure off_in_a_flood_s {took:.2f}")
    expect(took < OFF, f"off took {took:.1f} s")
    expect(quota(machine, TLJH_UNIT.format("bob")) is None, "bob's limit stands after off")
    left = table(machine)
    expect(left is None or "reject" not in left, "a rule stands after off")
    machine.run("hubwarden on", timeout=60)
    expect(flood.poll() is None and deaf.poll() is None, "a flood ended before the checks did")
    machine.run(f"pkill -KILL -f '[b]usflood.py'", check=False)
    stop_spinning(machine)
    expect(restarts(machine) == since, "the daemon was restarted: the watchdog, or a crash")

    budgets_are_told(machine)
    a_short_flood_harms_no_one(machine)
    rights_end_with_membership(machine)
    who_may_become_root_is_followed(machine)
    systemd_may_be_replaced(machine)
    the_name_stays(machine)


def in_unit(machine, user, command):
    """A command line that runs as a user's own process, in the server's cgroup."""
    procs = f"/sys/fs/cgroup{machine.unit_cgroup(TLJH_UNIT.format(user))}/cgroup.procs"
    return f"echo $$ > {procs}; exec setpriv --reuid=jupyter-{user} --regid=jupyter-{user} --init-groups {command}"


def throttled_after(machine, user):
    """Seconds from the start of a spinner to its quota in systemd, which is not asked over the bus."""
    began = time.monotonic()
    spin(machine, TLJH_UNIT.format(user))
    eventually(lambda: quota(machine, TLJH_UNIT.format(user)) == 0.25, f"{user} is throttled", 90)
    return time.monotonic() - began


def restarts(machine):
    return (machine.unit_property("hubwarden.service", "NRestarts"), machine.unit_property("hubwarden.service", "MainPID"))


def run_as(machine, user, command, groups="--init-groups", **kwargs):
    return machine.run(f"exec setpriv --reuid={user} --regid={user} {groups} {command}", **kwargs)


def admins_are_answered(machine):
    began = time.monotonic()
    servers = status(machine)["servers"]
    print(f"figure status_in_a_flood_s {time.monotonic() - began:.2f}")
    expect({"alice", "bob", "carol"} <= {server["user"] for server in servers}, f"root was shown {servers}")
    member = json.loads(run_as(machine, "dave", "hubwarden status --json", timeout=60).out)
    expect(len(member["servers"]) == len(servers), "a member was not shown all servers")
    expect("Nobody" not in run_as(machine, "dave", "hubwarden grants", timeout=60).err, "a member's order failed")


def nobody_else_may_connect(machine):
    tried = "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/hubwarden/control\")'"
    denied = run_as(machine, "erin", tried, check=False)
    expect("PermissionError" in denied.err, f"erin's connection: {denied}")


def half_open(machine):
    """A thousand connections that never say who they are, of a member: the next root's is served."""
    tried = """import socket, time
held = []
for _ in range(1000):
    one = socket.socket(socket.AF_UNIX)
    one.setblocking(False)
    try:
        one.connect("/run/hubwarden/control")
    except BlockingIOError:
        pass
    held.append(one)
print("held", flush=True)
time.sleep(60)
"""
    machine.put("/root/halfopen.py", tried)
    machine.run("install -m 644 /root/halfopen.py /usr/local/lib/bed/halfopen.py")
    holder = machine.start("exec setpriv --reuid=dave --regid=dave --init-groups python3 /usr/local/lib/bed/halfopen.py")
    expect(holder.stdout.readline().strip() == "held", f"the holder ended: {holder.stderr.read() if holder.poll() is not None else ''}")
    expect(status(machine)["mode"] == "enforce", "root is not answered beside a thousand half-open connections")
    machine.run("pkill -KILL -f '[h]alfopen.py'", check=False)


def budgets_are_told(machine):
    """Whoever asks too much of hubwarden gets an error that says so, and is served again a moment later."""
    done = machine.run(in_unit(machine, "alice", f"python3 {FLOOD} 3 1 status"), timeout=60)
    result = json.loads(done.out.splitlines()[-1])
    print(f"one connection in 3 s: {result}")
    expect(result["limits"], "no LimitsExceeded came back")
    eventually(lambda: machine.run(in_unit(machine, "alice", "hubwarden status --json"), check=False).code == 0,
               "alice is served again", 30)


def a_short_flood_harms_no_one(machine):
    """Each kind by itself; the daemon's memory does not grow by what is sent."""
    before = memory(machine)
    for kind in ("huge", "signals", "unknown", "unanswered", "orders"):
        machine.run(in_unit(machine, "alice", f"python3 {FLOOD} 2 4 {kind}"), timeout=60)
    grown = memory(machine) - before
    print(f"figure memory_after_floods_mb {grown / 1e6:.1f}")
    expect(grown < 64e6, f"the daemon grew by {grown / 1e6:.0f} MB")
    expect(status(machine)["off"] is False, "a user's order was obeyed")


def memory(machine):
    pid = machine.unit_property("hubwarden.service", "MainPID")
    return int(machine.run(f"awk '/^VmRSS/ {{print $2}}' /proc/{pid}/status").out) * 1024


def rights_end_with_membership(machine):
    """A process keeps its groups until it ends; its user's rights end when the membership does."""
    group = machine.run("getent group hubwarden | cut -d: -f3").out.strip()
    kept = f"--groups={group}"
    run_as(machine, "dave", "hubwarden grants", kept)
    machine.run("gpasswd -d dave hubwarden")
    for way in ("hubwarden grants", "busctl call org.hubwarden /org/hubwarden org.hubwarden.Manager1 Grants"):
        said = eventually(lambda: denied(run_as(machine, "dave", way, kept, check=False)),
                          f"dave is refused ({way})", FOLLOWED)
        print(f"dave, {way.split()[0]}: {said}")


def denied(done):
    """What was said to one who may not; the bus has words of its own where its policy refuses first."""
    words = ("only root and members", "Access denied", "Rejected send message")
    return done.err.strip() if done.code != 0 and any(word in done.err for word in words) else None


def who_may_become_root_is_followed(machine):
    target = f"tcp,{testhost.V4},4444"

    def reaches():
        done = machine.run(f"systemd-run --quiet --wait --pipe --collect --uid=jupyter-bob python3 {PROBE} {target}")
        return json.loads(done.out)[target]["ok"]

    eventually(lambda: not reaches(), "bob is judged outside his server", 30)
    for change, admin in (("usermod -aG sudo jupyter-bob", True), ("gpasswd -d jupyter-bob sudo", False)):
        began = time.monotonic()
        machine.run(change)
        eventually(lambda: reaches() is admin, f"`{change}` is followed without a reload", FOLLOWED)
        print(f"figure followed_s {time.monotonic() - began:.1f} ({change})")


def systemd_may_be_replaced(machine):
    """Each upgrade of systemd ends the connections to its private socket."""
    since = restarts(machine)
    for _ in range(3):
        machine.run("systemctl daemon-reexec", timeout=60)
    spin(machine, TLJH_UNIT.format("alice"))
    machine.run("systemctl daemon-reexec", timeout=60)
    eventually(lambda: quota(machine, TLJH_UNIT.format("alice")) == 0.25, "alice is throttled after systemd was replaced", 60)
    stop_spinning(machine)
    expect(restarts(machine) == since, "the daemon ended with systemd's connections")
    expect("systemd" not in dict(status(machine)["lacks"]), f"status: {status(machine)['lacks']}")


def the_name_stays(machine):
    """Another process of root's cannot take the name by asking to replace its owner (flag 2)."""
    owner = name_owner(machine)
    machine.run("busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su org.hubwarden 6",
                check=False)
    expect(name_owner(machine) == owner, "the name was taken")


def name_owner(machine):
    return machine.run("busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus GetNameOwner s org.hubwarden").out
