"""Hubs as people set them up, servers on the node: whoever runs one is covered from the first packet on; the hub works throughout."""

import layouts
from layouts import node
from product import install

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    layouts.all_tried(machine, "hubs", node.COVERED)
