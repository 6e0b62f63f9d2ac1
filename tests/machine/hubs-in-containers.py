"""Hubs as people set them up, servers or the hub in containers: whoever runs one is covered, or it is said and mended; the hub works throughout."""

import os

import layouts
import reach
from layouts import engines
from product import install

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    start_engines(machine)
    lines = layouts.all_tried(machine, engines.LAYOUTS, os.environ.get("ONLY", ""))
    print("\n".join(lines))


def start_engines(machine):
    """Docker and root's Podman; crun would raise a limit that this bed may not raise, and there is no pids controller."""
    machine.put("/etc/containers/storage.conf",
                '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/docker/podman"\nrunroot = "/run/podman-layouts"\n')
    machine.put("/etc/containers/containers.conf",
                '[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "systemd"\nruntime = "runc"\nevents_logger = "none"\n')
    # It is started anew more often than a node's would be.
    machine.put("/etc/systemd/system/docker.service.d/bed.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    machine.run("mkdir -p /etc/docker; systemctl daemon-reload; systemctl start docker.service podman.socket", timeout=60)
    for engine in ("docker", "podman"):
        reach.import_image(machine, engine)
