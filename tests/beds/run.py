"""Runs the scenarios. `make scenarios`, `make scenario NAME=…` and `make test` call this.

    python3 tests/beds/run.py list
    python3 tests/beds/run.py run NAME…       shows each step
    python3 tests/beds/run.py all             every scenario, the two beds beside each other

A scenario is a file in tests/machine/ or tests/vm/ with a docstring and `def scenario(bed)`, and with
`SUITES = ("bookworm", "trixie")` if it runs on more than bookworm: on trixie it is the scenario NAME-on-trixie. Each
runs in a process of its own that cannot outlive this one; what it leaves is removed here.
"""

import ast
import contextlib
import fcntl
import importlib.util
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import leftovers  # noqa: E402
import netns  # noqa: E402
import product  # noqa: E402
import rootfs  # noqa: E402
import vmstate  # noqa: E402

BEDS = ("machine", "vm")
# No scenario may take longer; one that does is stopped and fails.
LIMIT = 420 + int(60 * float(os.environ.get("MINUTES", "0")))
LOGS = rootfs.CACHE / "logs"
# Scenarios that say something only on a host that does nothing else: `all` runs them last, one by one.
ALONE = ("all-at-once",)
# These take longest: they begin, so that at the end no lane works long while another has nothing left to do.
LONG = ("torture", "hubs-in-containers", "podman-egress", "no-unguarded-packet", "hubs-first-packet", "hubs", "hubs-not-covered", "miner",
        "off-when-it-hurts", "planted")
# Stands for a line's end within a reason, which is one line on its way from a scenario to here.
BREAK = "\x1f"
# What a lane ends with that did not get to its end; below it, how many of its scenarios failed.
LANE_BROKE = 100


class Ended(BaseException):
    """This scenario was told to stop."""


@dataclass(frozen=True)
class Scenario:
    """One file on one suite."""

    bed: str
    file: Path
    suite: rootfs.Suite

    @property
    def name(self):
        return self.file.stem if self.suite == rootfs.BOOKWORM else f"{self.file.stem}-on-{self.suite.name}"


def scenarios():
    """Those there are, by name."""
    found = [Scenario(bed, file, suite) for bed in BEDS for file in sorted((HERE.parent / bed).glob("*.py"))
             for suite in suites(file)]
    return {scenario.name: scenario for scenario in found}


def suites(file):
    """Those that the scenario names in its constant SUITES; or, to try others, that the environment names."""
    named = os.environ.get("SUITES", "").split() or constant(file, "SUITES", (rootfs.BOOKWORM.name,))
    unknown = [name for name in named if name not in rootfs.SUITES]
    if unknown:
        raise rootfs.BedError(f"{file.name}: there is no suite {' '.join(unknown)}, but {' and '.join(rootfs.SUITES)}")
    return [rootfs.SUITES[name] for name in named]


def constant(file, name, default):
    """What the module calls by that name, without running it."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and name in [ast.unparse(target) for target in node.targets]:
            return ast.literal_eval(node.value)
    return default


def load(file):
    spec = importlib.util.spec_from_file_location(file.stem.replace("-", "_"), file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def first_line(file):
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n", 1)[0]


def stop_on_signals():
    def handler(number, _):
        raise Ended(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handler)


def child(name, scenario):
    """Runs one scenario in this (forked) process and exits 0 or 1."""
    netns.die_with_parent(signal.SIGTERM)
    stop_on_signals()
    code = 1
    try:
        module = load(scenario.file)
        if scenario.bed == "machine":
            from machine import Machine as Bed
        else:
            from vm import Vm as Bed
        with Bed(name, scenario.suite) as place:
            try:
                module.scenario(place)
                code = 0
            except Exception as error:
                show_failure(error, scenario.file)
                with contextlib.suppress(Exception):
                    print(place.last_words(LOGS / f"{name}.journal"), flush=True)
    except Exception as error:
        show_failure(error, scenario.file)
    except BaseException as ended:
        # The runner may be gone already; then nobody reads this.
        with contextlib.suppress(OSError):
            print(f"REASON stopped by {ended}", flush=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def show_failure(error, file):
    """An expectation's own sentence and where it stood; a whole traceback for anything unforeseen."""
    if isinstance(error, (AssertionError, rootfs.BedError)):
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        reason = f"{error} ({file.name}:{lines[-1] if lines else '?'})"
        print("REASON " + reason.replace("\n", BREAK), flush=True)
    else:
        print(f"REASON {type(error).__name__}: {error}", flush=True)
        print(traceback.format_exc(), flush=True)


def run_one(name, scenario, live):
    """One scenario; (passed, seconds, what it printed)."""
    started = time.monotonic()
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setpgid(0, 0)
        os.dup2(writer, 1)
        child(name, scenario)
    os.close(writer)
    said = []

    def stop(grace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while time.monotonic() < deadline:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def late(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                said.append(line.rstrip("\n"))
                if live and not line.startswith(("REASON ", "SUMMARY ")):
                    print(line, end="", flush=True)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except TimeoutError:
        said.append(f"REASON it was stopped after {LIMIT} s")
        stop(30)
        code = 1
    except BaseException:
        signal.alarm(0)
        stop(30)
        leftovers.remove_stale(pid)
        raise
    signal.alarm(0)
    leftovers.remove_stale(pid)
    return code == 0, time.monotonic() - started, said


class Turns:
    """Names of scenarios, each of which one of the lanes takes, which are processes."""

    # As long as a file name may be; a write or read of a pipe that short is whole.
    RECORD = 256

    def __init__(self, names):
        self.end, start = os.pipe()
        for name in names:
            os.write(start, name.encode().ljust(self.RECORD))
        os.close(start)

    def __iter__(self):
        while record := os.read(self.end, self.RECORD):
            yield record.decode().rstrip()


def save_vm(suite):
    vmstate.saved(suite)
    # Without a package a scenario that needs one says so.
    with contextlib.suppress(product.Failed):
        vmstate.saved(suite, product.deb())


def run_in_turn(names, known, live):
    """Runs them one after another and says how each went; how many failed."""
    failed = 0
    for name in names:
        if known[name].bed == "vm":
            save_vm(known[name].suite)  # here, as it counts for no scenario's time
        passed, seconds, said = run_one(name, known[name], live)
        if passed:
            tell(f"ok {name} {seconds:.1f}")
            continue
        failed += 1
        reason = next((line[7:] for line in said if line.startswith("REASON ")), "it ended without a word")
        lines = [f"FAILED {name} {reason.replace(BREAK, chr(10))}"]
        if not live:
            lines += ["    " + line for line in said if not line.startswith("REASON ")]
        tell("\n".join(lines))
    return failed


def tell(text):
    """Prints it in one piece, whatever another lane has to say."""
    with open(__file__) as mouth:
        fcntl.flock(mouth, fcntl.LOCK_EX)
        print(text, flush=True)


def beside_each_other(lanes):
    """Each in a process of its own, all at once; the sum of what they return.

    A machine mostly waits, and the vm mostly computes: together they take little longer than one.
    """
    pids = []
    try:
        for lane in lanes:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                # Whatever happens: nothing above here may run in the lane as well.
                code = LANE_BROKE
                try:
                    netns.die_with_parent(signal.SIGTERM)
                    code = min(lane(), LANE_BROKE - 1)
                except Ended:
                    pass
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            pids.append(pid)
        total = 0
        while pids:
            pid, status = os.wait()
            pids.remove(pid)
            code = os.waitstatus_to_exitcode(status)
            if code < 0 or code == LANE_BROKE:
                raise rootfs.BedError(f"the scenarios of a bed were broken off ({code})")
            total += code
        return total
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGTERM)
                os.waitpid(pid, 0)


def main(arguments):
    if arguments[:1] == ["list"]:
        for name, scenario in scenarios().items():
            print(f"{name:34} {scenario.bed:8} {first_line(scenario.file)}")
        return 0
    known = scenarios()
    live = arguments[:1] == ["run"]
    long_first = sorted(known, key=lambda name: known[name].file.stem not in LONG)
    names = long_first if arguments[:1] == ["all"] else arguments[1:]
    unknown = [name for name in names if name not in known]
    if not names or unknown:
        print(f"no such scenario: {' '.join(unknown) or '(none named)'}; `make scenarios` lists them", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("the beds need root: they boot a machine and make network namespaces", file=sys.stderr)
        return 2
    stop_on_signals()
    leftovers.remove_stale()
    for scenario in map(known.get, names):
        rootfs.root(scenario.suite)
        if scenario.bed == "vm":
            rootfs.image(scenario.suite)
    if live:
        lanes = [names]
    else:
        alone = [name for name in names if known[name].file.stem in ALONE]
        machines, vms = (Turns(name for name in names if known[name].bed == bed and name not in alone) for bed in BEDS)
        # When the vm's are done that lane helps with the machines, of which two get on well; two vms would not.
        lanes = [machines, chain(vms, machines)]
    failed = beside_each_other([partial(run_in_turn, lane, known, live) for lane in lanes])
    if not live and alone:
        failed += beside_each_other([partial(run_in_turn, alone, known, live)])
    print(f"{len(names) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Ended as ended:
        print(f"stopped by {ended}", file=sys.stderr)
        sys.exit(130)
    except (rootfs.BedError, subprocess.TimeoutExpired) as error:
        print(f"FAILED beds {error}\n0 passed, 1 failed")
        sys.exit(1)
