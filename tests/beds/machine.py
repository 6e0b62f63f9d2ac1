"""The machine bed: a booted Debian with a real hub, in systemd-nspawn, and a test host beside it.

    with Machine("name", rootfs.BOOKWORM) as machine:
        machine.boot()
        machine.run("hostname")

Everything is bounded in time; leaving the `with` removes all of it (see leftovers.py).
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import leftovers
import netns
import rootfs
import testhost
from rootfs import BedError, sh
from shares import Shares

HERE = Path(__file__).resolve().parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Done:
    """What a finished command gave."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __repr__(self):
        said = " | ".join(part.strip() for part in (self.out[-1500:], self.err[-1500:]) if part.strip())
        return f"`{self.command}` ended with {self.code}: {said or 'no output'}"


class CommandFailed(AssertionError):
    pass


class Machine:
    def __init__(self, name, suite):
        self.name, self.suite = name, suite
        self.pid = os.getpid()
        self.directory = leftovers.RUN / f"{self.pid}-{name}"
        self.root = self.directory / "root"
        self.console = self.directory / "console.log"
        self.nspawn = self.leader = self.host = None
        self.group = f"{leftovers.PREFIX}{self.pid}"
        self.cgroup = None
        self.shares = None

    # -- life -----------------------------------------------------------------------------------

    def __enter__(self):
        lower = rootfs.root(self.suite)
        netns.private_mounts()
        for part in ("upper", "work", "root", "docker"):
            (self.directory / part).mkdir(parents=True)
        sh("mount", "-t", "overlay", "overlay", "-o",
           f"lowerdir={lower},upperdir={self.directory}/upper,workdir={self.directory}/work", self.root)
        rootfs.lay_guest_files(self.root)
        return self

    def __exit__(self, *_):
        self.stop()
        subprocess.run(["umount", "-l", str(self.root)], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def stop(self):
        """Pulls the plug; the disk stays, so that boot() afterwards is a reboot after a crash."""
        if self.shares:
            self.shares.close()
            self.shares = None
        if self.host:
            with contextlib.suppress(OSError):
                self.host.stdin.close()
            self.host.kill()
            self.host.wait()
        if self.nspawn:
            self.nspawn.kill()
            self.nspawn.wait()
        self.host = self.nspawn = self.leader = None
        leftovers.remove_stale(self.pid) if not self.root.exists() else self._remove_cgroups()

    def _remove_cgroups(self):
        for root in leftovers.all_hierarchies():
            for group in [root / self.group, *root.glob(f"*/{self.group}*")]:
                leftovers.remove_cgroup(group)

    def boot(self, hub=True, timeout=60):
        """Boots; with `hub`, the hub is enabled and answers when this returns."""
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        link = wants / "jupyterhub.service"
        link.unlink(missing_ok=True)
        if hub:
            link.symlink_to("/etc/systemd/system/jupyterhub.service")
        (self.root / "etc/machine-id").write_text("")
        self._start_nspawn()
        deadline = time.monotonic() + timeout
        self._find_leader(deadline)
        self._join_test_host()
        while self.run("systemctl is-system-running", check=False).out.strip() in ("", "offline", "initializing", "starting"):
            if time.monotonic() > deadline:
                raise BedError(f"the machine has not booted after {timeout} s; its console:\n{self.console_tail()}")
            time.sleep(0.1)
        if hub:
            from hubapi import Hub

            Hub(self).wait_up(max(1.0, deadline - time.monotonic()))

    def _start_nspawn(self):
        command = ["systemd-nspawn", "--quiet", "-D", str(self.root), "--boot", "--private-network", "--register=no",
                   "--keep-unit", "--capability=all", "--system-call-filter=@keyring bpf perf_event_open",
                   "--resolv-conf=off", "--timezone=off", "--link-journal=no", f"--machine=hwbed{self.pid}",
                   f"--bind={self.directory}/docker:/var/lib/docker"]
        environment = {**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1", "SYSTEMD_NSPAWN_LOCK": "0"}
        groups = []
        if Path("/run/systemd/system").is_dir():
            # The host's systemd must know the group and leave what is below it alone.
            command = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={self.group}",
                       "--property=Delegate=yes", *command]
            environment.pop("INVOCATION_ID", None)
        else:
            groups = leftovers.make_cgroups(self.group)

        def in_child():
            netns.die_with_parent()
            for group in groups:
                (group / "cgroup.procs").write_text("0")

        with open(self.console, "ab") as console:
            self.nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console,
                                           env=environment, preexec_fn=in_child, start_new_session=True)

    def _find_leader(self, deadline):
        """Init in the machine: the process in nspawn's tree that is pid 1 in a namespace of its own."""
        while time.monotonic() < deadline:
            if self.nspawn.poll() is not None:
                raise BedError(f"systemd-nspawn ended with {self.nspawn.returncode}:\n{self.console_tail()}")
            for pid in _descendants(self.nspawn.pid):
                with contextlib.suppress(OSError, IndexError):
                    status = Path(f"/proc/{pid}/status").read_text()
                    inner = status.split("NSpid:", 1)[1].splitlines()[0].split()
                    if len(inner) > 1 and inner[-1] == "1" and Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                        self.leader = pid
                        path = Path(f"/proc/{pid}/cgroup").read_text().rsplit("0::", 1)[1].strip()
                        self.cgroup = leftovers.cgroup2_root() / path.lstrip("/").removesuffix("init.scope").rstrip("/")
                        return
            time.sleep(0.02)
        raise BedError(f"no init appeared in the machine:\n{self.console_tail()}")

    def _join_test_host(self):
        """The test host in its own network namespace, and a cable between the two."""
        self.host = subprocess.Popen([sys.executable, str(HERE / "testhost.py")], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, stderr=open(self.directory / "testhost.log", "wb"), text=True)
        if self.host.stdout.readline().strip() != "ready":
            raise BedError("the test host did not start: " + (self.directory / "testhost.log").read_text())
        sh("ip", "link", "add", "bed0", "netns", self.leader, "type", "veth", "peer", "name", "bed0", "netns", self.host.pid)
        t = testhost
        self._ip(self.host.pid, ["link set lo up", "link set bed0 up", f"address add {t.V4}/24 dev bed0",
                                 f"address add {t.OTHER_V4}/24 dev bed0", f"address add {t.METADATA_V4}/32 dev bed0",
                                 f"address add {t.V6}/64 dev bed0 nodad", f"address add {t.OTHER_V6}/64 dev bed0 nodad",
                                 f"address add {t.METADATA_V6}/128 dev bed0 nodad",
                                 f"address add {t.RESOLVER_V4}/32 dev bed0", f"address add {t.RESOLVER_V6}/128 dev bed0 nodad"])
        self._ip(self.leader, ["link set lo up", "link set bed0 up", f"address add {t.MACHINE_V4}/24 dev bed0",
                               f"address add {t.MACHINE_V6}/64 dev bed0 nodad",
                               f"route add default via {t.V4}", f"route add default via {t.V6}",
                               f"route add {t.METADATA_V4}/32 dev bed0"])
        self.ask_host("listen")

    def _ip(self, pid, lines):
        done = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-batch", "-"], input="\n".join(lines) + "\n",
                              capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise BedError(f"ip: {done.stderr}")

    def teach_host(self, lines):
        """Lines of ip(8) for the test host."""
        self._ip(self.host.pid, lines)

    def ask_host(self, command):
        self.host.stdin.write(command + "\n")
        self.host.stdin.flush()
        answer = self.host.stdout.readline()
        if not answer:
            raise BedError("the test host has ended: " + (self.directory / "testhost.log").read_text())
        return answer.strip()

    def arrivals(self, clear=False):
        """What packets reached the test host since the last clear: dicts proto, src, dst, port, time."""
        seen = json.loads(self.ask_host("seen"))
        if clear:
            self.ask_host("clear")
        return seen

    # -- inside ---------------------------------------------------------------------------------

    def _enter(self, command, cgroup=None, uid=None):
        """The argv that runs a shell command in the machine; `cgroup` is a path as the machine sees it."""
        script = command if isinstance(command, str) else shlex.join(command)
        if uid is not None:
            script = f"exec setpriv --reuid={uid[0]} --regid={uid[1]} --init-groups sh -c {shlex.quote(script)}"
        if cgroup:
            script = f"echo $$ > {shlex.quote('/sys/fs/cgroup' + cgroup + '/cgroup.procs')} || exit 125\n{script}"
        return ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--",
                "env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb", "SYSTEMD_PAGER=",
                "sh", "-c", "cd /\n" + script]

    def share_cpu_by_unit(self, weights=()):
        """Gives each unit a share of the CPU, as on a node with cgroup v2; whether that is so from now on."""
        if leftovers.has_cpu_controller():
            return True
        if leftovers.cpu_v1() is None:
            return False
        self.shares = Shares(self, weights)
        return True

    def start(self, command, cgroup=None, uid=None, **kwargs):
        """Starts a command in the machine and returns its Popen."""
        def in_child():
            netns.die_with_parent()
            if self.shares:
                self.shares.join(cgroup)

        return subprocess.Popen(self._enter(command, cgroup, uid), stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                                stdout=kwargs.pop("stdout", subprocess.PIPE), stderr=kwargs.pop("stderr", subprocess.PIPE),
                                text=True, errors="replace", start_new_session=True, preexec_fn=in_child, **kwargs)

    def run(self, command, timeout=60, check=True, cgroup=None, uid=None):
        """Runs a shell command in the machine as root, or as `uid` in `cgroup`; what it gave."""
        process = self.start(command, cgroup, uid)
        shown = command if isinstance(command, str) else shlex.join(command)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise CommandFailed(f"`{shown}` did not end within {timeout} s; so far: {out[-1000:]} {err[-1000:]}") from None
        done = Done(shown, process.returncode, out, err)
        if check and done.code != 0:
            raise CommandFailed(repr(done))
        return done

    def unit_property(self, unit, name):
        return self.run(["systemctl", "show", "-P", name, "--", unit]).out.strip()

    def unit_cgroup(self, unit):
        """The unit's control group as the machine sees it, `/jupyter.slice/….service`."""
        return self.unit_property(unit, "ControlGroup")

    def run_in_unit(self, unit, command, **kwargs):
        """Runs a command as a user's own process: in the unit's cgroup and with the unit's uid."""
        process = int(self.unit_property(unit, "MainPID"))
        if process == 0:
            raise CommandFailed(f"{unit} is not running")
        status = self.run(f"cat /proc/{process}/status").out
        uid, gid = (next(line for line in status.splitlines() if line.startswith(key)).split()[2] for key in ("Uid:", "Gid:"))
        return self.run(command, cgroup=self.unit_cgroup(unit), uid=(uid, gid), **kwargs)

    def linger(self, user):
        """Has a user's manager run without a session; as a unit, since systemd 257's logind serves none from outside its cgroups."""
        self.run(f"systemd-run --quiet --wait --collect loginctl enable-linger {user}")

    def probe(self, targets, unit=None, cgroup=None, uid=None):
        """Tries `proto,address,port` targets from inside (see probe.py); from a unit, a cgroup, or root's shell."""
        command = ["python3", "/usr/local/lib/bed/probe.py", *targets]
        done = self.run_in_unit(unit, command) if unit else self.run(command, cgroup=cgroup, uid=uid)
        return json.loads(done.out)

    def journal(self, *arguments):
        """Journal records as dicts, oldest first; arguments as journalctl takes them."""
        out = self.run(["journalctl", "--output=json", "--all", "--no-pager", "--quiet", *arguments]).out
        records = [json.loads(line) for line in out.splitlines() if line.strip()]
        for record in records:
            for field, value in record.items():
                if isinstance(value, list) and value and all(isinstance(byte, int) for byte in value):
                    record[field] = bytes(value).decode(errors="replace")
        return records

    def put(self, path, content, mode=0o644):
        """Writes a file in the machine; `content` is text, bytes or a Path of the host."""
        target = self.root / path.lstrip("/")
        # Through init's own root when it runs: a tmpfs such as /run lies over what this side sees.
        if self.leader:
            target = Path(f"/proc/{self.leader}/root") / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def watch_cgroups(self):
        return CgroupWatch(self.cgroup)

    def last_words(self, file):
        """The whole journal into `file`, and the end of hubwarden's part, for a scenario that failed."""
        file.parent.mkdir(parents=True, exist_ok=True)
        journal = self.run("journalctl --no-pager -o short-precise", check=False, timeout=20).out
        file.write_text(journal)
        ours = self.run("journalctl --no-pager -o short-precise -t hubwarden -u hubwarden", check=False, timeout=20).out
        shown = file.relative_to(rootfs.PROJECT)
        return "\n".join((f"-- the machine's journal, hubwarden's part (whole: {shown}) --",
                          *(ours.splitlines() or journal.splitlines())[-30:]))

    def console_tail(self, lines=30):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


class CgroupWatch:
    """Notes when cgroups of servers appear, to compare with when the daemon says it found them.

    A busy look every millisecond rather than inotify: it needs no watch on a slice that may not be
    there yet, and its error is known.
    """

    def __init__(self, top):
        self.top, self.born, self.over = Path(top), {}, threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _work(self):
        while not self.over.wait(0.001):
            for name in ("jupyter.slice", "system.slice"):
                with contextlib.suppress(OSError):
                    now = time.time()
                    for entry in os.listdir(self.top / name):
                        if entry.startswith("jupyter-"):
                            self.born.setdefault(entry, now)


def _descendants(pid):
    """Children and grandchildren, each generation after the other."""
    found, generation = [], [pid]
    while generation:
        following = []
        for parent in generation:
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{parent}/task"):
                    following += map(int, Path(f"/proc/{parent}/task/{task}/children").read_text().split())
        found += following
        generation = following
    return found
