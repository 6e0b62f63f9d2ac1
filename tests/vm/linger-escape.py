"""What a user runs outside the server (linger, `systemd-run --user`) drains the same credits and shares the same baseline with it."""

from pathlib import Path

from product import deb, expect

BASELINE, CREDITS = 0.25, 10.0
# What stood there before: the spawner's limit of the server, the admin's of the user's slice.
SERVERS, SLICES = 1.5, 1.2
BITES = 1.15
UNIX = "jupyter-alice"


def guest(bed):
    """Starts alice's server, then a spinner of hers beside it, and reports what both cgroups say."""
    import pwd
    import time

    import product
    from vmguest import cores_over

    bed.run(["useradd", "--create-home", "--shell", "/bin/bash", UNIX])
    uid = pwd.getpwnam(UNIX).pw_uid
    slice_unit = f"user-{uid}.slice"
    outside = Path(f"/sys/fs/cgroup/user.slice/{slice_unit}")
    bed.run(["loginctl", "enable-linger", UNIX])
    product.eventually(lambda: bed.run(f"systemctl is-active user@{uid}", check=False).out.strip() == "active",
                       "alice's lingering session is up", 60)
    bed.run(["systemctl", "set-property", "--runtime", slice_unit, f"CPUQuota={SLICES * 100:.0f}%"])
    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)

    def spawn():
        return bed.spawn("alice", ["/bin/sleep", "600"], {"CPUAccounting": "yes", "CPUQuota": f"{SERVERS * 100:.0f}%",
                                                          "MemoryMax": "500M"})

    unit = spawn()
    alice = bed.cgroup(unit)

    def line():
        """Alice's one line in the status: the server's, which counts the slice too, or the slice's where no server is."""
        lines = [server for server in product.status(bed)["servers"] if server["user"] == "alice"]
        assert len(lines) <= 1, lines
        return lines[0] if lines else None

    def maxima():
        return {"server": read(alice), "outside": read(outside)}

    def read(cgroup):
        file = cgroup / "cpu.max"
        return file.read_text().strip() if file.exists() else "gone"

    product.wait_guarded(bed, "alice", 30)
    server = product.eventually(lambda: (lambda one: one if one["credits_core_seconds"] > CREDITS * 0.8 else None)(line()),
                                "alice is rested", 60)
    bed.report("before", credits=server["credits_core_seconds"], max=maxima(), quota=product.quota(bed, slice_unit))

    escape = ("import os, time\nend = time.monotonic() + 200\nwhile time.monotonic() < end: pass")
    bed.run(["runuser", "-u", UNIX, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "systemd-run", "--user", "--quiet",
             "--unit=escape", "/usr/bin/python3", "-c", escape, "bed-spinner"])
    bed.report("escaped", cgroup=bed.run("cat /proc/$(pgrep -f '[b]ed-spinner' | head -1)/cgroup").out.strip(),
               cores=cores_over([alice, outside], 3))
    low = product.eventually(lambda: (lambda one: one if one["credits_core_seconds"] < CREDITS / 2 else None)(line()),
                             "her server's credits drain", 30)
    bed.report("drained", credits=low["credits_core_seconds"], server_alone=cores_over(alice, 2))

    def parts():
        return {where: cores_of(text) for where, text in maxima().items()}

    def throttled():
        return all(0 < cores < 1 for cores in parts().values())

    product.eventually(throttled, "both cpu.max are lowered", 30)
    # Nearly all of the baseline goes where the work is.
    product.eventually(lambda: parts()["outside"] > 0.8 * BASELINE, "the slice has most of the baseline", 30)
    bed.report("alone", stage=line()["stage"].lower(), limit=line()["limit_cores"], max=maxima(), cores=cores_over([alice, outside], 5))
    # In the server too from here on: what there is is shared.
    bed.run(f"echo $$ > {alice}/cgroup.procs; setsid setpriv --reuid={uid} --regid={uid} --clear-groups "
            f"python3 -c '{escape}' bed-spinner >/dev/null 2>&1 </dev/null &")
    product.eventually(lambda: min(parts().values()) > 0.4 * BASELINE, "both have about the half", 30)
    bed.report("both", stage=line()["stage"].lower(), max=maxima(), cores=cores_over([alice, outside], 5))

    bed.run(["systemctl", "stop", unit])
    product.eventually(lambda: (lambda one: one and one["unit"] == slice_unit)(line()), "only alice's slice is listed")
    product.eventually(lambda: abs(cores_of(read(outside)) - BASELINE) < 0.001, "the slice has the whole baseline", 10)
    bed.report("stopped", max=read(outside), cores=cores_over(outside, 5), stage=line()["stage"].lower())
    spawn()
    product.eventually(lambda: (lambda one: one and one["unit"] == unit)(line()), "alice's next server is listed", 30)
    product.eventually(throttled, "her next server is throttled like her slice", 10)
    time.sleep(1)
    bed.report("next", credits=line()["credits_core_seconds"], max=maxima(), cores=cores_over([alice, outside], 5))

    product.stop_spinning(bed)
    ended = time.monotonic()
    product.eventually(lambda: cores_of(read(alice)) == SERVERS and cores_of(read(outside)) == SLICES,
                       "both have back what stood there", 60)
    bed.report("freed", seconds=time.monotonic() - ended, max=maxima(), quota=product.quota(bed, slice_unit),
               period=bed.unit_property(slice_unit, "CPUQuotaPeriodUSec"), weight=bed.unit_property(slice_unit, "CPUWeight"))
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "alice")])


def cores_of(text):
    """cpu.max in cores: 99 for none, -1 for a cgroup that is gone."""
    if text == "gone":
        return -1
    quota, period = text.split()
    return 99 if quota == "max" else int(quota) / int(period)


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    expect(one["hello"]["kernel"].startswith(f"{vm.suite.kernel}."), f"kernel {one['hello']['kernel']}")
    before = {where: cores_of(text) for where, text in one["before"]["max"].items()}
    expect(before == {"server": SERVERS, "outside": SLICES}, f"before: {one['before']}")
    expect("/user.slice/user-" in one["escaped"]["cgroup"] and "jupyter.slice" not in one["escaped"]["cgroup"],
           f"the spinner is in {one['escaped']['cgroup']}")
    expect(one["escaped"]["cores"][1] > 0.5, f"the spinner used {one['escaped']['cores']} cores")
    expect(one["drained"]["server_alone"] < 0.1, f"her server itself used {one['drained']['server_alone']} cores")

    for kind in ("alone", "both", "next"):
        record = one[kind]
        quotas, used = [cores_of(text) for text in record["max"].values()], record["cores"]
        print(f"{kind}: cpu.max {quotas[0]:.3f} in the server and {quotas[1]:.3f} outside, "
              f"used {used[0]:.3f} and {used[1]:.3f} cores over 5 s")
        expect(sum(quotas) <= BASELINE * 1.005, f"{kind}: cpu.max {record['max']}")
        expect(BASELINE / 2 < sum(used) <= BASELINE * BITES, f"{kind}: {sum(used):.3f} cores over 5 s in all")
        expect(record.get("stage", "throttled") == "throttled", f"{kind}: {record}")
    alone, both = one["alone"]["cores"], one["both"]["cores"]
    expect(alone[1] > 4 * alone[0], f"the slice that works had {alone[1]:.3f} cores, the idle server {alone[0]:.3f}")
    expect(min(both) > 0.25 * BASELINE, f"both work, and one has {min(both):.3f} cores")
    expect(abs(one["alone"]["limit"] - BASELINE) < 0.005, f"status shows a limit of {one['alone']['limit']}")
    stopped, following = one["stopped"], one["next"]
    expect(stopped["stage"] == "throttled" and stopped["cores"] <= BASELINE * BITES, f"stopped: {stopped}")
    print(f"her server stopped: {stopped['cores']:.3f} cores over 5 s")
    expect(following["credits"] < CREDITS / 2, f"her next server began with {following['credits']} core-seconds")

    freed = one["freed"]
    expect(freed["quota"] == SLICES and freed["period"] == "infinity", f"freed: {freed}")
    expect(freed["weight"] in ("[not set]", "18446744073709551615"), f"weight after: {freed['weight']}")
    for line in one["story"]["lines"]:
        print(line)
