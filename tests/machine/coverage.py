"""Whoever runs a server that nothing holds is named, with the remedy, in status, check and journal; after the remedy nobody is left."""

import json

from product import config, eventually, expect, install, status, wait_active

SUITES = ("bookworm", "trixie")
# Named as a single-user server is, and does nothing.
SERVER = "exec -a /opt/x/bin/jupyterhub-singleuser sleep 600"
CONTAINER = "ab" * 32
USERS = ("anna", "ben", "cleo", "dora", "emil", "finn")
ROOTLESS = f"/user.slice/user-{{uid}}.slice/user@{{uid}}.service/user.slice/libpod-{CONTAINER}.scope"


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    for user in USERS:
        machine.run(f"useradd -m {user}")
    nothing(machine, "before anything is planted")
    plant(machine)
    machine.run("systemctl restart hubwarden")
    wait_active(machine)

    # Found though the slice is another, and by nobody's doing.
    eventually(lambda: "anna" in {server["user"] for server in status(machine)["servers"]}, "a server in another slice is found")
    rows = eventually(lambda: (lambda rows: rows if len(rows) >= 6 else None)(by_place(machine)), "six places are named", 80)
    wanted = {
        ("unit-name", "jsu-ben.service"): "unit_names = [",
        ("unit-network", "jupyter-cleo.service"): "NetworkNamespacePath=",
        ("hub-cgroup", "jupyterhub.service"): "SystemdSpawner or DockerSpawner",
        ("hub-cgroup", "secondhub.service"): "SystemdSpawner or DockerSpawner",
        ("other-hub", "secondhub.service"): "hub_units = [",
        ("rootless-container", f"user-{uid(machine, 'emil')[0]}.slice"): "root's Docker or Podman",
    }
    blind = [place for place in wanted if place not in rows]
    print(f"figure coverage_blind_spots {len(blind)}")
    expect(not blind, f"nothing is said of {blind}: {json.dumps([*rows.values()])}")
    check = machine.run("hubwarden check", check=False)
    words = machine.run("hubwarden status").out
    journal = [record["MESSAGE"] for record in machine.journal("-u", "hubwarden")]
    expect(check.code != 0, "check is content")
    for (kind, place), remedy in wanted.items():
        text = rows[kind, place]["text"]
        print(text)
        expect(remedy in text, f"{kind}: {text}")
        for where, said in (("check", check.out), ("status", words)):
            expect(text in said, f"{where} does not say: {text}\nit says:\n{said}")
        lines = [line for line in journal if place in line and remedy in line]
        expect(len(lines) == 1, f"of {place} the journal says: {lines}")
    cleo = next(line for line in words.splitlines() if line.startswith("cleo"))
    expect("NOT HELD" in cleo and "standard" not in cleo, f"cleo, whom no packet rule reaches: {cleo}")

    # What is proposed is typed; what is out of reach ends.
    lines = [rows[place]["config"] for place in (("unit-name", "jsu-ben.service"), ("other-hub", "secondhub.service"))]
    expect(all(lines), f"no line is proposed: {lines}")
    machine.put("/etc/hubwarden/config.toml", config(more="[hub]\n" + "\n".join(lines) + "\n"))
    machine.run("systemctl stop jupyter-cleo secondhub; pkill -f jupyterhub-singleuser -u dora,emil; systemctl restart hubwarden")
    wait_active(machine)
    eventually(lambda: "ben" in {server["user"] for server in status(machine)["servers"]}, "ben's server is held after the remedy")
    nothing(machine, "after the remedies")


def plant(machine):
    run = "systemd-run --quiet --collect --uid={} --unit={} {} bash -c '" + SERVER + "'"
    machine.run(run.format("anna", "jupyter-anna", "--slice=lab.slice"))
    machine.run(run.format("ben", "jsu-ben", ""))
    machine.run("ip netns add lab; ip link add lab0 type veth peer name eth0 netns lab")
    machine.run(run.format("cleo", "jupyter-cleo", "-p NetworkNamespacePath=/run/netns/lab"))
    # LocalProcessSpawner's is a child of the hub.
    machine.start(f"bash -c '{SERVER}'", cgroup="/system.slice/jupyterhub.service", uid=uid(machine, "dora"))
    second = f"(setpriv --reuid=finn --clear-groups bash -c '{SERVER}' &) ; exec -a /opt/y/bin/jupyterhub sleep 600"
    machine.run(f'systemd-run --quiet --collect --unit=secondhub bash -c "{second}"')
    emil = uid(machine, "emil")
    cgroup = ROOTLESS.format(uid=emil[0])
    machine.linger("emil")
    machine.run(f"mkdir -p /sys/fs/cgroup{cgroup}")
    machine.start(f"bash -c '{SERVER}'", cgroup=cgroup, uid=emil)


def uid(machine, user):
    return tuple(machine.run(f"id -u {user}; id -g {user}").out.split())


def by_place(machine):
    """The rows by kind and last part of the place, without what this host has to do with."""
    rows = [row for row in status(machine)["uncovered"] if row["kind"] != "cpu-on-v1"]
    return {(row["kind"], row["cgroup"].rsplit("/", 1)[-1]): row for row in rows}


def nothing(machine, when):
    """Asked of a fresh survey: the daemon's first is made when it has started."""
    machine.run("systemctl restart hubwarden")
    wait_active(machine)
    eventually(lambda: not [row for row in by_place(machine).values() if row["weight"] == "bad"], f"{when} all are covered", 80)
