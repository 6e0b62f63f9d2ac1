"""The demonstration's first act: a hub with two users, what they may reach, and who burns CPU."""

import threading
import time

import testhost
from hubapi import Hub
from product import (THROTTLED, TLJH_UNIT, configure, entries, eventually, expect, install, stage, spin, status, stop_spinning,
                     story, table, wait_active, wait_guarded)

ALICE, BOB = TLJH_UNIT.format("alice"), TLJH_UNIT.format("bob")
# The numbers of a day in half a minute.
SETTINGS = {"mode": "enforce", "credits": "8 core-seconds", "baseline": "0.25 cores"}


def title(text):
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def show(text):
    for line in text.rstrip().splitlines():
        print(f"    {line}", flush=True)


def scenario(machine):
    title("1. A node with JupyterHub")
    began = time.monotonic()
    machine.boot()
    hub = Hub(machine)
    print(f"A Debian 12 with JupyterHub {hub.api('GET', '/')['version']}, SystemdSpawner and its proxy is up after "
          f"{time.monotonic() - began:.0f} s.")

    title("2. Installing the package")
    install(machine)
    print(f"apt installed it; hubwarden runs in mode {status(machine)['mode']}: it reports and changes nothing.")
    configure(machine, **SETTINGS)
    machine.run("systemctl reload hubwarden")
    wait_active(machine)
    print("For this demonstration it shall act, and credits are small (`systemctl reload hubwarden`):")
    show(machine.run("grep -v '^$' /etc/hubwarden/config.toml").out)

    title("3. alice and bob log in")
    sessions = {user: hub.login(user) for user in ("alice", "bob")}
    for user, session in sessions.items():
        seconds = session.spawn()
        wait_guarded(machine, user)
        print(f"{user}'s server is ready after {seconds:.1f} s.")
    show("$ hubwarden status\n" + machine.run("hubwarden status").out)
    print("SUMMARY both servers were found and mapped to their users", flush=True)

    what_alice_reaches(machine, sessions["alice"])
    burning(machine, sessions)
    brake(machine)

    title("7. alice's story in the journal")
    show("$ journalctl HUB_USER=alice")
    show(machine.run("journalctl --no-pager -o short HUB_USER=alice").out)


def what_alice_reaches(machine, alice):
    title("4. What alice's server reaches")
    named = [("web, port 80", f"tcp,{testhost.V4},80"), ("https over IPv6", f"tcp,{testhost.V6},443"),
             ("git", f"tcp,{testhost.V4},9418"), ("rsync", f"tcp,{testhost.V4},873"),
             ("the node's resolver", f"dns,{testhost.RESOLVER_V4},53"), ("the hub's API", "tcp,127.0.0.1,15001"),
             ("ssh", f"tcp,{testhost.V4},22"), ("mail", f"tcp,{testhost.V6},25"), ("a mining pool's port", f"tcp,{testhost.V4},3333"),
             ("another resolver", f"dns,{testhost.OTHER_V4},53"), ("the cloud's metadata", f"tcp,{testhost.METADATA_V4},80"),
             ("the proxy's own API", "tcp,127.0.0.1,8099")]
    machine.arrivals(clear=True)
    results = machine.probe([target for _, target in named], unit=ALICE)
    for name, target in named:
        answer = results[target]
        what = "reached" if answer["ok"] else f"refused: {answer['error']} after {answer['seconds'] * 1000:.0f} ms"
        print(f"    {name:22} {target.replace(',', ' '):32} {what}")
    right = [results[target]["ok"] for _, target in named] == [True] * 6 + [False] * 6
    expect(right, "the class does not let through and refuse what it should")
    arrived = {arrival["port"] for arrival in machine.arrivals()}
    expect(not arrived & {22, 25, 3333}, f"packets arrived at {arrived}")
    print("The other host saw not one packet of what was refused.")
    printed = alice.execute("print('hello from', __import__('os').environ['JUPYTERHUB_USER'])")
    print(f"A kernel of alice's works as ever; it printed: {printed.strip()}")
    print("SUMMARY alice reaches web, git, rsync and names; ssh, mail, mining ports and metadata refuse her at once", flush=True)


def burning(machine, sessions):
    title("5. alice burns CPU")
    print("Two loops without end run in alice's server.")
    over = threading.Event()
    spin(machine, ALICE, workers=2)
    told = set()

    def follow():
        while not over.wait(0.5):
            for record in story(machine, "alice"):
                if record["__CURSOR"] not in told and record.get("VERDICT"):
                    told.add(record["__CURSOR"])
                    print(f"    journal: {record['MESSAGE']}", flush=True)

    follower = threading.Thread(target=follow)
    follower.start()
    try:
        eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 40)
        show("$ hubwarden status\n" + machine.run("hubwarden status").out)
        expect(entries(machine, "alice", THROTTLED), "the journal tells of no throttling")
        shown = machine.run(f"systemctl show -p CPUQuotaPerSecUSec {ALICE}").out.strip()
        print(f"systemd now holds for alice's unit: {shown}")
        began = time.monotonic()
        expect(sessions["bob"].execute("print(6 * 7)").strip() == "42", "bob's kernel does not answer")
        print(f"bob's server is {stage(machine, 'bob')}; a new kernel of his answered {time.monotonic() - began:.1f} s after he asked.")
        expect(stage(machine, "bob") == "free", "bob's server is not free")
        print("The loops end; alice's server rests and earns credits back.", flush=True)
        stop_spinning(machine)
        eventually(lambda: stage(machine, "alice") == "free", "alice is free again", 40)
        time.sleep(1)
    finally:
        over.set()
        follower.join()
    print("SUMMARY alice's loops were throttled when her credits were spent, and she was freed after a rest; nothing was done to bob")


def brake(machine):
    title("6. The brake: off and on")
    ssh = f"tcp,{testhost.V4},22"
    machine.run("hubwarden off")
    expect(machine.probe([ssh], unit=ALICE)[ssh]["ok"], "off did not lift the rules")
    print("`hubwarden off`: alice reaches ssh; no limit and no rule is left.")
    machine.run("hubwarden on")
    wait_guarded(machine, "alice")
    expect(not machine.probe([ssh], unit=ALICE)[ssh]["ok"], "on did not bring the rules back")
    expect(table(machine), "on did not bring the table back")
    print("`hubwarden on`: she is refused it again.")
    print("SUMMARY off lifted everything at once, on resumed", flush=True)
