"""The hub answers within a second throughout, while the daemon, the hub, the engine and the firewall are started anew at random."""

import os
import random
import threading
import time

import layouts
from hubapi import Hub, HubError
from layouts import engines, node
from product import eventually, expect, install, wait_active

SUITES = ("bookworm", "trixie")
RESTARTS, WITHIN, UP_AGAIN = 52, 1.0, 20.0
# Another program's rules, which it loads as nftables.service does.
FIREWALL = """#!/usr/sbin/nft -f
flush ruleset
table inet other {
	chain input { type filter hook input priority 0; policy accept; }
}
"""
NAMES = {"tljh": node, "jupyter-hub": node, "own-slice": node, "compose": engines}


class Asker:
    """Asks the hub ten times a second, and knows how long the slowest answer took that had no excuse."""

    def __init__(self, hub):
        self.hub, self.slowest, self.excused, self.over = hub, 0.0, False, threading.Event()
        self.up, self.wrong, self.doing = True, [], ""
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while not self.over.wait(0.1):
            excused, doing, started = self.excused, self.doing, time.monotonic()
            try:
                code = self.hub.ask("GET", "/hub/api/", timeout=10)[0]
                failed = None if code == 200 else f"status {code}"
            except (OSError, HubError) as error:
                failed = f"{type(error).__name__}: {error}"
            except Exception as error:  # an answer that was broken off
                failed = f"{type(error).__name__}: {error}"
            took = time.monotonic() - started
            self.up = failed is None
            if excused or self.excused:
                continue
            self.slowest = max(self.slowest, took)
            if failed or took > WITHIN:
                self.wrong.append(f"{doing}: {failed or 'an answer'} after {took:.2f} s")

    def end(self):
        self.over.set()
        self.thread.join()


def scenario(machine):
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 31)
    print(f"seed {seed} (SEED={seed} does the same again)", flush=True)
    chance = random.Random(seed)
    machine.boot(hub=False)
    install(machine)
    engines.start(machine)
    machine.put("/etc/bed/firewall.nft", FIREWALL)
    slowest = 0.0
    for n, (name, module) in enumerate(NAMES.items(), 1):
        layout = next(layout for layout in module.LAYOUTS if layout.name == name)
        if layout.container:
            machine.run("systemctl restart docker", timeout=60)
        trial = layouts.Trial(machine, layout, n)
        trial.set_up()
        trial.spawn()
        asker = Asker(Hub(machine, layout.service.front))
        actions = actions_of(machine, layout)
        try:
            for _ in range(RESTARTS // len(NAMES)):
                step(asker, chance, name, *chance.choice(actions))
        finally:
            asker.end()
        # An engine that is started anew ends its containers.
        for user in () if layout.container else trial.users:
            trial.answers(user)
        print(f"{name}: the slowest answer took {asker.slowest * 1000:.0f} ms", flush=True)
        expect(not asker.wrong, f"seed {seed}, {name}: " + "; ".join(asker.wrong[:5]))
        slowest = max(slowest, asker.slowest)
        trial.leave()
    print(f"figure hub_slowest_answer_ms {slowest * 1000:.0f} ms")


def actions_of(machine, layout):
    """(Words, what is done, whether the hub itself goes away with it)."""
    actions = [
        ("the daemon is started anew", "systemctl restart hubwarden", False),
        ("the daemon is killed", "systemctl kill -s KILL hubwarden", False),
        ("the daemon reloads", "hubwarden reload || true", False),
        ("the ruleset is flushed", "nft flush ruleset", False),
        ("a firewall loads its rules", "nft -f /etc/bed/firewall.nft", False),
    ]
    if layout.container:
        # Docker makes its own rules anew only when it starts, and without them it starts no container.
        actions += [
            (
                "the engine is started anew",
                f"systemctl restart docker; docker start {' '.join(layout.service.run)}",
                True,
            ),
            ("the hub is started anew", f"systemctl restart docker; {layout.service.restarts()}", True),
        ]
    else:
        actions.append(("the hub is started anew", layout.service.restarts(), True))
    return [(words, lambda command=command: machine.run(command, timeout=60), away) for words, command, away in actions]


def step(asker, chance, name, words, act, away):
    asker.doing = f"{name}: {words}"
    asker.excused = away
    act()
    if away:
        # From its coming up it answers.
        asker.up = False
        eventually(lambda: asker.up, f"{name}: the hub is up again after {words}", UP_AGAIN)
        asker.excused = False
    time.sleep(chance.uniform(0.2, 1.0))
    if "killed" in words and chance.random() < 0.5:
        wait_active(asker.hub.machine)
