"""A container that Docker's cgroupfs driver placed, of which systemd knows nothing, is throttled and released by direct writes."""

from product import deb, expect

LIMIT, BASELINE, CREDITS, ADMINS, RAISED = 1.5, 0.25, 6.0, 0.5, 1.8
BITES = 1.15


def guest(bed):
    from pathlib import Path

    import containers
    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", limit=f"{LIMIT} cores", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    containers.start_docker(bed, "--exec-opt", "native.cgroupdriver=cgroupfs")
    alice = containers.run(bed, "jupyter-alice", {"JUPYTERHUB_USER": "alice", "JUPYTERHUB_SERVER_NAME": ""},
                           containers.SPINS, gate=True)
    cgroup = Path(f"/sys/fs/cgroup/docker/{alice}")
    found = product.wait_guarded(bed, "alice", 30)
    files = ("cpu.max", "cpu.weight")

    def standing():
        return {file: (cgroup / file).read_text().strip() for file in files}

    def cores():
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)

    bed.report("found", cgroup=found["cgroup"], spawner=found["spawner"], **standing())
    containers.open_gate(bed, "jupyter-alice")
    bed.report("burst", cores=cores_over(cgroup, 2))
    product.eventually(lambda: cores() == BASELINE, "the container's cpu.max is the baseline", 40)
    bed.report("throttled", cores=cores_over(cgroup, 5), stage=product.stage(bed, "alice"), **standing())
    bed.run(["docker", "update", f"--cpus={ADMINS}", alice])
    product.eventually(lambda: cores() == BASELINE, "our limit stands again after docker update", 20)
    bed.report("updated", cores=cores_over(cgroup, 5), **standing())
    bed.run("systemctl daemon-reload")
    bed.run("systemctl restart hubwarden")
    product.wait_active(bed)
    bed.report("restarted", cores=cores_over(cgroup, 3), **standing())
    # The brake puts Docker's own limit back, and letting go of it ours.
    bed.run("hubwarden off")
    bed.report("off", **standing())
    bed.run("hubwarden on")
    product.eventually(lambda: cores() == BASELINE, "the baseline stands again after hubwarden on", 20)
    containers.touch(cgroup, "rest")
    product.eventually(lambda: cores() == ADMINS, "Docker's limit is back", 60)
    product.eventually(lambda: product.stage(bed, "alice") == "free", "alice is free", 20)
    bed.report("freed", **standing())
    # Nothing of ours stands: raised above our limit it is seen all the same.
    bed.run(["docker", "update", f"--cpus={RAISED}", alice])
    product.eventually(lambda: cores() == LIMIT, "Docker's new limit is brought down to ours", 5)
    bed.run("hubwarden off")
    bed.report("off-again", **standing())
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "alice")])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}

    def cores_of(kind):
        quota, period = one[kind]["cpu.max"].split()
        return None if quota == "max" else int(quota) / int(period)

    found = one["found"]
    expect(found["spawner"] == "docker" and found["cgroup"].startswith("/docker/"), f"found: {found}")
    expect(one["burst"]["cores"] > 0.7, f"with credits it had {one['burst']['cores']:.2f} cores")
    for kind in ("throttled", "updated", "restarted"):
        expect(cores_of(kind) == BASELINE and one[kind]["cpu.weight"] == "20", f"{kind}: {one[kind]}")
        expect(one[kind]["cores"] <= BASELINE * BITES, f"{kind}: it used {one[kind]['cores']:.3f} cores")
        print(f"{kind}: the container used {one[kind]['cores']:.3f} cores")
    expect(one["throttled"]["stage"] == "throttled", f"stage {one['throttled']['stage']}")
    expect(cores_of("freed") == ADMINS and one["freed"]["cpu.weight"] == "100", f"freed: {one['freed']}")
    expect(cores_of("found") == LIMIT, f"found: {found}")
    expect(cores_of("off-again") == RAISED, f"off again: {one['off-again']}")
    expect(cores_of("off") == ADMINS and one["off"]["cpu.weight"] == "100", f"off: {one['off']}")
