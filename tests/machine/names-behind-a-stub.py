"""Names over systemd-resolved, by its stub and by D-Bus, and over Docker's resolver in a container, which then asks from the node."""

import reach
import testhost
from containers import NETWORK
from product import expect, install, status, wait_guarded

MORE = f"""
[hub]
container_networks = ["{NETWORK}"]
[egress]
class = "named"
[egress.classes.named]
services = ["dns", "http"]
names = ["good-stub.test", "late-stub.test", "good-relay.test", "*.sub.test"]
deny_names = ["denied.test"]
"""
LINK = "ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf"


def scenario(machine):
    machine.boot(hub=False)
    machine.put("/etc/systemd/resolved.conf.d/bed.conf",
                f"[Resolve]\nDNS={testhost.RESOLVER_V4}\nDNSSEC=no\nLLMNR=no\nMulticastDNS=no\nDNSStubListenerExtra=127.0.0.1\n")
    machine.run(f"systemctl start systemd-resolved && {LINK}")
    install(machine, reload_with={"mode": "enforce", "more": MORE})
    with reach.Outside(machine):
        reach.start_network(machine)
        machine.run("useradd -m jupyter-alice; systemd-run --quiet --unit=jupyter-alice --uid=jupyter-alice sleep 3600")
        reach.start_container(machine, "jupyter-bert", "bert", NETWORK)
        for user in ("alice", "bert"):
            wait_guarded(machine, user, 30)
        alice, bert = reach.unit(machine, "jupyter-alice.service"), reach.container(machine, "jupyter-bert")

        reached(machine, "a unit, by the stub", alice, "good-stub.test")
        # Over D-Bus she gets no packet of the answer; what the service was told counts.
        asked = alice.run({"ask": {"argv": ["busctl", "call", "org.freedesktop.resolve1", "/org/freedesktop/resolve1",
                                            "org.freedesktop.resolve1.Manager", "ResolveHostname", "isit", "0", "late-stub.test", "2", "0"]}})
        expect(reach.reached(asked["ask"]), f"resolved does not answer alice over D-Bus: {asked}")
        address = testhost.OUTSIDE_V4.format(testhost.ZONE["late-stub.test"])
        expect(reach.reached(alice.run({"go": curl(f"http://{address}/")})["go"]), "what resolved told alice over D-Bus is not reached")

        # A resolver on the node's loopback is nowhere in the container's network: Docker asks from the node.
        reached(machine, "a container, Docker asks the stub", bert, "www-stub.sub.test")
        refused(alice, "a unit", "refused: no such name")
        # Nobody can tell for whom Docker asked, so the name is not denied; its address is refused.
        refused(bert, "a container behind Docker's relay", "refused: could not connect")

        # The same with a resolver of another kind.
        machine.run("rm /etc/resolv.conf && echo nameserver 127.0.0.1 > /etc/resolv.conf")
        machine.run("systemctl restart hubwarden")
        machine.run("docker rm -f jupyter-bert")
        reach.start_container(machine, "jupyter-bert", "bert", NETWORK)
        wait_guarded(machine, "bert", 30)
        bert = reach.container(machine, "jupyter-bert")
        reached(machine, "a container, Docker asks a resolver on 127.0.0.1", bert, "good-relay.test")
        refused(bert, "a container behind Docker's relay", "refused: could not connect")

        # Since the daemon started anew: good-relay.test over both families, and what was denied.
        counts = dict(status(machine)["names"])
        expect(counts["answers_read"] >= 3 and counts["addresses_learned"] >= 2, f"answers are not counted: {counts}")
        said = machine.run("hubwarden status").out
        expect(f"answers read {counts['answers_read']}" in said, f"status does not tell of answers: {said}")
        print(next(line for line in said.splitlines() if line.startswith("Names")))
        bus = machine.run("journalctl --no-pager --grep 'Rejected send message' || true").out
        expect("hubwarden" not in bus, f"the bus refused the daemon something: {bus[-600:]}")


def refused(place, who, denied):
    results = place.run({"denied": curl("http://denied.test/"), "other": curl("http://other.test/")})
    expect(reach.cell(results["denied"]) == denied, f"{who}, a denied name: {results}")
    expect(not reach.reached(results["other"]), f"{who} reached a name that is not in `names`: {results}")


def curl(url, *options):
    return {"argv": ["curl", "-sS", "--max-time", "6", "-o", "/dev/null", *options, url]}


def reached(machine, who, place, name):
    """By its name over both families, and not before the name was asked for."""
    last = testhost.ZONE[name]
    addresses = (testhost.OUTSIDE_V4.format(last), testhost.OUTSIDE_V6.format(last))
    before = place.run({address: curl(f"http://{reach.host(address)}/") for address in addresses})
    expect(not any(map(reach.reached, before.values())), f"{who}: {name} is reached before it was asked for: {before}")
    results = place.run({family: curl(f"http://{name}/", family) for family in ("-4", "-6")})
    expect(all(map(reach.reached, results.values())), f"{who}: {name} is not reached: {results}")
    print(f"{who}: {name} is reached over both families")
