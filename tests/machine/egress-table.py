"""Real clients in a unit, a container and a container with the host's network: who reaches what, as docs/egress.md has it."""

from pathlib import Path

import containers
import reach
import rootfs
import testhost
from containers import NETWORK
from hubapi import Hub
from product import expect, install, wait_guarded
from reach import CERTIFICATE, DENIED, FULL, GATEWAY, OPENED, OTHER, OVER_HTTPS, POOL, PRIVATE, TRANSLATED, Row, host

DOCUMENT = rootfs.PROJECT / "docs/egress.md"
MADE = rootfs.CACHE / "egress.md"
USERS = {"standard": ("alice", "bert", "cora"), "named": ("dora", "emil", "fred"), "limited": ("gina", "hugo", "ines"),
         "quarantine": ("kate", "liam", "mona")}
MORE = f"""
[hub]
container_networks = ["{NETWORK}"]
[egress]
resolvers = ["{testhost.RESOLVER_V4}", "{testhost.RESOLVER_V6}"]
[egress.classes.standard]
networks = ["10.20.0.0/24", "fd45::/64"]
deny_networks = ["203.0.113.40/30", "2001:db8:203::40/126"]
[egress.classes.named]
services = ["dns", "http", "https"]
names = [{", ".join(f'"good-{place}.test"' for place in reach.PLACES)}, "*.sub.test", "denied.test", "inside.test"]
deny_names = ["denied.test"]
[egress.classes.limited]
new_connections = "20/min"
[egress.abuse]
packets = "200/s"
""" + "".join(f'[users.{user}]\negress_class = "{name}"\n' for name, users in USERS.items() for user in users)
LIST = f"{POOL[4]}:443\n{POOL[6].join('[]')}:443\npool.test\n"
RESOLVER = {4: testhost.RESOLVER_V4, 6: testhost.RESOLVER_V6}
SAME = {"unit": True, "container": True, "host": True}
NONE = {"unit": False, "container": False, "host": False}
PYTHON = "/usr/bin/python3"
PIP = "/opt/tljh/user/bin/python"
BED = "/usr/local/lib/bed/container.py"


def curl(url, *options):
    return ["curl", "-sS", "--max-time", "8", "-o", "/dev/null", "--cacert", CERTIFICATE, *options, url]


def web(scheme, addresses, path="/"):
    return lambda family, _: curl(f"{scheme}://{host(addresses[family])}{path}")


def by_name(scheme, name):
    return lambda family, place: curl(f"{scheme}://{name.format(place)}/", f"-{family}")


def ask(server, *options, name="hub.test"):
    return lambda family, _: ["dig", "+tries=1", "+time=3", *options, f"@{server[family]}", name, "A" if family == 4 else "AAAA"]


def python(code):
    """A few lines that end with an error if nothing is reached; `f` is the family's constant."""
    return lambda family, _: [PYTHON, "-c", f"import socket\nf = socket.AF_INET{'6' if family == 6 else ''}\n{code(family)}"]


def connect(addresses, port):
    return python(lambda family: f"socket.create_connection(('{addresses[family]}', {port}), 8)")


def datagram(addresses, port, kind="SOCK_DGRAM"):
    return python(lambda family: f"s = socket.socket(f, socket.{kind}); s.settimeout(3)\ns.connect(('{addresses[family]}', {port}))\n"
                                 "s.send(b'hello'); s.recv(100)")


RAW = """import struct
s = socket.socket(f, socket.SOCK_RAW, socket.IPPROTO_UDP); s.settimeout(3)
s.connect(('{}', 0))
if f == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_CHECKSUM, 6)
s.send(struct.pack('!HHHH', 40001, 4444, 12, 0) + b'raw!'); s.recv(100)"""


def inside(machine):
    """What is on the node itself or beside it, for each kind of place."""
    hub, other = containers.addresses(machine, "hub"), containers.addresses(machine, "jupyter-emil")
    here = {4: "127.0.0.1", 6: "::1"}

    def at(container, unit_port, container_port, families=(4, 6)):
        def argv(family, place):
            if place == "container":
                address, port = container[family == 6], container_port
            elif family in families:
                address, port = here[family], unit_port
            else:
                return None
            return connect({family: address}, port)(family, place)
        return argv

    def own(family, place):
        # On the node's loopback each has a port of its own.
        return connect(here, 9003 if place == "host" else 9001)(family, place)

    def outer(family, place):
        node = {4: testhost.MACHINE_V4, 6: testhost.MACHINE_V6}
        return connect(GATEWAY if place == "container" else node, 5432)(family, place)

    return [
        Row("Python", "its own server, on loopback", own, SAME),
        Row("Python", "the hub's API", at(hub, 15001, 8081, (4,)), SAME),
        Row("Python", "the proxy's API", at(hub, 8099, 8099, (4,)), NONE),
        Row("Python", "the hub's database", at(hub, 5432, 5432), NONE),
        Row("Python", "a port of the node, at its address towards it", outer, NONE),
        Row("Python", "another user's server", at(other, 9002, 9001), NONE),
    ]


def standard(machine):
    ssh = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    return [
        Row("git", "clone over `git://`", lambda family, place: ["git", "ls-remote", f"git://{host(FULL[family])}/repository.git"], SAME),
        Row("git", "clone over http", lambda family, place: ["git", "ls-remote", f"http://{host(FULL[family])}/repository.git"], SAME),
        Row("rsync", "a module of an rsync daemon", lambda family, _: ["rsync", "--contimeout=5", f"rsync://{host(FULL[family])}/module/"], SAME),
        Row("curl", "http", web("http", FULL), SAME),
        Row("curl", "https", web("https", FULL), SAME),
        Row("pip", "a package from an index", lambda family, place: [
            PIP, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--retries", "0",
            "--timeout", "5", "--index-url", f"http://{host(FULL[family])}/simple/", "--trusted-host", FULL[family],
            "-d", f"/tmp/pip-{place}-{family}", "bedpackage"], SAME, timeout=40),
        Row("getent", "a name, by the C library", lambda family, _: ["getent", f"ahostsv{family}", "hub.test"], SAME),
        Row("Python", "a name, by `socket.getaddrinfo`", python(lambda family: "socket.getaddrinfo('hub.test', 80, f)"), SAME),
        Row("dig", "the node's resolver, UDP", ask(RESOLVER), SAME),
        Row("dig", "the node's resolver, TCP", ask(RESOLVER, "+tcp"), SAME),
        Row("dig", "another resolver, UDP", ask(ANOTHER), NONE),
        Row("dig", "another resolver, TCP", ask(ANOTHER, "+tcp"), NONE),
        Row("openssl", "names over TLS (port 853)", lambda family, _: ["openssl", "s_client", "-brief", "-connect", f"{host(FULL[family])}:853"], NONE),
        Row("curl", "a known resolver over https", web("https", OVER_HTTPS), SAME),
        Row("ssh", "a host outside", lambda family, _: ["sh", "-c", "ssh \"$@\" 2>&1 | tee /dev/stderr | grep -q 'banner\\|closed by\\|kex'", "ssh", *ssh, f"x@{FULL[family]}"], NONE),
        Row("curl", "mail (port 25)", lambda family, _: curl(f"telnet://{host(FULL[family])}:25"), NONE),
        Row("ping", "a host outside", lambda family, _: ["ping", "-c", "1", "-W", "3", FULL[family]], NONE),
        Row("Python", "datagrams to port 4444", datagram(FULL, 4444), NONE),
        Row("Python", "QUIC (datagrams to port 443)", datagram(FULL, 443), NONE),
        Row("Python, root there", "a raw socket, UDP to port 4444", python(lambda family: RAW.format(FULL[family])), NONE, as_root=True),
        Row("Python", "a packet socket, source forged", lambda family, _: [PYTHON, BED, "spoof", SPOOFED[family], FULL[family], "4444"],
            {"unit": False, "container": False, "host": True}, control=False, arrives=SPOOFED),
        Row("curl", "the cloud's metadata", web("http", {4: testhost.METADATA_V4, 6: testhost.METADATA_V6}), NONE),
        Row("curl", "a private network", web("http", PRIVATE), NONE),
        Row("curl", "a private network, as a translator has it (NAT64)", web("http", TRANSLATED), NONE, families=(6,)),
        Row("curl", "a private network in `networks`", web("http", OPENED), SAME),
        Row("curl", "the node's resolver, in a private network, by http", web("http", RESOLVER), NONE),
        Row("curl", "a network in `deny_networks`", web("http", DENIED), NONE),
        Row("curl", "a deny list's host and port", web("https", POOL), NONE),
        Row("curl", "that host on another port", web("http", POOL), SAME),
        Row("curl", "a deny list's name", by_name("http", "pool.test"), NONE),
        *inside(machine),
    ]


ANOTHER = {4: testhost.OTHER_V4, 6: testhost.OTHER_V6}
SPOOFED = {4: "198.51.100.7", 6: "2001:db8:bad::7"}


# Hosts that no name led to.
SCANNED = {4: "198.51.100.1", 6: "2001:db8:5ca::1"}
SCAN = """import ipaddress, time
first, all = ipaddress.ip_address('{}'), []
for n in range(100):
    s = socket.socket(f); s.setblocking(False); all.append((s, s.connect_ex((str(first + n), 443))))
time.sleep(1)
refused = sum(111 in (said, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) for s, said in all)
raise SystemExit('Connection refused' if refused == 100 else 'timed out')"""


# A second's worth passes at once, and some more while it runs; each is answered.
QUESTIONS = """s = socket.socket(f, socket.SOCK_DGRAM); s.settimeout(0.2)
s.connect(('{}', 53))
question = bytes.fromhex('1234010000010000000000000368756204746573740000010001')
lost = 0
for n in range(2000):
    s.send(question)
    try:
        s.recv(100)
    except TimeoutError:
        lost += 1
    if lost > 20: break
raise SystemExit(0 if lost <= 20 else f'timed out: {{lost}} of {{n}} lost')"""


def named():
    return [
        Row("curl", "a host's address before its name was asked for", web("http", OTHER), NONE),
        Row("curl", "a name in `names`, http", by_name("http", "good-{}.test"), SAME),
        Row("curl", "a name under `*.` in `names`, asked for over TCP", by_name("http", "www-{}.sub.test"), SAME, env={"RES_OPTIONS": "use-vc"}),
        Row("curl", "a name that is not in `names`", by_name("http", "other.test"), NONE),
        Row("curl", "a name in `names` that resolves to a private address", by_name("http", "inside.test"), NONE),
        Row("curl", "a name in `deny_names`", by_name("http", "denied.test"), NONE),
        Row("dig", "the node's resolver", ask(RESOLVER), SAME),
        Row("dig", "another resolver", ask(ANOTHER), NONE),
        Row("curl", "a known resolver over https", web("https", OVER_HTTPS), NONE),
        Row("curl", "a deny list's name", by_name("http", "pool.test"), NONE),
        Row("Python", "a scan: 100 hosts on port 443, one after another", python(lambda family: SCAN.format(SCANNED[family])), NONE, control=False, timeout=30),
        Row("Python, root there", "2,000 questions to the node's resolver at once, where `packets` of `[egress.abuse]` is 200/s",
            python(lambda family: QUESTIONS.format(RESOLVER[family])), NONE, as_root=True, timeout=60),
        Row("git", "clone over `git://` (no service of this class)", lambda family, place: ["git", "ls-remote", f"git://{host(FULL[family])}/repository.git"], NONE),
    ]


# Twenty in a minute and as many at once; a few more while it runs.
FLOOD = """done = 0
for n in range(60):
    try:
        socket.create_connection(('{}', 80), 2).close(); done += 1
    except ConnectionRefusedError:
        pass
raise SystemExit(0 if done == 60 else 'Connection refused' if 15 <= done <= 30 else f'{{done}} of 60')"""


def limited():
    return [Row("Python", "60 connections at once, where `new_connections` is 20/min", python(lambda family: FLOOD.format(FULL[family])), NONE, families=(4,))]


def quarantine(machine):
    return [
        Row("curl", "http", web("http", FULL), NONE),
        Row("dig", "the node's resolver, UDP", ask(RESOLVER), NONE),
        Row("dig", "the node's resolver, TCP", ask(RESOLVER, "+tcp"), NONE),
        Row("Python", "a name, by `socket.getaddrinfo`", python(lambda family: "socket.getaddrinfo('hub.test', 80, f)"), NONE,
            env={"RES_OPTIONS": "timeout:1 attempts:1"}),
        *(row for row in inside(machine) if row.target == "the hub's API"),
    ]


def pending():
    return [
        Row("curl", "http", web("http", FULL), {**NONE, "host": True}),
        Row("dig", "the node's resolver", ask(RESOLVER), {**NONE, "host": True}),
        Row("ping", "a host outside", lambda family, _: ["ping", "-c", "1", "-W", "3", FULL[family]], {**NONE, "host": True}),
        Row("Python", "the hub's API", lambda family, place: connect({family: GATEWAY[family] if place == "container" else "127.0.0.1"}, 15001)(family, place),
            {**NONE, "unit": True, "host": True}, families=(4,), control=False),
    ]


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "more": MORE})
    with reach.Outside(machine):
        start(machine)
        rows = {"standard": standard(machine), "named": named(), "limited": limited(), "quarantine": quarantine(machine), "not known": pending()}
        control(machine, rows)
        wrong, sections = [], []
        for title, of_class in rows.items():
            results = {}
            for at, place in enumerate(reach.PLACES):
                results[place], leaked = one_place(machine, title, place, at, of_class)
                wrong += leaked
                wrong += reach.judge(of_class, results[place], place)
            sections.append((title, of_class, results))
        made = reach.table(sections)
        print(made)
        expect(not wrong, "not as expected:\n" + "\n".join(wrong))
        rows_made = made.count("\n") - 2
        reach.check_document(DOCUMENT.read_text() if DOCUMENT.exists() else "", made, Path(MADE))
        print(f"figure egress_table_rows {rows_made} rows")


def start(machine):
    """Servers of each class: units by the hub, containers as DockerSpawner starts them."""
    machine.put("/tmp/list", LIST)
    machine.run("hubwarden lists import /tmp/list --name pools")
    reach.start_network(machine)
    hub = Hub(machine)
    listen = f"exec {PYTHON} {BED} listen"
    machine.run(f"systemd-run --quiet --unit=database {PYTHON} {BED} listen 5432")
    reach.start_container(machine, "hub", None, NETWORK, f"{listen} 8081 8099 5432")
    for class_name, (in_unit, in_container, on_host) in USERS.items():
        hub.login(in_unit).spawn()
        reach.start_container(machine, f"jupyter-{in_container}", in_container, NETWORK, f"{listen} 9001")
        own = f"{listen} 9003" if class_name == "standard" else "sleep 3600"
        reach.start_container(machine, f"jupyter-{on_host}", on_host, "host", own)
    for user in (user for users in USERS.values() for user in users):
        wait_guarded(machine, user, 30)
    reach.start_container(machine, "jupyter-stray", None, NETWORK)
    reach.start_container(machine, "stray-host", None, "host")
    machine.run("useradd -m stranger; systemd-run --quiet --unit=stranger --slice=jupyter.slice --uid=stranger sleep 3600")
    # A listener of alice's own, and one of dora's, who is another user.
    machine.start(f"{listen} 9001", cgroup=machine.unit_cgroup("jupyter-alice.service"))
    machine.start(f"{listen} 9002", cgroup=machine.unit_cgroup("jupyter-dora.service"))


def place_of(machine, title, place, at, as_root):
    if title == "not known":
        return {"unit": lambda: reach.unit(machine, "stranger.service", as_root), "container": lambda: reach.container(machine, "jupyter-stray"),
                "host": lambda: reach.container(machine, "stray-host")}[place]()
    user = USERS[title][at]
    if place == "unit":
        return reach.unit(machine, f"jupyter-{user}.service", as_root)
    return reach.container(machine, f"jupyter-{user}")


def one_place(machine, title, place, at, rows):
    """Refused rows first, and alone: then nothing may arrive outside but questions to the resolver."""
    results, leaked = {}, []
    for as_root in (False, True):
        for wanted in (False, True):
            chosen = [row for row in rows if row.as_root is as_root and row.expected[place] is wanted]
            machine.arrivals(clear=True)
            found = reach.measure(place_of(machine, title, place, at, as_root), place, chosen)
            arrivals = machine.arrivals()
            found = reach.arrived(chosen, found, arrivals)
            results |= {(rows.index(chosen[number]), family): result for (number, family), result in found.items()}
            if not wanted and title != "limited":
                asks = title != "quarantine"
                arrived = [one for one in arrivals if not (asks and one["port"] == 53 and one["dst"] in RESOLVER.values())]
                leaked += [f"class {title}, {place}: a packet of what is refused arrived: {one}" for one in arrived[:5]]
    return results, leaked


def control(machine, rows):
    """Root's shell reaches all of it: what is refused is refused by us."""
    every = [row for of_class in rows.values() for row in of_class if row.control and row.target != "a deny list's name"]
    found = reach.measure(reach.root(machine), "unit", every)
    failed = [f"{every[number].client}: {every[number].target}, IPv{family}: {reach.cell(result)} {result['said'][-200:]}"
              for (number, family), result in found.items() if not reach.reached(result)]
    expect(not failed, "without a class it is not reached either:\n" + "\n".join(failed))
