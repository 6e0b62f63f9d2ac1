"""A spawner's memory limit holds in the kernel through observe, enforce, off, purge and systemd's daemon-reload."""

from pathlib import Path

from product import deb, expect

LIMIT = str(500 * 2**20)


def guest(bed):
    """Starts one server in each mode, and reports what the kernel holds after each step."""
    import product

    def spawn(user):
        return bed.spawn(user, ["/bin/sleep", "600"], {"MemoryMax": "500M", "CPUQuota": "150%"})

    units = {}

    def look(step):
        found = {}
        for user, unit in units.items():
            cgroup = bed.cgroup(unit)
            file = cgroup / "memory.max"
            found[user] = [file.read_text().strip() if file.exists() else "gone", cgroup.parent.name]
        bed.report(step, found=found)

    def configure(mode):
        bed.put("/etc/hubwarden/config.toml", product.config(mode=mode, tick="1s"))
        bed.run("if systemctl is-active hubwarden; then hubwarden reload; fi")

    configure("observe")
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    units["alice"] = spawn("alice")
    product.wait_guarded(bed, "alice", 30)
    configure("enforce")
    units["bob"] = spawn("bob")
    product.wait_guarded(bed, "bob", 30)
    look("enforce")
    bed.run("systemctl daemon-reload")
    look("enforce, reloaded")
    configure("observe")
    bed.run("systemctl daemon-reload")
    look("observe, reloaded")
    configure("enforce")
    bed.run("hubwarden off; systemctl daemon-reload")
    look("off, reloaded")
    bed.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y -o Dpkg::Use-Pty=0 hubwarden", timeout=180)
    bed.run("systemctl daemon-reload")
    look("purged, reloaded")
    units["carol"] = spawn("carol")
    look("after that")


def scenario(vm):
    vm.play(__file__, package=deb())
    steps = [record for record in vm.records if "found" in record]
    expect(len(steps) == 6, f"{len(steps)} steps were reported")
    for record in steps:
        print(f"{record['kind']}: {record['found']}")
        for user, (limit, _) in record["found"].items():
            expect(limit == LIMIT, f"{record['kind']}: {user}'s memory.max is {limit}")
    where = {user: slice for user, (_, slice) in steps[-1]["found"].items()}
    expect(where == {"alice": "system.slice", "bob": "jupyter.slice", "carol": "system.slice"}, f"servers are in {where}")
