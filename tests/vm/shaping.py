"""A shaped server's packets wait, on Debian's own kernel: its interface keeps its queue, nothing is dropped, and all of it goes with `hubwarden off`."""

from product import deb, expect

NODE, HOST = "192.0.2.1", "192.0.2.2"
CLASS = """
[egress]
class = "shaped"
[egress.classes.shaped]
services = ["http"]
bandwidth = "4 Mbit/s"
shape = true
"""
BYTES = 1_500_000
# Takes what is sent, and says when it has all of it.
SINK = f"""
import socket
server = socket.create_server(("{HOST}", 80))
print("ready", flush=True)
while True:
    client, _ = server.accept()
    left = {BYTES}
    while left > 0 and (data := client.recv(65536)):
        left -= len(data)
    client.sendall(b"k")
    client.close()
"""
SEND = f"""
import socket, time
begun = time.monotonic()
with socket.create_connection(("{HOST}", 80), 60) as client:
    client.sendall(b"x" * {BYTES})
    client.recv(1)
print(time.monotonic() - begun)
"""


def guest(bed):
    import subprocess
    from pathlib import Path

    import product

    for line in ("ip netns add outside", "ip link add node0 type veth peer name host0 netns outside",
                 f"ip address add {NODE}/24 dev node0", "ip link set node0 up", f"ip -n outside address add {HOST}/24 dev host0",
                 "ip -n outside link set host0 up", "ip -n outside link set lo up", f"ip route add default via {HOST}",
                 "tc qdisc add dev node0 root handle 77: pfifo limit 500"):
        bed.run(line)
    bed.put("/root/sink.py", SINK)
    bed.put("/root/send.py", SEND)
    outside = subprocess.Popen(["ip", "netns", "exec", "outside", "python3", "/root/sink.py"], stdout=subprocess.PIPE)
    outside.stdout.readline()
    bed.put("/etc/hubwarden/config.toml", product.config(mode="enforce", tick="1s", more=CLASS))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    cgroup = bed.cgroup(bed.spawn("alice", ["/bin/sleep", "900"]))
    product.wait_guarded(bed, "alice", 30)

    def told(what, **results):
        bed.report(what, **results, say=f"{what}: {results}")

    def seconds():
        return float(bed.run(["sh", "-c", f"echo $$ > {cgroup}/cgroup.procs; exec python3 /root/send.py"], timeout=90).out)

    def resent():
        return int(bed.run("nstat -asz TcpRetransSegs").out.split()[-2])

    def queues():
        return bed.run("tc -s qdisc show").out

    told("check", said=bed.run("hubwarden check", check=False).out)
    before = resent()
    told("running", seconds=seconds(), resent=resent() - before, queues=queues(), classes=bed.run("tc class show dev $(ls /sys/class/net | grep hwshape)").out)
    bed.run("systemctl stop hubwarden")
    told("stopped", seconds=seconds())
    bed.run("hubwarden off")
    told("off", seconds=seconds(), queues=queues(), devices=bed.run("ls /sys/class/net").out, rules=bed.run("nft list ruleset").out)
    outside.kill()


def scenario(vm):
    vm.play(__file__, package=deb(), limit=500)
    one = {record["kind"]: record for record in vm.records}
    expect("shape: the kernel delays" in one["check"]["said"], f"check said: {one['check']['said']}")
    # Three seconds at this rate, less a burst; emulation is slow, so there is room above.
    for kind in ("running", "stopped"):
        expect(2.4 < one[kind]["seconds"] < 12, f"{kind}: {one[kind]['seconds']} s")
    running = one["running"]
    # How few segments are sent again is shown natively (tests/egress/shape.rs): with an emulated clock fq_codel
    # sees delays that are not there, and drops for them (0 and 90 of 1,049 in two runs).
    for words in ("qdisc htb 4857: dev hwshape", "qdisc fq_codel", "qdisc pfifo 77: dev node0 root"):
        expect(words in running["queues"], f"no {words!r} in {running['queues']}")
    expect("rate 4Mbit" in running["classes"], f"classes: {running['classes']}")
    off = one["off"]
    expect(off["seconds"] < 2, f"off: {off['seconds']} s")
    expect("hwshape" not in off["devices"] and "hubwarden" not in off["rules"], f"left: {off['devices']} {off['rules']}")
    expect("qdisc pfifo 77: dev node0 root" in off["queues"], f"the admin's queue is gone: {off['queues']}")
