"""A class reaches host names and nothing else, on Debian's own kernel: real clients over IPv4 and IPv6, UDP and TCP; without the daemon names fail closed."""

from product import deb, expect

NODE, HOST, OTHER = "192.0.2.1", "192.0.2.2", "192.0.2.3"
NODE6, HOST6 = "2001:db8:213::1", "2001:db8:213::2"
CLASS = """
[egress]
class = "named"
resolvers = ["192.0.2.2"]
[egress.classes.named]
services = ["dns", "http"]
names = ["good.example", "*.sub.example", "late.example"]
"""
# A resolver and web servers, in a network namespace beside the machine's.
OUTSIDE = '''
import socket, struct, sys, threading
ZONE = {"good.example": ("192.0.2.2", "2001:db8:213::2"), "bad.example": ("192.0.2.3", None),
        "late.example": ("192.0.2.3", None), "www.sub.example": ("192.0.2.4", None)}

def answer(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    kind = struct.unpack("!H", query[at + 1 : at + 3])[0]
    v4, v6 = ZONE.get(".".join(labels), (None, None))
    data = socket.inet_aton(v4) if kind == 1 and v4 else socket.inet_pton(socket.AF_INET6, v6) if kind == 28 and v6 else b""
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if data else 0, 0, 0) + query[12 : at + 5]
    return head + (struct.pack("!HHHLH", 0xC00C, kind, 1, 1, len(data)) + data if data else b"")

def datagrams(address):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))
    while True:
        query, peer = server.recvfrom(2048)
        server.sendto(answer(query), peer)

def streams(address, port, reply):
    server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    while True:
        client, _ = server.accept()
        with client:
            client.settimeout(5)
            try:
                client.sendall(reply(client.recv(4096)))
            except OSError:
                pass

def dns(data):
    reply = answer(data[2:])
    return struct.pack("!H", len(reply)) + reply

def page(_):
    return b"HTTP/1.0 200 OK\\r\\nContent-Length: 8\\r\\n\\r\\noutside\\n"

for address in ("192.0.2.2", "192.0.2.3"):
    threading.Thread(target=datagrams, args=(address,), daemon=True).start()
    threading.Thread(target=streams, args=(address, 53, dns), daemon=True).start()
for address in ("192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8:213::2"):
    threading.Thread(target=streams, args=(address, 80, page), daemon=True).start()
print("ready", flush=True)
threading.Event().wait()
'''


def guest(bed):
    import subprocess
    import time
    from pathlib import Path

    import product

    for line in ("ip netns add outside", "ip link add node0 type veth peer name host0 netns outside",
                 f"ip address add {NODE}/24 dev node0", f"ip address add {NODE6}/64 dev node0 nodad", "ip link set node0 up",
                 *(f"ip -n outside address add {address}/24 dev host0" for address in (HOST, OTHER, "192.0.2.4")),
                 f"ip -n outside address add {HOST6}/64 dev host0 nodad", "ip -n outside link set host0 up",
                 "ip -n outside link set lo up"):
        bed.run(line)
    bed.put("/root/outside.py", OUTSIDE)
    outside = subprocess.Popen(["ip", "netns", "exec", "outside", "python3", "/root/outside.py"], stdout=subprocess.PIPE)
    outside.stdout.readline()
    bed.put("/etc/resolv.conf", f"nameserver {HOST}\noptions timeout:1 attempts:1\n")
    bed.put("/etc/hubwarden/config.toml", product.config(mode="enforce", tick="1s", more=CLASS))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    cgroup = bed.cgroup(bed.spawn("alice", ["/bin/sleep", "900"]))
    product.wait_guarded(bed, "alice", 30)

    def curl(url, *options, environment=""):
        enter = f"echo $$ > {cgroup}/cgroup.procs; {environment} exec curl -sS -m 8 {' '.join(options)} {url}"
        done = bed.run(["sh", "-c", enter], check=False, timeout=30)
        return done.out.strip() or f"{done.code}: {done.err.strip()}"

    def told(what, **results):
        bed.report(what, **results, say=f"{what}: {results}")

    queued = bed.run("nft list chain inet hubwarden read_strictly").out
    told("kernel", queue="queue" in queued and "xt" not in queued)
    told("before", address=curl(f"http://{HOST}/"), address6=curl(f"http://[{HOST6}]/"))
    told("udp", v4=curl("http://good.example/", "-4"), v6=curl("http://good.example/", "-6"))
    told("tcp", v4=curl("http://www.sub.example/", "-4", environment="RES_OPTIONS=use-vc"))
    told("denied", other=curl("http://bad.example/", "-4"), direct=curl(f"http://{OTHER}/"))
    other = "python3 -c 'import socket; s = socket.create_connection((\"%s\", 53), 3)'" % OTHER
    done = bed.run(["sh", "-c", f"echo $$ > {cgroup}/cgroup.procs; exec {other}"], check=False)
    told("resolver", other=done.err.strip().splitlines()[-1] if done.code else "reached")
    bed.run("systemctl kill --signal=KILL hubwarden; systemctl stop hubwarden")
    told("killed", new=curl("http://late.example/", "-4"), known=curl("http://good.example/", "--resolve", f"good.example:80:{HOST}"))
    # A second is taken for a minute, and no more.
    time.sleep(65)
    told("expired", known=curl("http://good.example/", "--resolve", f"good.example:80:{HOST}"))
    bed.run("systemctl start hubwarden")
    product.wait_active(bed)
    told("again", v4=curl("http://late.example/", "-4"))
    outside.kill()


def scenario(vm):
    vm.play(__file__, package=deb(), limit=500)
    one = {record["kind"]: record for record in vm.records}
    # A refusal comes at once; a packet that is lost would be code 28, after the time limit.
    reached, refused = "outside", "7: curl: (7)"
    expect(one["kernel"]["queue"], "Debian's kernel queues by the expression of nf_tables")
    for kind, key, wanted in (
        ("before", "address", refused), ("before", "address6", refused), ("udp", "v4", reached), ("udp", "v6", reached),
        ("tcp", "v4", reached), ("denied", "other", refused), ("denied", "direct", refused), ("resolver", "other", "refused"),
        ("killed", "new", "resolve"), ("killed", "known", reached), ("expired", "known", refused), ("again", "v4", reached),
    ):
        expect(wanted in one[kind][key], f"{kind}, {key}: {one[kind][key]!r}, expected {wanted!r}")
