"""On Debian's kernel 6.1 no packet leaves while others flush all rules, whatever becomes of the daemon and of what holds the table; off, removal and older versions still get rid of it."""

from product import deb, expect

NODE, HOST, PORT = "192.0.2.1", "192.0.2.2", 4444
# First packets, one after the other, from a server that is nobody's.
SEND = f'''
import socket
while True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.sendto(b"x", ("{HOST}", {PORT}))
    except OSError:
        pass
    s.close()
'''
COUNT = f'''
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
s.bind(("{HOST}", {PORT}))
s.settimeout(0.05)
print("ready", flush=True)
for line in sys.stdin:
    count = 0
    try:
        while count < 100000:
            s.recv(8)
            count += 1
    except OSError:
        pass
    print(count, flush=True)
'''
HOLDER = "hubwarden-table.service"


def guest(bed):
    import subprocess
    import time
    from pathlib import Path

    import product
    from product import eventually

    for line in ("ip netns add outside", "ip link add node0 type veth peer name host0 netns outside",
                 f"ip address add {NODE}/24 dev node0", "ip link set node0 up", f"ip -n outside address add {HOST}/24 dev host0",
                 "ip -n outside link set host0 up"):
        bed.run(line)
    bed.put("/root/send.py", SEND)
    bed.put("/root/count.py", COUNT)
    outside = subprocess.Popen(["ip", "netns", "exec", "outside", "python3", "/root/count.py"], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    outside.stdout.readline()
    bed.put("/etc/hubwarden/config.toml", product.config(mode="enforce", tick="1s"))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)

    def arrived():
        outside.stdin.write("\n")
        outside.stdin.flush()
        return int(outside.stdout.readline())

    def listing():
        return bed.run("nft list table inet hubwarden", check=False).out

    def owned():
        return "flags owner" in listing()

    def flush(seconds):
        """All rules, again and again; how often."""
        count, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            bed.run("nft flush ruleset")
            count += 1
        return count

    def told(what, **results):
        bed.report(what, **results, say=f"{what}: {results}")

    def pid(unit):
        return bed.unit_property(unit, "MainPID")

    eventually(owned, "the table is owned", 60)
    memory = bed.run(f"grep -E 'VmRSS|RssAnon' /proc/{pid(HOLDER)}/status").out.split()
    told("start", kernel=bed.run("uname -r").out.strip(), score=bed.run(f"cat /proc/{pid(HOLDER)}/oom_score_adj").out.strip(),
         memory=memory, kept=bed.unit_property(HOLDER, "NFileDescriptorStore"), check="starts by itself" in bed.run("hubwarden check", check=False).out,
         lacks="hubwarden-table" in bed.run("hubwarden status").out)
    bound = bed.run(f"systemctl show -p Conflicts -p Requires -p BindsTo -p PartOf {HOLDER} hubwarden-table.socket").out
    told("shutdown", stops=[word for word in bound.replace("=", " ").split() if word.endswith((".target", ".mount"))])
    bed.run("systemd-run --quiet --unit=sender --slice=jupyter.slice python3 /root/send.py")
    time.sleep(2)
    arrived()

    told("running", flushes=flush(8), leaked=arrived())
    old = pid("hubwarden")
    bed.run(f"kill -9 {old}")
    told("daemon killed", flushes=flush(6), leaked=arrived(), again=pid("hubwarden") not in ("0", old))
    old = pid(HOLDER)
    bed.run(f"kill -9 {old}")
    told("holder killed", flushes=flush(4), leaked=arrived(), again=pid(HOLDER) not in ("0", old), owned=owned())
    product.wait_active(bed, 30)
    bed.run("systemctl stop hubwarden")
    told("daemon stopped", flushes=flush(3), leaked=arrived(), stands=bool(listing()))
    # Nothing but what systemd keeps.
    bed.run(f"kill -9 {pid(HOLDER)}")
    told("holder killed without a daemon", flushes=flush(3), leaked=arrived(), stands=bool(listing()))
    bed.run(f"systemctl kill --signal=KILL {HOLDER}; systemctl restart {HOLDER}")
    told("holder restarted without a daemon", flushes=flush(2), leaked=arrived(), stands=bool(listing()))
    bed.run("systemctl start hubwarden")
    product.wait_active(bed, 30)
    bed.run(f"kill -9 {pid('hubwarden')} {pid(HOLDER)}")
    told("both killed", flushes=flush(4), leaked=arrived(), stands=bool(listing()))
    eventually(lambda: pid("hubwarden") != "0" and owned(), "the daemon is back", 30)
    product.wait_active(bed, 30)

    # To a version that knows no holder, and from it.
    bed.run("cd /root && dpkg-deb -R hubwarden.deb older && rm older/usr/lib/systemd/system/hubwarden-table.* && "
            "sed -i /hubwarden-table/d older/usr/lib/systemd/system/hubwarden.service && "
            "sed -i 's/^Version: .*/Version: 0.0.1-1/' older/DEBIAN/control && dpkg-deb -Znone -b older older.deb", timeout=120)
    bed.run("dpkg --force-confold -i /root/older.deb", timeout=120)
    product.wait_active(bed, 60)
    eventually(lambda: listing() and not owned(), "an older version's table is there", 30)
    told("downgrade", leaked=arrived(), stands=bool(listing()), units=bed.run("systemctl is-active hubwarden-table.socket", check=False).out.strip(),
         holder=bed.run("pgrep -f 'hubwarden hold-tabl[e]'", check=False).out.strip())
    bed.run("dpkg --force-confold -i /root/hubwarden.deb", timeout=120)
    product.wait_active(bed, 60)
    eventually(owned, "the table is owned after the update", 60)
    told("update", leaked=arrived(), flushes=flush(2), after=arrived())

    # The holder taken away for good, and given back.
    bed.run(f"systemctl stop hubwarden-table.socket {HOLDER}")
    eventually(lambda: listing() and not owned(), "the table is nobody's", 30)
    said = bed.run("hubwarden status").out
    told("no holder", leaked=arrived(), said=HOLDER in said)
    bed.run("systemctl restart hubwarden", timeout=60)
    product.wait_active(bed, 30)
    eventually(owned, "the table is owned again", 60)
    told("holder again", leaked=arrived())

    # A holder that hangs: systemd kills it, and the daemon has the socket again.
    old = pid(HOLDER)
    bed.run(f"kill -STOP {old}; systemctl kill --signal=KILL hubwarden")
    stands = bool(listing())
    eventually(lambda: pid(HOLDER) not in ("0", old), "systemd has another in its place", 90)
    eventually(lambda: owned() and "not in force" not in bed.run("hubwarden status").out, "the daemon loads its table", 60)
    told("holder hung", stands=stands, leaked=arrived(), flushes=flush(2))

    # Off, when nothing answers any more.
    bed.run(f"systemctl stop hubwarden; kill -STOP {pid(HOLDER)}")
    done = bed.run("hubwarden off", check=False, timeout=60)
    told("off with a holder that hangs", stands=bool(listing()), code=done.code, holder=pid(HOLDER), arrives=arrived() > 0)
    bed.run("hubwarden on; systemctl start hubwarden", timeout=60)
    eventually(owned, "the table is owned after on", 60)
    bed.run(f"kill -STOP {pid('hubwarden')}")
    done = bed.run("hubwarden off", check=False, timeout=90)
    told("off with a daemon that hangs", stands=bool(listing()), code=done.code)
    bed.run("hubwarden on", check=False)
    eventually(owned, "the table is owned after on", 60)
    bed.run("systemctl kill --signal=KILL hubwarden; systemctl stop hubwarden")
    done = bed.run("hubwarden off", timeout=60)
    told("off with the daemon dead", stands=bool(listing()), code=done.code, holder=pid(HOLDER))
    bed.run("hubwarden on; systemctl start hubwarden", timeout=60)
    eventually(owned, "the table is owned after on", 60)

    bed.run("systemctl stop sender")
    bed.run("dpkg --purge hubwarden", timeout=120)
    left = bed.run("find /run /etc /usr/lib/systemd -iname '*hubwarden*' -not -path '*jupyter*'; pgrep -a hubwarden; "
                   "systemctl list-units --all --plain --no-legend 'hubwarden*'", check=False).out.split()
    told("purged", stands=bool(listing()), left=left)
    outside.kill()


def scenario(vm):
    vm.play(__file__, package=deb(), limit=800)
    one = {record["kind"]: record for record in vm.records}
    start = one["start"]
    expect(start["kernel"].startswith("6.1."), f"kernel {start['kernel']}")
    expect(start["score"] == "-1000" and start["kept"] == "1" and start["check"] and not start["lacks"], f"{start}")
    # What is still being stopped when the node goes down is held until the end.
    expect(one["shutdown"]["stops"] == [], f"at shutdown it is stopped with {one['shutdown']['stops']}")
    held = ("running", "daemon killed", "holder killed", "daemon stopped", "holder killed without a daemon",
            "holder restarted without a daemon", "both killed", "downgrade", "update", "no holder", "holder again", "holder hung")
    for what in held:
        expect(one[what].get("stands", True), f"{what}: the table is gone")
    leaked = sum(one[what]["leaked"] + one[what].get("after", 0) for what in held)
    flushes = sum(one[what].get("flushes", 0) for what in held)
    print(f"figure egress_leaked_during_flush_6_1 {leaked} packets")
    print(f"{flushes} flushes")
    expect(leaked == 0, f"{leaked} packets arrived: { {what: one[what]['leaked'] for what in held} }")
    expect(one["holder killed"]["again"] and one["holder killed"]["owned"], f"{one['holder killed']}")
    expect(one["downgrade"]["units"] != "active" and not one["downgrade"]["holder"], f"after a downgrade: {one['downgrade']}")
    expect(one["no holder"]["said"], "status does not say that nothing holds the table")
    for what in ("off with a holder that hangs", "off with a daemon that hangs", "off with the daemon dead", "purged"):
        expect(not one[what]["stands"], f"{what}: the table stands: {one[what]}")
    for what in ("off with a holder that hangs", "off with the daemon dead"):
        expect(one[what]["code"] == 0 and one[what]["holder"] == "0", f"{what}: {one[what]}")
    expect(one["off with a holder that hangs"]["arrives"], "nothing arrives once it is off")
    expect(one["purged"]["left"] == [], f"after purging there are {one['purged']['left']}")
