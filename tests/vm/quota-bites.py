"""A spinner is throttled to the baseline within a tick of its credits' end; reload and kill -9 change nothing; then 150 % is back."""

from pathlib import Path

from product import deb, expect

TICK, BASELINE, CREDITS, ADMINS = 1.0, 0.25, 6.0, 1.5
# Reading, deciding and systemd's own work, under emulation.
SLACK = 0.35
BITES = 1.15


def guest(bed):
    """Starts alice's and bob's servers as the spawner does, and reports what cpu.stat and cpu.max say."""
    import threading
    import time

    import product
    from vmguest import LIGHT, cores_over, usage_seconds

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds",
        # On a busy host this machine has less to give than the baseline, and who gets less rests.
        more='free_above = "50 %"'))
    # A killed daemon stays down until this scenario starts it: what holds meanwhile is the point.
    bed.put("/etc/systemd/system/hubwarden.service.d/bed.conf", "[Service]\nRestart=no\n")
    began = time.monotonic()
    product.install(bed, package=Path("/root/hubwarden.deb"))
    bed.report("installed", seconds=time.monotonic() - began, say=f"installed by apt in {time.monotonic() - began:.0f} s")

    bob = bed.cgroup(bed.spawn("bob", ["/usr/bin/python3", "-c", LIGHT]))
    unit = bed.spawn("alice", ["/bin/sleep", "600"], {"CPUAccounting": "yes", "CPUQuota": "150%", "MemoryMax": "500M"})
    alice = bed.cgroup(unit)
    for user in ("alice", "bob"):
        product.wait_guarded(bed, user, 30)
    bed.report("before", max=(alice / "cpu.max").read_text().strip(), cgroup=str(alice), bob=cores_over(bob, 4))

    owner = int(bed.unit_property(unit, "UID"))
    spinner = ("import os, time\nif os.fork() and os.fork(): pass\nwhile True: pass")
    bed.run(f"echo $$ > {alice}/cgroup.procs; setsid setpriv --reuid={owner} --regid={owner} --clear-groups "
            f"python3 -c '{spinner}' bed-spinner >/dev/null 2>&1 </dev/null &")
    series, over = [], threading.Event()

    def watch():
        while not over.wait(0.1):
            at = time.monotonic()
            series.append((round(at, 2), round(usage_seconds(alice), 3), (alice / "cpu.max").read_text().strip()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    bed.report("burst", bob=cores_over(bob, 3))

    def shares():
        hers, his = cores_over([alice, bob], 5)
        return {"cores": hers, "bob": his}

    def ratio():
        quota, period = (alice / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)

    product.eventually(lambda: ratio() is not None and ratio() < 1, "alice's cpu.max is lowered", 30)
    over.set()
    watcher.join()
    bed.report("series", points=series, say=f"cpu.max and cpu.stat read {len(series)} times until alice was throttled")
    case = product.server_of(bed, "alice")
    bed.report("throttled", max=(alice / "cpu.max").read_text().strip(), stage=case["stage"], **shares())
    bed.run("systemctl daemon-reload")
    bed.report("reloaded", max=(alice / "cpu.max").read_text().strip(), **shares())

    bed.run(["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "hubwarden"])
    bed.report("killed", max=(alice / "cpu.max").read_text().strip(), **shares(),
               state=bed.unit_property("hubwarden", "ActiveState"), table=product.table(bed) is not None)
    bed.run("systemctl reset-failed hubwarden; systemctl start hubwarden")
    product.wait_active(bed)
    server = product.eventually(lambda: product.server_of(bed, "alice"), "alice is listed again")
    bed.report("resumed", max=(alice / "cpu.max").read_text().strip(), stage=server["stage"],
               credits=server["credits_core_seconds"], **shares(),
               cases=sorted({record.get("CASE_ID", "") for record in product.story(bed, "alice")}))

    product.stop_spinning(bed)
    ended = time.monotonic()
    product.eventually(lambda: ratio() == ADMINS, "the admin's 150 % is back", 40)
    bed.report("freed", seconds=time.monotonic() - ended, max=(alice / "cpu.max").read_text().strip(),
               quota=product.quota(bed, unit), weight=bed.unit_property(unit, "CPUWeight"),
               period=bed.unit_property(unit, "CPUQuotaPeriodUSec"), bob=cores_over(bob, 4))
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "alice")])


def spent_at(points):
    """When the credits were spent: use above the baseline, summed over the readings."""
    used = 0.0
    for (before, usage_before, _), (now, usage, _) in zip(points, points[1:]):
        used = max(0.0, used + (usage - usage_before) - BASELINE * (now - before))
        # The kernel charges a running thread at its next tick or switch: a reading may lag a little.
        if used >= CREDITS * 0.97:
            return now
    return None


def cores_of(cpu_max):
    quota, period = cpu_max.split()
    return None if quota == "max" else int(quota) / int(period)


def scenario(vm):
    # Here apt installs it, as an admin does.
    vm.play(__file__, package=deb(), fresh=True)
    one = {record["kind"]: record for record in vm.records}
    expect(one["hello"]["kernel"].startswith(f"{vm.suite.kernel}."), f"kernel {one['hello']['kernel']}")
    expect(cores_of(one["before"]["max"]) == ADMINS, f"before: cpu.max {one['before']['max']}")
    expect("/jupyter.slice/" in one["before"]["cgroup"], f"alice runs in {one['before']['cgroup']}")

    points = one["series"]["points"]
    spent = spent_at(points)
    # The watch ends with the throttle: credits that were never spent by then were taken too early.
    throttled = next((at for at, _, text in points if (cores_of(text) or 9) < 1), points[-1][0])
    expect(spent is not None, f"alice was throttled before her credits were spent: {points[-1]}")
    late = throttled - spent
    print(f"throttled {late:.2f} s after the credits' end (the tick is {TICK} s)")
    expect(late <= TICK + SLACK, f"throttled {late:.2f} s after the credits' end")

    for kind in ("throttled", "reloaded", "killed", "resumed"):
        record = one[kind]
        expect(abs(cores_of(record["max"]) - BASELINE) < 0.001, f"{kind}: cpu.max is {record['max']}")
        expect(record["cores"] <= BASELINE * BITES, f"{kind}: alice used {record['cores']:.3f} cores over 5 s")
        print(f"{kind}: alice used {record['cores']:.3f} cores over 5 s")
    expect(one["throttled"]["stage"].lower() == "throttled", f"stage {one['throttled']['stage']}")
    expect(one["killed"]["state"] != "active" and one["killed"]["table"], f"killed: {one['killed']}")
    expect(one["resumed"]["stage"].lower() == "throttled" and one["resumed"]["credits"] < CREDITS / 2, f"resumed: {one['resumed']}")
    expect(len(one["resumed"]["cases"]) == 1, f"alice's cases are {one['resumed']['cases']}")

    expect(one["freed"]["quota"] == ADMINS and cores_of(one["freed"]["max"]) == ADMINS, f"freed: {one['freed']}")
    expect(one["freed"]["weight"] in ("[not set]", "18446744073709551615"), f"weight after: {one['freed']['weight']}")
    expect(one["freed"]["period"] == "infinity", f"period after: {one['freed']['period']}")
    had = one["before"]["bob"]
    for record in vm.records:
        if "bob" in record and record["kind"] != "before":
            expect(record["bob"] >= had * 0.9, f"bob had {had:.2f} cores, {record['kind']}: {record['bob']:.2f}")
    print(f"bob had {had:.2f} cores before, at least "
          f"{min(record['bob'] for record in vm.records if 'bob' in record):.2f} throughout")
