"""A fork bomb and a memory hog hurt their own server only; with every server spinning the hub keeps its share."""

from pathlib import Path

from product import deb, expect

TASKS, MEMORY_MIB, RESERVE = 48, 300, 0.5
BITES = 1.15
# What an emulated processor adds by itself to a wake's or an answer's lateness, in seconds.
ROOM = 0.1
# An answer in time, by anybody's patience and on an emulated processor.
IN_TIME = 1.0

# Wakes every 100 ms and writes when, and how late it was.
WAKER = ("import time\nnumber, start = 0, time.monotonic()\nwhile True:\n number += 1\n due = start + 0.1 * number\n"
         " time.sleep(max(0, due - time.monotonic()))\n now = time.monotonic()\n"
         " print(now, now - due, flush=True)\n"
         " if now > due + 0.1: number, start = 0, now")
BOMB = ("import os, time\nend = time.monotonic() + 25\nwhile time.monotonic() < end:\n try: os.fork()\n"
        " except OSError: pass\nos._exit(0)")
HOG = ("import sys\nheld = []\nfor step in range(70):\n held.append(bytearray(b\"x\") * (10 << 20))\n"
       " print(10 * (step + 1), flush=True)")
HUB = ("import http.server\nclass Hub(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n"
       "  self.send_response(200)\n  self.end_headers()\n  self.wfile.write(b\"{}\")\n def log_message(self, *_): pass\n"
       "http.server.HTTPServer((\"127.0.0.1\", 8081), Hub).serve_forever()")


def guest(bed):
    """A bomb and a hog in alice's server beside bob's waking thread; then three servers that spin beside a hub."""
    import threading
    import time
    import urllib.request

    import product
    from vmguest import cores_over

    bed.put("/etc/hubwarden/config.toml", product.config(
        mode="enforce", tick="1s",
        more=f'[tasks]\nmax = {TASKS}\n[memory]\nmax = "{MEMORY_MIB} MiB"\n[slice]\nreserve = "{RESERVE} cores"'))
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    bed.put("/usr/local/bin/bed-waker", f"#!/usr/bin/python3\n{WAKER}\n", 0o755)
    units, cgroups = {}, {}

    def spawn(user, command):
        units[user] = bed.spawn(user, command, {"CPUAccounting": "yes"})
        cgroups[user] = bed.cgroup(units[user])
        product.wait_guarded(bed, user, 30)

    def read(user, file):
        return (cgroups[user] / file).read_text().strip()

    def count(user, file, key):
        return int(next(line.split()[1] for line in read(user, file).splitlines() if line.split()[0] == key))

    def inside(user, code, mark, out="/dev/null"):
        owner = bed.unit_property(units[user], "UID")
        bed.run(f"echo $$ > {cgroups[user]}/cgroup.procs; setsid setpriv --reuid={owner} --regid={owner} --clear-groups "
                f"python3 -c '{code}' {mark} >{out} 2>&1 </dev/null &")

    def late(began, ended):
        lines = [line.split() for line in Path("/home/jupyter-bob/late").read_text().splitlines()]
        return [round(float(by), 4) for at, by in lines if began <= float(at) <= ended]

    spawn("alice", ["/bin/sleep", "900"])
    spawn("bob", ["/bin/sh", "-c", "exec /usr/local/bin/bed-waker > late"])
    product.eventually(lambda: read("alice", "pids.max") == str(TASKS) and read("bob", "pids.max") == str(TASKS),
                       "both have the limit of tasks", 15)
    product.eventually(lambda: read("alice", "memory.max") == str(MEMORY_MIB << 20), "alice has the limit of memory", 15)
    bed.report("limits", pids=[read(user, "pids.max") for user in units], memory=[read(user, "memory.max") for user in units])

    time.sleep(2)
    began = time.monotonic()
    time.sleep(15)
    bed.report("quiet", late=late(began, time.monotonic()))
    inside("alice", BOMB, "bed-bomb")
    product.eventually(lambda: count("alice", "pids.events", "max") > 0, "the bomb reaches the limit of tasks", 20)
    began, most = time.monotonic(), 0
    while time.monotonic() < began + 12:
        most = max(most, int(read("alice", "pids.current")))
        time.sleep(0.2)
    bed.report("bomb", late=late(began, time.monotonic()), most=most, refused=count("alice", "pids.events", "max"),
               bob_refused=count("bob", "pids.events", "max"))
    product.eventually(lambda: int(read("alice", "pids.current")) <= 2, "the bomb is over", 60)

    inside("alice", HOG, "bed-hog", "/run/hog")
    began = time.monotonic()
    product.eventually(lambda: bed.run("pgrep -f '[b]ed-hog'", check=False).code != 0, "the hog has ended", 60)
    ended = time.monotonic()
    # systemd hears of the kill a little later.
    time.sleep(3)
    held = Path("/run/hog").read_text().split()
    alive = cgroups["alice"].exists()
    bed.report("hog", held=int(held[-1]) if held else 0, late=late(began, ended),
               killed=count("alice", "memory.events", "oom_kill") if alive else None,
               result=bed.unit_property(units["alice"], "Result"), alice=bed.unit_property(units["alice"], "ActiveState"),
               places=bed.run("journalctl -k --no-pager -o cat | grep -o 'task_memcg=[^,]*' | sort -u", check=False).out.split(),
               bob_killed=count("bob", "memory.events", "oom_kill"), bob=bed.unit_property(units["bob"], "ActiveState"),
               bob_result=bed.unit_property(units["bob"], "Result"))
    bed.run(["systemctl", "stop", *units.values()], check=False)
    bed.run(["systemctl", "reset-failed"], check=False)

    bed.run(["systemd-run", "--quiet", "--unit=bed-hub", "--slice=system.slice", "--property=CPUAccounting=yes",
             "/usr/bin/python3", "-c", HUB])
    product.eventually(lambda: bed.run("curl -s -o /dev/null http://127.0.0.1:8081/", check=False).code == 0, "the hub answers", 30)

    def answers(seconds):
        took, end = [], time.monotonic() + seconds
        while time.monotonic() < end:
            asked = time.monotonic()
            urllib.request.urlopen("http://127.0.0.1:8081/", timeout=20).read()
            took.append(round(time.monotonic() - asked, 4))
            time.sleep(0.2)
        return took

    bed.report("hub-quiet", took=answers(8))
    for user in ("alice", "bob", "carol"):
        spawn(user, ["/bin/sh", "-c", "while :; do :; done & while :; do :; done"])
    servers = Path("/sys/fs/cgroup/jupyter.slice")
    time.sleep(2)
    took = []
    asking = threading.Thread(target=lambda: took.extend(answers(10)))
    asking.start()
    cores = cores_over(servers, 10)
    asking.join()
    bed.report("hub-busy", took=took, cores=cores, max=(servers / "cpu.max").read_text().strip(),
               each=cores_over(list(cgroups.values()), 3))
    bed.run(["systemctl", "stop", *units.values()])


def p99(values):
    return sorted(values)[int((len(values) - 1) * 0.99)]


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    expect(set(one["limits"]["pids"]) == {str(TASKS)} and set(one["limits"]["memory"]) == {str(MEMORY_MIB << 20)}, str(one["limits"]))

    quiet, bomb, hog = one["quiet"], one["bomb"], one["hog"]
    expect(bomb["most"] == TASKS and bomb["refused"] > 0, f"the bomb had {bomb['most']} tasks, {bomb['refused']} refused")
    expect(bomb["bob_refused"] == 0, "bob was refused a task")
    expect(len(quiet["late"]) > 100 and len(bomb["late"]) > 80, f"{len(quiet['late'])} and {len(bomb['late'])} wakes")
    before, during = p99(quiet["late"]), p99(bomb["late"])
    print(f"the bomb stopped at {bomb['most']} tasks; bob's p99 lateness was {before * 1e3:.0f} ms before, {during * 1e3:.0f} ms beside it")
    expect(during <= before + ROOM, f"bob's p99 lateness went from {before * 1e3:.0f} to {during * 1e3:.0f} ms")

    expect(0 < hog["held"] <= MEMORY_MIB, f"the hog held {hog['held']} MiB")
    expect(hog["places"] and all("jupyter-alice.service" in place for place in hog["places"]), f"killed in {hog['places']}")
    expect(hog["bob_killed"] == 0 and hog["bob"] == "active" and hog["bob_result"] == "success", f"bob after the hog: {hog}")
    print(f"beside the hog bob's p99 lateness was {p99(hog['late']) * 1e3:.0f} ms")
    print(f"the hog was killed at {hog['held']} MiB, in alice's server only; her server is {hog['alice']} ({hog['result']})")

    idle, busy = one["hub-quiet"], one["hub-busy"]
    expect(len(busy["took"]) > 10, f"the hub answered {len(busy['took'])} times in ten seconds")
    before, during = p99(idle["took"]), p99(busy["took"])
    usual = sorted(busy["took"])[len(busy["took"]) // 2]
    print(f"every server spins: {busy['cores']:.2f} cores of {2 - RESERVE}; the hub's p99 was {before * 1e3:.0f} ms, is {during * 1e3:.0f} ms")
    expect(1.0 < busy["cores"] <= (2 - RESERVE) * BITES, f"all servers together used {busy['cores']:.3f} cores")
    expect(min(busy["each"]) > 0.3, f"the servers share unevenly: {busy['each']}")
    expect(usual <= before + ROOM and during <= IN_TIME, f"the hub's answers took {usual * 1e3:.0f} ms, p99 {during * 1e3:.0f} ms")
