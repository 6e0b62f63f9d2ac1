"""The vm bed works: Debian's kernel, the cpu controller on cgroup v2, a quota that bites; needs no package."""

from product import expect

SUITES = ("bookworm", "trixie")


def guest(bed):
    from vmguest import cores_over

    bed.report("controllers", text=open("/sys/fs/cgroup/cgroup.controllers").read())
    unit = bed.spawn("alice", ["/bin/sh", "-c", "while :; do :; done"], {"CPUQuota": "20%", "MemoryMax": "500M"})
    bed.report("cores", value=cores_over(bed.cgroup(unit), 5), user=bed.unit_property(unit, "User"))
    bed.run(["systemctl", "stop", unit])


def scenario(vm):
    vm.play(__file__)
    expect(vm.of("hello")[0]["kernel"].startswith(f"{vm.suite.kernel}."), f"kernel {vm.of('hello')[0]}")
    expect({"cpu", "memory", "pids"} <= set(vm.of("controllers")[0]["text"].split()), str(vm.of("controllers")))
    cores = vm.of("cores")[0]["value"]
    expect(0.1 < cores <= 0.25, f"a spinner under CPUQuota=20% used {cores:.2f} cores")
