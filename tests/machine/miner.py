"""A miner called python is known within ten seconds, throttled, and ended after the delay; the training job beside it is left alone."""

import json
import time

import miner
import testhost
from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, quota, stage, server_of, status, story, wait_active, wait_guarded, when

EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
IN_TIME = 10.0
ALICE, BOB, CAROL = (TLJH_UNIT.format(user) for user in ("alice", "bob", "carol"))


def scenario(machine):
    # The hub looks for servers that are gone every half a minute, if left alone.
    machine.put("/etc/bed/hub.json", json.dumps({"spawner": {"poll_interval": 3}}))
    machine.boot()
    install(machine)
    use(machine, "observe", 'stop_after = "5s"')
    expect(not status(machine)["lacks"], f"sensors that do not work in the service's sandbox: {status(machine)['lacks']}")
    checked = machine.run("hubwarden check", check=False).out
    expect("every sensor for them works here" in checked, checked)
    hub = Hub(machine)
    sessions = {user: hub.login(user) for user in ("alice", "bob", "carol")}
    for user, session in sessions.items():
        session.spawn()
        wait_guarded(machine, user)
    miner.install_numpy(machine)
    program = miner.put(machine, "bob")
    miner.train(machine, ALICE)

    rare_things_are_heard_of_an_idle_server(machine)
    observing_only_tells(machine, program)
    enforcing_throttles_and_ends_the_server(machine, program)
    spawn_again(sessions["bob"])
    wait_guarded(machine, "bob")
    only_the_process_is_ended(machine, program)
    off_gives_everything_back(machine)
    alice_was_left_alone(machine)


def use(machine, mode, evidence):
    """A configuration at the default tick: what is measured here is what an admin gets."""
    machine.put("/etc/hubwarden/config.toml", config(mode=mode, tick="5s", min_stay="30s", more=f"[evidence]\n{evidence}\n"))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    # The sensors say how they are once they have started.
    time.sleep(2)


def evidence(machine, user, level=None, since=0.0):
    found = [record for record in story(machine, user) if record.get("MESSAGE_ID") == EVIDENCE and when(record) >= since]
    return [record for record in found if level in (None, record["EVIDENCE_LEVEL"])]


def processes(machine, unit):
    return machine.run(f"cat /sys/fs/cgroup{machine.unit_cgroup(unit)}/cgroup.procs", check=False).out.split()


def mines(machine):
    return "work/python" in machine.run("pgrep -af [w]ork/python", check=False).out


def convicted(machine, program, what):
    """Starts hashing and waits for certain evidence; says how long that took."""
    begun = time.time()
    miner.start(machine, BOB, program)
    found = eventually(lambda: evidence(machine, "bob", "certain", begun), f"bob's miner is known ({what})", 30)
    took = when(found[0]) - begun
    print(f"{what}: certain {took:.1f} s after the start, at a tick of 5 s")
    print(f"  {found[0]['MESSAGE']}")
    expect(took <= IN_TIME, f"certain after {took:.1f} s, not within {IN_TIME:.0f} s")
    sensors = set(found[0]["EVIDENCE"].split(","))
    expect({"rounding", "constants"} <= sensors, f"EVIDENCE={found[0]['EVIDENCE']}")
    expect("\x1b" not in found[0]["MESSAGE"], "raw bytes in the journal")
    return begun


def rare_things_are_heard_of_an_idle_server(machine):
    machine.run("cp /bin/true /home/jupyter-carol/xmrig")
    machine.run_in_unit(CAROL, "/home/jupyter-carol/xmrig")
    eventually(lambda: any("xmrig" in record["MESSAGE"] for record in evidence(machine, "carol")),
               "a program of a miner's name is told, though it was over at once", 10)
    login = json.dumps({"id": 1, "method": "login", "params": {"login": "secret-wallet"}})
    machine.run_in_unit(CAROL, ["bash", "-c", f"exec 3<>/dev/tcp/{testhost.V4}/80; printf '%s\\n' '{login}' >&3; sleep 0.2"])
    # Both are suspicious of an idle server, so the second is no news; it counts once it is hot.
    machine.run_in_unit(CAROL, "timeout 30 sh -c 'while :; do :; done' >/dev/null 2>&1 </dev/null &")
    found = eventually(lambda: evidence(machine, "carol", "high"), "stratum and much CPU are high evidence", 20)
    expect("stratum" in found[0]["EVIDENCE"] and "TCP port 80" in found[0]["MESSAGE"], found[0]["MESSAGE"])
    whole = json.dumps(story(machine, "carol"))
    expect("secret-wallet" not in whole, "what was sent is in the journal")
    print(f"  {found[0]['MESSAGE']}")


def observing_only_tells(machine, program):
    before = quota(machine, BOB)
    begun = convicted(machine, program, "observe")
    def would(what):
        return any(what in record["MESSAGE"] and when(record) >= begun for record in story(machine, "bob"))
    eventually(lambda: would("would be stopped"), "what would be done is told", 40)
    expect(would("would be throttled") and would("would be frozen"), "the steps before are told too")
    expect(quota(machine, BOB) == before, f"observing set a quota of {quota(machine, BOB)}")
    expect(mines(machine), "observing ended a process")
    machine.run("pkill -KILL -f [w]ork/python")


def enforcing_throttles_and_ends_the_server(machine, program):
    acts_since = time.time()
    use(machine, "enforce", 'stop_after = "20s"')
    time.sleep(3)
    expect(mines(machine) is False and stage(machine, "bob") not in ("frozen", "stopped"), "ended for what was only observed")
    begun = convicted(machine, program, "enforce")
    eventually(lambda: quota(machine, BOB) == 0.25, "bob is throttled", 10)
    print(f"throttled {time.time() - begun:.1f} s after the start")
    expect(mines(machine), "the miner was ended at once")
    eventually(lambda: not mines(machine), "the miner is ended after the delay", 60)
    # What stood already when the mode changed counts from then.
    expect(time.time() - acts_since >= 20, f"ended {time.time() - acts_since:.1f} s after the mode was changed already")
    took = time.time() - begun
    eventually(lambda: not processes(machine, BOB), "the whole server is ended", 10)
    said = [record["MESSAGE"] for record in story(machine, "bob") if when(record) >= begun]
    stopped = [line for line in said if "server is stopped" in line]
    expect(len(stopped) == 1, f"told {len(stopped)} times: {said}")
    expect(any("server is frozen" in line for line in said), f"not frozen before: {said}")
    print(f"ended {took:.1f} s after the start\n  {stopped[0]}")


def spawn_again(session):
    """The hub learns by itself that the server is gone, and starts another."""
    hub = session.hub
    eventually(lambda: not hub.user(session.name)["servers"], "the hub notices that bob's server is gone", 60)
    session.spawn()


def only_the_process_is_ended(machine, program):
    use(machine, "enforce", 'stop_after = "5s"\nstop = "processes"')
    main = machine.unit_property(BOB, "MainPID")
    begun = convicted(machine, program, "processes")
    eventually(lambda: not mines(machine), "the miner is ended", 40)
    eventually(lambda: any("the process that mined was ended" in record["MESSAGE"] and when(record) >= begun
                           for record in story(machine, "bob")), "that is told", 10)
    expect(machine.unit_property(BOB, "MainPID") == main, "bob's server is another one")
    eventually(lambda: machine.unit_property(BOB, "FreezerState") == "running", "bob's server runs on", 15)


def off_gives_everything_back(machine):
    miner.start(machine, BOB, "/home/jupyter-bob/work/python")
    eventually(lambda: quota(machine, BOB) == 0.25, "bob is throttled again", 30)
    machine.run("hubwarden off", timeout=60)
    expect(quota(machine, BOB) is None, f"a quota of {quota(machine, BOB)} after off")
    expect(machine.unit_property(BOB, "FreezerState") == "running", "bob's server is frozen after off")
    time.sleep(8)
    expect(mines(machine), "a process was ended while switched off")


def alice_was_left_alone(machine):
    def used():
        return int(machine.run(f"grep usage_usec /sys/fs/cgroup{machine.unit_cgroup(ALICE)}/cpu.stat").out.split()[1]) / 1e6

    # With less her job proves nothing.
    eventually(lambda: used() > 20, "alice's job has used 20 core-seconds", 120, every=1)
    found = [record["MESSAGE"] for record in evidence(machine, "alice")]
    expect(not found, f"evidence against alice's training job: {found}")
    moved = [record["MESSAGE"] for record in story(machine, "alice") if record.get("VERDICT") not in (None, "free")]
    expect(not moved, f"alice was held back: {moved}")
    expect(machine.run("pgrep -f [t]rain.py", check=False).out, "alice's job is over")
    print(f"alice used {used():.0f} core-seconds and stands at {server_of(machine, 'alice')['stage']}")
