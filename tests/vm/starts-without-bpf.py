"""On Debian's kernel without BPF, the process connector tells of a program's start on a server that is not hot."""

from pathlib import Path

from product import deb, expect

DROP_IN = "/etc/systemd/system/hubwarden.service.d/no-bpf.conf"
MINER, GO = "/opt/xmrig", "/opt/go"
# A server that rests until told, and then becomes a program with a miner's name that rests too.
SERVER = f"read word < {GO}; exec {MINER} 600"


def guest(bed):
    import product

    bed.put(product.CONFIG, product.config(mode="observe"))
    # As where the kernel is locked down.
    bed.put(DROP_IN, "[Service]\nCapabilityBoundingSet=\n"
                     "CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_KILL\n")
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    bed.run(f"cp /bin/sleep {MINER}; mkfifo -m 666 {GO}")
    bed.spawn("alice", ["/bin/sh", "-c", SERVER])
    product.wait_guarded(bed, "alice", 30)

    def told():
        return [record["MESSAGE"] for record in product.story(bed, "alice") if "exec" in record.get("EVIDENCE", "")]

    def exec_is_blind():
        return [why for sense, why in product.status(bed)["lacks"] if sense == "exec"]

    blind = product.eventually(exec_is_blind, "the status says that BPF is refused", 30)
    bed.report("blind", exec=blind, told=told(), say="\n".join(blind))
    bed.run(f"echo go > {GO}")
    found = product.eventually(told, "the start of a miner's name is told", 30)
    bed.report("found", told=found, hot=product.server_of(bed, "alice")["cpu_cores"], say="\n".join(found))


def scenario(vm):
    vm.play(__file__, package=deb())
    one = {record["kind"]: record for record in vm.records}
    expect(one["hello"]["kernel"].startswith("6.1."), f"kernel {one['hello']['kernel']}")
    blind = one["blind"]
    expect(any("the process connector tells of starts instead" in why for why in blind["exec"]), f"exec: {blind['exec']}")
    expect(blind["told"] == [], f"told before anything was started: {blind['told']}")
    found = one["found"]
    expect(any("xmrig" in line for line in found["told"]), f"told: {found['told']}")
    expect(found["hot"] < 0.2, f"alice was looked at for her heat: {found['hot']} cores")
