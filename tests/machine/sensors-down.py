"""A node that refuses some sensors: each is named with what remains, and the others find a miner all the same."""

import time

import miner
from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, status, story, wait_active, wait_guarded

EVIDENCE = "40e02ac502d442b79a38e15f8f0cbdc4"
BOB = TLJH_UNIT.format("bob")
DROP_IN = "/etc/systemd/system/hubwarden.service.d/down.conf"


def scenario(machine):
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/config.toml", config(mode="enforce", tick="2s", more='[evidence]\nstop = "processes"\n'))
    bob = Hub(machine).login("bob")
    bob.spawn()
    program = miner.put(machine, "bob")

    # As where the kernel is locked down: no BPF.
    down = restart(machine, "CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH")
    expect({"rounding", "exec", "stratum"} <= set(down), f"down: {down}")
    expect("constants" not in down, f"memory could have been read: {down['constants'] if 'constants' in down else ''}")
    expect("CAP_BPF" in down["rounding"] and "constants in memory" in down["rounding"], down["rounding"])
    expect("not permitted" in down["rounding"], f"what the kernel said is missing: {down['rounding']}")
    expect("signalled" in down.get("stopping", ""), f"without CAP_KILL: {down}")
    told = [record["MESSAGE"] for record in machine.journal("SYSLOG_IDENTIFIER=hubwarden") if "is down" in record["MESSAGE"]]
    expect(len(told) >= 3, f"told: {told}")
    checked = machine.run("hubwarden check", check=False).out
    expect("Miners, by rounding: down" in checked, checked)
    print("\n".join(f"  {sensor}: {why}" for sensor, why in down.items()))
    wait_guarded(machine, "bob")
    miner.start(machine, BOB, program)
    found = eventually(lambda: evidence(machine, "constants"), "memory still tells", 20)
    expect(found[0]["EVIDENCE_LEVEL"] == "high", found[0]["MESSAGE"])
    machine.run("pkill -KILL -f [w]ork/python")

    # And as where other processes' memory is closed.
    down = restart(machine, "CAP_NET_ADMIN CAP_BPF CAP_PERFMON CAP_KILL")
    expect(set(down) == {"constants"}, f"down: {down}")
    begun = time.time()
    miner.start(machine, BOB, program)
    found = eventually(lambda: evidence(machine, "rounding"), "rounding modes still tell", 20)
    print(f"rounding alone after {time.time() - begun:.1f} s: {found[-1]['MESSAGE']}")

    # With everything back nothing is missing.
    machine.run(f"rm {DROP_IN}")
    expect(restart(machine, None) == {}, f"lacks: {status(machine)['lacks']}")


def restart(machine, capabilities):
    if capabilities:
        machine.put(DROP_IN, f"[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet={capabilities}\n")
    machine.run("systemctl daemon-reload; systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    time.sleep(3)
    return dict(status(machine)["lacks"])


def evidence(machine, sensor):
    return [record for record in story(machine, "bob")
            if record.get("MESSAGE_ID") == EVIDENCE and sensor in record["EVIDENCE"].split(",")]
