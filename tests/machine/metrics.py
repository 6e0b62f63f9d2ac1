"""Metrics: Debian's prometheus scrapes them, promtool finds no fault, users' servers cannot reach them."""

import json
import time

from hubapi import Hub
from product import CONFIG, TLJH_UNIT, config, eventually, expect, expect_reach, install, spin, stop_spinning, wait_active, wait_guarded

PORT = 9847
TEXTFILE = "/var/lib/prometheus/node-exporter/hubwarden.prom"
SOCKET = "/run/hubwarden/metrics.sock"
TOKEN = "a-token-of-this-scenario"
TOKEN_FILE = "/etc/hubwarden/metrics.token"
OF_TCP = f'listen = "127.0.0.1:{PORT}"\ntoken_file = "{TOKEN_FILE}"'
SCRAPE = f"""
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: hubwarden
    authorization: {{credentials: {TOKEN}}}
    static_configs: [{{targets: ["127.0.0.1:{PORT}"]}}]
  - job_name: node
    static_configs: [{{targets: ["127.0.0.1:9100"]}}]
"""


CURL = f"curl -sf -m 5 -H 'Authorization: Bearer {TOKEN}' http://127.0.0.1:{PORT}/metrics"
# Connections that ask slowly or not at all, and again where they are ended.
FLOOD = """
import itertools, socket, sys, time
where = sys.argv[1]
held = []
print("flooding", flush=True)
for number in itertools.count():
    one = socket.socket(socket.AF_UNIX if where[0] == "/" else socket.AF_INET)
    try:
        one.connect(where if where[0] == "/" else ("127.0.0.1", int(where)))
        one.sendall(b"GET /met" if number % 2 else b"")
        held.append(one)
    except OSError:
        pass
    held = held[-200:]
    time.sleep(0 if number < 200 else 0.01)
"""


def configure(machine, more):
    machine.put(CONFIG, config(credits="20 core-seconds", more=f"[metrics]\n{more}"))


def ask(machine, query):
    """What prometheus answers: a list of (labels, value). Both jobs show the same series."""
    done = machine.run(f"curl -sfG --data-urlencode 'query={query}' http://127.0.0.1:9090/api/v1/query", check=False)
    result = json.loads(done.out)["data"]["result"] if done.code == 0 else []
    return [(series["metric"], float(series["value"][1])) for series in result]


def scrape(machine):
    return machine.run(CURL).out


def lint(machine, command):
    done = machine.run(f"{command} | promtool check metrics", check=False)
    expect(done.code == 0 and not done.out.strip() and not done.err.strip(), f"promtool on `{command}`: {done}")


def scrapes_go_on(machine, where, scrape, user):
    """Whoever else connects, each scrape is answered."""
    machine.put("/usr/local/lib/bed/flood.py", FLOOD)
    machine.run(f"systemd-run --quiet --unit=flood -p LimitNOFILE=1024 -p User={user} python3 /usr/local/lib/bed/flood.py {where}")
    eventually(lambda: "flooding" in machine.run("journalctl -u flood -o cat", check=False).out, "the flood begins", 10)
    time.sleep(3)
    answered = sum(machine.run(scrape, check=False).code == 0 for _ in range(10))
    machine.run("systemctl stop flood")
    print(f"flood of {where}: {answered} of 10 scrapes answered")
    expect(answered == 10, f"{answered} of 10 scrapes of {where} were answered in a flood")


def scenario(machine):
    machine.boot()
    # The scenario is about these programs: without them there is nothing to skip to.
    machine.run("command -v prometheus promtool prometheus-node-exporter")
    install(machine, reload_with={})
    expect(machine.run(f"curl -s http://127.0.0.1:{PORT}/metrics", check=False).code != 0, "metrics are shown though nobody asked for them")
    # Users' names are for no user to read, unless that is asked for.
    configure(machine, f'listen = "127.0.0.1:{PORT}"')
    refused = machine.run("hubwarden check", check=False)
    expect(refused.code != 0 and "metrics.token_file" in refused.out + refused.err, f"names for every user are accepted: {refused}")
    machine.put(TOKEN_FILE, TOKEN, mode=0o600)
    configure(machine, f'{OF_TCP}\ntextfile = "{TEXTFILE}"')
    machine.run("systemctl reload hubwarden")

    machine.put("/etc/prometheus/prometheus.yml", SCRAPE)
    machine.run("systemctl restart prometheus prometheus-node-exporter", timeout=60)
    hub = Hub(machine)
    for user in ("alice", "bob"):
        hub.login(user).spawn()
        wait_guarded(machine, user)
    unit = TLJH_UNIT.format("alice")
    spin(machine, unit)

    eventually(lambda: ask(machine, 'hubwarden_server_stage{job="hubwarden",user="alice",stage="throttled"} == 1'), "prometheus sees alice throttled", 120)
    cpu = dict((labels["user"], value) for labels, value in ask(machine, 'hubwarden_server_cpu_seconds_total{job="hubwarden"}'))
    expect(cpu["alice"] > 15 and cpu["bob"] < cpu["alice"], f"CPU as prometheus sees it: {cpu}")
    expect(ask(machine, 'hubwarden_server_verdicts_total{job="hubwarden",user="alice",stage="throttled"}')[0][1] >= 1, "alice's verdict is not counted")
    expect(ask(machine, 'sum(hubwarden_servers{job="hubwarden"})')[0][1] == 2, "prometheus sees another number of servers")
    expect(ask(machine, 'up{job="hubwarden"}')[0][1] == 1, "the scrape fails")
    threads = {labels["thread"]: value for labels, value in ask(machine, 'hubwarden_thread_up{job="hubwarden"}')}
    expect({"sensors", "journal"} <= set(threads) and set(threads.values()) == {1}, f"the daemon's threads as prometheus sees them: {threads}")
    # The verdict is counted when it is given, the limit is shown once it is in force.
    eventually(lambda: ask(machine, 'hubwarden_server_limit_cores{job="hubwarden",user="alice"} == 0.25'), "prometheus sees alice's limit", 20)
    eventually(lambda: ask(machine, 'hubwarden_server_credits_core_seconds{user="alice",job="node"}'), "node_exporter reads the textfile", 30)
    expect(ask(machine, "node_textfile_scrape_error")[0][1] == 0, "node_exporter finds fault with the textfile")
    stop_spinning(machine)
    lint(machine, CURL)
    lint(machine, f"cat {TEXTFILE}")
    expect(machine.run(f"stat -c '%U %G %a' {TEXTFILE}").out.strip() == "root prometheus 640", machine.run(f"ls -l {TEXTFILE}").out)
    for closed in (f"cat {TEXTFILE}", f"cat {TOKEN_FILE}"):
        expect(machine.run(f"setpriv --reuid=65534 --regid=65534 --clear-groups {closed}", check=False).code != 0, f"any user may: {closed}")
    without = machine.run(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{PORT}/metrics").out
    expect(without == "401", f"without a token: {without}")
    scrapes_go_on(machine, str(PORT), CURL, "nobody")
    print("\n".join(line for line in scrape(machine).splitlines() if 'user="alice"' in line))

    # From inside a user's server the port is as closed as any of this node's.
    target = f"tcp,127.0.0.1,{PORT}"
    expect_reach(machine.probe([target], unit=unit), [], [target], "alice in enforce mode")

    hub.login("bob").stop()
    eventually(lambda: 'user="bob"' not in scrape(machine), "bob's series are gone with his server", 20)

    configure(machine, f'listen = "{SOCKET}"\nuser_names = false')
    machine.run("systemctl reload hubwarden")
    text = eventually(lambda: machine.run(f"curl -sf --unix-socket {SOCKET} http://x/metrics", check=False).out, "the socket answers", 10)
    expect("alice" not in text and "user=" not in text, f"users are named:\n{text}")
    expect("hubwarden_servers_cpu_seconds_total " in text, f"no sums:\n{text}")
    lint(machine, f"curl -sf --unix-socket {SOCKET} http://x/metrics")
    denied = machine.run_in_unit(unit, f"curl -sf --unix-socket {SOCKET} http://x/metrics", check=False)
    expect(denied.code != 0, "alice reads root's socket")
    expect(machine.run(f"curl -s http://127.0.0.1:{PORT}/metrics", check=False).code != 0, "the port still answers")
    expect(machine.run(f"test -e {TEXTFILE}", check=False).code != 0, "the textfile outlived its setting")

    expect(machine.run(f"stat -c '%U %G %a' {SOCKET}").out.strip() == "root prometheus 660", machine.run(f"ls -l {SOCKET}").out)
    # A member of the group may ask, and takes nothing from root with it.
    scrapes_go_on(machine, SOCKET, f"curl -sf -m 5 --unix-socket {SOCKET} http://x/metrics", "prometheus")

    machine.run("systemctl restart hubwarden")
    wait_active(machine)
    eventually(lambda: machine.run(f"curl -sf --unix-socket {SOCKET} http://x/metrics", check=False).out, "the socket answers after a restart", 10)
