"""A user's named servers drain one account and share one baseline; one more, started beside spent ones, brings nothing."""

from product import deb, expect

BASELINE, CREDITS = 0.25, 20.0
BITES = 1.15


def guest(bed):
    from pathlib import Path

    import containers
    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds",
        # Three core-seconds: what two that rest regain while the third is looked at.
        more='free_above = "15 %"'))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    containers.start_docker(bed)
    cgroups = {}

    def listed(user):
        return {line["server"]: line for line in product.status(bed)["servers"] if line["user"] == user}

    def named(user, name):
        return f"jupyter-{user}" + (f"--{name}" if name else "")

    def start(user, name, script=containers.SPINS):
        container = containers.run(bed, named(user, name), {"JUPYTERHUB_USER": user, "JUPYTERHUB_SERVER_NAME": name}, script, gate=True)
        cgroups[name] = Path(f"/sys/fs/cgroup/system.slice/docker-{container}.scope")
        product.eventually(lambda: name in listed(user), f"{user}'s server {name!r} is listed", 30)

    def quota(name):
        text, period = (cgroups[name] / "cpu.max").read_text().split()
        return 99 if text == "max" else int(text) / int(period)

    def report(kind, names):
        used = cores_over([cgroups[name] for name in names], 5)
        lines = listed("alice")
        bed.report(kind, quotas=[quota(name) for name in names], used=used, stages=[lines[name]["stage"] for name in names],
                   credits=[lines[name]["credits_core_seconds"] for name in names])

    start("alice", "")
    start("alice", "lab")
    start("bob", "quiet", "sleep 600")
    for name in ("", "lab"):
        containers.open_gate(bed, named("alice", name))
    product.eventually(lambda: max(quota(""), quota("lab")) < 1, "both of alice's servers are throttled", 60)
    product.eventually(lambda: min(quota(""), quota("lab")) > 0.4 * BASELINE, "each has about the half", 30)
    report("both", ["", "lab"])
    start("alice", "third")
    containers.open_gate(bed, named("alice", "third"))
    product.eventually(lambda: quota("third") < 1, "the third one is throttled", 10)
    product.eventually(lambda: min(quota(name) for name in ("", "lab", "third")) > 0.25 * BASELINE, "each has about a third", 30)
    report("three", ["", "lab", "third"])
    bed.report("bob", stage=listed("bob")["quiet"]["stage"], quota=quota("quiet"))
    # Two rest and the third goes on: it has nearly all that there is, in steps.
    for name in ("", "lab"):
        containers.touch(cgroups[name], "rest")
    product.eventually(lambda: quota("third") > 0.6 * BASELINE, "the one that works has most of it", 60)
    report("one", ["", "lab", "third"])
    containers.touch(cgroups["third"], "rest")
    product.eventually(lambda: all(quota(name) == 2 for name in ("", "lab", "third")), "all have the limit again", 60)
    bed.report("freed", stages=[line["stage"] for line in listed("alice").values()])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    for kind in ("both", "three", "one"):
        record = one[kind]
        quotas, used = record["quotas"], record["used"]
        print(f"{kind}: cpu.max {' + '.join(f'{cores:.3f}' for cores in quotas)}, "
              f"used {' + '.join(f'{cores:.3f}' for cores in used)} = {sum(used):.3f} cores over 5 s")
        expect(set(record["stages"]) == {"throttled"}, f"{kind}: {record}")
        expect(sum(quotas) <= BASELINE * 1.005, f"{kind}: the quotas are {quotas}")
        expect(BASELINE / 2 < sum(used) <= BASELINE * BITES, f"{kind}: {sum(used):.3f} cores over 5 s in all")
        expect(max(record["credits"]) - min(record["credits"]) < 0.5, f"{kind}: the accounts differ: {record['credits']}")
    expect(one["one"]["used"][2] > 4 * max(one["one"]["used"][:2]), f"the one that works: {one['one']}")
    expect(one["bob"] and one["bob"]["stage"] == "free" and one["bob"]["quota"] == 2, f"bob: {one['bob']}")
    expect(set(one["freed"]["stages"]) == {"free"}, f"freed: {one['freed']}")
