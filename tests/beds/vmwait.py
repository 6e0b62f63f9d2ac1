"""Waits in the booted vm until a scenario is on its second disk, and runs it.

The vm is saved to a file while this waits (vmstate.py). Each scenario begins from that file, with a
disk of its own in place of this one's. Started by bed-run.service under vmguest.py's name, which the
scenario's own then replaces.
"""

import json
import mmap
import os
import subprocess
import time

DISK, GUEST = "/dev/vdb", "/usr/local/lib/bed/vmguest.py"
# The disk's last page says whether a scenario is on it, and what the time is.
PAGE = 4096


def last_page(disk):
    """As it is now: read past the page cache, which belongs to the time before the vm was saved."""
    page = mmap.mmap(-1, PAGE)
    os.preadv(disk, [page], os.lseek(disk, 0, os.SEEK_END) - PAGE)
    return page[:].rstrip(b"\0")


def main():
    # `--wait` ends when the boot has: nothing of it is left to do in the scenarios' time.
    subprocess.run(["systemctl", "is-system-running", "--wait"], stdout=subprocess.DEVNULL)
    os.sync()
    with open("/dev/ttyS1", "w") as wire:
        wire.write(json.dumps({"kind": "waiting"}) + "\n")
    disk = os.open(DISK, os.O_RDONLY | os.O_DIRECT)
    while not (page := last_page(disk)):
        time.sleep(0.05)
    os.close(disk)
    time.clock_settime(time.CLOCK_REALTIME, json.loads(page)["time"])
    subprocess.run(["tar", "-xf", DISK, "-C", "/"], check=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    os.execv("/usr/bin/python3", ["python3", GUEST])


if __name__ == "__main__":
    main()
