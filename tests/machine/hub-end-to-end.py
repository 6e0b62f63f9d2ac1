"""Two users log in; both servers are found in time, mapped and guarded; the hub works throughout."""

import json

import testhost
from hubapi import Hub
from product import (FOUND, TLJH_UNIT, entries, eventually, expect, expect_none_arrived, expect_reach, install, outside,
                     wait_guarded, when)

SUITES = ("bookworm", "trixie")
IN_TIME = 0.100  # from the cgroup's creation to the daemon's word that it is mapped and guarded


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    hub = Hub(machine)
    sessions = {}
    with machine.watch_cgroups() as watch:
        for user in ("alice", "bob"):
            sessions[user] = hub.login(user)
            print(f"{user}'s server was ready after {sessions[user].spawn():.1f} s")
    for user in sessions:
        found_and_mapped(machine, user, watch.born)
    what_a_kernel_can_do(sessions["alice"])
    what_alice_reaches(machine)
    what_alice_reaches_on_this_node(machine)
    strangers_reach_nothing(machine)
    others_are_left_alone(machine)
    no_unguarded_moment(machine)
    hub_goes_on(machine, sessions["alice"])


def found_and_mapped(machine, user, born):
    unit = TLJH_UNIT.format(user)
    server = wait_guarded(machine, user)
    expect(server["unit"] == unit, f"{user}'s server is listed with unit {server['unit']}")
    cgroup = machine.unit_cgroup(unit)
    expect(cgroup == f"/jupyter.slice/{unit}", f"{unit} runs in {cgroup}")
    expect(server["cgroup"].strip("/").endswith(cgroup.strip("/")), f"{user} is listed with cgroup {server['cgroup']}")
    expect(server["class"] == "standard", f"{user}'s class is {server['class']}")
    found = entries(machine, user, FOUND)
    expect(found, f"the journal does not say that {user}'s server was found")
    late = when(found[0]) - born[unit]
    print(f"{user}'s server was found {late * 1000:.0f} ms after its cgroup appeared")
    expect(late <= IN_TIME, f"{user}'s server was found {late * 1000:.0f} ms after its cgroup, not within {IN_TIME * 1000:.0f} ms")


def what_a_kernel_can_do(alice):
    """A real kernel (five loopback sockets to its server) runs, and is bound by the class."""
    code = f"""
import socket, urllib.request
print(sum(range(10)))
print(urllib.request.urlopen("http://{testhost.V4}/", timeout=5).read().decode().strip())
try:
    socket.create_connection(("{testhost.V4}", 22), timeout=5)
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""
    lines = alice.execute(code).split("\n")
    expect(lines[:2] == ["45", "test host"], f"alice's kernel printed {lines}")
    expect(lines[2] not in ("reached", "TimeoutError", "timeout"), f"port 22 from alice's kernel: {lines[2]}")


def what_alice_reaches(machine):
    allowed, refused = outside()
    machine.arrivals(clear=True)
    results = machine.probe(allowed + refused, unit=TLJH_UNIT.format("alice"))
    expect_reach(results, allowed, refused, "alice")
    expect_none_arrived(machine, refused, "alice")
    slowest = max(results[target]["seconds"] for target in refused)
    print(f"alice reached {len(allowed)} targets and was refused {len(refused)}, the slowest after {slowest * 1000:.0f} ms")


def listening_port(machine, unit):
    """The TCP port that a user's server listens on."""
    pid = machine.unit_property(unit, "MainPID")
    for line in machine.run("ss -Hltnp").out.splitlines():
        if f"pid={pid}," in line:
            return int(line.split()[3].rsplit(":", 1)[1])
    raise AssertionError(f"{unit} listens on nothing")


def what_alice_reaches_on_this_node(machine):
    alice, bob = (TLJH_UNIT.format(user) for user in ("alice", "bob"))
    allowed = ["tcp,127.0.0.1,15001", f"tcp,127.0.0.1,{listening_port(machine, alice)}"]
    refused = [f"tcp,127.0.0.1,{listening_port(machine, bob)}", "tcp,127.0.0.1,8099"]
    expect_reach(machine.probe(allowed + refused, unit=alice), allowed, refused, "alice on this node")
    status = machine.run_in_unit(alice, "curl -s -m 5 http://127.0.0.1:15001/hub/api/").out
    expect("version" in json.loads(status), f"the hub's API told alice {status!r}")


def strangers_reach_nothing(machine):
    """Units in the guarded slice that are nobody's server: another name; a server's name as the wrong user."""
    allowed, refused = outside()
    everything = allowed + refused + ["tcp,127.0.0.1,8099"]
    for unit, options in (("stranger", "--slice=jupyter.slice"), ("jupyter-mallory", "--uid=nobody")):
        machine.run(f"systemd-run --quiet --collect --unit={unit} {options} sleep 300")
        machine.arrivals(clear=True)
        expect_reach(machine.probe(everything, cgroup=f"/jupyter.slice/{unit}.service"), [], everything, unit)
        expect_none_arrived(machine, everything, unit)
        machine.run(f"systemctl stop {unit}")
    print("units that are nobody's server reached nothing")


def others_are_left_alone(machine):
    """Root's shell, a service, and the hub and proxy themselves."""
    allowed, refused = outside()
    everything = allowed + refused + ["tcp,127.0.0.1,8099"]
    for who, cgroup in (("root's shell", None), ("the hub", "/system.slice/jupyterhub.service")):
        expect_reach(machine.probe(everything, cgroup=cgroup), everything, [], who)
    service = machine.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "python3",
                           "/usr/local/lib/bed/probe.py", f"tcp,{testhost.V4},22"]).out
    expect(json.loads(service)[f"tcp,{testhost.V4},22"]["ok"], f"a service of root's: {service}")


def no_unguarded_moment(machine):
    """A server that tries from its first instruction on: nothing refused ever gets out."""
    machine.run("useradd --create-home --shell /bin/bash jupyter-carol")
    machine.put("/usr/local/lib/bed/eager.py", f"""
import socket, time
end = time.monotonic() + 4
while time.monotonic() < end:
    for port in (22, 80):
        try:
            socket.create_connection(("{testhost.V4}", port), timeout=0.5).close()
        except OSError:
            pass
    time.sleep(0.001)
time.sleep(60)
""")
    machine.arrivals(clear=True)
    machine.run("systemd-run --quiet --collect --unit=jupyter-carol --uid=jupyter-carol python3 /usr/local/lib/bed/eager.py")
    wait_guarded(machine, "carol")
    eventually(lambda: any(arrival["port"] == 80 for arrival in machine.arrivals()), "carol reaches port 80")
    leaked = [arrival for arrival in machine.arrivals() if arrival["port"] == 22]
    expect(not leaked, f"{len(leaked)} packets of carol's reached port 22 before or while she was guarded")
    machine.run("systemctl stop jupyter-carol")


def hub_goes_on(machine, alice):
    for again in range(2):
        alice.stop()
        eventually(lambda: not any(server["user"] == "alice" for server in
                                   json.loads(machine.run("hubwarden status --json").out)["servers"]),
                   "alice's stopped server leaves the status")
        alice.spawn()
        wait_guarded(machine, "alice")
    allowed, refused = outside()
    expect_reach(machine.probe(allowed[:4] + refused[:4], unit=TLJH_UNIT.format("alice")), allowed[:4], refused[:4],
                 "alice after respawning")
    expect("42" in alice.execute("print(42)"), "a kernel after respawning")
