"""DockerSpawner's containers reach what their class allows, over both families and by any socket; unknown ones nothing, the hub's everything."""

import containers
import testhost
from containers import CLIENT, NETWORK, PYTHON, addresses, probe
from product import eventually, expect, expect_none_arrived, expect_reach, install, outside, status, story, wait_active, wait_guarded

SLEEP = "while :; do sleep 60; done"


def start(machine, name, user=None, script=SLEEP):
    environment = {"JUPYTERHUB_USER": user} if user else {}
    containers.run(machine, name, environment, script, network=NETWORK)


def listens(*ports):
    return f"exec {PYTHON} {CLIENT} listen {' '.join(map(str, ports))}"


def scenario(machine):
    machine.boot(hub=False)
    install(machine, reload_with={"mode": "enforce", "more": f'[hub]\ncontainer_networks = ["{NETWORK}"]\n'})
    containers.start_docker_with_network(machine)
    start(machine, "hub", script=listens(8081, 5432))
    start(machine, "jupyter-alice", "alice")
    start(machine, "jupyter-bob", "bob", listens(80, 8888))
    # By its name a server, and nobody's by what the spawner would have configured: not mapped.
    start(machine, "jupyter-stray")
    for user in ("alice", "bob"):
        wait_guarded(machine, user, 30)
    held(machine, "alice at first")
    spoofed(machine)
    speaks_to_a_pool(machine)

    # Nobody's rules are lifted by what happens to Docker, and what it starts anew is held again.
    machine.run("systemctl restart docker", timeout=90)
    machine.run("docker start hub jupyter-alice jupyter-bob jupyter-stray", timeout=90)
    held(machine, "alice after Docker was restarted")
    machine.run("docker rm -f hub jupyter-alice jupyter-bob jupyter-stray", timeout=90)
    machine.run(f"docker network rm {NETWORK}", timeout=60)
    containers.make_network(machine)
    start(machine, "hub", script=listens(8081, 5432))
    start(machine, "jupyter-alice", "alice")
    start(machine, "jupyter-bob", "bob", listens(80, 8888))
    start(machine, "jupyter-stray")
    held(machine, "alice on the network made anew")

    # Killed, the daemon leaves the rules where they are; its successor finds everybody again.
    machine.run("systemctl kill -s KILL hubwarden")
    refused = [f"tcp,{testhost.V4},22", f"tcp,{testhost.V6},22"]
    expect_reach(probe(machine, "jupyter-alice", refused), [], refused, "alice with the daemon killed")
    wait_active(machine)
    held(machine, "alice after the daemon was killed")

    machine.run("hubwarden off")
    lifted = [f"tcp,{testhost.V4},22", f"tcp,{testhost.V6},22"]
    for name in ("jupyter-alice", "jupyter-stray"):
        expect_reach(probe(machine, name, lifted), lifted, [], f"{name} while off")
    expect("hubwarden" not in machine.run("nft list tables").out, "tables are left after off")


def held(machine, who):
    def both():
        users = {server["user"] for server in status(machine)["servers"] if server.get("class") == "standard"}
        return {"alice", "bob"} <= users
    eventually(both, f"{who}: alice and bob have their class", 30)
    everywhere = [f"tcp,{address},{port}" for address in (testhost.V4, testhost.V6) for port in (80, 443)]

    def reaches():
        return all(result["ok"] for result in probe(machine, "jupyter-alice", everywhere).values())
    eventually(reaches, f"{who}: her class is open to her", 20)

    machine.arrivals(clear=True)
    allowed, refused = outside()
    expect_reach(probe(machine, "jupyter-alice", allowed + refused), allowed, refused, who)
    expect_none_arrived(machine, refused, who)

    # Another user's container, and the hub's: its API and nothing else of it.
    hub, bob = addresses(machine, "hub"), addresses(machine, "jupyter-bob")
    expect(len(hub) == len(bob) == 2, f"the network gave only {hub} and {bob}")
    api = [f"tcp,{address},8081" for address in hub]
    others = [f"tcp,{address},5432" for address in hub] + [f"tcp,{address},{port}" for address in bob for port in (80, 8888)]
    results = probe(machine, "jupyter-alice", api + others)
    expect(all(results[target]["ok"] for target in api), f"{who}: the hub's API: {results}")
    expect(not any(results[target]["ok"] for target in others), f"{who}: reached what is another's: {results}")
    # The hub's container is not held, and its proxy reaches servers.
    proxy = [f"tcp,{address},8888" for address in bob] + [f"tcp,{testhost.V4},22", f"tcp,{testhost.V6},22"]
    expect_reach(probe(machine, "hub", proxy), proxy, [], f"the hub's container ({who})")

    machine.arrivals(clear=True)
    results = probe(machine, "jupyter-stray", allowed + refused + api)
    # The hub's API is open from the first packet on: it is the hub that says whose a server is.
    wrong = {target: result for target, result in results.items() if result["ok"] != (target in api)}
    expect(not wrong, f"a container not known reaches the hub and nothing else: {wrong}")
    expect_none_arrived(machine, allowed + refused, "a container not known")


def speaks_to_a_pool(machine):
    """The first bytes of a connection are read in a container as in a unit, over both families."""
    said = '{"id": 1, "method": "mining.authorize", "params": ["NOBODY.1", "x"]}\\n'
    for user, target in (("alice", testhost.V4), ("bob", testhost.V6)):
        machine.run(["docker", "exec", f"jupyter-{user}", PYTHON, "-c", f"import socket; socket.create_connection(('{target}', 80)).sendall(b'{said}')"])
    for user in ("alice", "bob"):
        def told():
            return [record["MESSAGE"] for record in story(machine, user) if record.get("EVIDENCE") == "stratum"]
        eventually(told, f"what {user}'s container said to a pool is told", 20)
        expect("mining.authorize" in told()[0] and "TCP port 80" in told()[0], f"of {user} it is told: {told()}")


def spoofed(machine):
    """A packet socket, which Docker's containers may open: with another's source, and with its own."""
    own, bob = addresses(machine, "jupyter-alice"), addresses(machine, "jupyter-bob")
    machine.arrivals(clear=True)
    for source, target in zip(bob, (testhost.RESOLVER_V4, testhost.V6)):
        for port in (53, 4444):
            machine.run(["docker", "exec", "jupyter-alice", PYTHON, CLIENT, "spoof", source, target, str(port)])
    for source, target in zip(own, (testhost.V4, testhost.V6)):
        machine.run(["docker", "exec", "jupyter-alice", PYTHON, CLIENT, "spoof", source, target, "4444"])
    arrived = machine.arrivals()
    expect(not arrived, f"packets of a packet socket arrived: {arrived}")
    machine.run(["docker", "exec", "jupyter-alice", PYTHON, CLIENT, "spoof", own[0], testhost.RESOLVER_V4, "53"])
    expect(machine.arrivals(), "the spoofer sends nothing at all")
