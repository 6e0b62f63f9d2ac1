"""Others flush, reload and delete packet rules (nftables, firewalld, Docker, a person): ours hold, for a unit and a container."""

import reach
import testhost
from containers import NETWORK
from faults import FAULTS, inflict, owned
from hubapi import Hub
from product import TABLE, TLJH_UNIT, eventually, expect, install, wait_guarded

UNIT = TLJH_UNIT.format("alice")
# Tries ports 22 of both families all the time.
KNOCK = f"""
import socket, time
while True:
    for address in ("{testhost.V4}", "{testhost.V6}"):
        try:
            socket.create_connection((address, 22), timeout=0.5).close()
        except OSError:
            pass
    time.sleep(0.01)
"""


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce", "more": f'[hub]\ncontainer_networks = ["{NETWORK}"]\n'})
    Hub(machine).login("alice").spawn()
    reach.start_network(machine)
    machine.put("/usr/local/lib/bed/bed-knock.py", KNOCK)
    # Docker, when it is restarted, starts it again.
    reach.start_container(machine, "jupyter-carol", "carol", NETWORK, "exec python3 /usr/local/lib/bed/bed-knock.py",
                          more=("--restart=always",))
    for user in ("alice", "carol"):
        wait_guarded(machine, user, 30)
    machine.run_in_unit(UNIT, "setsid python3 /usr/local/lib/bed/bed-knock.py >/dev/null 2>&1 </dev/null &")
    machine.arrivals(clear=True)
    whose = "are owned" if owned(machine) else "are put back"
    for command, by in FAULTS:
        seconds = held(machine, command, by)
        leaked = [arrival for arrival in machine.arrivals(clear=True) if arrival["port"] == 22]
        # Where a table is nobody's there is a moment until it is put back.
        expect(not leaked or not owned(machine), f"during `{command}` {len(leaked)} packets reached port 22: {leaked[:3]}")
        print(f"{command}: our rules {whose}, as before after {seconds:.1f} s")
    allowed = [f"tcp,{testhost.V4},80", f"tcp,{testhost.V6},443"]
    eventually(lambda: all(result["ok"] for result in machine.probe(allowed, unit=UNIT).values()), "alice reaches what she may", 10)
    machine.run("hubwarden off")
    eventually(lambda: [one for one in machine.arrivals() if one["port"] == 22], "her knocking arrives once it is off", 10)


def held(machine, command, by):
    if "docker" not in command:
        return inflict(machine, command, by)
    # The container is another one then, with another port.
    machine.run(command, timeout=150)
    scope = wait_guarded(machine, "carol", 30)["cgroup"].strip("/")
    # While Docker was down it was nobody's, who is not judged by uid (set `identity_services`).
    nobodys = f"nft list set {TABLE} identity_services"
    eventually(lambda: scope not in machine.run(nobodys).out, "carol's container is nobody's no more", 5)
    return 0.0
