"""`hubwarden flows`, `explain` and `top` on a real bus: root sees everybody's, a user their own and nobody else's."""

import json

import reach
from containers import NETWORK
from hubapi import Hub
from product import TLJH_UNIT, eventually, expect, install, wait_guarded

ALICE = "runuser -u jupyter-alice -- "
BOB = "runuser -u jupyter-bob -- "
# A download that lasts for two minutes: what curl reads slowly the kernel has received at once.
SLOW = """import socket, sys, time
f = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
with socket.socket(f) as s:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    s.connect((sys.argv[1], 80))
    s.sendall(b'GET /large HTTP/1.0\\r\\n\\r\\n')
    while s.recv(4096):
        time.sleep(0.1)
"""

# Until nobody reads any more.
QUIT = "while printf q; do sleep 0.5; done 2>/dev/null"


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "more": f'[hub]\ncontainer_networks = ["{NETWORK}"]\n'})
    hub = Hub(machine)
    for user in ("alice", "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    expect(json.loads(machine.run("hubwarden flows --json").out)["flows"] == [], "there are flows before anybody had one")
    with reach.Outside(machine):
        reach.start_network(machine)
        # Bytes of containers are counted where the admin has connection tracking count.
        machine.run("sysctl -qw net.netfilter.nf_conntrack_acct=1")
        reach.start_container(machine, "jupyter-carol", "carol", NETWORK)
        wait_guarded(machine, "carol", 30)
        downloads = []
        for address in reach.FULL.values():
            slow = ["python3", "-c", SLOW, address]
            for user in ("alice", "bob"):
                downloads.append(machine.start(slow, cgroup=machine.unit_cgroup(TLJH_UNIT.format(user))))
            downloads.append(machine.start(["docker", "exec", "jupyter-carol", *slow]))
        flows(machine)
        explained(machine)
        top(machine)
        for download in downloads:
            download.kill()


def listed(machine, command, who=""):
    return json.loads(machine.run(f"{who}hubwarden flows {command} --json").out)["flows"]


def flows(machine):
    remotes = {f"{reach.host(address)}:80" for address in reach.FULL.values()}

    def all_there():
        found = {}
        for flow in listed(machine, ""):
            found.setdefault(flow["user"], []).append(flow)
        with_bytes = all(flow["counted"] and flow["received"] > 0 and flow["sent"] > 0 for of in found.values() for flow in of)
        both = all({flow["remote"] for flow in of} == remotes for of in found.values())
        return found if set(found) == {"alice", "bob", "carol"} and with_bytes and both else None
    found = eventually(all_there, "root sees the two downloads of each, with bytes", 20)
    before = sum(flow["received"] for flow in found["alice"])
    eventually(lambda: sum(flow["received"] for flow in listed(machine, "alice")) > before + 50_000, "alice's flows grow", 20)
    expect({flow["user"] for flow in listed(machine, "alice")} == {"alice"}, "`flows alice` shows another's too")
    expect({flow["protocol"] for flow in found["carol"]} == {"tcp"}, f"carol's flows: {found['carol']}")

    for who, user in ((ALICE, "alice"), (BOB, "bob")):
        for command in ("", user):
            seen = {flow["user"] for flow in listed(machine, command, who)}
            expect(seen == {user}, f"{user} sees with `flows {command}` the flows of {seen}")
    text = machine.run(f"{ALICE}hubwarden flows").out
    print(text)
    expect(all(remote in text for remote in remotes) and "bob" not in text, f"alice's flows in words:\n{text}")
    others = machine.run(f"{BOB}hubwarden flows alice", check=False)
    expect(not any(remote in others.out for remote in remotes), f"bob sees alice's flows: {others}")
    print(f"bob asks for alice's flows and is told: {(others.err or others.out).strip()}")


def explained(machine):
    said = machine.run("hubwarden explain alice").out
    for words in ("alice", "standard", TLJH_UNIT.format("alice")):
        expect(words in said, f"explain lacks {words!r}:\n{said}")
    hers = machine.run(f"{ALICE}hubwarden explain alice").out
    expect("standard" in hers, f"alice is told of herself:\n{hers}")
    others = machine.run(f"{BOB}hubwarden explain alice", check=False)
    expect(TLJH_UNIT.format("alice") not in others.out + others.err and others.code != 0, f"bob is told of alice: {others}")


def top(machine):
    """On a terminal of its own, ended by a key."""
    for who, seen, unseen in (("", ("alice", "bob", "carol"), ()), (ALICE, ("alice",), ("bob", "carol"))):
        command = f"stty rows 40 cols 160; {who}env TERM=xterm hubwarden top --every 500ms"
        done = machine.run(f"(sleep 3; {QUIT}) | timeout 40 script -qefc '{command}' /dev/null", check=False, timeout=60)
        expect(done.code == 0, f"top did not end well: {done}")
        for user in seen:
            expect(user in done.out, f"top ({who or 'root'}) does not show {user}: {done.out[-800:]!r}")
        for user in unseen:
            expect(user not in done.out.replace("jupyter-alice", ""), f"top as alice shows {user}")
        # The screen from before is back.
        expect("\x1b[?1049h" in done.out and "\x1b[?1049l" in done.out, "top did not take and leave the screen")
    # A restart of the daemon does not end it: servers are there before and after.
    command = "stty rows 24 cols 80; env TERM=xterm hubwarden top --every 500ms"
    restart = f"(sleep 2; systemctl stop hubwarden; sleep 2; systemctl start hubwarden; sleep 2; {QUIT})"
    done = machine.run(f"{restart} | timeout 40 script -qefc '{command}' /dev/null", check=False, timeout=60)
    expect(done.code == 0, f"top did not outlive the daemon's restart: {done}")
    # What changes of a line is drawn, so words may be apart.
    lost = done.out.find("Not")
    expect(lost > 0 and "enforce" in done.out[:lost], f"top does not say that the daemon is gone: {done.out[-1500:]!r}")
    wait_guarded(machine, "alice")
    once = machine.run("hubwarden top --once").out
    expect("alice" in once and "\x1b" not in once, f"top --once: {once}")
