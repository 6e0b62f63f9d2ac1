"""The demonstration's second act, in the vm: the quota bites, bob keeps his share, and the quota is lifted."""

from pathlib import Path

from product import deb, expect


def guest(bed):
    import product
    from vmguest import LIGHT, cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(mode="enforce", baseline="0.25 cores", credits="4 core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    bed.report("installed", say="hubwarden is installed; two servers start: alice's, with an admin's CPUQuota=150%, and bob's, "
                                "which wants 0.3 cores")
    bob = bed.cgroup(bed.spawn("bob", ["/usr/bin/python3", "-c", LIGHT]))
    unit = bed.spawn("alice", ["/bin/sleep", "600"], {"CPUAccounting": "yes", "CPUQuota": "150%"})
    for user in ("alice", "bob"):
        product.wait_guarded(bed, user, 30)
    alice = bed.cgroup(unit)
    owner = bed.unit_property(unit, "UID")
    bed.run(f"echo $$ > {alice}/cgroup.procs; for i in 1 2; do setsid setpriv --reuid={owner} --regid={owner} --clear-groups "
            "python3 -c 'while True: pass' bed-spinner >/dev/null 2>&1 </dev/null & done")
    cores, his = cores_over([alice, bob], 2)
    bed.report("burst", cores=cores, bob=his, say=f"two loops in alice's server use {cores:.2f} cores; bob has {his:.2f}")
    product.eventually(lambda: (alice / "cpu.max").read_text().split() == ["5000", "20000"], "alice is throttled", 30)
    cores, his = cores_over([alice, bob], 5)
    bed.report("throttled", cores=cores, bob=his, say=f"her credits are spent: the loops use {cores:.2f} cores; bob has {his:.2f}")
    product.stop_spinning(bed)
    product.eventually(lambda: product.quota(bed, unit) == 1.5, "150 % is back", 40)
    bed.report("freed", say="the loops ended and she has rested: the admin's 150 % is back")


def scenario(vm):
    vm.play(__file__, package=deb())
    burst, throttled = vm.of("burst")[0], vm.of("throttled")[0]
    expect(burst["cores"] > 0.9 and throttled["cores"] <= 0.25 * 1.15, f"{burst['cores']:.2f} cores, then {throttled['cores']:.2f}")
    expect(min(burst["bob"], throttled["bob"]) > 0.26, f"bob had {burst['bob']:.2f} and {throttled['bob']:.2f} cores")
    print(f"SUMMARY on Debian's kernel alice's loops fell from {burst['cores']:.2f} cores to {throttled['cores']:.2f}, bob kept his "
          f"{throttled['bob']:.2f}, and the admin's 150 % came back")
