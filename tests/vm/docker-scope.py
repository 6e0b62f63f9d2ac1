"""A Docker container of DockerSpawner's is throttled to the baseline and released; `docker update` in between is respected; others are told once."""

from product import deb, expect

TICK, LIMIT, BASELINE, CREDITS, ADMINS, RAISED = 1.0, 1.5, 0.25, 6.0, 0.5, 1.8
BITES = 1.15
# Reading, and systemd's own work, under emulation.
SLACK = 1.0


def guest(bed):
    import time
    from pathlib import Path

    import containers
    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s", limit=f"{LIMIT} cores", baseline=f"{BASELINE} cores", credits=f"{CREDITS:.0f} core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    containers.start_docker(bed)
    other = containers.run(bed, "nginx", {"PATH": "/bin"}, "sleep 600")
    alice = containers.run(bed, "jupyter-a-2db--lab", {"JUPYTERHUB_USER": "a-b", "JUPYTERHUB_SERVER_NAME": "Lab"},
                           containers.SPINS, gate=True)
    cgroup = Path(f"/sys/fs/cgroup/system.slice/docker-{alice}.scope")
    found = product.wait_guarded(bed, "a-b", 30)
    bed.report("found", cgroup=found["cgroup"], spawner=found["spawner"], server=found["server"],
               max=(cgroup / "cpu.max").read_text().strip())

    containers.open_gate(bed, "jupyter-a-2db--lab")
    bed.report("burst", cores=cores_over(cgroup, 2))

    def cores():
        quota, period = (cgroup / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)

    product.eventually(lambda: cores() == BASELINE, "the container's cpu.max is the baseline", 40)
    bed.report("throttled", max=(cgroup / "cpu.max").read_text().strip(), cores=cores_over(cgroup, 5),
               stage=product.stage(bed, "a-b"))

    # An admin raises it with Docker's own command: overwritten within a tick, and kept for later.
    bed.run(["docker", "update", f"--cpus={ADMINS}", alice])
    product.eventually(lambda: cores() == BASELINE, "our limit stands again after docker update", 20)
    bed.report("updated", max=(cgroup / "cpu.max").read_text().strip(), cores=cores_over(cgroup, 5))
    bed.run("systemctl daemon-reload")
    bed.report("reloaded", max=(cgroup / "cpu.max").read_text().strip())

    containers.touch(cgroup, "rest")
    product.eventually(lambda: cores() == ADMINS, "Docker's limit is back", 60)
    bed.report("freed", max=(cgroup / "cpu.max").read_text().strip(), stage=product.stage(bed, "a-b"))

    # She has her credits, and nothing of ours stands: raised above our limit it is seen all the same.
    bed.run(["docker", "update", f"--cpus={RAISED}", alice])
    began = time.monotonic()
    product.eventually(lambda: cores() == LIMIT, "Docker's new limit is brought down to ours", 20)
    bed.report("raised", seconds=time.monotonic() - began, stage=product.stage(bed, "a-b"))
    bed.run("hubwarden off")
    bed.report("off", max=(cgroup / "cpu.max").read_text().strip())
    bed.run("hubwarden on")
    product.eventually(lambda: cores() == LIMIT, "our limit stands again after hubwarden on", 20)

    # The same container, started again: a new cgroup, the same id.
    bed.run(["docker", "restart", "--time=0", other], timeout=120)
    product.eventually(lambda: any(line["cgroup"].endswith(f"docker-{alice}.scope") for line in product.status(bed)["servers"]),
                       "alice is still listed", 20)
    bed.run(["docker", "rm", "--force", alice], timeout=120)
    product.eventually(lambda: product.server_of(bed, "a-b") is None, "the server is gone from status", 20)
    told = [record["MESSAGE"] for record in bed.journal(f"MESSAGE_ID={product.NOT_MAPPED}")]
    bed.report("others", told=told, other=other, status=[list(line) for line in product.status(bed)["unknown"]])
    bed.report("story", lines=[record["MESSAGE"] for record in product.story(bed, "a-b")])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    judge(vm, spawner="docker", where="/system.slice/docker-", server="Lab")


def judge(vm, spawner, where, server):
    one = {record["kind"]: record for record in vm.records}

    def cores_of(kind):
        quota, period = one[kind]["max"].split()
        return None if quota == "max" else int(quota) / int(period)

    found = one["found"]
    expect(found["spawner"] == spawner and found["server"] == server and found["cgroup"].startswith(where), f"found: {found}")
    expect(one["burst"]["cores"] > 0.7, f"with credits it had {one['burst']['cores']:.2f} cores")
    for kind in ("throttled", "updated", "reloaded"):
        expect(abs(cores_of(kind) - BASELINE) < 0.001, f"{kind}: cpu.max is {one[kind]['max']}")
    for kind in ("throttled", "updated"):
        expect(one[kind]["cores"] <= BASELINE * BITES, f"{kind}: it used {one[kind]['cores']:.3f} cores over 5 s")
        print(f"{kind}: the container used {one[kind]['cores']:.3f} cores over 5 s")
    expect(one["throttled"]["stage"] == "throttled", f"stage {one['throttled']['stage']}")
    expect(cores_of("freed") == ADMINS and one["freed"]["stage"] == "free", f"freed: {one['freed']}")
    raised = one["raised"]
    print(f"raised to {RAISED} cores, it was back at {LIMIT} after {raised['seconds']:.1f} s")
    expect(raised["seconds"] <= TICK + SLACK and raised["stage"] == "free", f"raised: {raised}")
    expect(cores_of("off") == RAISED, f"off: {one['off']}")
    others = one["others"]
    of_other = [line for line in others["told"] if others["other"] in line]
    expect(len(of_other) == 1 and "no JUPYTERHUB_USER" in of_other[0], f"told of the other container: {others['told']}")
    expect(any(others["other"] in path for path, _ in others["status"]), f"status: {others['status']}")
    story = "\n".join(one["story"]["lines"])
    for words in ("was found in", "is throttled to 0.25 cores", "Somebody set", "stopped"):
        expect(words in story, f"the story lacks `{words}`:\n{story}")
