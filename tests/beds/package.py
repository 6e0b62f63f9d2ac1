"""Makes the package that the beds install, where the host's own cannot run in them.

The beds are Debian bookworm and later. A binary built on a newer release (Ubuntu 24.04, say) asks for a newer
C library than bookworm has; there this builds it once more inside a bookworm root, with the host's
Rust and the crates it has downloaded. On bookworm, and on anything older, it does nothing.

    python3 tests/beds/package.py      after `make deb`
    … --always                         also where it is not needed, to try it
"""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import netns  # noqa: E402
import rootfs  # noqa: E402
from rootfs import BOOKWORM, PROJECT, BedError, once, key, say, sh  # noqa: E402

# bookworm's C library.
GLIBC = (2, 36)
TARGET = PROJECT / "target" / BOOKWORM.name
TOOLS = ("gcc", "libc6-dev", "make", "pkg-config", "clang", "libnftnl-dev", "libmnl-dev")


def newer_host():
    version = os.confstr("CS_GNU_LIBC_VERSION").split()[-1]
    return tuple(int(part) for part in version.split(".")[:2]) > GLIBC


def build_root():
    def build(directory):
        say(f"building a {BOOKWORM.name} root with compilers, as this host's C library is newer than the beds'")
        sh("mmdebstrap", "--variant=minbase", "--mode=root", "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
           "--include=" + ",".join(TOOLS), BOOKWORM.name, directory, *rootfs.host_mirror(), timeout=1500)

    return once(f"tools-{key(*TOOLS, BOOKWORM.name)}", build)


def main():
    if not newer_host() and "--always" not in sys.argv:
        return 0
    root = build_root()
    home = Path("~" + os.environ.get("SUDO_USER", "")).expanduser()
    cargo = Path(os.environ.get("CARGO_HOME", home / ".cargo"))
    rustup = Path(os.environ.get("RUSTUP_HOME", home / ".rustup"))
    if not (cargo / "bin/cargo").exists():
        raise BedError(f"no cargo at {cargo}/bin: Rust from rustup is needed to build inside {BOOKWORM.name}")
    netns.private_mounts()
    sh("mount", "-t", "tmpfs", "tmpfs", root / "mnt")
    # Each at its own path, so that cargo finds everything where it was.
    for part in (PROJECT, cargo, rustup, Path("/proc"), Path("/dev")):
        inside = root / str(part).lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        sh("mount", "--rbind", part, inside)
    say(f"building hubwarden for {BOOKWORM.name}")
    done = subprocess.run(["chroot", root, "env", "-i", f"PATH={cargo}/bin:/usr/bin:/bin", f"HOME={home}", f"CARGO_HOME={cargo}",
                           f"RUSTUP_HOME={rustup}", f"CARGO_TARGET_DIR={TARGET}", "CARGO_NET_OFFLINE=true", "sh", "-c",
                           f"cd '{PROJECT}' && cargo build --release --locked"], timeout=1800)
    if done.returncode != 0:
        raise BedError(f"the build inside {BOOKWORM.name} failed")
    # Made outside: cargo-deb is a program of the host.
    for old in (TARGET / "debian").glob("*.deb"):
        old.unlink()
    sh("cargo", "deb", "--locked", "--quiet", "--no-build", cwd=PROJECT, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BedError as error:
        sys.exit(f"package.py: {error}")
