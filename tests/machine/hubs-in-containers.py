"""Hubs as people set them up, servers or the hub in containers: whoever runs one is covered, or it is said and mended; the hub works throughout."""

import layouts
from layouts import engines
from product import install

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    engines.start(machine)
    layouts.all_tried(machine, "hubs-in-containers", engines.LAYOUTS)
