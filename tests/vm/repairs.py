"""Where others can damage our rules (before 6.9, with nothing that holds them): flushed, reloaded, deleted, one element or all, they are put back, and the journal says who it was."""

from product import deb, expect


def guest(bed):
    from pathlib import Path

    import containers
    import product
    from faults import FAULTS, inflict, owned, told

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="5s", more=f'[hub]\ncontainer_networks = ["{containers.NETWORK}"]\n'))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    # As on kernels before 5.12: the daemon makes the table nobody's.
    bed.run("systemctl stop hubwarden-table.socket hubwarden-table.service")
    product.eventually(lambda: not owned(bed), "the table is nobody's", 30)
    bed.spawn("alice", ["/bin/sleep", "900"])
    product.wait_guarded(bed, "alice", 60)
    containers.start_docker(bed, "--iptables=true")
    bed.run(f"docker network create {containers.NETWORK}", timeout=60)
    product.eventually(lambda: bed.run("nft list table bridge hubwarden", check=False).code == 0, "the network is guarded", 30)
    bed.report("kernel", owned=owned(bed), release=bed.run("uname -r").out.strip())
    for command, by in FAULTS:
        seconds = inflict(bed, command, by)
        bed.report("fault", command=command, by=by, seconds=seconds, say=f"{command}: as before after {seconds:.1f} s")
    bed.report("told", repairs=told(bed)[0], messages=[record["MESSAGE"] for record in bed.journal("MESSAGE_ID=bdee630449ec4c54804c92823c48ec82")])


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    expect(not one["kernel"]["owned"], f"{one['kernel']['release']} keeps others from our table: this shows nothing")
    damages = [record for record in vm.of("fault") if record["by"]]
    print("\n".join(one["told"]["messages"]))
    expect(one["told"]["repairs"] >= len(damages) >= 7, f"{one['told']['repairs']} repairs are told of {len(damages)} damages")
