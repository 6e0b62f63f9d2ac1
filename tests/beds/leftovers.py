"""What a bed leaves in the kernel and on disk, and how it goes away however the run ended.

Everything a bed starts lives in a cgroup of its own, `hubwarden-bed-PID`, in network namespaces held
only by its processes, and under target/beds/run/PID-NAME/ with its mounts in a private mount
namespace. So `cgroup.kill`, `rmdir` and `rm -rf` are the whole of cleaning up, also for a run that
was killed with SIGKILL: the next run finds its PID dead and cleans after it.
"""

import os
import re
import shutil
import time
from pathlib import Path

from rootfs import CACHE

RUN = CACHE / "run"
PREFIX = "hubwarden-bed-"


def cgroup2_root():
    """Where the host has mounted cgroup v2: alone, or beside v1."""
    for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")):
        if (root / "cgroup.procs").exists() and (root / "cgroup.controllers").exists():
            return root
    raise RuntimeError("this host has no cgroup v2 mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified")


def hierarchies():
    """The hierarchies that systemd-nspawn makes groups in: v2 and, on a hybrid host, name=systemd."""
    named = Path("/sys/fs/cgroup/systemd")
    return [cgroup2_root(), *([named] if (named / "cgroup.procs").exists() else [])]


def has_cpu_controller():
    return "cpu" in (cgroup2_root() / "cgroup.controllers").read_text().split()


def make_cgroups(name):
    made = [root / name for root in hierarchies()]
    for group in made:
        group.mkdir(exist_ok=True)
    return made


def remove_cgroup(group, patience=10.0):
    """Kills what is in it and removes it, children first."""
    deadline = time.monotonic() + patience
    while group.exists():
        kill = group / "cgroup.kill"
        try:
            if kill.exists():
                kill.write_text("1")
        except OSError:
            pass
        for directory, _, _ in os.walk(group, topdown=False):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        if not group.exists():
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{group} is still busy after {patience:.0f} s")
        time.sleep(0.05)


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def remove_stale(pid=None):
    """Removes what dead runs left, or what run `pid` left."""
    for root in hierarchies():
        for group in root.rglob(f"{PREFIX}*"):
            owner = re.match(rf"{PREFIX}(\d+)", group.name)
            if owner and (int(owner.group(1)) == pid if pid else not alive(int(owner.group(1)))):
                remove_cgroup(group)
    for directory in RUN.glob("*-*"):
        owner = directory.name.split("-", 1)[0]
        if owner.isdigit() and (int(owner) == pid if pid else not alive(int(owner))):
            shutil.rmtree(directory, ignore_errors=True)
    if pid is None:
        for partial in CACHE.glob(".*-*.*"):
            owner = partial.name.rsplit(".", 1)[1]
            if owner.isdigit() and not alive(int(owner)):
                shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink()
