"""Podman's containers reach what their class allows, by address and by name, on a network of netavark's and, with bookworm's Podman, one of CNI's."""


import reach
import testhost
from containers import CLIENT, PYTHON
from product import eventually, expect, install, status
from reach import FULL, OTHER, host

SUITES = ("bookworm", "trixie")
# trixie's Podman has no CNI. Both come with crun, but bookworm's would raise a limit that this bed may not raise.
BACKENDS = {"bookworm": ("netavark", "cni"), "trixie": ("netavark",)}
RUNTIME = {"bookworm": "runc", "trixie": "crun"}
NETWORK, SUBNETS = "podnet", {4: "10.78.0.0/16", 6: "fd00:78::/64"}
GATEWAY = {4: "10.78.0.1", 6: "fd00:78::1"}
MORE = f"""
[hub]
container_networks = ["{NETWORK}"]
[egress.classes.named]
services = ["dns", "http"]
names = ["good-podman.test", "*.sub.test"]
deny_names = ["denied.test"]
[users.dora]
egress_class = "named"
[users.quinn]
egress_class = "quarantine"
"""
USERS = {"alice": "standard", "bob": "standard", "dora": "named", "quinn": "quarantine"}
LISTEN = f"exec {PYTHON} {CLIENT} listen"


def scenario(machine):
    machine.boot(hub=False)
    install(machine, reload_with={"mode": "enforce", "more": MORE})
    machine.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    machine.teach_host([f"route add {SUBNETS[4]} via {testhost.MACHINE_V4}", f"route add {SUBNETS[6]} via {testhost.MACHINE_V6}"])
    with reach.Outside(machine):
        for backend in BACKENDS[machine.suite.name]:
            break_off(machine)
            start_podman(machine, backend)
            create_network(machine)
            start_all(machine)
            held(machine, f"{backend}, at first")
            names(machine, backend)
            machine.run("podman restart --time 0 jupyter-alice jupyter-dora", timeout=60)
            held(machine, f"{backend}, restarted")
            eager(machine, backend)
            machine.run("podman rm --force --time 0 --all", timeout=60)
            machine.run(f"podman network rm {NETWORK}", timeout=30)
            create_network(machine)
            start_all(machine)
            held(machine, f"{backend}, on the network made anew")
            machine.run("podman rm --force --time 0 --all", timeout=60)
            machine.run(f"podman network rm {NETWORK}", timeout=30)


def break_off(machine):
    """Podman takes a question and ends without an answer, as when it is started anew while asked. Its network is found none the less."""
    machine.run("systemctl stop podman.socket podman.service", timeout=60)
    machine.run([PYTHON, "-c", BREAKING_OFF], timeout=60)


BREAKING_OFF = """
import os, socket, time
path = "/run/podman/podman.sock"
os.makedirs(os.path.dirname(path), exist_ok=True)
if os.path.exists(path): os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
server.settimeout(30)
asked, _ = server.accept()
time.sleep(3)
os.unlink(path)
"""


def start_podman(machine, backend):
    """Root's Podman with a store for each backend, where overlays may be. There is no pids controller."""
    store = f"/var/lib/docker/podman-{backend}"
    machine.run("systemctl stop podman.socket podman.service", timeout=60)
    machine.put("/etc/containers/storage.conf", f'[storage]\ndriver = "overlay"\ngraphroot = "{store}"\nrunroot = "/run/podman-{backend}"\n')
    machine.put("/etc/containers/containers.conf",
                f'[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "systemd"\nruntime = "{RUNTIME[machine.suite.name]}"\nevents_logger = "none"\n[network]\nnetwork_backend = "{backend}"\n')
    machine.run("systemctl start podman.socket", timeout=60)
    expect(machine.run("podman info --format '{{.Host.NetworkBackend}}'").out.strip() == backend, f"Podman does not use {backend}")
    reach.import_image(machine, "podman")


def create_network(machine):
    machine.run(f"podman network create --ipv6 --subnet {SUBNETS[4]} --subnet {SUBNETS[6]} {NETWORK}", timeout=30)


def start(machine, name, user, script="sleep 3600"):
    # Packet sockets, which Docker allows by default and Podman does not.
    reach.start_container(machine, name, user, NETWORK, script, "podman", ("--cap-add=NET_RAW",))


def start_all(machine):
    start(machine, "hub", None, f"{LISTEN} 8081 5432")
    for user in USERS:
        start(machine, f"jupyter-{user}", user, f"{LISTEN} 8888")
    # A server by its name, and nobody's.
    start(machine, "jupyter-stray", None)


def address(machine, name, family):
    key = "IPAddress" if family == 4 else "GlobalIPv6Address"
    return machine.run(["podman", "inspect", "--format", f"{{{{range .NetworkSettings.Networks}}}}{{{{.{key}}}}}{{{{end}}}}", name]).out.strip()


def curl(url, *options):
    return {"argv": ["curl", "-sS", "--max-time", "5", "-o", "/dev/null", *options, url]}


def python(code):
    return {"argv": [PYTHON, "-c", "import socket\n" + code]}


def connect(target, port):
    return python(f"socket.create_connection(('{target}', {port}), 4)")


def expect_cells(results, reached, refused, who):
    wrong = [f"{name}: {reach.cell(results[name])} {results[name]['said'].strip()[-200:]}" for name in reached if not reach.reached(results[name])]
    wrong += [f"{name} was reached" for name in refused if reach.reached(results[name])]
    expect(not wrong, f"{who}: " + "; ".join(wrong))


def held(machine, who):
    for user, name in USERS.items():
        eventually(lambda: any(server["user"] == user and server["class"] == name for server in status(machine)["servers"]),
                   f"{who}: {user} has the class {name}", 30)
    alice = reach.container(machine, "jupyter-alice", "podman")
    eventually(lambda: all(map(reach.reached, alice.run({str(f): curl(f"http://{host(FULL[f])}/") for f in (4, 6)}).values())),
               f"{who}: alice's class is open to her", 20)
    allowed, refused = {}, {}
    for family in (4, 6):
        there = FULL[family]
        allowed |= {f"http {family}": curl(f"http://{host(there)}/"), f"https {family}": curl(f"https://{host(there)}/", "-k"),
                    f"name {family}": curl("http://hub.test/", f"-{family}"),
                    f"hub {family}": connect(address(machine, "hub", family), 8081)}
        refused |= {f"ssh {family}": connect(there, 22), f"ping {family}": {"argv": ["ping", "-c1", "-W2", there]},
                    f"bob {family}": connect(address(machine, "jupyter-bob", family), 8888),
                    f"database {family}": connect(address(machine, "hub", family), 5432),
                    f"node {family}": connect(GATEWAY[family], 22),
                    f"metadata {family}": curl(f"http://{host(testhost.METADATA_V4 if family == 4 else testhost.METADATA_V6)}/")}
        spoof = {"argv": [PYTHON, CLIENT, "spoof", {4: "198.51.100.7", 6: "2001:db8:bad::7"}[family], there, "4444"]}
        refused_quietly = {f"spoof {family}": spoof}
        machine.arrivals(clear=True)
        results = alice.run(refused_quietly)
        expect(all(map(reach.reached, results.values())), f"{who}: the spoofer does not work: {results}")
        expect(not machine.arrivals(), f"{who}: a forged packet arrived: {machine.arrivals()}")
    machine.arrivals(clear=True)
    expect_cells(alice.run(refused), [], refused, who)
    arrived = machine.arrivals()
    expect(not arrived, f"{who}: packets of what is refused arrived: {arrived}")
    expect_cells(alice.run(allowed), allowed, [], who)
    machine.arrivals(clear=True)
    stray = reach.container(machine, "jupyter-stray", "podman")
    # The hub's API is open from the first packet on: it is the hub that says whose a server is.
    hub = {name: what for name, what in allowed.items() if name.startswith("hub ")}
    others = {name: what for name, what in (allowed | refused).items() if name not in hub}
    expect_cells(stray.run(hub | others), hub, others, f"{who}: a container not known")
    arrived = machine.arrivals()
    # What the engine's own resolver asks is not the container's packet.
    expect(not [one for one in arrived if one["port"] != 53], f"{who}: packets of a container not known arrived: {arrived}")
    print(f"{who}: {len(allowed)} reached, {len(refused)} refused, forged packets dropped")


def names(machine, backend):
    dora = reach.container(machine, "jupyter-dora", "podman")
    servers = dora.run({"resolv": {"argv": ["cat", "/etc/resolv.conf"]}})["resolv"]["said"].split()
    print(f"{backend}: containers ask {[word for word in servers if word[:1].isdigit() or ':' in word]} for names")
    # What an earlier network's containers learned lives for a minute: each has names of its own.
    good = {"netavark": "good-podman.test", "cni": "www-podman.sub.test"}[backend]
    expect_cells(dora.run({"before": curl(f"http://{host(OTHER[4])}/"), "other": curl("http://other.test/")}), [], ["before", "other"], backend)
    both = {str(family): curl(f"http://{good}/", f"-{family}") for family in (4, 6)}
    expect_cells(dora.run(both), both, [], f"{backend}: by name")
    denied = dora.run({"denied": curl("http://denied.test/")})["denied"]
    expect(reach.cell(denied) == "refused: no such name", f"{backend}: a denied name: {denied}")
    # In quarantine the network's own resolver is not asked either; names that are asked for elsewhere stay out of reach.
    quinn = reach.container(machine, "jupyter-quinn", "podman")
    machine.arrivals(clear=True)
    asked = quinn.run({f"getent {family}": {"argv": ["getent", f"ahostsv{family}", "hub.test"]} for family in (4, 6)}
                      | {f"bridge {kind}": {"argv": ["dig", "+tries=1", "+time=3", *options, f"@{GATEWAY[4]}", "hub.test"]}
                         for kind, options in (("udp", ()), ("tcp", ("+tcp",)))})
    expect_cells(asked, [], asked, f"{backend}: quinn in quarantine")
    arrived = machine.arrivals()
    expect(not arrived, f"{backend}: questions from quarantine arrived: {arrived}")
    expect_cells(quinn.run({"hub": connect(address(machine, "hub", 4), 8081)}), ["hub"], [], f"{backend}: quinn in quarantine")
    learned = machine.run("nft list set inet hubwarden names4_named").out
    expect(f'comment "{good}"' in learned, f"{backend}: {good} was not learned:\n{learned}")


def eager(machine, backend):
    """The network's bridge is made with its first container, which sends from its first instruction."""
    machine.run("podman rm --force --time 0 --all", timeout=60)
    machine.arrivals(clear=True)
    send = f"exec {PYTHON} {CLIENT} send {testhost.V4},4444 {testhost.V6},4444"
    for user in (None, "alice"):
        start(machine, "jupyter-alice", user, send)
        machine.run("podman wait jupyter-alice", timeout=30)
        machine.run("podman rm --force --time 0 jupyter-alice", timeout=30)
    arrived = [one for one in machine.arrivals() if one["port"] == 4444]
    expect(not arrived, f"{backend}: {len(arrived)} packets of containers that had just started arrived: {arrived[:3]}")
    start_all(machine)
