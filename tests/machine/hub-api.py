"""The hub's own word: who has which server whatever its unit is called, and policies by hub group; a hub that is down changes nothing."""

import json

from hubapi import Hub
from product import NOT_MAPPED, config, eventually, expect, install, server_of, status, wait_active, wait_guarded

SCOPES = ["list:users", "read:users:groups", "read:users:activity", "read:servers", "admin:server_state"]
TOKEN = "watch-token-0123456789abcdef"
# Templates that fit nothing here: only the hub can tell.
MORE = '''
[hub]
unit_names = ["elsewhere-{USERNAME}"]
api_url = "http://127.0.0.1:15001/hub/api"

[groups.staff.cpu]
limit = "0.75 cores"
'''


def troubles(machine):
    return [record["MESSAGE"] for record in machine.journal("SYSLOG_IDENTIFIER=hubwarden") if "it is asked again" in record["MESSAGE"]]


def scenario(machine):
    machine.put("/etc/bed/hub.json", json.dumps({"scopes": SCOPES, "groups": {"staff": ["alice"]}}))
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/config.toml", config(more=MORE))
    machine.put("/etc/hubwarden/hub-token", TOKEN + "\n", mode=0o644)
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    eventually(lambda: any("everybody on this node can use it" in line for line in troubles(machine)),
               "a token that everybody can read is refused", 20)
    machine.run("chmod 600 /etc/hubwarden/hub-token; systemctl restart hubwarden", timeout=40)
    wait_active(machine)

    hub = Hub(machine)
    sessions = {user: hub.login(user) for user in ("alice", "bob")}
    for session in sessions.values():
        session.spawn()
    for user in sessions:
        found = wait_guarded(machine, user, 40)
        print(f"{user}: {found['unit']}, limit {found['limit_cores']}")
    eventually(lambda: server_of(machine, "alice")["limit_cores"] == 0.75, "alice has her group's limit", 20)
    expect(server_of(machine, "bob")["limit_cores"] == 2, f"bob: {server_of(machine, 'bob')}")

    # What the hub says changes within a minute and two: bob joins the group.
    hub.api("POST", "/groups/staff/users", {"users": ["bob"]})
    eventually(lambda: server_of(machine, "bob")["limit_cores"] == 0.75, "bob has his new group's limit", 80)

    # Without the hub everything stands, and that is told once.
    before = len(troubles(machine))
    machine.run("systemctl stop jupyterhub", timeout=60)
    machine.run("systemctl kill --kill-whom=all --signal=KILL jupyterhub", check=False)
    eventually(lambda: len(troubles(machine)) > before, "the hub's silence is told", 80)
    expect({server["user"] for server in status(machine)["servers"]} == {"alice", "bob"}, str(status(machine)))
    expect(len(troubles(machine)) == before + 1, f"told: {troubles(machine)[before:]}")
    told = machine.journal(f"MESSAGE_ID={NOT_MAPPED}")
    print(f"told while nobody had spoken: {[record['MESSAGE'] for record in told]}")
    expect(all(TOKEN not in line for line in troubles(machine)), "the token is in the journal")
