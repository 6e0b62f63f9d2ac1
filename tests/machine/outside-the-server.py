"""What alice runs by cron, at, sudo -u, ssh and in a lingering session obeys her server's class; no ssh session is lost by it."""

import json
import re
import shlex
import subprocess
import time

import testhost
from hubapi import Hub
from product import (REFUSED, TLJH_UNIT, configure, entries, eventually, expect, expect_none_arrived, expect_reach, install,
                     outside, when)

PROBE = "/usr/local/lib/bed/probe.py"
UNIX = "jupyter-alice"
# Where an admin's ssh comes from.
AWAY, NODE = "10.214.0.2", "10.214.0.1"
HELD = '[users.alice]\negress_class = "quarantine"\n'


def scenario(machine):
    machine.boot()
    install(machine, reload_with={"mode": "enforce"})
    machine.run("useradd --create-home --shell /bin/bash jupyter-carol")
    machine.run(f"useradd --create-home --shell /bin/bash {UNIX}")
    # A session of hers is there before the server; Debian's `at` needs its service.
    machine.linger(UNIX)
    machine.run("systemctl start atd cron")
    ssh = Ssh(machine)
    session = ssh.open()
    hub = Hub(machine)
    alice = hub.login("alice")
    sessions = {"alice": alice, "bob": hub.login("bob")}
    for one in sessions.values():
        one.spawn()
    ways = Ways(machine, ssh)
    eventually(lambda: not sends(ways, "a unit of root's with her uid"), "alice is judged outside her server", 20)

    everything_outside_obeys_the_class(machine, ways)
    whoever_has_no_server_is_left_alone(machine)
    her_places_reach_each_other(machine, ways, ssh)
    an_admin_keeps_the_ssh_session(machine, ssh, session)
    observing_refuses_nothing(machine, ways)
    who_may_become_root_is_left_alone(machine, ways)
    the_last_server_s_end_is_the_end_of_it(machine, ways, alice)


def sends(ways, way):
    """Whether something refused is reached this way."""
    target = f"tcp,{testhost.V4},4444"
    return ways.probe(way, [target])[target]["ok"]


def script(targets):
    return shlex.join(["python3", PROBE, *targets])


class Ssh:
    """ssh from another network into the machine, as alice."""

    def __init__(self, machine):
        self.machine = machine
        machine.run(f"""
            ip netns add away && ip link add away0 type veth peer name eth0 netns away
            ip address add {NODE}/24 dev away0 && ip link set away0 up
            ip -n away address add {AWAY}/24 dev eth0 && ip -n away link set eth0 up && ip -n away link set lo up
            ssh-keygen -q -t ed25519 -N '' -f /root/key
            install -d -m 700 -o {UNIX} -g {UNIX} /home/{UNIX}/.ssh
            install -m 600 -o {UNIX} -g {UNIX} /root/key.pub /home/{UNIX}/.ssh/authorized_keys
            echo '{UNIX} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/bed
            systemctl start ssh""", timeout=60)

    def command(self, script, *options):
        return ["ip", "netns", "exec", "away", "ssh", "-i", "/root/key", "-o", "StrictHostKeyChecking=no", "-o",
                "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=5", *options, f"{UNIX}@{NODE}", script]

    def run(self, script):
        return self.machine.run(self.command(script), timeout=30).out

    def open(self):
        """A session that says something each time it is asked to, and stays."""
        session = self.machine.start(self.command("grep ^0:: /proc/self/cgroup; exec cat"), stdin=subprocess.PIPE)
        where = session.stdout.readline()
        expect("/user.slice/user-" in where, f"the ssh session is in {where}")
        return session


def answers(session, word):
    session.stdin.write(word + "\n")
    session.stdin.flush()
    return session.stdout.readline().strip() == word


class Ways:
    """The ways in which something can run outside alice's server."""

    def __init__(self, machine, ssh):
        self.machine, self.ssh = machine, ssh
        self.uid = machine.run(f"id -u {UNIX}").out.strip()

    def probe(self, way, targets):
        return json.loads(self.all[way](self, script(targets)))

    def unit(self, line):
        return self.machine.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--uid={UNIX}", "sh", "-c", line]).out

    def linger(self, line):
        begin = ["runuser", "-u", UNIX, "--", "env", f"XDG_RUNTIME_DIR=/run/user/{self.uid}", "systemd-run", "--user",
                 "--quiet", "--collect", "sh"]
        # Without her own bus nobody can wait for it.
        return self.later(line, lambda file: self.machine.run([*begin, file]), 15)

    def sudo(self, line):
        return self.machine.run(["sudo", "-u", UNIX, "sh", "-c", line]).out

    def at(self, line):
        return self.later(line, lambda file: self.machine.run(["runuser", "-u", UNIX, "--", "at", "-f", file, "now"]), 15)

    def cron(self, line):
        def put(file):
            self.machine.put("/etc/cron.d/bed", f"* * * * * {UNIX} sh {file}\n")
        try:
            return self.later(line, put, 80)
        finally:
            self.machine.run("rm -f /etc/cron.d/bed")

    def later(self, line, begin, patience):
        """What is printed by something that a service begins when it likes."""
        out, file = "/home/jupyter-alice/said", "/home/jupyter-alice/job"
        self.machine.run(f"rm -f {out}")
        self.machine.put(file, f"{line} > {out}.new && mv {out}.new {out}\n")
        begin(file)
        eventually(lambda: self.machine.run(f"test -e {out}", check=False).code == 0, f"it ran: {line[:40]}", patience, 0.5)
        return self.machine.run(f"cat {out}").out

    def over_ssh(self, line):
        return self.ssh.run(line)

    all = {"a unit of root's with her uid": unit, "a unit of her lingering session": linger, "sudo -u": sudo, "at": at,
           "cron": cron, "ssh": over_ssh}


def everything_outside_obeys_the_class(machine, ways):
    allowed, refused = outside()
    for way in ways.all:
        machine.arrivals(clear=True)
        expect_reach(ways.probe(way, allowed + refused), allowed, refused, way)
        expect_none_arrived(machine, refused, way)
        print(f"{way}: reached {len(allowed)} targets, refused {len(refused)}")
    told = [record["MESSAGE"] for record in entries(machine, "alice", REFUSED)]
    for begins in (f"what alice runs outside the server, as uid {ways.uid}, was refused TCP port ",
                   "what alice runs outside the server was refused TCP port "):
        expect(any(line.startswith(begins) for line in told), f"no refusal begins so: {begins!r}: {told[:5]}")
    print("  " + told[-1])


def whoever_has_no_server_is_left_alone(machine):
    allowed, refused = outside()
    everything = allowed + refused
    for who in (["--uid=jupyter-carol"], []):
        done = machine.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *who, "sh", "-c", script(everything)]).out
        expect_reach(json.loads(done), everything, [], f"a unit of {who}")


def port_of(machine, user):
    """The TCP port that a user's server listens on."""
    pid = machine.unit_property(TLJH_UNIT.format(user), "MainPID")
    lines = machine.run("ss -Hltnp").out.splitlines()
    return next(int(line.split()[3].rsplit(":", 1)[1]) for line in lines if f"pid={pid}," in line)


def her_places_reach_each_other(machine, ways, ssh):
    hers, bobs = (f"tcp,127.0.0.1,{port_of(machine, user)}" for user in ("alice", "bob"))
    allowed, refused = [hers, "tcp,127.0.0.1,15001"], [bobs, "tcp,127.0.0.1,8099"]
    for way in ("a unit of her lingering session", "ssh", "at"):
        expect_reach(ways.probe(way, allowed + refused), allowed, refused, f"{way}, on this node")
    # What `nbconvert` does from cron: a listener of its own on loopback.
    own = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 3); print('ok')"
    expect(ways.at(shlex.join(["python3", "-c", own])).strip() == "ok", "a job of alice's does not reach its own listener")
    # ssh -L: sshd makes the connection as alice, in her session.
    for user, expected in (("alice", True), ("bob", False)):
        forward = f"-L127.0.0.1:9900:127.0.0.1:{port_of(machine, user)}"
        tunnel = machine.start(ssh.command("sleep 20", forward))
        ask = "ip netns exec away curl -s -o /dev/null -m 5 http://127.0.0.1:9900/"
        time.sleep(2)
        reached = machine.run(ask, check=False).code == 0
        expect(reached == expected, f"ssh -L to {user}'s server: reached {reached}")
        tunnel.kill()
        machine.run("pkill -f '[s]sh -i /root/key.*sleep 20'", check=False)


def use(machine, mode="enforce", more=""):
    configure(machine, mode=mode, more=more)
    machine.run("hubwarden reload")


def an_admin_keeps_the_ssh_session(machine, ssh, session):
    """However strict the class of whoever administers the node by ssh and sudo, and has a server."""
    use(machine, more=HELD)
    target = f"tcp,{testhost.V4},443"
    probe = script([target])
    eventually(lambda: not json.loads(ssh.run(probe))[target]["ok"], "alice's session is held back")
    expect(answers(session, "still here"), "the open ssh session was lost")
    everything = [target, f"tcp,{testhost.V4},4444", "tcp,127.0.0.1,8099"]
    root = json.loads(ssh.run("sudo " + script(everything)))
    expect_reach(root, everything, [], "root in alice's session")
    ssh.run("sudo hubwarden off")
    expect(json.loads(ssh.run(probe))[target]["ok"], "hubwarden off lifts it")
    ssh.run("sudo hubwarden on")
    expect(not json.loads(ssh.run(probe))[target]["ok"], "hubwarden on brings it back")
    # A table that was flushed is back, with her in it.
    machine.run("nft flush ruleset; nft delete table inet hubwarden", check=False)
    eventually(lambda: not json.loads(ssh.run(probe))[target]["ok"], "the rules for her session are back")
    machine.run("systemctl restart hubwarden", timeout=40)
    expect(not json.loads(ssh.run(probe))[target]["ok"], "a restart of the daemon forgot her session")
    expect(answers(session, "and here"), "the open ssh session was lost")
    use(machine)
    print("an ssh session stayed, and new ones began, while its user's class reached nothing")


def observing_refuses_nothing(machine, ways):
    begun = time.time()
    use(machine, mode="observe")
    allowed, refused = outside()
    for way in ("a unit of root's with her uid", "ssh"):
        expect_reach(ways.probe(way, allowed + refused), allowed + refused, [], f"{way}, observing")
    told = [record for record in entries(machine, "alice", REFUSED) if when(record) >= begun]
    expect(any(re.match("what alice runs outside.* would have been refused", record["MESSAGE"]) for record in told),
           f"nothing says what would have been refused: {[record['MESSAGE'] for record in told][:5]}")
    use(machine)
    eventually(lambda: not sends(ways, "ssh"), "enforcing again")


def who_may_become_root_is_left_alone(machine, ways):
    machine.run(f"usermod -aG sudo {UNIX}")
    machine.run("hubwarden reload")
    eventually(lambda: sends(ways, "ssh") and sends(ways, "sudo -u"), "an admin of the node is left alone outside the server")
    refused = f"tcp,{testhost.V4},4444"
    server = machine.probe([refused], unit=TLJH_UNIT.format("alice"))
    expect(not server[refused]["ok"], "an admin's server has its class all the same")
    machine.run(f"gpasswd -d {UNIX} sudo")
    machine.run("hubwarden reload")
    eventually(lambda: not sends(ways, "ssh"), "she is an admin no more")
    use(machine, more='[egress]\noutside = "leave"\n')
    eventually(lambda: sends(ways, "ssh") and sends(ways, "sudo -u"), "left alone by configuration")
    use(machine)
    eventually(lambda: not sends(ways, "ssh"), "judged again")


def the_last_server_s_end_is_the_end_of_it(machine, ways, alice):
    alice.stop()
    eventually(lambda: sends(ways, "ssh") and sends(ways, "sudo -u"), "without a server alice is a user as any other")
    alice.spawn()
    eventually(lambda: not sends(ways, "ssh") and not sends(ways, "sudo -u"), "her next server is judged outside too", 20)
