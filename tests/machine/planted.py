"""What one user lays, sends or pipes to another's processes is no evidence against that user; what those do themselves is."""

import contextlib
import json
import tempfile
import time
from pathlib import Path

import miner
import testhost
from hubapi import Hub
from product import TLJH_UNIT, Failed, config, eventually, expect, install, story, wait_active, wait_guarded, when
from rootfs import PROJECT, sh

EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
USERS = ("alice", "bob", "carol", "mallory")
ALICE, BOB, CAROL, MALLORY = (TLJH_UNIT.format(user) for user in USERS)
BED = "/usr/local/lib/bed"
HOSTILE = f"{BED}/hostile"
# Many compute here, on a core or two.
HOT = '[evidence]\nhot = "0.05 cores"\n'
PLANTED = "/dev/shm/planted"
ECHO, LOGIN = 7007, json.dumps({"id": 1, "jsonrpc": "2.0", "method": "login", "params": {"login": "no-wallet"}})
SUBSCRIBE = json.dumps({"id": 1, "method": "mining.subscribe", "params": []})
# How alice has what mallory laid (tests/evidence/hostile.c): read, mapped, loaded as code.
TAKEN = ("read", "map", "map-code", "map-shared-code", "all-executable")
# A service that gives back what it is sent; and one that first says to the next what the last one left.
ECHO_SERVICE = """
import socket, sys, threading
left = b"words of no interest\\n"
def serve(client, first):
    global left
    try:
        if first:
            client.sendall(left)
        while data := client.recv(4096):
            left = data
            client.sendall(data)
    except OSError:
        pass
    client.close()
def listen(family, port, first):
    server = socket.create_server(("", port), family=family, backlog=64)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0], first), daemon=True).start()
for family in (socket.AF_INET, socket.AF_INET6):
    for port, first in ((int(sys.argv[1]), False), (int(sys.argv[1]) + 1, True)):
        threading.Thread(target=listen, args=(family, port, first)).start()
threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()
"""
# Leaves a miner's words there and asks for them; how often they came back, and from whom first.
SENDER = """
import json, socket, sys, time
port, words, hosts = int(sys.argv[1]), [line.encode() + b"\\n" for line in sys.argv[2:4]], sys.argv[4:]
back = {}
for turn in range(6):
    for host in hosts:
        for at in (port, port + 1):
            for line in words:
                try:
                    with socket.create_connection((host, at), 5) as client:
                        client.settimeout(5)
                        if at != port and turn:
                            # The server speaks first, with what was left there.
                            back[f"{host} first"] = back.get(f"{host} first", 0) + (client.recv(4096) in words)
                        client.sendall(line)
                        got = b""
                        while line not in got and (part := client.recv(4096)):
                            got += part
                        back[host] = back.get(host, 0) + (line in got)
                except OSError as error:
                    back[f"{host}: {error}"] = back.get(f"{host}: {error}", 0) + 1
    time.sleep(0.2)
print(json.dumps(back))
"""


def scenario(machine):
    machine.boot()
    install(machine)
    # No server is throttled, so that whoever computes stays hot.
    machine.put("/etc/hubwarden/config.toml", config(mode="observe", tick="1s", credits="100 core-hours", more=HOT))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    hub = Hub(machine)
    for user in USERS:
        hub.login(user).spawn()
        wait_guarded(machine, user)
    build(machine)
    program = miner.put(machine, "carol")

    begun = time.time()
    alice_has_what_mallory_laid(machine)
    bob_gives_back_what_he_is_sent(machine)
    # A true miner of the same boot is named meanwhile: the sensors look and listen.
    miner.start(machine, CAROL, program, seconds=180)
    found = eventually(lambda: evidence(machine, "carol", "high"), "carol's miner is named", 120)
    print(f"carol's miner is named {when(found[0]) - begun:.1f} s after mallory began: {found[0]['MESSAGE']}")
    # Each of alice's processes has been looked into by then, and again.
    time.sleep(20)
    accused = [record["MESSAGE"] for user in ("alice", "bob") for record in evidence(machine, user)]
    expect(not accused, f"accused for what mallory did: {accused}")
    by_themselves_they_are_known(machine)


def evidence(machine, user, *levels):
    return [record for record in story(machine, user) if record.get("MESSAGE_ID") == EVIDENCE
            and (not levels or record["EVIDENCE_LEVEL"] in (*levels, "certain"))]


def build(machine):
    with tempfile.TemporaryDirectory() as directory:
        built = Path(directory) / "hostile"
        sh("cc", "-O1", "-static", "-o", built, PROJECT / "tests/evidence/hostile.c")
        machine.put(HOSTILE, built, mode=0o755)
    machine.put(f"{BED}/echo.py", ECHO_SERVICE)
    machine.put(f"{BED}/sender.py", SENDER)


def alice_has_what_mallory_laid(machine):
    machine.run_in_unit(MALLORY, f"{HOSTILE} lay {PLANTED}")
    for way in TAKEN:
        begin(machine, way, f"exec {HOSTILE} take {way} {PLANTED}")
    # By a pipe of mallory's, into memory of alice's own.
    # It holds both ends itself, so that neither side ever waits for the other to open it.
    machine.run_in_unit(MALLORY, "mkfifo -m 644 /dev/shm/pipe && exec 3<>/dev/shm/pipe\n"
                                 f"setsid sh -c 'while cat {PLANTED} >&3; do :; done' >/dev/null 2>&1 </dev/null &")
    begin(machine, "pipe", f"exec {HOSTILE} take read /dev/shm/pipe")
    # As in the attack: a file in shared memory, by its inode the same as a program of root's.
    inode = int(machine.run(f"stat -c %i {PLANTED}").out)
    machine.run("mkdir -p /opt/program && mount -t tmpfs -o mode=755 program /opt/program")
    machine.run(["python3", "-c", f"""
import os, pathlib
program = pathlib.Path("/opt/program/hostile")
program.touch()
while program.stat().st_ino < {inode}:
    program.unlink()
    program.touch()
"""])
    machine.run(f"cat {HOSTILE} >/opt/program/hostile; chmod 755 /opt/program/hostile")
    same = machine.run("stat -c %i /opt/program/hostile").out.strip()
    expect(int(same) == inode, f"no collision to try: {same} and {inode}")
    begin(machine, "inode", f"exec /opt/program/hostile take map {PLANTED}")


def begin(machine, way, command):
    """Starts it in alice's server; returns once it has taken what there is."""
    log = f"/tmp/taken-{way}"
    machine.run_in_unit(ALICE, f"setsid sh -c '{command}' >{log} 2>&1 </dev/null &")
    with else_shown(machine, f"cat {log}"):
        eventually(lambda: "taken" in machine.run(f"cat {log}", check=False).out, f"{way} is taken", 120)


@contextlib.contextmanager
def else_shown(machine, *commands):
    """What these print, and every process, beside an expectation that does not come true."""
    try:
        yield
    except Failed as failed:
        said = [machine.run(command, check=False).out for command in (*commands, "ps -eo pid,user,stat,time,wchan:16,args")]
        raise Failed("\n".join([str(failed), *said])) from None


def bob_gives_back_what_he_is_sent(machine):
    machine.run_in_unit(BOB, f"setsid python3 {BED}/echo.py {ECHO} >/dev/null 2>&1 </dev/null &")
    eventually(lambda: machine.run(f"ss -Hltn 'sport = {ECHO + 1}'").out.count("\n") >= 2, "bob's service listens", 20)
    hosts = ("127.0.0.1", "::1", testhost.MACHINE_V4, testhost.MACHINE_V6)
    sender = ["python3", f"{BED}/sender.py", str(ECHO), LOGIN, SUBSCRIBE]
    back = json.loads(machine.run_in_unit(MALLORY, [*sender, *hosts], timeout=120).out)
    print(f"mallory: {back}")
    for host in hosts:
        expect(back.get(host) == 24 and back.get(f"{host} first") == 10, f"bob's service does not give back what it is sent: {back}")
    # And from another host, where what bob's service says leaves this one.
    outside = ["nsenter", "-t", str(machine.host.pid), "-n", "python3", str(machine.root / f"{BED}/sender.py".lstrip("/"))]
    said = sh(*outside, *sender[2:], testhost.MACHINE_V4, testhost.MACHINE_V6)
    back = json.loads(said)
    print(f"from the test host: {back}")
    for host in (testhost.MACHINE_V4, testhost.MACHINE_V6):
        expect(back.get(host) == 24 and back.get(f"{host} first") == 10, f"bob's service does not give back what it is sent: {back}")


def by_themselves_they_are_known(machine):
    """What alice's process writes into its own code, and what bob says first to another host, counts."""
    begin(machine, "own", f"exec {HOSTILE} take map-and-write-code {PLANTED}")
    with else_shown(machine, "hubwarden explain alice"):
        found = eventually(lambda: evidence(machine, "alice", "high"), "code that alice's process wrote is known", 120)
    print(f"alice: {found[0]['MESSAGE']}")
    machine.run_in_unit(BOB, ["bash", "-c", f"exec 3<>/dev/tcp/{testhost.V4}/80; printf '%s\\n' '{LOGIN}' >&3; sleep 0.2"])
    found = eventually(lambda: evidence(machine, "bob", "high"), "what bob says to another host is known", 120)
    print(f"bob: {found[0]['MESSAGE']}")
