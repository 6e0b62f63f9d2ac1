"""What a user's server computes in scenarios about mining: RandomX, offline, and honest numpy.

Both are made for the beds' Debian, whatever this host is, and kept in target/beds/. What bookworm's compiler made runs
on later suites too.
"""

import shutil

import rootfs
from rootfs import BOOKWORM, PROJECT, key, once, say, sh

TOOLS = ("gcc", "libc6-dev", "librandomx-dev")
LIBRARY = "usr/lib/x86_64-linux-gnu/librandomx.so.0"
NUMPY = "numpy==2.2.6"


def randomx():
    """A directory with RandomX called `python`, and the library beside it. There is no pool and no network in it."""
    source = next((PROJECT / "tests/corpus").rglob("randomx.c"))

    def build(directory):
        say("building RandomX for the beds")
        root = directory.with_name(directory.name + ".root")
        try:
            sh("mmdebstrap", "--variant=minbase", "--mode=root", "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
               "--include=" + ",".join(TOOLS), BOOKWORM.name, root, *rootfs.host_mirror(), timeout=1500)
            shutil.copy(source, root / "randomx.c")
            sh("chroot", root, "gcc", "-O2", "/randomx.c", "-o", "/python", "-lrandomx", "-Wl,-rpath,$ORIGIN")
            directory.mkdir()
            shutil.copy(root / "python", directory / "python")
            shutil.copy((root / LIBRARY).resolve(), directory / "librandomx.so.0")
        finally:
            rootfs.remove(root)

    return once(f"randomx-{key(source, *TOOLS, BOOKWORM.name)}", build)


def numpy(suite):
    """A directory with numpy's wheel for the suite's Python."""
    def build(directory):
        say("downloading numpy")
        sh("python3", "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:", "--no-deps",
           "--python-version", suite.python, "--implementation", "cp", "--platform", "manylinux_2_17_x86_64",
           "--platform", "manylinux2014_x86_64", "-d", directory, NUMPY)

    return once(f"numpy-{suite.name}-{key(NUMPY, suite.python)}", build)


def put(machine, user):
    """Lays the miner into a user's home; the command that starts it for so many seconds is `start` below."""
    home = f"/home/jupyter-{user}/work"
    for file in randomx().iterdir():
        machine.put(f"{home}/{file.name}", file, mode=0o755)
    machine.run(f"chown -R jupyter-{user}: {home}")
    return f"{home}/python"


def start(machine, unit, program, seconds=300):
    """Starts hashing in a unit, under the name of python, and returns at once."""
    machine.run_in_unit(unit, f"setsid {program} {seconds} jit >/dev/null 2>&1 </dev/null &")


def install_numpy(machine):
    wheel = next(numpy(machine.suite).glob("numpy-*.whl"))
    machine.put(f"/root/{wheel.name}", wheel)
    machine.run(f"/opt/tljh/user/bin/pip install -q --no-index --no-deps /root/{wheel.name}", timeout=120)


TRAIN = """
import numpy, time
end = time.monotonic() + {seconds}
weights = numpy.random.rand(300, 300)
while time.monotonic() < end:
    weights = numpy.tanh(weights @ weights.T) * 0.5 + numpy.exp(-weights)
"""


def train(machine, unit, seconds=300):
    """An honest training job at full load."""
    machine.put("/usr/local/lib/bed/train.py", TRAIN.format(seconds=seconds))
    machine.run_in_unit(unit, "OPENBLAS_NUM_THREADS=1 setsid /opt/tljh/user/bin/python /usr/local/lib/bed/train.py "
                              ">/dev/null 2>&1 </dev/null &")
