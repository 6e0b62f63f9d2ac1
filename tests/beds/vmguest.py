"""Runs a vm scenario's inner half: started by bed-run.service inside the vm, reports on ttyS1, powers off."""

import asyncio
import importlib.util
import json
import platform
import pwd
import shlex
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, "/usr/local/lib/bed")

import rootfs  # noqa: E402

SPAWNER = "/opt/tljh/hub/lib/python{}/site-packages/systemdspawner/systemd.py"


# A light load: 30 ms of CPU every 100 ms, caught up with when late. What it gets is what it wants, or
# what is left for it.
LIGHT = ("import time\nstart, done = time.monotonic(), 0\nwhile True:\n done += 1\n"
         " while time.process_time() < 0.03 * done: pass\n time.sleep(max(0, start + 0.1 * done - time.monotonic()))")


class Done:
    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Guest:
    """What a scenario has inside: the calls that it also has of a Machine from outside, and report()."""

    def __init__(self):
        self.wire = open("/dev/ttyS1", "w", buffering=1)
        self.suite = rootfs.SUITES[platform.freedesktop_os_release()["VERSION_CODENAME"]]

    def report(self, kind, **fields):
        self.wire.write(json.dumps({"kind": kind, "at": round(time.monotonic(), 2), **fields}) + "\n")
        self.wire.flush()

    def run(self, command, timeout=60, check=True):
        script = command if isinstance(command, str) else shlex.join(command)
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, errors="replace", timeout=timeout,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f"`{script}` ended with {done.returncode}: {done.stdout[-800:]} {done.stderr[-800:]}")
        return Done(script, done.returncode, done.stdout, done.stderr)

    def put(self, path, content, mode=0o644):
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            if content != target:
                shutil.copyfile(content, target)
        else:
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        target.chmod(mode)

    def journal(self, *arguments):
        out = self.run(["journalctl", "--output=json", "--all", "--no-pager", "--quiet", *arguments]).out
        return [json.loads(line) for line in out.splitlines() if line.strip()]

    def unit_property(self, unit, name):
        return self.run(["systemctl", "show", "-P", name, "--", unit]).out.strip()

    def spawn(self, user, command, properties=None):
        """Starts a user's server as the hub would: by SystemdSpawner's own code, with its properties.

        The hub itself needs minutes to start under emulation. Returns the unit's name.
        """
        unix = f"jupyter-{user}"
        try:
            owner = pwd.getpwnam(unix)
        except KeyError:
            self.run(["useradd", "--create-home", "--shell", "/bin/bash", unix])
            owner = pwd.getpwnam(unix)
        spawner = load(SPAWNER.format(self.suite.python), "systemdspawner_systemd")
        unit = f"jupyter-{user}"
        environment = {"JUPYTERHUB_USER": user, "HOME": owner.pw_dir, "PATH": "/usr/bin:/bin"}
        code = asyncio.run(spawner.start_transient_service(
            unit, cmd=[command[0]], args=list(command[1:]), working_dir=owner.pw_dir, environment_variables=environment,
            properties=properties or {}, uid=owner.pw_uid, gid=owner.pw_gid))
        if code != 0:
            raise AssertionError(f"systemd-run of {unit} ended with {code}")
        return unit + ".service"

    def cgroup(self, unit):
        return Path("/sys/fs/cgroup" + self.unit_property(unit, "ControlGroup"))


def usage_seconds(cgroup):
    """CPU time a cgroup has used, from cpu.stat."""
    return int((cgroup / "cpu.stat").read_text().split("usage_usec ", 1)[1].split()[0]) / 1e6


def cores_over(cgroups, seconds):
    """Mean cores used over some seconds from now, by one cgroup or by each of several."""
    many = cgroups if isinstance(cgroups, list) else [cgroups]
    before, began = [usage_seconds(cgroup) for cgroup in many], time.monotonic()
    time.sleep(seconds)
    span = time.monotonic() - began
    used = [(usage_seconds(cgroup) - at) / span for cgroup, at in zip(many, before)]
    return used if isinstance(cgroups, list) else used[0]


def main():
    guest = Guest()
    kernel = Path("/proc/version").read_text().split()[2]
    guest.report("hello", kernel=kernel, say=f"booted kernel {kernel}")
    try:
        load("/usr/local/lib/bed/scenario.py", "scenario").guest(guest)
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error) if isinstance(error, AssertionError) else traceback.format_exc()
        guest.report("error", text=f"{type(error).__name__}: {text} ({place.filename.rsplit('/', 1)[-1]}:{place.lineno})")
        lines = guest.run("journalctl --no-pager -o short-precise -t hubwarden -u hubwarden | tail -60", check=False).out
        guest.report("journal", lines=lines.splitlines())
    guest.report("end", say="powering off")
    guest.wire.close()
    subprocess.run(["systemctl", "poweroff", "--force", "--force"])


if __name__ == "__main__":
    main()
