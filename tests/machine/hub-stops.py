"""A verdict that ends a server goes through the hub where that is configured: its books are right at once; a hub that may not is done without."""

import json
import time

from hubapi import Hub
from product import TLJH_UNIT, config, eventually, expect, install, story, wait_active, wait_guarded

SCOPES = ["list:users", "read:users:groups", "read:users:activity", "read:servers", "admin:server_state"]
TOKEN = "watch-token-0123456789abcdef"
MORE = """
[hub]
api_url = "http://127.0.0.1:15001/hub/api"
stop_by = "{}"

[users.alice.time]
wall = "{}"
warn = "0s"
then = "stop"
"""


def configure(machine, stop_by, wall):
    machine.put("/etc/hubwarden/config.toml", config(more=MORE.format(stop_by, wall)))


def restart_hub(machine, scopes):
    machine.put("/etc/bed/hub.json", json.dumps({"scopes": scopes}))
    machine.run("systemctl restart jupyterhub", timeout=90)
    Hub(machine).wait_up()


def seen_by_the_hub(machine, unit):
    """When the unit had gone, and when the hub's own books had the server as stopped; seconds from now."""
    hub, began, gone, known = Hub(machine), time.monotonic(), None, None
    while gone is None or known is None:
        now = time.monotonic() - began
        expect(now < 120, f"after two minutes the unit is {'gone' if gone else 'there'}, the hub {'knows' if known else 'does not know'}")
        if gone is None and machine.unit_property(unit, "ActiveState") in ("inactive", "failed", ""):
            gone = now
        if known is None and not hub.user("alice")["servers"]:
            known = now
        time.sleep(0.1)
    return gone, known


def scenario(machine):
    machine.put("/etc/bed/hub.json", json.dumps({"scopes": [*SCOPES, "delete:servers"]}))
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/hub-token", TOKEN + "\n", mode=0o600)
    configure(machine, "hub", "12s")
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    unit = TLJH_UNIT.format("alice")

    Hub(machine).login("bob").spawn()
    alice = Hub(machine).login("alice")
    alice.spawn()
    wait_guarded(machine, "alice", 40)
    gone, known = seen_by_the_hub(machine, unit)
    print(f"through the hub: its books were right {known - gone:+.1f} s after the unit had gone")
    expect(known - gone <= 5, f"the hub knew of it {known - gone:.1f} s after the unit had gone")
    told = [record["MESSAGE"] for record in story(machine, "alice")]
    stopped = [line for line in told if "alice's server is stopped: it ran for the 12 s" in line]
    expect(len(stopped) == 1 and not any("without the hub" in line for line in told), f"told: {told}")
    log = machine.run("journalctl -u jupyterhub --no-pager -o cat | grep -c 'DELETE /hub/api/users/alice/server'", check=False).out
    expect(int(log) == 1, f"the hub was asked {log.strip()} times")
    expect(Hub(machine).user("bob")["servers"], "bob's server is gone too")

    # She may start again at once, as after a stop of her own.
    took = alice.spawn()
    print(f"her next server was ready {took:.1f} s after she asked")
    configure(machine, "hub", "none")
    machine.run("systemctl reload hubwarden")

    # A token that may not: it is said, and done without.
    restart_hub(machine, SCOPES)
    configure(machine, "hub", "2s")
    machine.run("systemctl reload hubwarden")
    eventually(lambda: machine.unit_property(unit, "ActiveState") != "active", "alice's server is stopped all the same", 60)
    told = eventually(lambda: [record["MESSAGE"] for record in story(machine, "alice") if "without the hub" in record["MESSAGE"]],
                      "it is told that the hub did not", 20)
    print(told[0])
    expect(len(told) == 1 and "status 403" in told[0] and TOKEN not in told[0], f"told: {told}")
