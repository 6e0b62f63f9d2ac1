"""What the corpus's cases need: a Debian root with their packages, their wheels, their programs built.

Everything is kept in the work directory and in target/beds, so that a second run downloads nothing.
"""

import hashlib
import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE / "programs"
sys.path.insert(0, str(HERE.parent / "beds"))
sys.dont_write_bytecode = True

import netns  # noqa: E402
import rootfs  # noqa: E402
from rootfs import BOOKWORM, key, once, say, sh  # noqa: E402

NOBODY = 65534
ALWAYS = ("python3",)
# Where a case finds its things inside the root.
CASES, PIP, CORPUS = "/cases", "/pip", "/corpus"
# Where pools and services are.
OTHER_HOST = "198.51.100.2"


def root(cases, small):
    """A Debian root with what these cases name under `apt`."""
    packages = sorted({*ALWAYS, *(package for case in cases for package in case.get("apt", []))})

    def build(directory):
        say(f"building the corpus's root with {len(packages)} packages and what they need")
        sh("mmdebstrap", "--variant=minbase", "--mode=root", "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
           "--include=" + ",".join(packages), BOOKWORM.name, directory, *rootfs.host_mirror(), timeout=1800)

    return once(f"corpus-{'small' if small else 'full'}-{key(BOOKWORM.name, *packages)}", build)


def enter(root, work):
    """Gives this process mounts of its own, with the work directory inside the root."""
    netns.private_mounts()
    (work / "cases").mkdir(parents=True, exist_ok=True)
    (work / "pip").mkdir(exist_ok=True)
    for inside, outside in ((CASES, work / "cases"), (PIP, work / "pip"), (CORPUS, PROGRAMS), ("/dev", "/dev"), ("/proc", "/proc")):
        place = root / inside.lstrip("/")
        place.mkdir(exist_ok=True)
        sh("mount", "--rbind", outside, place)


def environment(name, case, seconds):
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": f"{CASES}/{name}", "CORPUS": CORPUS, "PYTHON": "/usr/bin/python3", "OTHER_HOST": OTHER_HOST,
            "PYTHONPATH": ":".join([f"{CASES}/{name}", *([f"{PIP}/{pip_key(case)}"] if case.get("pip") else [])]),
            "PYTHONDONTWRITEBYTECODE": "1",
            # A case that ends by itself proves nothing.
            "SECONDS": str(seconds + 60), "OPENBLAS_NUM_THREADS": "1", "LANG": "C.UTF-8"}


def ready(name, case, root, work):
    """Downloads and builds what one case needs, once for each version of it."""
    directory = work / "cases" / name
    digest = hashlib.sha256(repr(sorted(case.items())).encode())
    for program in sorted(PROGRAMS.iterdir()):
        digest.update(program.read_bytes())
    mark = directory / ".built"
    if mark.exists() and mark.read_text() == digest.hexdigest() + root.name:
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    if case.get("pip"):
        install_wheels(case, work)
    if case.get("wheels"):
        pip("download", "--no-deps", "-d", directory, *for_the_root(), *case["wheels"])
    if case.get("sdist"):
        pip("download", "--no-deps", "--no-binary=:all:", "-d", directory, *case["sdist"])
    if case.get("build"):
        say(f"building {name}")
        sh("chroot", root, "env", "-i", *(f"{k}={v}" for k, v in environment(name, case, 0).items()),
           "bash", "-ec", f"cd {CASES}/{name}; {case['build']}")
    for place, _, files in os.walk(directory):
        for entry in (place, *(os.path.join(place, file) for file in files)):
            os.chown(entry, NOBODY, NOBODY, follow_symlinks=False)
    mark.write_text(digest.hexdigest() + root.name)


def pip_key(case):
    return key(BOOKWORM.python, *sorted(case["pip"]))


def install_wheels(case, work):
    final = work / "pip" / pip_key(case)
    if final.exists():
        return
    say(f"installing {' '.join(case['pip'])}")
    partial = work / "pip" / f".{final.name}.{os.getpid()}"
    pip("install", "--target", partial, *for_the_root(), *case["pip"])
    partial.rename(final)


def for_the_root():
    """pip's arguments for the root's Python, which may not be the host's."""
    platforms = ("manylinux_2_36", "manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17",
                 "manylinux2014", "manylinux1")
    return ["--only-binary=:all:", "--python-version", BOOKWORM.python, "--implementation", "cp", "--abi", BOOKWORM.abi,
            "--abi", "abi3", "--abi", "none", *(word for tag in platforms for word in ("--platform", f"{tag}_x86_64"))]


def pip(verb, *arguments):
    sh(sys.executable, "-m", "pip", verb, "-q", "--disable-pip-version-check", *arguments)
