#!/usr/bin/env python3
"""Runs the corpus under the real sensors, and prints a table and figures; see README.md.

usage: run.py HUBWARDEN WORK_DIRECTORY [--small | --prepare | CASE]

--prepare makes ready what --small needs, and runs nothing.
"""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
import tomllib

import prepare
from prepare import HERE, NOBODY

import leftovers  # noqa: I001 (prepare has put the beds' directory on the path)
import netns
from rootfs import BedError, sh

SECONDS = int(os.environ.get("SECONDS_A_CASE", "30"))
SMALL_SECONDS = 6
CAUGHT = ("high", "certain")
LEVELS = ("none", "exonerates", "suspicious", "high", "certain")


class NotRun(Exception):
    """Why a case could not be run, in a sentence."""


def read_cases(small, only):
    """The cases to run, by name."""
    found = {}
    for file in sorted((HERE / "cases").glob("*.toml")):
        case = tomllib.loads(file.read_text())
        unknown = case.keys() - {"expected", "why", "small", "seconds", "memory_gb", "apt", "pip", "wheels", "sdist", "build", "beside", "run"}
        if unknown or case.get("expected") not in ("positive", "negative") or "run" not in case:
            sys.exit(f"corpus: {file}: unknown keys {sorted(unknown)}, or `expected` or `run` is missing")
        found[file.stem] = case
    if only and only not in found:
        sys.exit(f"corpus: there is no case {only}; there are: {' '.join(found)}")
    return found, {name: case for name, case in found.items() if name == only or not only and (case.get("small") or not small)}


class Group:
    """A cgroup of this run's; gone with everything in it at the end."""

    def __init__(self, name):
        self.path = leftovers.cgroup2_root() / f"{leftovers.PREFIX}{os.getpid()}" / name

    def __enter__(self):
        self.path.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        leftovers.remove_cgroup(self.path)

    def start(self, command, root, name, env, host=None):
        """Starts a case's command in here: in the root, as a user of no rights; on another host, where one is named."""
        def become():
            netns.die_with_parent()
            if host:
                netns.join_network(host)
            (self.path / "cgroup.procs").write_text(str(os.getpid()))
            os.chroot(root)
            os.chdir(f"{prepare.CASES}/{name}")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)

        return subprocess.Popen(["/bin/bash", "-c", command], env=env, preexec_fn=become, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def other_host():
    """A second network namespace, where pools and services are: who is no other host's client is none of a pool's."""
    host = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo there && exec cat"], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, preexec_fn=netns.die_with_parent)
    host.stdout.readline()
    sh("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", str(host.pid))
    there = ("nsenter", f"--net=/proc/{host.pid}/ns/net", "--")
    for enter, address in (((), "198.51.100.1"), (there, prepare.OTHER_HOST)):
        sh(*enter, "ip", "address", "add", f"{address}/24", "dev", "wire")
        sh(*enter, "ip", "link", "set", "wire", "up")
    return host


def observe(hubwarden, name, case, root, seconds, host):
    """Runs the case and the sensors side by side; what the sensors said, timed from the case's start."""
    env = prepare.environment(name, case, seconds)
    with Group("beside") as beside, Group("case") as group:
        if case.get("beside"):
            beside.start(case["beside"], root, name, env, host.pid)
            time.sleep(0.5)
        sensors = subprocess.Popen([hubwarden, "sensor", group.path, "--seconds", str(seconds + 1)],
                                  stdout=subprocess.PIPE, text=True, preexec_fn=netns.die_with_parent)
        try:
            told = [json.loads(sensors.stdout.readline())]
            while "ready" not in told[-1]:
                told.append(json.loads(sensors.stdout.readline()))
            process = group.start(case["run"], root, name, env)
            began = time.monotonic()
            told += [json.loads(line) for line in sensors.stdout]
            if sensors.wait() != 0:
                raise NotRun(f"hubwarden sensor ended with {sensors.returncode}")
            if process.poll() is not None:
                raise NotRun(f"it ended by itself, with {process.returncode}")
            if time.monotonic() - began < seconds - 1:
                raise NotRun("the sensors ended early")
        finally:
            sensors.kill()
            sensors.wait()
        return told


class Row:
    def __init__(self, name, case, told):
        self.name, self.expected = name, case["expected"]
        self.level, self.seconds, self.readings = "none", None, {}
        for line in told:
            if "level" in line:
                self.level = max(self.level, line["level"], key=LEVELS.index)
                if line["level"] in CAUGHT and self.seconds is None:
                    self.seconds = line["seconds"]
            if "reading" in line:
                self.readings[line["sensor"]] = line["short"]
        last = told[-1]
        self.published = last["published_rule"]
        self.modes = last["modes"]
        self.caught = self.level in CAUGHT
        self.right = self.caught == (self.expected == "positive")

    def cells(self):
        modes = self.modes
        seen = [f"{sensor} {short}" for sensor, short in sorted(self.readings.items()) if sensor != "rounding"]
        if any(modes.values()):
            seen.insert(0, f"rounding {modes['down']}/{modes['up']}/{modes['zero']}, {modes['flushed']} flushed")
        verdict = self.level if self.right else f"{self.level} WRONG"
        return [self.name, self.expected, verdict, "-" if self.seconds is None else f"{self.seconds:.1f}",
                "kill" if self.published else "-", "; ".join(seen) or "nothing"]


def table(rows):
    cells = [["CASE", "EXPECTED", "LEVEL", "SECONDS", "PUBLISHED RULE", "READINGS"], *(row.cells() for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def figures(rows, not_run):
    for kind, word in (("positive", "caught"), ("negative", "wrong")):
        of_kind = [row for row in rows if row.expected == kind]
        for rule, hits in (("", [row.caught for row in of_kind]), ("published_rule_", [row.published for row in of_kind])):
            print(f"figure corpus_{rule}{kind}s {len(of_kind)}")
            print(f"figure corpus_{rule}{kind}s_{word} {sum(hits)}")
    times = [row.seconds for row in rows if row.expected == "positive" and row.seconds is not None]
    if times:
        print(f"figure corpus_seconds_to_verdict_p50 {statistics.median(times):.2f}")
        print(f"figure corpus_seconds_to_verdict_max {max(times):.2f}")
    print(f"figure corpus_not_run {not_run}")


def enough_memory(case):
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 1e6 >= case.get("memory_gb", 0)
    return True


def run(hubwarden, work, small, only, prepare_only=False):
    every, cases = read_cases(small, only)
    # One root for all that may be asked for, so that a single case needs none of its own.
    small_root = all(case.get("small") for case in cases.values())
    root = prepare.root([case for case in every.values() if case.get("small") or not small_root], small_root)
    prepare.enter(root, work)
    rows, failed, not_run = [], [], 0
    for name, case in list(cases.items()):
        try:
            prepare.ready(name, case, root, work)
        except BedError as error:
            print(f"FAILED {name}: it cannot be prepared: {error}", flush=True)
            failed.append(name)
            del cases[name]
    if prepare_only:
        return 1 if failed else 0
    # From here on there is no network but a loopback and a host of our own: nothing can be mined,
    # whatever a case does.
    netns.own_network()
    sh("ip", "link", "set", "lo", "up")
    host = other_host()
    for name, case in cases.items():
        if not enough_memory(case):
            print(f"NOT RUN {name}: it needs {case['memory_gb']} GB of memory", flush=True)
            not_run += 1
            continue
        seconds = case.get("seconds", SECONDS) if not small else SMALL_SECONDS
        try:
            told = observe(hubwarden, name, case, root, seconds, host)
        except NotRun as why:
            print(f"FAILED {name}: {why}", flush=True)
            failed.append(name)
            continue
        for line in told:
            if "down" in line:
                print(f"DOWN: {line['down']}", flush=True)
        rows.append(Row(name, case, told))
        print(f"{time.strftime('%H:%M:%S')}  {'  '.join(rows[-1].cells())}", file=sys.stderr, flush=True)
    table(rows)
    print()
    figures(rows, not_run + len(failed))
    wrong = failed + [row.name for row in rows if not row.right]
    if wrong:
        print(f"judged wrongly or not at all: {', '.join(wrong)}")
    print(f"{len(rows) + len(failed) - len(wrong)} passed, {len(wrong)} failed")
    return 1 if wrong or not rows else 0


def main():
    if len(sys.argv) < 3 or os.geteuid() != 0:
        sys.exit(f"{__doc__}It needs root, for cgroups of its own and the sensors.")
    word = sys.argv[3] if len(sys.argv) > 3 else ""
    leftovers.remove_stale()
    try:
        small, only = word in ("--small", "--prepare"), "" if word.startswith("--") else word
        return run(str(pathlib.Path(sys.argv[1]).resolve()), pathlib.Path(sys.argv[2]).resolve(), small, only, word == "--prepare")
    except BedError as error:
        sys.exit(f"corpus: {error}")
    finally:
        leftovers.remove_stale(os.getpid())


if __name__ == "__main__":
    sys.exit(main())
