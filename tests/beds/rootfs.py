"""Builds the beds' root file systems, once, under target/beds/, keyed by a hash of their recipe.

There is one for each suite. A root holds Debian, a JupyterHub with SystemdSpawner in /opt/tljh/hub, what
users run in /opt/tljh/user, and the proxy. The project's own files for it (tests/beds/guest/) are not part
of it: they are laid over it at each boot, so that changing them rebuilds nothing.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
CACHE = PROJECT / "target" / "beds"
GUEST = HERE / "guest"
# configurable-http-proxy 5 wants a newer node than bookworm has.
PROXY = "configurable-http-proxy@4.6.3"
# Raise when the steps below change in a way their inputs do not show.
RECIPE = "5"


@dataclass(frozen=True)
class Suite:
    """A release of Debian that the beds boot."""

    name: str
    # The releases of Python and Linux that it comes with.
    python: str
    kernel: str
    # What it lacks of packages.txt, and what it needs besides.
    without: tuple = ()
    besides: tuple = ()

    @property
    def abi(self):
        """CPython's binary interface, as wheels name it."""
        return f"cp{self.python.replace('.', '')}"


BOOKWORM = Suite("bookworm", "3.11", "6.1")
# policykit-1 is an empty package before trixie; docker.io has its client in a package of its own from then on.
TRIXIE = Suite("trixie", "3.13", "6.12", without=("policykit-1",), besides=("docker-cli",))
SUITES = {suite.name: suite for suite in (BOOKWORM, TRIXIE)}


class BedError(Exception):
    """What could not be built or started, in a sentence for a person."""


def say(text):
    print(f"bed: {text}", file=sys.stderr, flush=True)


def sh(*command, timeout=900, **kwargs):
    """Runs a build step; on failure shows the end of what it said."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, **kwargs)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise BedError(f"{' '.join(map(str, command[:6]))} … ended with {done.returncode}:\n{tail}")
    return done.stdout


def packages(suite):
    lines = (HERE / "packages.txt").read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    return [*(package for package in named if package not in suite.without), *suite.besides]


def key(*parts):
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else str(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


def host_mirror():
    """The Debian mirror of this host, if it is a Debian host and names one; else mmdebstrap's default.

    A mirror has all suites, whichever the host is.
    """
    release = Path("/etc/os-release").read_text()
    if not re.search(r"^ID=debian$", release, re.M):
        return []
    codename = re.search(r"^VERSION_CODENAME=(\w+)$", release, re.M)
    if not codename:
        return []
    codename = codename.group(1)
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        text = file.read_text(errors="replace") if file.is_file() else ""
        for stanza in re.split(r"\n\s*\n", text):
            uri = re.search(r"^URIs:\s*(\S+)", stanza, re.M)
            suites = re.search(r"^Suites:\s*(.+)", stanza, re.M)
            if uri and suites and codename in suites.group(1).split():
                return [uri.group(1)]
        line = re.search(rf"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+{codename}\s+main\b", text, re.M)
        if line:
            return [line.group(1)]
    return []


def once(name, build):
    """target/beds/NAME, built by `build(directory)` if it is not there; half-built never counts.

    Who finds it in the making by another waits for that.
    """
    final = CACHE / name
    if final.exists():
        return final
    CACHE.mkdir(parents=True, exist_ok=True)
    stem = name.rsplit("-", 1)[0]
    with open(CACHE / f".{stem}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return final if final.exists() else make(final, stem, build)


def make(final, stem, build):
    partial = CACHE / f".{final.name}.{os.getpid()}"
    started = time.monotonic()
    try:
        build(partial)
        os.rename(partial, final)
    except BaseException:
        remove(partial)
        raise
    # Of this stem alone: `root-bookworm` has nothing to do with `root-trixie`.
    for old in CACHE.iterdir():
        if old != final and re.fullmatch(rf"{re.escape(stem)}-[0-9a-f]{{12}}", old.name):
            remove(old)
    say(f"{final.name} built in {time.monotonic() - started:.0f} s")
    return final


def remove(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def wheels(which, suite):
    requirements = HERE / f"requirements-{which}.txt"

    def build(directory):
        say(f"downloading Python packages ({which}, {suite.name})")
        platforms = []
        for tag in ("manylinux_2_36", "manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1"):
            platforms += ["--platform", f"{tag}_x86_64"]
        sh(sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:",
           "--python-version", suite.python, "--implementation", "cp",
           "--abi", suite.abi, "--abi", "abi3", "--abi", "none", *platforms, "-d", directory, "-r", requirements)

    return once(f"wheels-{which}-{suite.name}-{key(requirements, suite.python)}", build)


def proxy():
    def build(directory):
        say("downloading the proxy")
        directory.mkdir()
        sh("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", directory, PROXY)

    return once(f"proxy-{key(PROXY)}", build)


def base(suite):
    """Debian alone, before the hub goes in."""
    def build(directory):
        say(f"building the root file system (Debian {suite.name}; one to four minutes)")
        sh("mmdebstrap", "--variant=minbase", "--mode=root",
           "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
           "--include=" + ",".join(packages(suite)),
           "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
           suite.name, directory, *host_mirror(), timeout=1500)

    return once(f"base-{suite.name}-{key(*packages(suite), suite.name)}", build)


def root(suite):
    """The whole root: a directory that is never written to again."""
    hub, user, node = wheels("hub", suite), wheels("user", suite), proxy()
    debian = base(suite)

    def build(directory):
        say(f"installing the hub ({suite.name})")
        sh("cp", "-a", "--reflink=auto", debian, directory)
        for which, source in (("hub", hub), ("user", user)):
            inside = directory / "wheels"
            shutil.copytree(source, inside)
            shutil.copy(HERE / f"requirements-{which}.txt", inside / "requirements.txt")
            target = f"/opt/tljh/{which}"
            sh("chroot", directory, "python3", "-m", "venv", target)
            sh("chroot", directory, f"{target}/bin/pip", "install", "-q", "--no-index", "--find-links", "/wheels",
               "-r", "/wheels/requirements.txt")
            shutil.rmtree(inside)
        shutil.copytree(node / "node_modules", directory / "opt/tljh/proxy/node_modules", symlinks=True)
        finish(directory)

    return once(f"root-{suite.name}-{key(debian.name, hub.name, user.name, node.name, RECIPE)}", build)


def finish(directory):
    """What makes it boot quickly and the same way each time."""
    # mmdebstrap leaves our path-excludes there; what is installed in the beds is to be whole.
    (directory / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink(missing_ok=True)
    (directory / "etc/machine-id").write_text("")
    (directory / "etc/hostname").write_text("hub\n")
    (directory / "etc/hosts").write_text("127.0.0.1 localhost hub\n::1 localhost ip6-localhost\n")
    resolv = directory / "etc/resolv.conf"
    resolv.unlink(missing_ok=True)
    resolv.write_text("nameserver 10.213.0.2\n")
    units = directory / "etc/systemd/system"
    # Nothing here may wait for a network, fetch updates, or start what a scenario did not ask for.
    for unit in ("systemd-networkd-wait-online.service", "systemd-timesyncd.service", "apt-daily.timer",
                 "apt-daily-upgrade.timer", "e2scrub_all.timer", "fstrim.timer", "dpkg-db-backup.timer",
                 "docker.service", "docker.socket", "containerd.service", "ssh.service", "prometheus.service",
                 "prometheus-node-exporter.service", "firewalld.service", "systemd-resolved.service", "getty@.service",
                 "serial-getty@.service", "console-getty.service", "systemd-firstboot.service"):
        if unit.startswith(("docker", "containerd", "prometheus", "ssh.", "firewalld", "systemd-resolved")):
            for wants in units.glob("*.wants"):
                (wants / unit).unlink(missing_ok=True)
            # Nor when somebody asks for its name on the bus.
            for alias in units.glob("dbus-*.service"):
                if alias.is_symlink() and os.readlink(alias).endswith(f"/{unit}"):
                    alias.unlink()
        else:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
    # Only the vm has a second disk: the scenario and the project's files for it (vm.py).
    (units / "bed-run.service").write_text(
        "[Unit]\nConditionPathExists=/dev/vdb\nAfter=multi-user.target\n[Service]\nType=exec\n"
        "ExecStartPre=tar -xf /dev/vdb -C /\nExecStartPre=systemctl daemon-reload\n"
        "ExecStart=/usr/bin/python3 /usr/local/lib/bed/vmguest.py\nStandardOutput=journal+console\n")
    (units / "default.target.wants").mkdir(exist_ok=True)
    (units / "default.target.wants/bed-run.service").symlink_to("/etc/systemd/system/bed-run.service")
    journald = directory / "etc/systemd/journald.conf.d"
    journald.mkdir(parents=True, exist_ok=True)
    # A test reads the whole journal; nothing in it may be dropped for coming too fast.
    (journald / "bed.conf").write_text("[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nForwardToConsole=no\n")


def lay_guest_files(directory):
    """Copies tests/beds/guest/ over a root (or into the archive that the vm unpacks)."""
    sh("cp", "-r", f"{GUEST}/.", directory)


def image(suite):
    """The vm bed's disk: the same root as an ext4 image, read through a snapshot and never written."""
    tree = root(suite)

    def build(file):
        say(f"making the vm's disk ({suite.name})")
        with open(file, "wb") as handle:
            handle.truncate(4 << 30)
        sh("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tree, file)

    return once(f"vm-{suite.name}-{key(tree.name, RECIPE)}", build)


def main():
    """All that does not depend on the package; what this did not get done is made by who needs it."""
    import miner

    for suite in SUITES.values():
        for made in (root(suite), image(suite)):
            print(made)
    for made in (miner.randomx(), miner.numpy(BOOKWORM)):
        print(made)


if __name__ == "__main__":
    main()
