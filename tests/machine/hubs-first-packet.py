"""500 servers over the layouts that are covered, each sending from its first instruction, the daemon killed half-way: no packet arrives."""

import testhost
from containers import CLIENT, PYTHON
from layouts import begin, engines
from product import expect, install, wait_active

SUITES = ("bookworm", "trixie")
PORT, ACCOUNTS = 4444, 60
SEND = f"{PYTHON} {CLIENT} send {testhost.V4},{PORT} {testhost.V6},{PORT}"
# By name: what hubwarden is told, what a user's unit is called, and what SystemdSpawner asks of systemd besides.
UNITS = {
    "plain": ("", "jupyter-{user}-singleuser", ""),
    "tljh": ("", "jupyter-{user}", "--property=PrivateTmp=yes --property=NoNewPrivileges=yes"),
    "own_slice": ("", "jupyter-{user}-singleuser", "--slice=jupyter-users.slice"),
    "one_slice": ('slice = "jupyterhub_users.slice"', "jupyter-{user}-singleuser", "--slice=jupyterhub_users.slice"),
    "own_names": ('unit_names = ["jsu-{USERNAME}"]', "jsu-{user}", "--slice=jhub-node.slice"),
}
# By name: the engine, its network, and how many containers; half of them are some user's, the others are nobody's. Podman's
# bridge goes with the last container, and comes back with the next one while no daemon runs.
CONTAINERS = {"docker": ("docker", "hub_default", 120), "podman": ("podman", "podnet", 80)}


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    engines.start(machine)
    machine.run(f"for n in $(seq {ACCOUNTS}); do echo u$n:x:$((3000 + n)):100::/tmp:/bin/sh; done >>/etc/passwd")
    total = 0
    for name, (lines, unit, options) in UNITS.items():
        begin(machine, lines)
        learn(machine, unit, options)
        total += count(machine, name, lambda first, last: units(machine, unit, options, first, last), ACCOUNTS)
    for name, (engine, network, number) in CONTAINERS.items():
        machine.run(f"{engine} network create {network}", timeout=30)
        begin(machine, f'container_networks = ["{network}"]')
        containers(machine, engine, network, 0, 1)
        total += count(
            machine, name, lambda first, last: containers(machine, engine, network, first, last), number
        )
    starts = len(UNITS) * ACCOUNTS + sum(number for _, _, number in CONTAINERS.values())
    print(f"figure unguarded_packets_layouts {total} packets of {starts} servers")
    expect(total == 0, f"{total} packets arrived")

    # The same programs do send: without the rules their packets arrive.
    machine.run("hubwarden off")
    units(machine, "jupyter-{user}", "", 1, 2)
    containers(machine, "docker", "hub_default", 0, 1)
    machine.run("systemctl stop hubwarden")
    families = {":" in arrival["dst"] for arrival in machine.arrivals() if arrival["port"] == PORT}
    expect(families == {False, True}, f"nothing arrives when the rules are off: {families}")


def learn(machine, unit, options):
    """One server that rests, by which the daemon knows the spawner's slice, as it does from the first day on."""
    name = unit.replace("{user}", "u1")
    machine.run(f"systemd-run --quiet --collect --unit={name} --uid=u1 {options} sleep 2; sleep 2.5")


def count(machine, name, start, number):
    """Starts them in two halves, between which the daemon is killed; what arrived."""
    machine.arrivals(clear=True)
    start(1, number // 2 + 1)
    machine.run("systemctl kill -s KILL hubwarden")
    start(number // 2 + 1, number + 1)
    wait_active(machine)
    arrived = [arrival for arrival in machine.arrivals() if arrival["port"] == PORT]
    print(f"figure unguarded_packets_{name} {len(arrived)} packets", flush=True)
    if arrived:
        print(f"    the first: {arrived[0]}")
    return len(arrived)


def units(machine, unit, options, first, last):
    """As SystemdSpawner has systemd start them."""
    name = unit.replace("{user}", "u$n")
    machine.run(
        f"for n in $(seq {first} {last - 1}); do systemd-run --quiet --collect --unit={name} --uid=u$n {options} {SEND} || exit 1; done; "
        f"while systemctl list-units --plain --no-legend '{unit.replace('{user}', 'u*')}.service' | grep -q .; do sleep 0.2; done",
        timeout=200,
    )


def containers(machine, engine, network, first, last):
    image = "localhost/clients" if engine == "podman" else "clients"
    machine.run(
        f"for n in $(seq {first} {last - 1}); do user=; [ $((n % 2)) = 0 ] && user=--env=JUPYTERHUB_USER=c$n; "
        f"{engine} run --detach --rm --network={network} --name=jupyter-c$n $user {engines.PROGRAMS} {image} {SEND} >/dev/null || exit 1; "
        f"done; while {engine} ps -q | grep -q .; do sleep 0.2; done",
        timeout=300,
    )
