"""Kills, re-executions, full disks, reloads and an admin's changes at random: after `off` each unit is as its owner set it."""

import json
import os
import random
import time

from product import CONFIG, config, eventually, expect, install, wait_active

# How long, in minutes, the faults go on. A whole run is `make torture MINUTES=10`.
MINUTES = float(os.environ.get("MINUTES", "1"))
SEED = int(os.environ.get("SEED", str(random.randrange(1 << 32))))
UNITS = 24
USER = "jupyter-t{:02}"
UNIT = USER + ".service"
# Properties that hubwarden sets, with what systemd calls "not set".
UNSET = {"CPUQuotaPerSecUSec": "infinity", "CPUQuotaPeriodUSec": "infinity", "CPUWeight": "[not set]", "MemoryHigh": "infinity",
         "MemoryMax": "infinity", "TasksMax": None, "IOWeight": "[not set]"}
SHOWN = [*UNSET, "FreezerState", "ActiveState", "ControlGroup"]
# Numbers that no configuration below has: what stands of them was set by the units' owner.
THEIRS = {
    "CPUQuotaPerSecUSec": lambda at: f"CPUQuota={at.choice((110, 120, 130, 140, 170))}%",
    "CPUWeight": lambda at: f"CPUWeight={at.choice((120, 150, 300))}",
    "MemoryMax": lambda at: f"MemoryMax={at.choice((5, 6, 7)) << 30}",
    "TasksMax": lambda at: f"TasksMax={at.choice((4100, 4200, 4300))}",
}
OURS = """
freeze_after = "1s"
freeze_for = "2s"
[memory]
max = "{memory} MiB"
[tasks]
max = {tasks}
[slice]
reserve = "{reserve}"
"""


def scenario(machine):
    machine.boot(hub=False)
    at = random.Random(SEED)
    print(f"seed {SEED}, {MINUTES:g} min")
    # The state's own file system, so that it can be full.
    machine.run("mkdir -p /var/lib/hubwarden && mount -t tmpfs -o size=1m,mode=0700 tmpfs /var/lib/hubwarden")
    install(machine)
    for number in range(UNITS):
        machine.run(f"useradd -M -s /bin/sh {USER.format(number)}")
    faults = Faults(machine, at)
    faults.configure()
    machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)
    for number in range(UNITS):
        faults.spawn(number)
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        faults.one()
    faults.calm()
    done = machine.run("hubwarden off", timeout=90, check=False)
    left = faults.wrongly_left()
    print(f"figure torture_wrongly_left {len(left)}")
    print(f"figure torture_kills {faults.kills}")
    print(f"figure torture_reexecs {faults.reexecs}")
    print(f"done: {dict(sorted(faults.count.items()))}")
    expect(done.code == 0, f"off: {done}")
    expect(not left, "left behind: " + "; ".join(left[:10]))
    faults.off_by_itself()


class Faults:
    """What goes wrong, and what each unit's owner wants."""

    def __init__(self, machine, at):
        self.machine, self.at = machine, at
        self.theirs = {}
        self.kills = self.reexecs = 0
        self.count = {}

    def one(self):
        name, weight = zip(*(("kill", 6), ("reexec", 2), ("daemon_reload", 1), ("full_disk", 1), ("admin", 4), ("configure", 2),
                             ("off_and_on", 1), ("restart_unit", 1), ("respawn", 2), ("stop_continue", 1), ("damage", 1),
                             ("upgrade", 1), ("wait", 4)))
        fault = self.at.choices(name, weight)[0]
        self.count[fault] = self.count.get(fault, 0) + 1
        getattr(self, fault)()
        time.sleep(self.at.uniform(0, 0.6))

    # -- faults ---------------------------------------------------------------------------------

    def kill(self):
        self.machine.run("systemctl kill --kill-whom=main -s KILL hubwarden", check=False)
        self.kills += 1
        time.sleep(self.at.uniform(0, 0.3))
        # Sooner than RestartSec= has it.
        self.machine.run("systemctl start --no-block hubwarden", check=False)

    def reexec(self):
        self.machine.run("systemctl daemon-reexec", timeout=60)
        self.reexecs += 1

    def daemon_reload(self):
        self.machine.run("systemctl daemon-reload", timeout=60)

    def full_disk(self):
        self.machine.run("dd if=/dev/zero of=/var/lib/hubwarden/full bs=4k 2>/dev/null", check=False)
        self.at.choice((self.kill, self.off_and_on, self.configure))()
        time.sleep(self.at.uniform(0, 2))
        self.machine.run("rm -f /var/lib/hubwarden/full")

    def damage(self):
        self.machine.run("echo '{\"version\":99}' >/var/lib/hubwarden/state.json")
        self.kill()

    def admin(self):
        number = self.at.randrange(UNITS)
        key = self.at.choice(list(THEIRS))
        assignment = THEIRS[key](self.at)
        done = self.machine.run(f"systemctl set-property --runtime {UNIT.format(number)} {assignment}", check=False)
        if done.code == 0:
            self.theirs[number][key] = assignment

    def configure(self):
        at = self.at
        mode = "observe" if at.random() < 0.15 else "enforce"
        more = OURS.format(memory=at.choice((1024, 2048)), tasks=at.choice((2000, 3000)), reserve=at.choice(("none", "0.5 cores")))
        self.machine.put(CONFIG, config(mode=mode, limit=at.choice(("2 cores", "1.9 cores", "0.5 cores")), baseline=at.choice(("0.01 cores", "0.05 cores")),
                                        credits="1 core-second", min_stay="0s", more=more))
        self.machine.run("systemctl reload hubwarden", check=False, timeout=60)

    def off_and_on(self):
        self.machine.run("hubwarden off", check=False, timeout=90)
        time.sleep(self.at.uniform(0, 0.5))
        self.machine.run("hubwarden on", check=False, timeout=90)

    def stop_continue(self):
        self.machine.run("systemctl kill --kill-whom=main -s STOP hubwarden", check=False)
        time.sleep(self.at.uniform(0, 1))
        self.machine.run("systemctl kill --kill-whom=main -s CONT hubwarden", check=False)

    def upgrade(self):
        """What each upgrade of systemd's and of ours does, at once."""
        self.machine.run("systemctl --no-block restart hubwarden; systemctl daemon-reexec", timeout=60)
        self.reexecs += 1

    def restart_unit(self):
        """The same life of the unit, in another cgroup."""
        self.machine.run(f"systemctl restart {UNIT.format(self.at.randrange(UNITS))}", check=False, timeout=60)

    def respawn(self):
        number = self.at.randrange(UNITS)
        unit = UNIT.format(number)
        # systemd may be executing itself anew, and then it is not asked at all.
        stopped = f"systemctl stop {unit}; case $(systemctl show -P ActiveState {unit}) in inactive|failed) ;; *) false ;; esac"
        eventually(lambda: self.machine.run(stopped, check=False, timeout=60).code == 0, f"{unit} stops", 30)
        self.spawn(number)

    def wait(self):
        time.sleep(self.at.uniform(0, 3))

    def spawn(self, number):
        keys = self.at.sample(list(THEIRS), self.at.randrange(len(THEIRS) + 1))
        self.theirs[number] = {key: THEIRS[key](self.at) for key in keys}
        properties = " ".join(f"-p {assignment}" for assignment in self.theirs[number].values())
        # A few spin, and so are throttled and frozen; the others rest. systemd 252 reads a `;` in a command wrongly
        # after it executed itself anew, and the unit fails at its next restart.
        work = "-p StandardOutput=null -- yes" if number % 6 == 0 else "-- sleep infinity"
        unit = UNIT.format(number)
        # That it was started may be lost to a re-execution, and then it is there already.
        command = (f"systemctl -q reset-failed {unit} 2>/dev/null; systemd-run -q --unit={unit} --uid={USER.format(number)} {properties} {work}"
                   f" || systemctl -q is-active {unit}")
        # The name may not be free yet, nor systemd back from executing itself anew.
        eventually(lambda: self.machine.run(command, check=False, timeout=60).code == 0, f"{UNIT.format(number)} starts", 30)

    # -- the end --------------------------------------------------------------------------------

    def calm(self):
        """Nothing is in the way any more; the daemon may be anything."""
        self.machine.run("rm -f /var/lib/hubwarden/full")
        self.machine.run("systemctl start hubwarden", timeout=60, check=False)
        wait_active(self.machine, 60)

    def wrongly_left(self):
        """Where systemd or the kernel holds something else than the owner set, in words."""
        wrong = []
        default_tasks = self.machine.run("systemctl show -P DefaultTasksMax").out.strip()
        for number in range(UNITS):
            unit = UNIT.format(number)
            show = self.machine.run(["systemctl", "show", "-p", ",".join(SHOWN), "--", unit]).out
            found = dict(line.split("=", 1) for line in show.splitlines())
            for key, unset in UNSET.items():
                expected = self.expected(self.theirs[number].get(key), key, unset or default_tasks)
                if found[key] != expected:
                    wrong.append(f"{unit} has {key}={found[key]}, and its owner set {expected}")
            frozen = self.machine.run(f"cat /sys/fs/cgroup{found['ControlGroup']}/cgroup.freeze", check=False).out.strip()
            if found["FreezerState"] != "running" or frozen != "0":
                wrong.append(f"{unit} is {found['FreezerState']}, cgroup.freeze {frozen}")
        show = self.machine.run("systemctl show -P CPUQuotaPerSecUSec jupyter.slice").out.strip()
        if show != "infinity":
            wrong.append(f"jupyter.slice has a quota of {show}")
        tables = self.machine.run("nft list tables").out
        if "hubwarden" in tables:
            wrong.append("a table stands")
        return wrong

    @staticmethod
    def expected(assignment, key, unset):
        if assignment is None:
            return unset
        value = assignment.split("=", 1)[1]
        if key == "CPUQuotaPerSecUSec":
            return f"{int(value.rstrip('%')) / 100:.6f}s"
        return value

    def off_by_itself(self):
        """Without a daemon that answers, without a disk and without its state."""
        machine = self.machine
        machine.run("hubwarden on", timeout=90)
        self.configure()
        machine.run("systemctl reload hubwarden", check=False, timeout=60)
        eventually(lambda: len(self.wrongly_left()) > 0, "something is set", 30)
        machine.run("systemctl kill --kill-whom=main -s STOP hubwarden")
        machine.run("dd if=/dev/zero of=/var/lib/hubwarden/full bs=4k 2>/dev/null", check=False)
        began = time.monotonic()
        done = machine.run("hubwarden off", timeout=90, check=False)
        took = time.monotonic() - began
        left = self.wrongly_left()
        print(f"off beside a daemon that hangs, on a full disk: {took:.1f} s, {done.out.strip()} {done.err.strip()}")
        expect(done.code == 0 and not left, f"off beside a daemon that hangs: {done}; {left[:5]}")
        # The daemon that systemd has started since stays off, and so does one after it.
        machine.run("systemctl restart hubwarden", timeout=60)
        wait_active(machine)
        time.sleep(3)
        expect(json.loads(machine.run("hubwarden status --json").out)["off"], "a restart forgot that it is off")
        left = self.wrongly_left()
        expect(not left, f"after a restart: {left[:5]}")
