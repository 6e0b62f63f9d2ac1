"""Hubs as people set them up, where servers are not covered: it is said with the remedy, which is typed; the hub works throughout."""

import layouts
from layouts import node
from product import install

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    layouts.all_tried(machine, "hubs-not-covered", node.NOT_COVERED)
