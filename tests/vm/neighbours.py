"""A fork bomb and a memory hog hurt their own server only; with every server spinning the slice's reserve gives the hub its cores.

What bob gets done beside the bomb is his CPU time per second from cpu.stat, compared with what it was before in the
same run; and so is what the hub gets done with a reserve, compared with none. His lateness is judged by nine wakes of
ten: under emulation a wake may be late for reasons of the host's.
"""

from pathlib import Path

from product import deb, expect

TASKS, MEMORY_MIB, RESERVE = 48, 300, 1.5
BITES = 1.15
# Of what he did before, bob does at least this much beside the bomb.
UNHURT = 0.8
# A wake is in time if the next one is not due yet.
IN_TIME = 0.1
# A hub that wants both cores has one beside spinning servers, and one and a half with the reserve.
GAINS = 1.2
# An answer by anybody's patience and on an emulated processor.
PATIENCE = 1.0

# Wakes every 100 ms and writes when, and how late it was.
WAKER = ("import time\nnumber, start = 0, time.monotonic()\nwhile True:\n number += 1\n due = start + 0.1 * number\n"
         " time.sleep(max(0, due - time.monotonic()))\n now = time.monotonic()\n"
         " print(now, now - due, flush=True)\n"
         " if now > due + 0.1: number, start = 0, now")
BOMB = ("import os, time\nend = time.monotonic() + 25\nwhile time.monotonic() < end:\n try: os.fork()\n"
        " except OSError: pass\nos._exit(0)")
HOG = ("import sys\nheld = []\nfor step in range(70):\n held.append(bytearray(b\"x\") * (10 << 20))\n"
       " print(10 * (step + 1), flush=True)")
# A hub with more to do than there are cores: two workers, and a page that answers beside them.
HUB = ("import http.server, os\nfor worker in range(2):\n if os.fork() == 0:\n  while True: pass\n"
       "class Hub(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n"
       "  self.send_response(200)\n  self.end_headers()\n  self.wfile.write(b\"{}\")\n def log_message(self, *_): pass\n"
       "http.server.HTTPServer((\"127.0.0.1\", 8081), Hub).serve_forever()")


def guest(bed):
    """A bomb and a hog in alice's server beside bob's light work; then three servers that spin beside a hub."""
    import threading
    import time
    import urllib.request

    import product
    from vmguest import LIGHT, cores_over, usage_seconds

    def configure(reserve):
        bed.put("/etc/hubwarden/config.toml", product.config(
            mode="enforce", tick="1s",
            more=f'[tasks]\nmax = {TASKS}\n[memory]\nmax = "{MEMORY_MIB} MiB"\n[slice]\nreserve = "{reserve}"'))

    configure("none")
    product.install(bed, package=Path("/root/hubwarden.deb"), quick=True)
    bed.put("/usr/local/bin/bed-waker", f"#!/usr/bin/python3\n{WAKER}\n", 0o755)
    bed.put("/usr/local/bin/bed-light", f"#!/usr/bin/python3\n{LIGHT}\n", 0o755)
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
    spawn("bob", ["/bin/sh", "-c", "/usr/local/bin/bed-light & exec /usr/local/bin/bed-waker > late"])
    product.eventually(lambda: read("alice", "pids.max") == str(TASKS) and read("bob", "pids.max") == str(TASKS),
                       "both have the limit of tasks", 15)
    product.eventually(lambda: read("alice", "memory.max") == str(MEMORY_MIB << 20), "alice has the limit of memory", 15)
    bed.report("limits", pids=[read(user, "pids.max") for user in units], memory=[read(user, "memory.max") for user in units])

    time.sleep(3)
    began = time.monotonic()
    bed.report("quiet", bob=cores_over(cgroups["bob"], 12), late=late(began, time.monotonic()))
    inside("alice", BOMB, "bed-bomb")
    product.eventually(lambda: count("alice", "pids.events", "max") > 0, "the bomb reaches the limit of tasks", 20)
    began, used, most = time.monotonic(), usage_seconds(cgroups["bob"]), 0
    while time.monotonic() < began + 12:
        most = max(most, int(read("alice", "pids.current")))
        time.sleep(0.2)
    ended = time.monotonic()
    bed.report("bomb", bob=(usage_seconds(cgroups["bob"]) - used) / (ended - began), late=late(began, ended), most=most,
               refused=count("alice", "pids.events", "max"), bob_refused=count("bob", "pids.events", "max"))
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

    for user in ("alice", "bob", "carol"):
        spawn(user, ["/bin/sh", "-c", "while :; do :; done & while :; do :; done"])
    servers, hub = Path("/sys/fs/cgroup/jupyter.slice"), bed.cgroup("bed-hub.service")

    def share(kind):
        time.sleep(2)
        took = []
        asking = threading.Thread(target=lambda: took.extend(answers(10)))
        asking.start()
        all_servers, the_hub, *each = cores_over([servers, hub, *cgroups.values()], 10)
        asking.join()
        bed.report(kind, took=took, servers=all_servers, hub=the_hub, each=each, max=(servers / "cpu.max").read_text().strip())

    share("without")
    configure(f"{RESERVE} cores")
    bed.run("systemctl reload hubwarden")
    product.eventually(lambda: not (servers / "cpu.max").read_text().startswith("max"), "the slice has a quota", 20)
    share("reserved")
    bed.run(["systemctl", "stop", *units.values()])


def share_below(values, bound):
    return sum(value <= bound for value in values) / len(values)


def median(values):
    return sorted(values)[len(values) // 2]


def scenario(vm):
    vm.play(__file__, package=deb(), limit=400)
    one = {record["kind"]: record for record in vm.records}
    expect(set(one["limits"]["pids"]) == {str(TASKS)} and set(one["limits"]["memory"]) == {str(MEMORY_MIB << 20)}, str(one["limits"]))

    quiet, bomb, hog = one["quiet"], one["bomb"], one["hog"]
    expect(bomb["most"] == TASKS and bomb["refused"] > 0, f"the bomb had {bomb['most']} tasks, {bomb['refused']} refused")
    expect(bomb["bob_refused"] == 0, "bob was refused a task")
    print(f"the bomb stopped at {bomb['most']} tasks; bob used {quiet['bob']:.3f} cores before, {bomb['bob']:.3f} beside it")
    expect(quiet["bob"] > 0.2, f"bob used only {quiet['bob']:.3f} cores before the bomb")
    expect(bomb["bob"] >= UNHURT * quiet["bob"], f"bob did {bomb['bob']:.3f} cores' work beside the bomb, {quiet['bob']:.3f} before")
    before, during = share_below(quiet["late"], IN_TIME), share_below(bomb["late"], IN_TIME)
    print(f"of his wakes {before * 100:.0f} % were in time before, {during * 100:.0f} % of {len(bomb['late'])} beside it; "
          f"the median was late by {median(quiet['late']) * 1e3:.0f} and {median(bomb['late']) * 1e3:.0f} ms")
    expect(during >= 0.9, f"only {during * 100:.0f} % of bob's wakes beside the bomb were in time")

    expect(0 < hog["held"] <= MEMORY_MIB, f"the hog held {hog['held']} MiB")
    expect(hog["places"] and all("jupyter-alice.service" in place for place in hog["places"]), f"killed in {hog['places']}")
    expect(hog["bob_killed"] == 0 and hog["bob"] == "active" and hog["bob_result"] == "success", f"bob after the hog: {hog}")
    print(f"the hog was killed at {hog['held']} MiB, in alice's server only; her server is {hog['alice']} ({hog['result']})")

    without, reserved = one["without"], one["reserved"]
    for kind, record in (("no reserve", without), (f"{RESERVE} cores reserved", reserved)):
        expect(record["took"], f"{kind}: the hub did not answer in ten seconds")
        print(f"{kind}: all servers used {record['servers']:.2f} cores, the hub {record['hub']:.2f}; "
              f"it answered {len(record['took'])} times, half of them within {median(record['took']) * 1e3:.0f} ms")
    # Without that the comparison would show nothing.
    expect(without["max"].startswith("max") and without["servers"] > 0.7, f"without a reserve: {without}")
    expect(0.3 < reserved["servers"] <= (2 - RESERVE) * BITES, f"all servers together used {reserved['servers']:.3f} cores")
    expect(reserved["hub"] >= GAINS * without["hub"], f"the hub had {without['hub']:.2f} cores without a reserve, {reserved['hub']:.2f} with it")
    expect(min(reserved["each"]) > 0.08, f"the servers share unevenly: {reserved['each']}")
    expect(median(reserved["took"]) <= PATIENCE, f"half of the hub's answers took more than {median(reserved['took']) * 1e3:.0f} ms")
