"""On Debian's kernel the senses load; RandomX called python is certain, a loop over all rounding modes is not."""

from pathlib import Path

from product import deb, expect

# All four modes in turn, as in a test of a numeric library.
ROUNDS = ("import ctypes\nset_mode = ctypes.CDLL('libm.so.6').fesetround\nwhile True:\n"
          " for mode in (0, 0x400, 0x800, 0xc00):\n  set_mode(mode)\n  x = 1.0\n"
          "  for term in range(1, 5000): x += x / term / 3 - 1.0 / term")
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


def scenario(vm):
    import miner

    vm.play(__file__, package=deb(), files={"/opt/miner": miner.randomx()}, limit=420)
    one = {record["kind"]: record for record in vm.records}
    expect(one["hello"]["kernel"].startswith("6.1."), f"kernel {one['hello']['kernel']}")
    judged = one["judged"]
    print("\n".join(judged["told"]))
    print(judged["explained"])
    print(judged["shown"])
    expect(not judged["lacks"], f"senses are impaired: {judged['lacks']}")
    expect("certain" in judged["alice"], f"alice is {judged['alice']}")
    expect(not {"high", "certain"} & set(judged["bob"]), f"bob is {judged['bob']}")
    text = judged["explained"]
    for part in ("Evidence of mining: certain", "constants", "rounding", "Without what constants found", "/opt/miner/python"):
        expect(part in text, f"`{part}` is not in what explain says:\n{text}")
    expect("/opt/miner/python" in judged["shown"], f"top does not show what runs:\n{judged['shown']}")
