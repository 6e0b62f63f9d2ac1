"""Who reaches what: real services outside, real clients in a unit and in containers, and a table of it.

    outside = reach.Outside(machine)            git, rsync, web, … at FULL and more addresses
    results = reach.unit(machine, "jupyter-alice.service").run({"git": {"argv": [...]}})
    reach.cell(results["git"])                  "reached", or "refused: connection refused"
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass, field

import containers
import netns
import testhost
from product import expect
from testhost import OUTSIDE_V4, OUTSIDE_V6

CLIENTS = "/usr/local/lib/bed/clients.py"
FULL = {4: OUTSIDE_V4.format(10), 6: OUTSIDE_V6.format(10)}
OTHER = {4: OUTSIDE_V4.format(20), 6: OUTSIDE_V6.format(20)}
POOL = {4: OUTSIDE_V4.format(30), 6: OUTSIDE_V6.format(30)}
# In the list of known resolvers over HTTPS.
OVER_HTTPS = {4: "1.1.1.1", 6: "2606:4700:4700::1111"}
DENIED = {4: OUTSIDE_V4.format(40), 6: OUTSIDE_V6.format(40)}
PRIVATE = {4: testhost.PRIVATE_V4, 6: testhost.PRIVATE_V6}
# The same host as a NAT64 gateway would have it.
TRANSLATED = {6: "64:ff9b::c0a8:4d07"}
# In a private network that a class names.
OPENED = {4: "10.20.0.7", 6: "fd45::7"}
CERTIFICATE = "/run/bed-services/certificate.pem"
# The network's own addresses on the node, as Docker gives them out.
GATEWAY = {4: "10.77.0.1", 6: "fd00:77::1"}


def host(address):
    """As a URL has it."""
    return f"[{address}]" if ":" in address else address


class Outside:
    """The services beside the test host, for as long as the machine lives."""

    def __init__(self, machine):
        last = sorted(set(testhost.ZONE.values()))
        named = [address.format(number) for number in last for address in (OUTSIDE_V4, OUTSIDE_V6)]
        addresses = [*FULL.values(), *named, *POOL.values(), *OVER_HTTPS.values(), *DENIED.values(), *PRIVATE.values(),
                     *TRANSLATED.values(), *OPENED.values()]
        addresses = list(dict.fromkeys(addresses))
        machine.teach_host([f"address add {address}/{128 if ':' in address else 32} dev bed0{' nodad' if ':' in address else ''}"
                            for address in addresses])
        # The network is the test host's, the programs are the machine's.
        command = ["nsenter", "-t", str(machine.host.pid), "-n", "nsenter", "-t", str(machine.leader), "-m", "--",
                   "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp", "LANG=C",
                   "python3", "/usr/local/lib/bed/services.py", *addresses]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=open(machine.directory / "services.log", "wb"), preexec_fn=netns.die_with_parent)
        said = self.process.stdout.readline().strip()
        expect(said == "ready", f"the services did not start: {(machine.directory / 'services.log').read_text()[-800:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


class Place:
    """Where clients run: `enter` is the command that takes a shell command there."""

    def __init__(self, machine, enter):
        self.machine, self.enter = machine, enter

    def run(self, commands, timeout=120):
        """Runs clients side by side; {name: {"code", "said", "seconds"}}."""
        if not commands:
            return {}
        self.machine.put("/run/bed-commands.json", json.dumps(commands))
        return json.loads(self.enter(timeout).out)


def root(machine):
    """Root's shell: what no class holds."""
    return Place(machine, lambda timeout: machine.run(f"python3 {CLIENTS} < /run/bed-commands.json", timeout=timeout))


def unit(machine, name, as_root=False):
    """A unit's cgroup, as the unit's user or as root there."""
    command = f"python3 {CLIENTS} < /run/bed-commands.json"
    if as_root:
        return Place(machine, lambda timeout: machine.run(command, cgroup=machine.unit_cgroup(name), timeout=timeout))
    return Place(machine, lambda timeout: machine.run_in_unit(name, command, timeout=timeout))


def container(machine, name, engine="docker"):
    """Within a container that start_container() made."""
    command = f"{engine} exec --interactive {name} python3 {CLIENTS} < /run/bed-commands.json"
    return Place(machine, lambda timeout: machine.run(command, timeout=timeout))


def import_image(machine, engine="docker"):
    """An image of directories alone: the programs are the machine's own, mounted read-only."""
    machine.run("rm -rf /tmp/skeleton; mkdir -p /tmp/skeleton && cd /tmp/skeleton && mkdir -p tmp etc proc sys dev run usr opt/tljh "
                "&& chmod 1777 tmp && ln -s usr/bin usr/sbin usr/lib usr/lib64 . && "
                f"tar -c . | {engine} import - clients", timeout=60)


def start_container(machine, name, user, network, script="sleep 3600", engine="docker", more=()):
    """A container as DockerSpawner makes them, with the engine's default capabilities."""
    volumes = ("/usr", "/opt/tljh", "/etc/passwd", "/etc/nsswitch.conf", "/etc/alternatives", "/etc/ssl", "/run/bed-services")
    mounts = [word for path in volumes for word in ("--volume", f"{path}:{path}:ro")]
    environment = ["--env", f"JUPYTERHUB_USER={user}"] if user else []
    machine.run([engine, "run", "--detach", f"--network={network}", f"--name={name}", *environment, *mounts, *more,
                 "clients", "/bin/sh", "-c", script], timeout=60)


def start_network(machine):
    """Docker with rules of its own, a network for servers, and the image."""
    containers.start_docker(machine, "--iptables=true")
    import_image(machine)
    machine.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    containers.make_network(machine)
    machine.teach_host([f"route add {containers.SUBNET_V4} via {testhost.MACHINE_V4}",
                        f"route add {containers.SUBNET_V6} via {testhost.MACHINE_V6}"])


# -- what came of it, in words ---------------------------------------------------------------------

# What programs say, and what the table says of it; the first that is found.
SAID = (
    (r"[Cc]onnection refused|ECONNREFUSED|errno=111", "connection refused"),
    (r"Connection reset|ECONNRESET", "connection reset"),
    (r"Operation not permitted|PermissionError: \[Errno 1\]|failed: not permitted", "operation not permitted"),
    (r"Packet filtered|prohibited", "“packet filtered”"),
    (r"No route to host|Host unreachable|host unreachable|Destination Host|EHOSTUNREACH", "no route to host"),
    (r"Permission denied", "permission denied"),
    (r"NXDOMAIN|Could not resolve host|Name or service not known|nodename nor servname", "no such name"),
    (r"Temporary failure in name resolution", "no resolver answers"),
    (r"no servers could be reached|[Tt]imed out|timeout", "no answer"),
    (r"Could(n't| not) connect to server", "could not connect"),
)


LOST = "nothing is said"


def arrived(rows, results, arrivals):
    """Results of rows whose client cannot know: by what arrived."""
    for (number, family), result in results.items():
        sources = rows[number].arrives
        if sources and reached(result) and sources[family] not in {arrival["src"] for arrival in arrivals}:
            result.update(code=1, said=LOST)
    return results


def reached(result):
    return result["code"] == 0


def cell(result):
    """One cell of the table."""
    if result is None:
        return "–"
    if reached(result):
        return "reached"
    if result["said"] == LOST:
        return f"refused: {LOST}"
    if result["code"] is None:
        return "refused: no answer"
    for pattern, words in SAID:
        if re.search(pattern, result["said"]):
            return f"refused: {words}"
    return f"refused: {result['said'].strip().splitlines()[-1:]} (code {result['code']})"


@dataclass
class Row:
    """A client and what it tries. `argv(family, place)` gives its command, or None where there is none.

    `expected` says for each place whether it is reached; what the client says of a refusal is noted, not
    expected.
    """

    client: str
    target: str
    argv: object
    expected: dict
    env: dict = field(default_factory=dict)
    # What is tried has no other way to be shown: a control would fail by its nature.
    control: bool = True
    families: tuple = (4, 6)
    # In a unit by root, who has the capabilities that containers have.
    as_root: bool = False
    # What arrives outside says whether it is reached, since the client hears nothing: a packet with this source.
    arrives: dict = None
    timeout: int = 10


PLACES = ("unit", "container", "host")
HEADINGS = {"unit": "Unit", "container": "Container", "host": "Container with the host's network"}


def measure(place, name, rows):
    """Runs the rows of one place; {(row's number, family): result}."""
    commands = {}
    for number, row in enumerate(rows):
        for family in row.families:
            argv = row.argv(family, name)
            if argv is not None:
                commands[f"{number} {family}"] = {"argv": argv, "env": row.env, "timeout": row.timeout}
    found = place.run(commands)
    return {tuple(map(int, key.split())): result for key, result in found.items()}


def judge(rows, results, place):
    """What is not as expected, as sentences."""
    wrong = []
    for number, row in enumerate(rows):
        for family in row.families:
            result = results.get((number, family))
            if result is not None and reached(result) != row.expected[place]:
                wanted = "reached" if row.expected[place] else "refused"
                wrong.append(f"{row.client}: {row.target}, IPv{family}, {place}: {cell(result)}, expected {wanted}: "
                             f"{result['said'].strip()[-200:]}")
    return wrong


def lines(title, rows, results):
    """The table's lines for a class; both families in one where nothing differs."""
    out = []
    for number, row in enumerate(rows):
        cells = {family: [cell(results[place].get((number, family))) for place in PLACES] for family in row.families}
        same = len(cells) == 2 and cells[4] == cells[6]
        groups = {"4, 6": cells[4]} if same else cells
        for name, group in groups.items():
            out.append(f"| {title} | {row.client} | {row.target} | {name} | {' | '.join(group)} |")
    return out


def table(sections):
    """The whole table, as Markdown."""
    head = ["Class", "Client", "What it tries", "IP", *(HEADINGS[place] for place in PLACES)]
    out = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for title, rows, results in sections:
        out += lines(title, rows, results)
    return "\n".join(out) + "\n"


BEGIN, END = "<!-- The table begins: made by `make egress-table`. -->", "<!-- The table ends. -->"


def check_document(document, made, where, marks=(BEGIN, END), page="docs/egress.md", target="egress-table"):
    """Compares the document's table with what was made, and leaves the document as it should be in `where`."""
    before, rest = document.split(marks[0] + "\n", 1)
    there, after = rest.split(marks[1], 1)
    where.write_text(before + marks[0] + "\n" + made + marks[1] + after)
    if there == made:
        return
    old, new = there.splitlines(), made.splitlines()
    gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
    print("\n".join([*(f"- {line}" for line in gone), *(f"+ {line}" for line in come)]), file=sys.stdout)
    expect(False, f"{page} has another table ({len(gone)} lines less, {len(come)} more, or another order): "
                  f"see that the new one is right, then `make {target}` writes it")
