"""Who plays the hub at its address gets no token and is not believed; a hub that speaks falsely moves, cuts off and frees no server."""

import json
import shlex

import testhost
from hubapi import Hub
from product import TLJH_UNIT, configure, eventually, expect, install, server_of, story, wait_active, wait_guarded

SCOPES = ["list:users", "read:users:groups", "read:users:activity", "read:servers", "admin:server_state"]
TOKEN = "watch-token-0123456789abcdef"
MORE = """
[hub]
api_url = "{url}"
{more}
[groups.staff.cpu]
limit = "7 cores"
"""
API = "http://127.0.0.1:15001/hub/api"
# Only mallory and root write here; each line is one connection: what it got.
SEEN = "/srv/false/seen"
FALSE = "/srv/false/hub.py"

FALSE_HUB = r'''
import json, os, socket, sys, threading

how, ends = sys.argv[1], sys.argv[2:]
named = {"unit_name": "jupyter-bob"}
def user(name, groups=()):
    return {"name": name, "admin": True, "groups": list(groups), "servers": {"": {"state": named}}}
two = [user("bob"), user("mallory", ["staff"])]
def page(users, following=None):
    following = {"offset": following, "limit": 200, "url": "http://127.0.0.1:1/"} if following else None
    return {"items": users, "_pagination": {"next": following}}

def answer(request):
    mode = open("/srv/false/mode").read().strip() if how == "by mode" else how
    status, headers, body = "200 OK", ["X-JupyterHub-Version: 5.2.1"], page(two)
    if mode == "endless":
        offset = int(request.split(b"offset=")[1].split(b"&")[0] or 0) if b"offset=" in request else 0
        body = page([{"name": f"u{offset}-{i}", "groups": ["g" * 250] * 16} for i in range(900)], offset + 200)
    if mode == "redirect":
        status, headers = "302 Found", ["X-JupyterHub-Version: 5.2.1", "Location: http://127.0.0.1:15009/"]
    if mode == "unmarked":
        headers = []
    body = json.dumps(body).encode()
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]).encode() + body

lock = threading.Lock()
def serve(connection, where):
    got = b""
    try:
        if how == "unasked":
            connection.sendall(answer(b""))
        connection.settimeout(30)
        while b"\r\n\r\n" not in got:
            more = connection.recv(65536)
            if not more:
                break
            got += more
        if got and how != "relay":
            connection.sendall(answer(got))
    except OSError:
        pass
    connection.close()
    with lock, open("/srv/false/seen", "a") as file:
        print(json.dumps({"how": how, "at": where, "got": got.decode(errors="replace")}), file=file)

def listen(end):
    if end.startswith("/"):
        listener = socket.socket(socket.AF_UNIX)
        if os.path.exists(end):
            os.unlink(end)
        listener.bind(end)
        os.chmod(end, 0o777)
    else:
        host, port = end.rsplit(",", 1)
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, int(port)))
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, end), daemon=True).start()

for end in ends:
    threading.Thread(target=listen, args=(end,)).start()
'''


class Node:
    """The machine, its real hub, and mallory, who has a server and plays the hub."""

    def __init__(self, machine):
        self.machine, self.nudges = machine, 0
        self.hub = Hub(machine)

    def seen(self, how=None):
        lines = self.machine.run(f"cat {SEEN}").out.splitlines()
        seen = [json.loads(line) for line in lines]
        return [one for one in seen if how in (None, one["how"])]

    def restart(self):
        """A new daemon asks the hub at once."""
        self.machine.run("systemctl restart hubwarden", timeout=40)

    def nudge(self):
        """A new unit in the guarded slice: the daemon asks the hub some seconds later."""
        self.nudges += 1
        self.machine.run(f"systemd-run --quiet --collect --slice=jupyter.slice --unit=nudge-{self.nudges} --uid=jupyter-bob sleep 5")

    def troubles(self):
        return [record["MESSAGE"] for record in self.machine.journal("SYSLOG_IDENTIFIER=hubwarden")
                if "it is asked again" in record["MESSAGE"]]

    def use(self, url=API, more=""):
        configure(self.machine, more=MORE.format(url=url, more=more))
        self.machine.run("hubwarden reload")

    def play(self, how, *ends, cgroup=None):
        """Starts a false hub as mallory; waits until it listens."""
        command = ["python3", FALSE, how, *ends]
        unit = TLJH_UNIT.format("mallory")
        uid = self.machine.run("id -u jupyter-mallory").out.strip()
        process = self.machine.start(shlex.join(command), uid=(uid, uid),
                                     cgroup=cgroup or self.machine.unit_cgroup(unit))
        for end in ends:
            test = f"test -S {end}" if end.startswith("/") else f"ss -Hltn 'sport = :{end.rsplit(',', 1)[1]}' | grep -q ."
            eventually(lambda: self.machine.run(test, check=False).code == 0, f"{how} listens at {end}")
        return process

    def end(self, process):
        self.machine.run("pkill -KILL -f '[/]srv/false/hub.py'", check=False)
        process.wait()

    def stop_hub(self):
        self.machine.run("systemctl stop jupyterhub; systemctl reset-failed jupyterhub", check=False, timeout=60)

    def start_hub(self):
        self.machine.run("systemctl start jupyterhub", timeout=60)
        self.hub.wait_up()

    def is_harmless(self, what):
        """Bob is bob's, with his network; mallory has what she had."""
        bob, mallory = server_of(self.machine, "bob"), server_of(self.machine, "mallory")
        expect(bob and bob["class"] == "standard" and bob["unit"] == TLJH_UNIT.format("bob"), f"{what}: bob is {bob}")
        expect(mallory and mallory["limit_cores"] == 2, f"{what}: mallory is {mallory}")
        target = f"tcp,{testhost.V4},443"
        found = self.machine.probe([target], unit=TLJH_UNIT.format("bob"))
        expect(found[target]["ok"], f"{what}: bob's network is lost: {found}")

    def gets_nothing(self, how, ask=None):
        """The daemon has connected, and hung up without a byte."""
        (ask or self.restart)()
        eventually(lambda: self.seen(how), f"{how}: the daemon connects", 40)
        got = [one["got"] for one in self.seen(how) if one["got"]]
        expect(not got, f"{how} received {got[:1]}")
        self.is_harmless(how)
        print(f"{how}: {len(self.seen(how))} connections, no byte received")


def scenario(machine):
    machine.put("/etc/bed/hub.json", json.dumps({"scopes": SCOPES, "groups": {"staff": ["alice"]}}))
    machine.boot()
    install(machine)
    machine.put("/etc/hubwarden/hub-token", TOKEN + "\n", mode=0o600)
    configure(machine, more=MORE.format(url=API, more=""))
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    node = Node(machine)
    for user in ("mallory", "bob"):
        node.hub.login(user).spawn()
    for user in ("mallory", "bob"):
        wait_guarded(machine, user, 40)
    machine.put(FALSE, FALSE_HUB)
    machine.run("chown jupyter-mallory /srv/false; touch /srv/false/seen; chmod 666 /srv/false/seen")
    expect(not node.troubles(), f"with the hub there: {node.troubles()}")

    users_who_play_the_hub(node)
    a_user_behind_the_proxy(node)
    a_socket_that_others_can_make(node)
    a_user_beside_the_hub(node)
    a_hub_that_speaks_falsely(node)
    all_is_well_again(node)
    journal = machine.run("journalctl --no-pager -o cat").out
    expect(TOKEN not in journal, "the token is in the journal")
    expect(all(TOKEN not in one["got"] for one in node.seen() if one["how"] != "by mode"), "a user has the token")


def users_who_play_the_hub(node):
    node.stop_hub()
    uid = node.machine.run("id -u jupyter-mallory").out.strip()
    false = node.play("in her server", "127.0.0.1,15001")
    node.gets_nothing("in her server", node.nudge)
    told = eventually(lambda: [line for line in node.troubles() if "no token was sent" in line], "it is said who listens there")
    print(told[0])
    expect(f"uid {uid} (jupyter-mallory) in cgroup /jupyter.slice/jupyter-mallory.service listens on 127.0.0.1:15001" in told[0]
           and "What the hub said before stands" in told[0], told[0])
    node.end(false)

    node.machine.linger("jupyter-mallory")
    session = f"/user.slice/user-{uid}.slice/user@{uid}.service"
    eventually(lambda: node.machine.run(f"test -d /sys/fs/cgroup{session}", check=False).code == 0, "her lingering session")
    leaf = node.machine.run(f"mkdir -p /sys/fs/cgroup{session}/jupyterhub.service; echo {session}/jupyterhub.service").out.strip()
    for how, ends, cgroup in [
        ("of the hub's name", ["127.0.0.1,15001"], leaf),
        ("both families", ["::,15001"], None),
        ("unasked", ["127.0.0.1,15001"], None),
        ("relay", ["127.0.0.1,15001"], leaf),
    ]:
        false = node.play(how, *ends, cgroup=cgroup)
        node.gets_nothing(how)
        node.end(false)
    # Two listeners of one port: whichever gets the connection.
    first, second = (node.play("one of two", "127.0.0.1,15001") for _ in range(2))
    node.gets_nothing("one of two")
    node.end(first)
    second.wait()


def a_user_behind_the_proxy(node):
    """The proxy lives while the hub is down, and would pass the token on."""
    machine = node.machine
    machine.run("systemd-run --quiet --unit=bed-proxy --setenv=CONFIGPROXY_AUTH_TOKEN=x "
                "--setenv=PATH=/opt/tljh/hub/bin:/usr/bin:/bin /opt/tljh/proxy/node_modules/.bin/configurable-http-proxy "
                "--ip 127.0.0.1 --port 8000 --api-port 8098 --default-target http://127.0.0.1:15001")
    eventually(lambda: machine.run("ss -Hltn 'sport = :8000' | grep -q .", check=False).code == 0, "the proxy listens")
    false = node.play("behind the proxy", "127.0.0.1,15001")
    node.use("http://127.0.0.1:8000/hub/api", 'api_peers = ["bed-proxy.service"]')
    node.restart()
    told = eventually(lambda: [line for line in node.troubles() if "hub.api_url is the proxy's" in line], "the proxy is not used", 40)
    print(told[0])
    expect(not node.seen("behind the proxy"), f"the proxy passed on {node.seen('behind the proxy')}")
    node.is_harmless("behind the proxy")
    node.end(false)
    machine.run("systemctl stop bed-proxy")


def a_socket_that_others_can_make(node):
    node.machine.run("install -d -m 1777 /srv/open")
    false = node.play("socket", "/srv/open/hub.sock")
    node.use("http+unix://%2Fsrv%2Fopen%2Fhub.sock/hub/api")
    node.gets_nothing("socket")
    node.end(false)


def a_user_beside_the_hub(node):
    """`localhost` is ::1 first, where mallory listens; the hub listens on 127.0.0.1 only."""
    node.start_hub()
    false = node.play("beside the hub", "::1,15001")
    node.use("http://localhost:15001/hub/api")
    node.gets_nothing("beside the hub")
    asked = lambda: node.machine.run("journalctl -u jupyterhub --no-pager -o cat | grep -c '200 GET /hub/api/users?state='", check=False).out
    before = int(asked())
    node.restart()
    eventually(lambda: int(asked()) > before, "the hub itself is asked", 30)
    node.end(false)
    node.use()


def a_hub_that_speaks_falsely(node):
    """The hub's own unit runs a false hub, so that it is asked; its word moves nobody's server."""
    machine = node.machine
    node.stop_hub()
    machine.run("chown root /srv/false")
    machine.put("/etc/systemd/system/jupyterhub.service.d/false.conf",
                f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 {FALSE} 'by mode' 127.0.0.1,15001\n")
    machine.put("/srv/false/mode", "twice")
    machine.run("systemctl daemon-reload; systemctl start jupyterhub")
    memory = lambda: int(machine.run("awk '/VmHWM/ {print $2}' /proc/$(systemctl show -P MainPID hubwarden)/status").out)
    for mode, said in [
        ("twice", "one of bob and one of mallory"),
        ("endless", "its pages hold more than 32 MiB"),
        ("redirect", "a redirect, which is not followed"),
        ("unmarked", "without the header X-JupyterHub-Version"),
    ]:
        machine.put("/srv/false/mode", mode)
        count = len(node.seen("by mode"))
        node.restart()
        eventually(lambda: len(node.seen("by mode")) > count, f"{mode}: the daemon asks", 40)
        log = lambda: [record["MESSAGE"] for record in machine.journal("SYSLOG_IDENTIFIER=hubwarden") if said in record["MESSAGE"]]
        told = eventually(log, f"{mode}: it is logged", 40)
        print(told[0])
        expect(len(told) == 1, f"{mode}: logged {len(told)} times")
        bob = server_of(machine, "bob")
        expect(bob and bob["class"] == "standard", f"{mode}: bob is {bob}")
        target = f"tcp,{testhost.V4},443"
        expect(machine.probe([target], unit=TLJH_UNIT.format("bob"))[target]["ok"], f"{mode}: bob's network is lost")
    print(f"the daemon's peak memory: {memory() // 1024} MiB")
    expect(memory() < 300 << 10, f"the daemon took {memory()} KiB")
    machine.run("rm -r /etc/systemd/system/jupyterhub.service.d; systemctl daemon-reload")
    node.stop_hub()


def all_is_well_again(node):
    """Without a restart of the daemon."""
    node.start_hub()
    node.hub.api("POST", "/groups/staff/users", {"users": ["bob"]})
    node.nudge()
    eventually(lambda: server_of(node.machine, "bob")["limit_cores"] == 7, "the hub is heard again: bob is in the group staff", 70)
    expect(server_of(node.machine, "mallory")["limit_cores"] == 2, "mallory is out of her false group")
    gone = [record["MESSAGE"] for record in story(node.machine, "bob") if "GONE" in record.get("VERDICT", "")]
    expect(not gone, f"bob's server was let go meanwhile: {gone}")
