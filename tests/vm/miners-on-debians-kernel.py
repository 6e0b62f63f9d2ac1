"""On Debian's kernel RandomX called python is certain, a loop over all rounding modes is not, and starts are told without BPF."""

from pathlib import Path

from product import deb, expect

SUITES = ("bookworm", "trixie")
# All four modes in turn, as in a test of a numeric library.
ROUNDS = ("import ctypes\nset_mode = ctypes.CDLL('libm.so.6').fesetround\nwhile True:\n"
          " for mode in (0, 0x400, 0x800, 0xc00):\n  set_mode(mode)\n  x = 1.0\n"
          "  for term in range(1, 5000): x += x / term / 3 - 1.0 / term")
# As where the kernel is locked down: no BPF.
NO_BPF = ("[Service]\nCapabilityBoundingSet=\n"
          "CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_PTRACE CAP_DAC_READ_SEARCH CAP_KILL\n")
DROP_IN = "/etc/systemd/system/hubwarden.service.d/no-bpf.conf"
# A server that rests until told, and then becomes a program with a miner's name that rests too.
NAMED, GO = "/opt/xmrig", "/opt/go"
RESTS = f"read word < {GO}; exec {NAMED} 600"
# Emulated, RandomX fills its 256 MB for as long as this.
PATIENCE = 150


def guest(bed):
    import time

    import product

    bed.put(product.CONFIG, product.config(mode="observe"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    began = time.monotonic()
    for user, command in (("alice", ["/opt/miner/python", "600", "jit"]), ("bob", ["/usr/bin/python3", "-c", ROUNDS])):
        bed.spawn(user, command)
        product.wait_guarded(bed, user, 30)

    def levels(user):
        return {record.get("EVIDENCE_LEVEL") for record in product.story(bed, user)} - {None}

    product.eventually(lambda: "certain" in levels("alice"), "the evidence against alice is certain", PATIENCE)
    bed.report("certain", seconds=round(time.monotonic() - began, 1), say=f"certain {time.monotonic() - began:.0f} s after the start")
    # Bob's modes are seen as well: that he is spared is judgement, not blindness.
    product.eventually(lambda: any("rounding" == record.get("EVIDENCE") for record in product.story(bed, "bob")),
                       "bob's rounding modes are seen", PATIENCE)
    bed.report("judged", lacks=product.status(bed).get("lacks"), alice=sorted(levels("alice")), bob=sorted(levels("bob")),
               explained=bed.run("hubwarden explain alice").out, shown=bed.run("hubwarden top --once").out,
               told=[record["MESSAGE"] for user in ("alice", "bob") for record in product.story(bed, user) if record.get("EVIDENCE")])
    without_bpf(bed)


def without_bpf(bed):
    """What the process connector tells of a server that is not hot."""
    import product

    bed.run("systemctl stop jupyter-alice.service jupyter-bob.service")
    bed.put(DROP_IN, NO_BPF)
    bed.run(f"cp /bin/sleep {NAMED}; mkfifo -m 666 {GO}; systemctl daemon-reload; systemctl restart hubwarden", timeout=90)
    product.wait_active(bed, 60)
    bed.spawn("carol", ["/bin/sh", "-c", RESTS])
    product.wait_guarded(bed, "carol", 30)

    def told():
        return [record["MESSAGE"] for record in product.story(bed, "carol") if "exec" in record.get("EVIDENCE", "")]

    def exec_is_down():
        return [why for sensor, why in product.status(bed)["lacks"] if sensor == "exec"]

    down = product.eventually(exec_is_down, "the status says that BPF is refused", 30)
    bed.report("down", exec=down, told=told(), say="\n".join(down))
    # What her start used is forgotten: else she may be looked at for that, where emulation makes much of it.
    product.eventually(lambda: product.server_of(bed, "carol")["cpu_cores"] < 0.05, "carol's server rests", 30)
    bed.run(f"echo go > {GO}")
    found = product.eventually(told, "the start of a miner's name is told", 30)
    bed.report("named", told=found, cores=product.server_of(bed, "carol")["cpu_cores"], say="\n".join(found))


def scenario(vm):
    import miner

    vm.play(__file__, package=deb(), files={"/opt/miner": miner.randomx()}, limit=420)
    one = {record["kind"]: record for record in vm.records}
    expect(one["hello"]["kernel"].startswith(f"{vm.suite.kernel}."), f"kernel {one['hello']['kernel']}")
    judged = one["judged"]
    print("\n".join(judged["told"]))
    print(judged["explained"])
    print(judged["shown"])
    expect(not judged["lacks"], f"sensors are impaired: {judged['lacks']}")
    expect("certain" in judged["alice"], f"alice is {judged['alice']}")
    expect(not {"high", "certain"} & set(judged["bob"]), f"bob is {judged['bob']}")
    text = judged["explained"]
    for part in ("Evidence of mining: certain", "constants", "rounding", "Without what constants found", "/opt/miner/python"):
        expect(part in text, f"`{part}` is not in what explain says:\n{text}")
    expect("/opt/miner/python" in judged["shown"], f"top does not show what runs:\n{judged['shown']}")
    down, named = one["down"], one["named"]
    expect(any("the process connector tells of starts instead" in why for why in down["exec"]), f"exec: {down['exec']}")
    expect(down["told"] == [], f"told before anything was started: {down['told']}")
    expect(any("xmrig" in line for line in named["told"]), f"told: {named['told']}")
    expect(named["cores"] < 0.2, f"carol was looked at for her heat: {named['cores']} cores")
