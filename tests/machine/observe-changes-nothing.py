"""After installation the mode is observe: all is reported as it would be, nothing is changed."""

from hubapi import Hub
from product import (REFUSED, THROTTLED, TLJH_UNIT, configure, entries, eventually, expect, expect_reach, install, outside,
                     quota, spin, status, stop_spinning, story, wait_active, wait_guarded)

PROPERTIES = "CPUQuotaPerSecUSec CPUQuotaPeriodUSec CPUWeight MemoryMax TasksMax IPAddressDeny DropInPaths"


def properties(machine, unit):
    names = PROPERTIES.replace(" ", ",")
    return machine.run(f"systemctl show -p {names} {unit}").out


def tracked(machine):
    """Entries in the kernel's table of connections; none where the module is not there."""
    return int(machine.run("cat /proc/sys/net/netfilter/nf_conntrack_count || echo 0").out)


def scenario(machine):
    machine.boot()
    install(machine)
    expect(status(machine)["mode"] == "observe", f"the mode after installation is {status(machine)['mode']}")
    # Small credits, so that a verdict falls within seconds; the mode stays the package's.
    configure(machine, mode="observe", credits="2 core-seconds")
    machine.run("systemctl restart hubwarden")
    wait_active(machine)

    alice = Hub(machine).login("alice")
    alice.spawn()
    unit = TLJH_UNIT.format("alice")
    before = properties(machine, unit)
    wait_guarded(machine, "alice")

    allowed, refused = outside()
    everything = allowed + refused + ["tcp,127.0.0.1,8099"]
    expect_reach(machine.probe(everything, unit=unit), everything, [], "alice in observe mode")
    told = eventually(lambda: entries(machine, "alice", REFUSED), "the journal tells what would have been refused")
    expect(told[0]["VERDICT_MODE"] == "observe" and "would" in told[0]["MESSAGE"], f"the entry says: {told[0]['MESSAGE']}")
    print(told[0]["MESSAGE"])

    # Nothing here has connections tracked, and with the rules nothing has.
    expect(tracked(machine) == 0, f"{tracked(machine)} connections are tracked")
    listed = "nft list table inet hubwarden"
    expect("ct " not in machine.run(listed).out, "a rule asks connection tracking something")
    machine.run("nft add table ip others; nft 'add chain ip others out { type nat hook output priority -100; }'")
    eventually(lambda: "ct status" in machine.run(listed).out, "the rules follow who translates addresses", 30)
    machine.run("nft delete table ip others")

    spin(machine, unit)
    told = eventually(lambda: entries(machine, "alice", THROTTLED), "the journal tells of the throttling that would be", 30)
    expect(told[0]["VERDICT_MODE"] == "observe" and "would" in told[0]["MESSAGE"], f"the entry says: {told[0]['MESSAGE']}")
    print(told[0]["MESSAGE"])
    expect(quota(machine, unit) is None, f"alice's quota is {quota(machine, unit)}")
    expect(properties(machine, unit) == before, f"before:\n{before}\nnow:\n{properties(machine, unit)}")
    stop_spinning(machine)
    claims = [record["MESSAGE"] for record in story(machine, "alice") if record.get("VERDICT_MODE") != "observe"]
    expect(not claims, f"entries that do not say observe: {claims}")
