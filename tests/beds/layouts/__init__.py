"""Layouts of hubs as people set them up, and what a scenario asserts of each.

    for layout in node.LAYOUTS:
        rows.append(layouts.tried(machine, layout, 7))

A layout is data (Layout): the lines of jupyterhub_config.py, the lines of hubwarden's configuration, who comes, who of
them is held, and what is said where somebody is not. tried() sets it up with a real hub, lets its users start servers
while hubwarden enforces, and goes through everything that has to be so.
"""

import json
import os
import re
import time
from dataclasses import dataclass, field

import reach
import rootfs
import testhost
from hubapi import ADMIN, Hub, HubError, quote
from product import config, eventually, expect, expect_none_arrived, expect_reach, outside, quota, status, wait_active

LINES = "/etc/bed/layout.py"
CONFIG = "/opt/layouts/jupyterhub_config.py"
SSH = f"tcp,{testhost.V4},22"
METADATA = f"tcp,{testhost.METADATA_V4},80"
# This host's cgroups have them, whatever the layout.
OF_THE_BED = ("cpu-on-v1",)
# A survey is made two seconds after somebody came.
SURVEYED = 2.6


def fill(text, **words):
    """Puts words in for `{n}` and the like; other braces are those of the spawners' own templates."""
    for name, word in words.items():
        text = text.replace("{" + name + "}", str(word))
    return text


@dataclass(frozen=True)
class Said:
    """A row of what is not covered: its kind, the end of its cgroup's path, and words of its text with the remedy."""

    kind: str
    place: str
    words: tuple
    # What may pass by itself is in the journal only once it has lasted.
    in_journal: bool = True


@dataclass
class Service:
    """The hub's own service. `more` are lines of its unit; `beside` are units that stand before it, by name."""

    unit: str = "jupyterhub.service"
    more: str = ""
    beside: dict = field(default_factory=dict)
    # Lines of jupyterhub_config.py that the hub has from its start.
    lines: str = ""
    # Where a browser finds it.
    front: int = 8000
    api: str = "tcp,127.0.0.1,8081"
    # The proxy's own API, which is nobody else's.
    proxy: str = "tcp,127.0.0.1,8001"

    def files(self):
        return {self.unit: UNIT.format(config=CONFIG, more=self.more), **self.beside}

    def starts(self):
        return f"systemctl daemon-reload; systemctl start {' '.join(self.files())}"

    def ends(self):
        units = " ".join(self.files())
        return f"systemctl kill -s KILL {units}; systemctl stop {units}; cd /etc/systemd/system && rm -f {units}"

    def restarts(self):
        return f"systemctl restart {self.unit}"


@dataclass
class Containers(Service):
    """The hub in a container of an engine's, and what stands before it in another: `run` are their options and commands."""

    engine: str = "docker"
    run: dict = field(default_factory=dict)
    # Before any of them.
    first: str = ""
    last: str = ""

    def files(self):
        return {}

    def starts(self):
        runs = [f"{self.engine} run --detach --name={name} {words}" for name, words in self.run.items()]
        return " && ".join(["mkdir -p /var/lib/jupyterhub", *filter(None, [self.first]), *runs])

    def ends(self):
        names = " ".join(self.run)
        return f"{self.engine} stop --time 5 {names}; {self.engine} rm --force {names}; {self.last}"

    def restarts(self):
        return f"{self.engine} restart --time 1 {' '.join(self.run)}"


@dataclass
class Layout:
    name: str
    # The set-up, as docs/hubs.md has it.
    words: str
    # Lines of jupyterhub_config.py for spawners; {n} is the layout's number.
    lines: str = ""
    service: Service = field(default_factory=Service)
    # Lines of hubwarden's configuration, below [hub].
    config: str = ""
    users: tuple = ("anna{n}", "ben{n}")
    # The Unix users; none where the layout has none of its own.
    account: str = "{user}"
    # Where a user's server is, as a unit or container; None: in the hub's own cgroup.
    unit: str = "jupyter-{user}-singleuser.service"
    container: str = ""
    engine: str = "docker"
    # Whether users are found with their class, held by CPU limits, held by packet rules.
    found: bool = True
    cpu: bool = True
    packets: bool = True
    # Users of whom none of that is so.
    not_found: tuple = ()
    # The network namespace of the servers, where it is not the node's own; the cgroup of servers that are in no unit.
    netns: str = ""
    elsewhere: str = ""
    # Servers are on other machines.
    remote: bool = False
    # Shell commands that start the servers, where the hub itself does not.
    planted: str = ""
    # Where a server in a container listens.
    own_port: int = 8888
    # What users choose when they start a server.
    options: dict = field(default_factory=dict)
    # What is said, by status, check and the journal alike.
    said: tuple = ()
    # What status says of the node besides: words.
    lack: str = ""
    # What is typed then; after it `then` holds in place of what is above. The servers are the same ones.
    typed: str = ""
    then: dict = field(default_factory=dict)
    # Shell commands on the machine, before the daemon starts and when all is over.
    before: str = ""
    afterwards: str = ""
    # Called with a Trial once all else was asserted, in enforce.
    also: object = None
    # The hub is started anew with the daemon stopped.
    again: bool = False

    def user_names(self, n):
        return [fill(user, n=n) for user in self.users]


class Trial:
    """A layout as it runs."""

    def __init__(self, machine, layout, n):
        self.machine, self.layout, self.n = machine, layout, n
        self.users = layout.user_names(n)
        self.not_found = [fill(user, n=n) for user in layout.not_found]
        self.hub = Hub(machine, layout.service.front)
        self.ports = {}
        self.cursor = ""

    # -- setting up ------------------------------------------------------------------------------

    def set_up(self):
        layout, machine = self.layout, self.machine
        accounts = [fill(layout.account, user=user.partition("/")[0]) for user in self.users] if layout.account else []
        adds = "".join(
            f"id -- '{name}' >/dev/null 2>&1 || useradd --badname --create-home --shell /bin/bash -- '{name}'; "
            for name in accounts
        )
        machine.put(LINES, layout.service.lines + fill(layout.lines, n=self.n))
        machine.run(adds + fill(layout.before, n=self.n), timeout=60)
        start_service(machine, layout.service)
        self.cursor = machine.run("journalctl -n 0 --show-cursor -q").out.split("cursor: ")[-1].strip()
        begin(machine, fill(layout.config, n=self.n))

    def spawn(self, users=None):
        started = time.monotonic()
        if self.layout.planted:
            self.machine.run(fill(self.layout.planted, n=self.n), timeout=60)
            return time.monotonic() - started
        for user in users or self.users:
            self.start(user)
        for user in users or self.users:
            self.ready(user)
        return time.monotonic() - started

    def start(self, user):
        name, _, server = user.partition("/")
        self.hub.api("POST", f"/users/{quote(name)}", expect=(201, 409))
        options = {fill(key, n=self.n): value for key, value in self.layout.options.items()}
        self.hub.api(
            "POST", f"/users/{quote(name)}/server" + (f"s/{quote(server)}" if server else ""), options.get(user, {})
        )

    def ready(self, user, timeout=40):
        name, _, server = user.partition("/")

        def asked():
            one = self.hub.user(name)["servers"].get(server)
            expect(one, f"{self.layout.name}: the server of {user} did not start")
            return one["ready"]

        eventually(asked, f"{self.layout.name}: the server of {user} is ready", timeout)
        if self.layout.remote:
            return
        said = self.answers(user)
        self.ports[user] = said["port"]
        # The hub's API was open to it from its first instant.
        expect(said["tries"] == 1, f"{self.layout.name}: {user} had to ask the hub {said['tries']} times")

    def answers(self, user):
        """What the user's server says to a browser."""
        code, _, text = self.hub.ask("GET", f"/user/{quote(user)}/", headers=ADMIN, timeout=10)
        expect(code == 200, f"{self.layout.name}: the server of {user} answers {code}: {text[:200]}")
        return json.loads(text)

    # -- what is found and said --------------------------------------------------------------------

    def names(self, user):
        name, _, server = user.partition("/")
        return {
            "user": name,
            "server": server,
            "n": self.n,
            "account": fill(self.layout.account, user=name),
            "dashserver": f"-{server}" if server else "",
            "twodashes": f"--{server}" if server else "",
        }

    def place(self, user):
        return fill(self.layout.container or self.layout.unit, **self.names(user))

    def is_found(self, found, cpu, packets):
        """Each user as status has it, and the limit as systemd has it."""
        layout, machine = self.layout, self.machine

        here = [user for user in self.users if user not in self.not_found]

        def there():
            servers = {(one["user"], one["server"]): one for one in status(machine)["servers"]}
            mine = [servers.get((user.partition("/")[0], user.partition("/")[2])) for user in here]
            strange = [name for name, _ in servers if name in self.not_found]
            good = all(one and one.get("class") == "standard" for one in mine) if found else not any(mine)
            good = good and not strange
            return (mine,) if good else None

        servers = eventually(
            there, f"{layout.name}: status lists {'each user' if found else 'no user'} with a class", 20
        )[0]

        def in_words(user):
            words = machine.run("hubwarden status").out.splitlines()
            said = next((re.split(r" {2,}", line) for line in words if line.startswith(user)), [""] * 2)
            return said[-2] == ("standard" if packets else "NOT HELD")

        for user, server in zip(here, servers) if found else ():
            # Another survey may have to be made.
            eventually(lambda: in_words(user), f"{layout.name}: status says of {user} whether packets are held", 20)
            expect(
                server["limit_cores"] == (2 if cpu else None),
                f"{layout.name}: the limit of {user} is {server['limit_cores']}",
            )
            if server["unit"].endswith((".service", ".scope")) and cpu:
                eventually(
                    lambda: quota(machine, server["unit"]) == (2 if cpu else None),
                    f"{layout.name}: systemd has a limit of 2 cores for {server['unit']}",
                )

    def rows(self):
        return [row for row in status(self.machine)["uncovered"] if row["kind"] not in OF_THE_BED]

    def words(self, said):
        return [fill(word, n=self.n) for word in said.words]

    def is_said(self, said):
        """The very rows, each with its words, in status, check and the journal."""
        layout, machine = self.layout, self.machine
        wanted = sorted((one.kind, fill(one.place, n=self.n)) for one in said)

        def row_of(rows, one):
            place = fill(one.place, n=self.n)
            return next(row for row in rows if row["kind"] == one.kind and row["cgroup"].rstrip("/").endswith(place))

        def found():
            rows = self.rows()
            short = [(row["kind"], row["cgroup"].rstrip("/")) for row in rows]
            ends = sorted(
                (kind, next((place for _, place in wanted if path.endswith(place)), path)) for kind, path in short
            )
            # A survey may have been made while not all of them had come.
            good = ends == wanted and all(word in row_of(rows, one)["text"] for one in said for word in self.words(one))
            return (rows,) if good else None

        try:
            rows = eventually(found, "rows", 25)[0]
        except AssertionError:
            expect(
                False,
                f"{layout.name}: expected {wanted}, found {[(row['kind'], row['cgroup'], row['text']) for row in self.rows()]}",
            )
        journal = [record["MESSAGE"] for record in machine.journal(f"--after-cursor={self.cursor}", "-u", "hubwarden")]
        if not rows:
            false = [line for line in journal if "covered in" in line and "on cgroup v1" not in line]
            expect(said or not false or layout.typed, f"{layout.name}: the journal says of who is covered: {false}")
            return
        check = machine.run("hubwarden check", check=False)
        words = machine.run("hubwarden status").out
        expect(check.code != 0 or all(row["weight"] == "note" for row in rows), f"{layout.name}: check is content")
        for one in said:
            place, row = fill(one.place, n=self.n), row_of(rows, one)
            print(f"    {row['text']}")
            expect(row["text"] in check.out, f"{layout.name}: check does not say: {row['text']}\nit says:\n{check.out}")
            expect(row["text"] in words, f"{layout.name}: status does not say: {row['text']}\nit says:\n{words}")
            # One entry may be of several rows that have one reason, and was made when not all servers had come.
            told = [line for line in journal if place in line and self.words(one)[-1] in line]
            expect(
                told or not one.in_journal,
                f"{layout.name}: the journal does not say: {row['text']}\nit says: {journal}",
            )

    # -- what is reached -----------------------------------------------------------------------------

    def probe(self, user, targets):
        place = self.place(user)
        if self.layout.container:
            done = self.machine.run(
                [self.layout.engine, "exec", place, "python3", "/usr/local/lib/bed/probe.py", *targets]
            )
            return json.loads(done.out)
        if self.layout.unit and self.layout.netns:
            command = ["ip", "netns", "exec", self.layout.netns, "python3", "/usr/local/lib/bed/probe.py", *targets]
            return json.loads(self.machine.run(command, cgroup=self.machine.unit_cgroup(place)).out)
        if self.layout.unit and user not in self.not_found:
            # The user may be systemd's own, of whom the user database knows nothing.
            pid = self.machine.unit_property(place, "MainPID")
            uid = self.machine.run(["stat", "--format=%u", f"/proc/{pid}"]).out.strip()
            command = [
                "setpriv",
                f"--reuid={uid}",
                f"--regid={uid}",
                "--clear-groups",
                "python3",
                "/usr/local/lib/bed/probe.py",
                *targets,
            ]
            return json.loads(self.machine.run(command, cgroup=self.machine.unit_cgroup(place)).out)
        # Where there is no unit, as the user: in the hub's own cgroup, or where another program has it.
        account = fill(self.layout.account, user=user)
        uid = tuple(self.machine.run(["sh", "-c", f"id -u {account}; id -g {account}"]).out.split())
        cgroup = fill(self.layout.elsewhere, uid=uid[0]) or self.machine.unit_cgroup(self.layout.service.unit)
        return self.machine.probe(targets, cgroup=cgroup, uid=uid)

    def targets(self, user):
        """(What a held server reaches, what it is refused, what a bridge drops within a network of containers)."""
        allowed, refused = outside()
        allowed = [*allowed, self.layout.service.api, self.at(user, own=True)]
        others = [self.at(other) for other in self.users if other.partition("/")[0] != user.partition("/")[0]]
        inside = [*others, self.layout.service.proxy]
        if self.layout.container:
            # Networks of containers have IPv4 alone, as an engine makes them.
            allowed, refused = ([one for one in some if "::" not in one] for some in (allowed, refused))
            # What a bridge drops takes seconds to fail, so one user tries it.
            return allowed, refused, inside if user == self.users[0] else []
        return allowed, [*refused, *inside], []

    def at(self, user, own=False):
        """A user's server, as another's or its own processes try it."""
        if not self.layout.container:
            return f"tcp,127.0.0.1,{self.ports[user]}"
        return f"tcp,{'127.0.0.1' if own else self.address(user)},{self.layout.own_port}"

    def address(self, user):
        """A container's own; of one on the node's network, the node's."""
        found = self.addresses(self.place(user))
        return found[0] if found else "127.0.0.1"

    def addresses(self, container):
        every = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        return self.machine.run([self.layout.engine, "inspect", "--format", every, container]).out.split()

    def others_are_known(self):
        """The rules know the hub's containers by their addresses, for the time when no daemon asks what they are."""
        run = getattr(self.layout.service, "run", {})
        wanted = {address for container in run for address in self.addresses(container)}
        if not wanted or not self.layout.container or not self.layout.packets:
            return

        def known():
            said = self.machine.run("nft list set bridge hubwarden other_containers4").out
            return all(re.search(rf"\b{re.escape(address)}\b", said) for address in wanted)

        eventually(known, f"{self.layout.name}: the rules know {', '.join(sorted(wanted))}")

    def is_held(self, user, who):
        allowed, refused, dropped = self.targets(user)
        self.machine.arrivals(clear=True)
        results = self.probe(user, allowed + refused + dropped)
        expect_reach(results, allowed, refused, who)
        expect_none_arrived(self.machine, refused, who)
        reached = [target for target in dropped if results[target]["ok"]]
        expect(not reached, f"{who} reached {reached}")

    def reaches(self, packets):
        for user in [] if self.layout.remote else self.users:
            who = f"{self.layout.name}: {user}"
            if packets and user not in self.not_found:
                self.is_held(user, who)
            else:
                open_ = [SSH, METADATA] if self.layout.planted else [self.layout.service.api, SSH, METADATA]
                expect_reach(self.probe(user, open_), open_, [], who)

    # -- the hub, whatever becomes of the daemon -------------------------------------------------------

    def works(self, when, spawn=False):
        """The hub answers, its proxy leads to each server, and, with `spawn`, a server can be started anew."""
        try:
            self.hub.ask("GET", "/hub/api/", timeout=5)
            spawned = not (self.layout.remote or self.layout.planted)
            for user in self.users if spawned else ():
                self.answers(user)
            if spawn and spawned:
                self.again(self.users[-1])
        except (OSError, HubError) as error:
            expect(False, f"{self.layout.name}: {when}: {type(error).__name__}: {error}")

    def again(self, user):
        self.stop(user)
        self.start(user)
        self.ready(user)

    def stop(self, user):
        name, _, server = user.partition("/")
        path = f"/users/{quote(name)}/server" + (f"s/{quote(server)}" if server else "")
        self.hub.api("DELETE", path)
        eventually(
            lambda: server not in self.hub.user(name)["servers"]
            or self.hub.user(name)["servers"][server].get("stopped"),
            f"{self.layout.name}: the server of {user} stops",
            20,
        )

    def endures(self):
        """With the daemon running, stopped, killed, and switched off."""
        machine, layout = self.machine, self.layout
        self.works("with the daemon running")
        self.others_are_known()
        machine.run("systemctl stop hubwarden")
        self.works("with the daemon stopped", spawn=True)
        if layout.again:
            machine.run(layout.service.restarts(), timeout=60)
            self.hub.wait_up()
            self.works("with the daemon stopped and the hub started anew", spawn=True)
        machine.run("systemctl start hubwarden")
        self.hub.wait_up()
        wait_active(machine)
        killed = machine.unit_property("hubwarden", "MainPID")
        machine.run("systemctl kill -s KILL hubwarden")
        self.works("with the daemon killed")
        eventually(
            lambda: machine.unit_property("hubwarden", "MainPID") not in (killed, "0"), "the daemon starts again"
        )
        wait_active(machine)
        machine.run("hubwarden off")
        self.works("when off", spawn=True)
        if layout.remote:
            return
        user = self.users[0]
        expect_reach(self.probe(user, [SSH, METADATA]), [SSH, METADATA], [], f"{layout.name}: {user} when off")

    def leave(self):
        for user in self.users:
            if "/" in user:
                self.stop(user)
        names = [] if self.layout.planted else dict.fromkeys(user.partition("/")[0] for user in self.users)
        for name in names:
            self.hub.api("DELETE", f"/users/{quote(name)}", expect=(204, 404))
        if self.layout.afterwards:
            self.machine.run(fill(self.layout.afterwards, n=self.n), timeout=60)


def tried(machine, layout, n):
    """Everything that has to be so of a layout; its line of the table."""
    started = time.monotonic()
    trial = Trial(machine, layout, n)
    trial.set_up()
    trial.spawn()
    time.sleep(SURVEYED)
    states = [(layout.found, layout.cpu, layout.packets, layout.said)]
    hold(trial, *states[0])
    if layout.typed:
        type_remedy(trial)
        then = {"found": True, "cpu": True, "packets": True, "said": (), **layout.then}
        states.append((then["found"], then["cpu"], then["packets"], then["said"]))
        hold(trial, *states[1])
    if layout.lack:
        lacks = [text for _, text in status(machine)["lacks"]]
        expect(any(layout.lack in text for text in lacks), f"{layout.name}: “{layout.lack}” is not in: {lacks}")
    if layout.also:
        layout.also(trial)
    trial.endures()
    trial.leave()
    print(f"{layout.name}: {time.monotonic() - started:.1f} s", flush=True)
    return line(layout)


def all_tried(machine, part, layouts):
    """Tries them one after another, also after one that failed, and compares the table; ONLY= names some, to look at these."""
    only = os.environ.get("ONLY", "")
    lines, wrong = [], []
    for n, layout in enumerate(layouts, 1):
        if only and layout.name not in only.split():
            continue
        try:
            lines.append(tried(machine, layout, n))
        except (AssertionError, OSError) as error:
            wrong.append(f"{layout.name}: {error}")
            print(f"FAILED: {layout.name}: {error}", flush=True)
            if os.environ.get("DEBUG"):
                print(machine.run(os.environ["DEBUG"], check=False).out, flush=True)
            try:
                Trial(machine, layout, n).leave()
            except (AssertionError, OSError):
                pass
            machine.run("cd /run/systemd/transient && systemctl stop *.service", check=False, timeout=60)
            end_service(machine)
    expect(not wrong, "\n".join(wrong))
    if not only:
        compare(part, lines)


def hold(trial, found, cpu, packets, said):
    trial.is_found(found, cpu, packets)
    trial.is_said(said)
    trial.reaches(packets)


def type_remedy(trial):
    """As an admin does who read it: into the configuration, and a reload."""
    trial.machine.put("/etc/hubwarden/config.toml", hub_config(fill(trial.layout.typed, n=trial.n)))
    trial.machine.run("systemctl reload hubwarden")
    time.sleep(SURVEYED)


def hub_config(lines):
    return config(more=f"[hub]\n{lines}\n")


def begin(machine, lines):
    """A daemon that knows nothing, in force, with these lines."""
    machine.put("/etc/hubwarden/config.toml", hub_config(lines))
    machine.put("/etc/hubwarden/hub-token", "watch-token-0123456789abcdef\n", mode=0o600)
    machine.run(
        "systemctl stop hubwarden; rm -rf /var/lib/hubwarden/* /run/hubwarden/* /run/systemd/system/*/10-hubwarden.conf; "
        "nft delete table inet hubwarden 2>/dev/null; systemctl daemon-reload; systemctl start hubwarden",
        timeout=40,
    )
    wait_active(machine)


# -- the hub's own service --------------------------------------------------------------------------

UNIT = """[Unit]
Description=JupyterHub
[Service]
WorkingDirectory=/var/lib/jupyterhub
StateDirectory=jupyterhub
Environment=PATH=/opt/tljh/hub/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/opt/tljh/hub/bin/jupyterhub -f {config}
KillMode=mixed
{more}
"""
running = {}


def start_service(machine, service):
    """Starts it unless it runs already as it is to be; the one before it ends."""
    if running.get("service") == service:
        return
    end_service(machine)
    running["service"] = service
    for name, text in service.files().items():
        machine.put(f"/etc/systemd/system/{name}", text)
    machine.run(service.starts(), timeout=60)
    Hub(machine, service.front).wait_up()


def end_service(machine):
    service = running.pop("service", None)
    if service:
        machine.run(service.ends() + "; rm -rf /var/lib/jupyterhub*/*", check=False, timeout=60)


# -- the table ----------------------------------------------------------------------------------------

DOCUMENT = rootfs.PROJECT / "docs/hubs.md"
HEAD = ("Set-up", "Configured", "Found", "CPU limits", "Packet rules", "What is said")


def line(layout):
    def word(held, then):
        return "yes" if held else "no, then yes" if layout.typed and then else "no"

    then = {"found": True, "cpu": True, "packets": True, **layout.then}
    said = [f"`{one.kind}`: " + ("" if layout.typed else one.words[-1]) for one in layout.said]
    said = list(dict.fromkeys(text.removesuffix(": ") for text in said))
    said += [f"then typed: {code(layout.typed)}"] if layout.typed else []
    said += [f"“{layout.lack}”"] if layout.lack else []
    cells = [
        layout.words,
        code(layout.config) or "–",
        word(layout.found, then["found"]),
        word(layout.cpu, then["cpu"]),
        word(layout.packets, then["packets"]),
        "; ".join(said) or "–",
    ]
    return f"| {' | '.join(fill(cell, n='') for cell in cells)} |"


def code(lines):
    return ", ".join(f"`{text}`" for text in lines.splitlines())


def compare(part, lines):
    """The table of one scenario with docs/hubs.md."""
    made = "\n".join([f"| {' | '.join(HEAD)} |", "|" + "---|" * len(HEAD), *lines]) + "\n"
    marks = (f"<!-- The table of {part} begins: made by `make hubs-table`. -->", f"<!-- The table of {part} ends. -->")
    print(f"figure {part.replace('-', '_')}_layouts {len(lines)} layouts")
    reach.check_document(DOCUMENT.read_text(), made, rootfs.CACHE / "hubs.md", marks, "docs/hubs.md", "hubs-table")
