"""Equal shares of the CPU for a machine's units, where this host has the cpu controller on cgroup v1 only.

On a node that boots with cgroup v2, systemd gives each slice and each unit in it a share of its own: 50 busy processes
of one server get what one busy process of another gets. In the machine bed on a hybrid host they would get fifty times as
much. The scheduling code behind `cpu.shares` on v1 is that behind `cpu.weight` on v2, so here each slice and unit of the
machine has a twin under v1 and its processes are put there. Quotas are not imitated: who is throttled is so by name only.
"""

import contextlib
import os
import threading
from pathlib import Path

import leftovers

# What systemd's default CPUWeight=100 is in cpu.shares.
DEFAULT = 1024
# The machine weighs as much as two other programs of this host: more would hold up kernel threads, and all with them.
MACHINE = 2 * DEFAULT
# Where commands of an admin's run.
ADMIN = "/user.slice/user-0.slice"
EVERY = 0.2


class Shares:
    """Keeps each unit's processes in the unit's twin, until closed; `weights` are systemd's, of units that have another."""

    def __init__(self, machine, weights=()):
        self.v2, self.top = machine.cgroup, leftovers.cpu_v1() / machine.group
        self.weights = dict(weights)
        self.top.mkdir(exist_ok=True)
        (self.top / "cpu.shares").write_text(str(MACHINE))
        self.over = threading.Event()
        self.follow()
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def close(self):
        self.over.set()
        self.thread.join()

    def join(self, cgroup=None):
        """Puts the calling process into the twin of a unit's cgroup, given as the machine sees it; or of an admin's."""
        cgroup = cgroup or ADMIN
        # A cgroup below the unit's shares with it.
        twin = self._twin(*cgroup.strip("/").split("/")[:2])
        (twin / "cgroup.procs").write_text("0")

    def follow(self):
        """Puts what was started since the last time where it belongs."""
        for slice_ in _directories(self.v2):
            self._move(slice_, self._twin(slice_.name))
            for unit in _directories(slice_) if slice_.suffix == ".slice" else ():
                self._move(unit, self._twin(slice_.name, unit.name))

    def _work(self):
        while not self.over.wait(EVERY):
            with contextlib.suppress(OSError):
                self.follow()

    def _twin(self, *names):
        twin = self.top
        for name in names:
            twin /= name
            with contextlib.suppress(FileExistsError):
                twin.mkdir()
                (twin / "cpu.shares").write_text(str(DEFAULT * self.weights.get(name, 100) // 100))
        return twin

    @staticmethod
    def _move(group, twin):
        with contextlib.suppress(OSError):
            there = set((twin / "cgroup.procs").read_text().split())
            for pid in (group / "cgroup.procs").read_text().split():
                if pid not in there:
                    # It may have ended.
                    with contextlib.suppress(OSError):
                        (twin / "cgroup.procs").write_text(pid)


def _directories(directory):
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
