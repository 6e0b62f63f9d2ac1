"""A container of root's Podman, with crun and the payload in a cgroup of its own: found, limited at its scope, and put back."""

from product import deb, expect

SUITES = ("bookworm", "trixie")

TICK, LIMIT, BASELINE, CREDITS, ADMINS = 1.0, 1.5, 0.25, 6.0, 0.5
BITES = 1.15


def guest(bed):
    from pathlib import Path

    import containers
    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", limit=f"{LIMIT} cores", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    containers.start_podman(bed)
    other = containers.run(bed, "nginx", {"PATH": "/bin"}, "sleep 600", engine="podman")
    alice = containers.run(bed, "jupyter-alice", {"JUPYTERHUB_USER": "alice", "JUPYTERHUB_SERVER_NAME": ""},
                           containers.SPINS, engine="podman", gate=True)
    scope = f"libpod-{alice}.scope"
    cgroup = Path(f"/sys/fs/cgroup/machine.slice/{scope}")
    found = product.wait_guarded(bed, "alice", 60)
    inside = [child.name for child in cgroup.iterdir() if child.is_dir() and (child / "cgroup.procs").read_text().strip()]
    version = bed.run("podman --version; crun --version | head -1").out.split("\n")
    bed.report("found", cgroup=found["cgroup"], spawner=found["spawner"], inside=inside, version=version,
               own=(cgroup / "cgroup.procs").read_text().split(), max=(cgroup / "cpu.max").read_text().strip())

    containers.open_gate(bed, "jupyter-alice")
    bed.report("burst", cores=cores_over(cgroup, 2))

    def cores():
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)

    product.eventually(lambda: cores() == BASELINE, "the scope's cpu.max is the baseline", 60)
    bed.report("throttled", max=(cgroup / "cpu.max").read_text().strip(), cores=cores_over(cgroup, 5),
               stage=product.stage(bed, "alice"), quota=product.quota(bed, scope))
    # An admin's own change, wherever Podman and crun make it, loosens nothing.
    bed.run(["podman", "update", f"--cpus={ADMINS}", alice])
    product.eventually(lambda: cores() == BASELINE, "our limit stands after podman update", 20)
    bed.report("updated", max=(cgroup / "cpu.max").read_text().strip(), cores=cores_over(cgroup, 5),
               payload=[(cgroup / name / "cpu.max").read_text().strip() for name in inside if (cgroup / name / "cpu.max").exists()])
    bed.run("systemctl daemon-reload")
    bed.report("reloaded", max=(cgroup / "cpu.max").read_text().strip(), cores=cores_over(cgroup, 3))

    containers.touch(cgroup, "rest")
    product.eventually(lambda: product.stage(bed, "alice") == "free", "alice is free", 60)
    product.eventually(lambda: cores() != BASELINE, "the baseline is lifted", 20)
    bed.report("freed", max=(cgroup / "cpu.max").read_text().strip())
    bed.run("hubwarden off")
    bed.report("off", max=(cgroup / "cpu.max").read_text().strip(), weight=bed.unit_property(scope, "CPUWeight"),
               period=bed.unit_property(scope, "CPUQuotaPeriodUSec"))
    bed.run("hubwarden on")
    bed.run(["podman", "rm", "--force", "--time=0", alice], timeout=120)
    product.eventually(lambda: product.server_of(bed, "alice") is None, "the server is gone from status", 20)
    told = [record["MESSAGE"] for record in bed.journal(f"MESSAGE_ID={product.NOT_MAPPED}")]
    bed.report("others", told=told, other=other)
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "alice")])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}

    def cores_of(kind):
        quota, period = one[kind]["max"].split()
        return None if quota == "max" else int(quota) / int(period)

    found = one["found"]
    print(f"{', '.join(word for word in found['version'] if word)}: processes in {found['inside'] or 'the scope itself'}")
    expect(found["spawner"] == "podman" and found["cgroup"].startswith("/machine.slice/libpod-"), f"found: {found}")
    # The case this scenario is for: the scope itself is empty, its child has the processes.
    expect(found["inside"] and not found["own"], f"the payload has no cgroup of its own: {found}")
    expect(cores_of("found") == LIMIT, f"found: {found}")
    expect(one["burst"]["cores"] > 0.7, f"with credits it had {one['burst']['cores']:.2f} cores")
    for kind in ("throttled", "updated", "reloaded"):
        expect(abs(cores_of(kind) - BASELINE) < 0.001, f"{kind}: cpu.max is {one[kind]['max']}")
        expect(one[kind]["cores"] <= BASELINE * BITES, f"{kind}: it used {one[kind]['cores']:.3f} cores")
        print(f"{kind}: the container used {one[kind]['cores']:.3f} cores")
    expect(one["throttled"]["stage"] == "throttled" and one["throttled"]["quota"] == BASELINE, f"{one['throttled']}")
    print(f"after podman update the scope had {one['updated']['max']!r}, the payload {one['updated']['payload']}")
    # crun sets the payload's own cgroup, below ours: both hold. The scope has back what stood there: nothing, or, where
    # crun sets the scope too, as trixie's does, what the admin wants.
    quotas = [text.split() for text in one["updated"]["payload"]]
    expect(quotas and all(int(quota) / int(period) == ADMINS for quota, period in quotas), f"updated: {one['updated']}")
    limit, own = (LIMIT, None) if vm.suite.name == "bookworm" else (ADMINS, ADMINS)
    expect(cores_of("freed") == limit and cores_of("off") == own, f"freed {one['freed']}, off {one['off']}")
    expect(one["off"]["weight"] in ("[not set]", "18446744073709551615"), f"off: {one['off']}")
    others = one["others"]
    of_other = [line for line in others["told"] if others["other"] in line]
    expect(len(of_other) == 1 and "no JUPYTERHUB_USER" in of_other[0], f"told of the other container: {others['told']}")
    expect(not any("conmon" in line for line in others["told"]), f"a monitor was told of: {others['told']}")
    story = "\n".join(one["story"]["lines"])
    for words in ("was found in", "is throttled to 0.25 cores", "is free again", "stopped"):
        expect(words in story, f"the story lacks `{words}`:\n{story}")
