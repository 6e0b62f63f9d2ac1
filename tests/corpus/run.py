#!/usr/bin/env python3
"""Runs the corpus under the real senses and prints a table and figures; see README.md.

usage: run.py HUBWARDEN WORK_DIRECTORY [CASE]
"""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
SECONDS = int(os.environ.get("SECONDS_A_CASE", "30"))
NOBODY = 65534
# The system's, since a user without rights must be able to run it.
PYTHON = "/usr/bin/python3"
CAUGHT = ("high", "certain")


def cgroup_root():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        fields = line.split()
        if fields[2] == "cgroup2":
            return pathlib.Path(fields[1])
    sys.exit("corpus: cgroup v2 is not mounted")


def shell(command, work, env, **more):
    return subprocess.run(["bash", "-ec", command], cwd=work, env=env, check=True,
                          stdout=subprocess.DEVNULL, **more)


def prepare(case, work, env):
    """Builds and installs; returns why the case cannot run, or None."""
    for package in case.get("apt", []):
        there = subprocess.run(["dpkg", "-s", package], capture_output=True).returncode == 0
        if not there:
            return f"{package} is not installed (apt)"
    try:
        if case.get("pip"):
            shell(f"{sys.executable} -m pip --python {PYTHON} install -q --upgrade --target "
                  f"{env['PYTHONPATH']} {' '.join(case['pip'])} 2>&1", work, env)
        if case.get("build"):
            shell(case["build"], work, env)
    except subprocess.CalledProcessError as error:
        return f"it could not be built (exit status {error.returncode})"
    shell(f"chown -R {NOBODY} .", work, env)
    return None


def observe(hubwarden, case, cgroup, work, env):
    """Runs the case and the senses side by side; returns what the senses said."""
    cgroup.mkdir(exist_ok=True)

    def enter():
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    process = subprocess.Popen(["bash", "-c", case["run"]], cwd=work, env=env, preexec_fn=enter,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    try:
        told = subprocess.run([hubwarden, "sense", cgroup, "--seconds", str(SECONDS)],
                              capture_output=True, text=True, check=True).stdout
        ran = process.poll() is None
    finally:
        for pid in (cgroup / "cgroup.procs").read_text().split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.wait()
        for _ in range(50):
            try:
                cgroup.rmdir()
                break
            except OSError:
                time.sleep(0.1)
    return [json.loads(line) for line in told.splitlines()], ran


def main():
    hubwarden, base = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    only = sys.argv[3] if len(sys.argv) > 3 else ""
    root = cgroup_root()
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)
    rows, times, skipped = [], [], 0
    for file in sorted((HERE / "cases").glob("*.toml")):
        name = file.stem
        if only and name != only:
            continue
        case = tomllib.loads(file.read_text())
        work = base / name
        work.mkdir(exist_ok=True)
        env = {"PATH": os.environ["PATH"], "CORPUS": str(HERE), "PYTHON": PYTHON, "PYTHONPATH": str(base / "packages"),
               "HOME": str(work), "SECONDS": str(SECONDS + 30), "OPENBLAS_NUM_THREADS": "1"}
        why = prepare(case, work, env | {"HOME": os.environ.get("HOME", "/root")})
        if why:
            print(f"SKIPPED {name}: {why}", flush=True)
            skipped += 1
            continue
        told, ran = observe(hubwarden, case, root / f"corpus-{name}", work, env)
        if not ran:
            print(f"SKIPPED {name}: it ended by itself", flush=True)
            skipped += 1
            continue
        level, since = "none", None
        for line in told:
            if line.get("level"):
                level = line["level"]
                if level in CAUGHT and since is None:
                    since = line["seconds"]
            if "blind" in line:
                print(f"BLIND: {line['blind']}", flush=True)
        last = told[-1]
        rows.append((name, case["expected"], level, since, last))
        if since is not None and case["expected"] == "positive":
            times.append(since)
        shown = "-" if since is None else f"{since:.1f}"
        published = "kill" if last["published_rule"] else "-"
        print(f"{name:20} {case['expected']:9} {level:11} {shown:>6} s  published: {published:5} "
              f"{last['modes']}", flush=True)
    print()
    for kind, word in (("positive", "caught"), ("negative", "wrong")):
        of_kind = [row for row in rows if row[1] == kind]
        ours = sum(row[2] in CAUGHT for row in of_kind)
        theirs = sum(row[4]["published_rule"] for row in of_kind)
        print(f"figure corpus_{kind}s {len(of_kind)}")
        print(f"figure corpus_{kind}s_{word} {ours}")
        print(f"figure corpus_published_rule_{kind}s {len(of_kind)}")
        print(f"figure corpus_published_rule_{kind}s_{word} {theirs}")
    if times:
        print(f"figure corpus_seconds_to_verdict_p50 {statistics.median(times):.2f}")
    print(f"figure corpus_skipped {skipped}")
    bad = [row[0] for row in rows if (row[1] == "positive") != (row[2] in CAUGHT)]
    if bad or not rows:
        sys.exit(f"corpus: judged wrongly: {', '.join(bad) or 'nothing was run'}")


main()
