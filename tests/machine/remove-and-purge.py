"""Removing the package leaves no rule, no property and no file but the configuration; purging leaves nothing."""

import testhost
from hubapi import Hub
from product import (TLJH_UNIT, eventually, expect, expect_reach, install, quota, stage, spin, table, wait_guarded)

SUITES = ("bookworm", "trixie")
UNIT = TLJH_UNIT.format("alice")
LEFT = f"hubwarden-left-{UNIT}"
WITH_THE_SERVER = {f"/run/systemd/system/{UNIT}.d/10-hubwarden.conf", f"/run/systemd/transient/{LEFT}",
                   f"/run/systemd/units/invocation:{LEFT}"}


def files(machine):
    """Whatever bears the product's name, without what this scenario put there itself."""
    machine.run("rm -f /root/hubwarden.deb /var/cache/apt/archives/*.deb")
    out = machine.run("find / -xdev \\( -path /proc -o -path /sys -o -path /var/lib/dpkg \\) -prune -o "
                      "-iname '*hubwarden*' -print; find /run -iname '*hubwarden*'; ls -d /usr/lib/systemd/system/jupyter* "
                      "/etc/systemd/system/jupyter[.-]* 2>/dev/null", check=False).out
    return sorted(set(out.split()))


def scenario(machine):
    machine.boot()
    properties = "systemctl show -p CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,CPUWeight "
    alice = Hub(machine).login("alice")
    alice.spawn()
    untouched = machine.run(properties + UNIT).out
    alice.stop()
    expect(files(machine) == [], f"before the installation there are {files(machine)}")

    install(machine, reload_with={"mode": "enforce", "credits": "3 core-seconds"})
    alice.spawn()
    wait_guarded(machine, "alice")
    spin(machine, UNIT, seconds=90)
    eventually(lambda: stage(machine, "alice") == "throttled", "alice is throttled", 30)
    eventually(lambda: quota(machine, UNIT) == 0.25, "alice's quota is the baseline")

    machine.run("DEBIAN_FRONTEND=noninteractive apt-get remove -y -o Dpkg::Use-Pty=0 hubwarden", timeout=120)
    expect(table(machine) is None, "the table is still there after removal")
    expect(machine.run(properties + UNIT).out == untouched, f"properties after removal:\n{machine.run(properties + UNIT).out}")
    expect_reach(machine.probe([f"tcp,{testhost.V4},22"], unit=UNIT), [f"tcp,{testhost.V4},22"], [], "alice after removal")
    expect("7" in alice.execute("print(7)"), "alice's server does not answer after removal")
    left = files(machine)
    expect(set(left) <= {"/etc/hubwarden", "/etc/hubwarden/config.toml", *WITH_THE_SERVER} and "/etc/hubwarden" in left,
           f"after removal there are {left}")
    failed = machine.run("systemctl --failed --plain --no-legend", check=False).out
    expect("hubwarden" not in failed, f"failed units after removal: {failed}")

    machine.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -o Dpkg::Use-Pty=0 hubwarden", timeout=120)
    expect(set(files(machine)) <= WITH_THE_SERVER, f"after purging there are {files(machine)}")
    known = machine.run("dpkg-query -W -f '${db:Status-Status}' hubwarden", check=False).out
    expect(known in ("", "not-installed"), f"dpkg still knows the package: {known}")
    expect("hubwarden" not in machine.run("cat /etc/group /etc/passwd").out, "a group or user is left")

    # Her server was started where hubwarden had it started. What has systemd remember that, or the server would lose its
    # memory limit, goes with the server.
    alice.stop()
    eventually(lambda: files(machine) == [], f"once her server has ended, nothing is left of {files(machine)}")
    alice.spawn()
    expect(machine.unit_cgroup(UNIT) == f"/system.slice/{UNIT}", f"a new server runs in {machine.unit_cgroup(UNIT)}")
