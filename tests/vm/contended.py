"""throttle_when = "contended": a spender keeps an idle node, yields to the neighbour who needs it without flapping, and gets it back.

All figures are CPU time from cpu.stat over an interval that begins once alice stands where she should, so
they hold however slow the processor is.
"""

from pathlib import Path

from product import deb, expect

TICK, BASELINE, CREDITS = 1.0, 0.25, 12.0
BITES = 1.15
# The kernel's ten-second mean of the pressure has to rise above a tenth first, or fall again.
SOON = 20.0
# She is let up once the others were calm for so long: four times the minimum stay, half a minute at least.
STAY, CALM = 5, 30.0


def guest(bed):
    """Alice spins alone, then beside bob, then alone again; reports what each has and where she stands."""
    import time

    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick=f"{TICK:.0f}s", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds",
        min_stay=f"{STAY}s", more='throttle_when = "contended"\n[users.bob.cpu]\ncredits = "1 core-hour"'))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    alice, bob = (bed.cgroup(bed.spawn(user, ["/bin/sleep", "600"], {"CPUAccounting": "yes", "MemoryMax": "500M"}))
                  for user in ("alice", "bob"))
    for user in ("alice", "bob"):
        product.wait_guarded(bed, user, 30)

    def spin(cgroup, user, mark):
        loop = "import time\nend = time.monotonic() + 300\nwhile time.monotonic() < end: pass"
        owner = bed.unit_property(f"jupyter-{user}.service", "UID")
        bed.run(f"echo $$ > {cgroup}/cgroup.procs; for i in 1 2; do setsid setpriv --reuid={owner} --regid={owner} "
                f"--clear-groups python3 -c '{loop}' {mark} >/dev/null 2>&1 </dev/null & done")

    def stand(kind, **more):
        hers, his = cores_over([alice, bob], 5)
        server = product.server_of(bed, "alice")
        bed.report(kind, alice=hers, bob=his, stage=server["stage"].lower(), credits=server["credits_core_seconds"],
                   max=(alice / "cpu.max").read_text().strip(), bob_stage=product.stage(bed, "bob"), **more)

    def throttled():
        quota, period = (alice / "cpu.max").read_text().split()
        return quota != "max" and int(quota) / int(period) < 1

    spin(alice, "alice", "alice-spinner")
    product.eventually(lambda: product.server_of(bed, "alice")["credits_core_seconds"] == 0, "alice's credits are spent", 30)
    time.sleep(3 * TICK)
    stand("alone")

    spin(bob, "bob", "bob-spinner")
    began = time.monotonic()
    product.eventually(throttled, "alice is throttled when bob wants the CPU", 60)
    waited = time.monotonic() - began
    stand("beside", seconds=waited, pressure=(bob / "cpu.pressure").read_text().split("\n")[0])

    # For longer than a calm: nobody goes up and down meanwhile.
    time.sleep(max(0, began + waited + CALM + 10 - time.monotonic()))
    times = len(product.entries(bed, "alice", product.THROTTLED))
    bed.report("later", times=times, seconds=time.monotonic() - began - waited)

    bed.run("pkill -KILL -f '[b]ob-spinner'")
    began = time.monotonic()
    product.eventually(lambda: not throttled(), "alice has the node again when bob is done", 120)
    stand("again", seconds=time.monotonic() - began)
    bed.run("pkill -KILL -f '[a]lice-spinner'")
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "alice")])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    for kind in ("alone", "again"):
        record = one[kind]
        expect(record["credits"] == 0, f"{kind}: alice has {record['credits']} core-seconds")
        expect(record["stage"] == "deprioritised", f"{kind}: alice is {record['stage']}")
        # Two spinners on two cores.
        expect(record["alice"] > 4 * BASELINE, f"{kind}: alice has {record['alice']:.2f} cores of an idle node")
        print(f"{kind}: alice has {record['alice']:.2f} cores, her credits are spent")
    beside = one["beside"]
    expect(beside["seconds"] <= SOON, f"alice was throttled {beside['seconds']:.1f} s after bob began")
    print(f"throttled {beside['seconds']:.1f} s after bob began; bob had {beside['bob']:.2f} cores beside her {beside['alice']:.2f}")
    expect(beside["stage"] == "throttled", f"beside bob alice is {beside['stage']}")
    expect(beside["alice"] <= BASELINE * BITES, f"beside bob alice used {beside['alice']:.3f} cores over 5 s")
    # Two cores less a quarter, and what the system itself takes, which is much where the processor is emulated.
    expect(beside["bob"] > 0.9, f"bob had {beside['bob']:.2f} cores")
    later = one["later"]
    expect(later["times"] <= 2, f"alice was throttled {later['times']} times within {later['seconds']:.0f} s")
    print(f"throttled {later['times']} times in {later['seconds']:.0f} s beside bob")
    # Had she been let up once beside him, and thrown back, the next calm has to last twice as long.
    expect(one["again"]["seconds"] <= CALM * later["times"] * 2 + SOON, f"alice was held {one['again']['seconds']:.1f} s after bob was done")
    print(f"back {one['again']['seconds']:.1f} s after bob was done")
    for record in vm.records:
        expect(record.get("bob_stage", "free") == "free", f"bob, who has credits, is {record.get('bob_stage')} ({record['kind']})")
    for line in one["story"]["lines"]:
        print(line)
