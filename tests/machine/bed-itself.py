"""The machine bed works: a hub, two users, a kernel, a test host; needs no package.

What this one finds is broken, no other scenario should be trusted about.
"""

from hubapi import Hub
from product import TLJH_UNIT, expect, outside
import testhost

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot()
    print(f"booted {machine.run('hostname').out.strip()}")
    hub = Hub(machine)
    with machine.watch_cgroups() as watch:
        alice, bob = hub.login("alice"), hub.login("bob")
        print(f"alice's server was ready after {alice.spawn():.1f} s, bob's after {bob.spawn():.1f} s")
    expect({"jupyter-alice.service", "jupyter-bob.service"} <= set(watch.born), f"cgroups seen: {watch.born}")

    unit = TLJH_UNIT.format("alice")
    who = machine.run_in_unit(unit, "id -un; cat /proc/self/cgroup").out
    expect("jupyter-alice" in who.splitlines()[0] and unit in who, f"alice's command ran as {who}")
    printed = alice.execute("import os; print(6 * 7, os.environ['JUPYTERHUB_USER'])")
    expect(printed.strip() == "42 alice", f"alice's kernel printed {printed!r}")

    allowed, refused = outside()
    results = machine.probe(allowed + refused, unit=unit)
    deaf = [target for target in results if not results[target]["ok"]]
    expect(not deaf, f"with no guard everything should answer; silent: {deaf}")
    expect(len(machine.arrivals(clear=True)) >= len(results), "the test host did not note all arrivals")
    expect(machine.arrivals() == [], "the test host's notes were not cleared")
    answer = machine.run(f"curl -s http://{testhost.V4}/").out
    expect(answer.strip() == "test host", f"curl said {answer!r}")

    alice.stop()
    expect(machine.unit_property(unit, "ActiveState") in ("inactive", "failed"), "alice's unit is still there")
    alice.spawn()
