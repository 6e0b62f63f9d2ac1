"""What a bed leaves in the kernel and on disk, and how it goes away however the run ended.

Everything a bed starts lives in a cgroup of its own, `hubwarden-bed-PID`, in network namespaces held
only by its processes, and under target/beds/run/PID-NAME/ with its mounts in a private mount
namespace. So `cgroup.kill`, `rmdir` and `rm -rf` are the whole of cleaning up, also for a run that
was killed with SIGKILL: the next run finds its PID dead and cleans after it.
"""

import os
import re
import shutil
import sys
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


def cpu_v1():
    """Where a hybrid host has the cpu controller, or None (see shares.py)."""
    root = Path("/sys/fs/cgroup/cpu")
    return root if (root / "cpu.shares").exists() else None


def all_hierarchies():
    """Those in which something of a bed's may be."""
    return [*hierarchies(), *filter(None, [cpu_v1()])]


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
        remove_empty(group)
        if not group.exists():
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"{group} is still busy after {patience:.0f} s")
        time.sleep(0.05)


def remove_empty(group):
    """Removes a cgroup and all below it, deepest first, where they are empty.

    By descriptors, since they may nest beyond PATH_MAX; up again by `..`, so that few are open at a time.
    """
    try:
        here = os.open(group, DIRECTORY)
    except OSError:
        return
    above = [remove_children(here)]
    try:
        while True:
            if above[-1]:
                try:
                    child = os.open(above[-1][-1], DIRECTORY, dir_fd=here)
                except OSError:
                    # It is gone.
                    above[-1].pop()
                    continue
                os.close(here)
                here = child
                above.append(remove_children(here))
                continue
            above.pop()
            if not above:
                break
            up = os.open("..", DIRECTORY, dir_fd=here)
            os.close(here)
            here = up
            remove_child(here, above[-1].pop())
    except OSError:
        pass
    finally:
        os.close(here)
    remove_child(None, group)


DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_children(directory):
    """Removes the children that can be, and returns the names of the others."""
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    return [name for name in names if not remove_child(directory, name)]


def remove_child(directory, name):
    try:
        os.rmdir(name, dir_fd=directory)
        return True
    except OSError:
        return False


def beds_below(top, depth=8):
    """Cgroups that beds made, wherever this run may see them; not what is inside of them."""
    found = []
    try:
        with os.scandir(top) as entries:
            directories = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return found
    for entry in directories:
        if re.match(rf"{PREFIX}\d+", entry.name):
            found.append(Path(entry.path))
        elif depth > 1:
            found += beds_below(entry.path, depth - 1)
    return found


def alive(pid):
    return Path(f"/proc/{pid}").exists()


def remove_or_report(group):
    """What cannot be removed is nothing that another run's scenario can help."""
    try:
        remove_cgroup(group)
    except (OSError, RuntimeError) as error:
        print(f"left behind: {error}", file=sys.stderr, flush=True)


def remove_stale(pid=None):
    """Removes what dead runs left, or what run `pid` left."""
    for root in all_hierarchies():
        for group in beds_below(root):
            owner = int(re.match(rf"{PREFIX}(\d+)", group.name).group(1))
            if owner == pid if pid else not alive(owner):
                remove_or_report(group)
    for directory in RUN.glob("*-*"):
        owner = directory.name.split("-", 1)[0]
        if owner.isdigit() and (int(owner) == pid if pid else not alive(int(owner))):
            shutil.rmtree(directory, ignore_errors=True)
    if pid is None:
        for partial in CACHE.glob(".*-*.*"):
            owner = partial.name.rsplit(".", 1)[1]
            if owner.isdigit() and not alive(int(owner)):
                shutil.rmtree(partial, ignore_errors=True) if partial.is_dir() else partial.unlink()
