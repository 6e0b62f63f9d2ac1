"""Waits in the booted vm until a scenario is on its second disk, and runs it.

The vm is saved to a file while this waits (vmstate.py). Each scenario begins from that file, with a
disk of its own in place of this one's. Started by bed-run.service under vmguest.py's name, which the
scenario's own then replaces. If the disk brings this program once more, and a package with it, that is
installed before it waits.
"""

import fcntl
import json
import mmap
import os
import subprocess
import time
from pathlib import Path

DISK, GUEST, PACKAGE = "/dev/vdb", "/usr/local/lib/bed/vmguest.py", "/root/hubwarden.deb"
# Forgets what is cached of a disk (linux/fs.h).
BLKFLSBUF = 0x1261
# While it is there, packages start nothing that they install.
POLICY = Path("/usr/sbin/policy-rc.d")
# What the kernel would load at the first use, in a second each under emulation; `hubwarden check` has most of it loaded.
MODULES = ("bridge", "nft_meta_bridge", "nfnetlink_queue", "overlay", "veth")
# The disk's last page says whether a scenario is on it, and what the time is.
PAGE = 4096


def last_page(disk):
    """As it is now: read past the page cache, which belongs to the time before the vm was saved."""
    page = mmap.mmap(-1, PAGE)
    os.preadv(disk, [page], os.lseek(disk, 0, os.SEEK_END) - PAGE)
    return page[:].rstrip(b"\0")


def install():
    """As an admin does, but the daemon is left to the scenario: its first start is with the scenario's configuration."""
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    subprocess.run(["dpkg", "-i", PACKAGE], check=True)
    POLICY.unlink()
    subprocess.run(["modprobe", "--all", *MODULES], check=True)
    # It says as well that no daemon runs, and so fails.
    subprocess.run(["hubwarden", "check"], check=False)


def main():
    disk = os.open(DISK, os.O_RDONLY | os.O_DIRECT)
    before = last_page(disk)
    if os.path.exists(PACKAGE):
        install()
    # `--wait` ends when the boot has: nothing of it is left to do in the scenarios' time.
    subprocess.run(["systemctl", "is-system-running", "--wait"], stdout=subprocess.DEVNULL)
    os.sync()
    with open("/dev/ttyS1", "w") as wire:
        wire.write(json.dumps({"kind": "waiting"}) + "\n")
    while (page := last_page(disk)) == before:
        time.sleep(0.05)
    fcntl.ioctl(disk, BLKFLSBUF)
    os.close(disk)
    time.clock_settime(time.CLOCK_REALTIME, json.loads(page)["time"])
    # systemd finds units that are new to it without being told; to tell it takes three seconds under emulation.
    subprocess.run(["tar", "-xf", DISK, "-C", "/"], check=True)
    os.execv("/usr/bin/python3", ["python3", GUEST])


if __name__ == "__main__":
    main()
