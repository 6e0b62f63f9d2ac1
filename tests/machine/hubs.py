"""Hubs as people set them up, servers on the node: whoever runs one is covered, or it is said and mended; the hub works throughout."""

import layouts
from layouts import node
from product import install

SUITES = ("bookworm", "trixie")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    lines = []
    for n, layout in enumerate(chosen(node.LAYOUTS), 1):
        lines.append(layouts.tried(machine, layout, n))
    print("\n".join(lines))


def chosen(all_of_them):
    """Those that ONLY= names, to look at one."""
    import os

    only = os.environ.get("ONLY", "").split()
    return [layout for layout in all_of_them if not only or layout.name in only]
