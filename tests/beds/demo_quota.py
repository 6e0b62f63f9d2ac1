"""The demonstration's second act, in the vm: the quota bites, and is lifted when the spinner ends."""

from pathlib import Path

from product import deb, expect


def guest(bed):
    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(mode="enforce", baseline="0.25 cores", credits="4 core-seconds"))
    product.install(bed, package=Path("/root/hubwarden.deb"))
    bed.report("installed", say="hubwarden is installed; alice's server starts, with an admin's CPUQuota=150%")
    unit = bed.spawn("alice", ["/bin/sleep", "600"], {"CPUAccounting": "yes", "CPUQuota": "150%"})
    product.wait_guarded(bed, "alice", 30)
    alice = bed.cgroup(unit)
    owner = bed.unit_property(unit, "UID")
    bed.run(f"echo $$ > {alice}/cgroup.procs; for i in 1 2; do setsid setpriv --reuid={owner} --regid={owner} --clear-groups "
            "python3 -c 'while True: pass' bed-spinner >/dev/null 2>&1 </dev/null & done")
    cores = cores_over(alice, 2)
    bed.report("burst", cores=cores, say=f"two loops in alice's server use {cores:.2f} cores")
    product.eventually(lambda: product.rung(bed, "alice") == "throttled", "alice is throttled", 30)
    cores = cores_over(alice, 4)
    bed.report("throttled", cores=cores, say=f"her credits are spent: they use {cores:.2f} cores")
    product.stop_spinning(bed)
    product.eventually(lambda: product.quota(bed, unit) == 1.5, "150 % is back", 40)
    bed.report("freed", say="the loops ended, she has rested: the admin's 150 % is back")


def scenario(vm):
    vm.play(__file__, package=deb())
    burst, throttled = vm.of("burst")[0]["cores"], vm.of("throttled")[0]["cores"]
    expect(burst > 0.9 and throttled < 0.29, f"{burst:.2f} cores before, {throttled:.2f} after")
    print(f"SUMMARY on Debian's kernel the loops fell from {burst:.2f} cores to {throttled:.2f}, and the admin's 150 % came back")
