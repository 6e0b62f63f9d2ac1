"""500 servers and 100 containers that send from their first instruction, the daemon killed half-way: no packet arrives."""

import containers
import testhost
from containers import CLIENT, IMAGE, NETWORK, PYTHON
from product import expect, install, wait_active

SERVERS, CONTAINERS, PORT = 500, 100, 4444
TARGETS = [f"{testhost.V4},{PORT}", f"{testhost.V6},{PORT}"]
SEND = [PYTHON, CLIENT, "send", *TARGETS]


def scenario(machine):
    machine.boot(hub=False)
    install(machine, reload_with={"mode": "enforce", "more": f'[hub]\ncontainer_networks = ["{NETWORK}"]\n'})
    containers.start_docker_with_network(machine)
    machine.run("useradd -m jupyter-u")
    machine.arrivals(clear=True)

    servers(machine, 0, SERVERS // 2)
    started(machine, 0, CONTAINERS // 2)
    machine.run("systemctl kill -s KILL hubwarden")
    started(machine, CONTAINERS // 2, CONTAINERS)
    servers(machine, SERVERS // 2, SERVERS)
    wait_active(machine)
    unguarded = [arrival for arrival in machine.arrivals() if arrival["port"] == PORT]
    print(f"figure unguarded_packets_machine {len(unguarded)} packets")
    expect(not unguarded, f"{len(unguarded)} packets arrived, the first: {unguarded[0] if unguarded else None}")

    # The same programs do send: without the rules their packets arrive.
    machine.run("hubwarden off")
    servers(machine, SERVERS, SERVERS + 1)
    started(machine, CONTAINERS, CONTAINERS + 1)
    families = {":" in arrival["dst"] for arrival in machine.arrivals() if arrival["port"] == PORT}
    expect(families == {False, True}, "nothing arrives when the rules are off")


def servers(machine, first, last):
    """Started as SystemdSpawner does; the drop-in puts them into the slice."""
    command = " ".join(SEND)
    machine.run(f"for n in $(seq {first} {last - 1}); do systemd-run --quiet --collect --unit=jupyter-u$n --uid=jupyter-u "
                f"{command} || exit 1; done; while systemctl list-units --plain --no-legend 'jupyter-u*' | grep -q .; do sleep 0.2; done",
                timeout=400)


def started(machine, first, last):
    """Half of them are some user's by their configuration, the others are nobody's."""
    command = " ".join(SEND)
    machine.run(f"for n in $(seq {first} {last - 1}); do user=; [ $((n % 2)) = 0 ] && user=--env=JUPYTERHUB_USER=c$n; "
                f"docker run --detach --rm --network={NETWORK} --name=jupyter-c$n $user {IMAGE} {command} >/dev/null || exit 1; done; "
                "while docker ps -q | grep -q .; do sleep 0.2; done", timeout=400)
