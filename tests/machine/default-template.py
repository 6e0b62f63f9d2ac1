"""SystemdSpawner's own unit template and Unix users work as TLJH's do; root's unit is never acted on."""

import json

import testhost
from hubapi import Hub
from product import (DEFAULT_UNIT, NOT_MAPPED, eventually, expect, expect_reach, install, outside, quota, server_of, status,
                     wait_guarded)


def scenario(machine):
    machine.put("/etc/bed/hub.json", json.dumps({"unit_template": "jupyter-{USERNAME}-singleuser", "unix_prefix": ""}))
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    hub = Hub(machine)
    allowed, refused = outside()
    for user in ("alice", "alice-singleuser"):
        hub.login(user).spawn()
        server = wait_guarded(machine, user)
        unit = DEFAULT_UNIT.format(user)
        expect(server["unit"] == unit, f"{user} is listed with {server['unit']}")
        expect(machine.unit_property(unit, "User") in (user, machine.run(f"id -u {user}").out.strip()), "the bed's own setup")
        expect_reach(machine.probe(allowed + refused, unit=unit), allowed, refused, user)
    expect({server["user"] for server in status(machine)["servers"]} == {"alice", "alice-singleuser"}, str(status(machine)))

    # A user called root: under this template the server would run as root itself.
    machine.run("systemd-run --quiet --collect --unit=jupyter-root-singleuser sleep 300")
    line = eventually(lambda: [record for record in machine.journal(f"MESSAGE_ID={NOT_MAPPED}")
                               if record.get("UNIT_NAME") == "jupyter-root-singleuser.service"],
                      "the journal says that root's unit is not mapped")[-1]
    print(line["MESSAGE"])
    expect(len(line.get("REASON", "")) > 10, f"no reason in {line['MESSAGE']}")
    expect(server_of(machine, "root") is None, "root is listed as a hub user")
    expect(quota(machine, "jupyter-root-singleuser.service") is None, "root's unit got a limit")
    ssh, web = f"tcp,{testhost.V4},22", f"tcp,{testhost.V4},80"
    expect_reach(machine.probe([ssh, web], cgroup="/jupyter.slice/jupyter-root-singleuser.service"), [], [ssh, web],
                 "a unit in the guarded slice that is nobody's")
