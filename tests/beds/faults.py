"""What others do to packet rules, by mistake or on purpose, and disks that are full: the same in both beds."""

import difflib
import time

from product import TABLE, Failed, eventually, expect, lasting, rules

REPAIRED = "bdee630449ec4c54804c92823c48ec82"
BRIDGE = "bridge hubwarden"

# What is done, and the program that the journal names where it damages our rules (before kernel 6.9,
# from which on they are owned and cannot be damaged); None where it leaves them alone anyway.
FAULTS = (
    ("nft flush ruleset", "nft"),
    ("systemctl restart nftables", "nft"),
    # The two exclude each other: nftables.service is stopped, and flushes.
    ("systemctl start firewalld", "nft"),
    ("firewall-cmd --reload", None),
    ("firewall-cmd --complete-reload", None),
    ("systemctl restart firewalld", None),
    ("systemctl stop firewalld", None),
    ("systemctl restart docker", None),
    (f"nft delete element {TABLE} hub_ports '{{ 15001 }}'", "nft"),
    (f"nft flush map {TABLE} servers2", "nft"),
    (f"nft insert rule {TABLE} class_standard accept", "nft"),
    (f"nft delete table {TABLE}", "nft"),
    (f"nft delete table {BRIDGE}", "nft"),
    ("iptables -F; iptables -t nat -F; ip6tables -F", None),
)


def both_tables(bed):
    """Ours, to compare two moments."""
    return rules(bed), lasting(bed.run(f"nft list table {BRIDGE}", check=False).out)


def difference(before, now):
    """The lines in which two listings of both tables differ."""
    lines = [text.splitlines() for text in ("\n".join(before), "\n".join(now))]
    return "\n".join(difflib.unified_diff(*lines, "before", "now", lineterm="", n=1))


def owned(bed):
    """Whether this kernel keeps others from our table."""
    return "flags owner" in bed.run(f"nft list table {TABLE}").out


def told(bed):
    """How often the journal told of a repair, and by whom the rules were changed the last time."""
    records = bed.journal(f"MESSAGE_ID={REPAIRED}")
    return len(records), records[-1] if records else {}


def inflict(bed, command, by):
    """Does it; our rules are as before soon, and if they were damaged the journal says by whom. Seconds it took to hold again."""
    before, (count, _) = both_tables(bed), told(bed)
    expect(all(before), "a table of ours is not there to begin with")
    damaged = by is not None and not owned(bed)
    done = bed.run(command, check=False, timeout=150)
    # Where the table is owned, who tries to change it is told that it is not permitted.
    expect(done.code == 0 or by is not None and not damaged, f"`{command}` did not work: {done}")
    started = time.monotonic()
    try:
        eventually(lambda: both_tables(bed) == before, f"after `{command}` our rules are as before", 30)
    except Failed as failed:
        raise Failed(f"{failed}:\n{difference(before, both_tables(bed))}") from None
    seconds = time.monotonic() - started
    if damaged:
        eventually(lambda: told(bed)[0] > count, f"the journal tells of `{command}`", 10)
        last = told(bed)[1]
        expect(last["CHANGED_BY"] == by and int(last["CHANGED_BY_PID"]) > 0, f"after `{command}`: {last}")
    else:
        expect(told(bed)[0] == count, f"`{command}` leaves our rules alone, and the journal tells of a repair: {told(bed)[1]}")
    return seconds


def fill(bed, directory):
    """Leaves no room in a file system in memory; it is made small first, as what it holds is the host's memory."""
    bed.run(f"mount -o remount,size=$(( $(df --output=used -B1 {directory} | tail -n 1) + 65536 )) {directory}")
    bed.run(f"cat /dev/zero >{directory}/full 2>/dev/null", check=False)


def make_room(bed, directory):
    bed.run(f"rm -f {directory}/full; mount -o remount,size=64m {directory}")
