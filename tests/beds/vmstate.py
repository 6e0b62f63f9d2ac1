"""The vm, booted once and saved: memory, devices and disk, from which each scenario begins in a second.

Booting takes half a minute under emulation, and installing the package almost as long: it is saved a
second time with that. A scenario changes nothing of what is saved here: its memory is its own
process's, and what it writes to the disk goes to a snapshot that ends with it.
"""

import json
import shutil
import subprocess
import tarfile
import time
from functools import partial
from pathlib import Path

import netns
import rootfs
from rootfs import BedError

HERE = Path(__file__).resolve().parent
KVM, TCG = "kvm", "tcg,thread=multi,tb-size=1024"
# One size for all: the saved kernel knows the disk by it.
PARCEL_BYTES = 256 << 20
PAGE = 4096
# Emulated, on a busy host.
BOOT_LIMIT = 300
# Where /dev/kvm is there but runs nothing, as on a machine without nested virtualisation, no kernel says a word.
KVM_LIMIT, KVM_SPEAKS = 40, 10


def say_in_last_page(file, **fields):
    """Makes a parcel as long as every parcel is; with `fields`, one that vmwait.py takes."""
    used = file.stat().st_size
    if used > PARCEL_BYTES - PAGE:
        raise BedError(f"what goes into the vm is {used >> 20} MiB; it has room for {(PARCEL_BYTES - PAGE) >> 20} (PARCEL_BYTES in vmstate.py)")
    with open(file, "r+b") as handle:
        handle.truncate(PARCEL_BYTES)
        if fields:
            handle.seek(PARCEL_BYTES - PAGE)
            handle.write(json.dumps(fields).encode())


def kernel_and_initrd(suite):
    boot = rootfs.root(suite) / "boot"
    return sorted(boot.glob("vmlinuz-*"))[-1], sorted(boot.glob("initrd.img-*"))[-1]


def command(suite, directory, accel, disk, parcel, *more):
    """QEMU's argv. What is saved can be gone on with under the same devices only."""
    kernel, initrd = kernel_and_initrd(suite)
    words = ["qemu-system-x86_64", "-M", "q35", "-accel", accel, "-cpu", "max", "-smp", "2", "-m", "2G",
             "-display", "none", "-serial", f"file:{directory}/console.log", "-serial", f"file:{directory}/result.log",
             "-no-reboot", "-kernel", kernel, "-initrd", initrd, "-append",
             "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off apparmor=0 panic=-1 "
             # Else a boot on a busy host may give its clock up for one that is emulated at every reading, and be saved so.
             "tsc=reliable",
             "-drive", f"file={disk},format=raw,if=virtio,cache=unsafe",
             "-drive", f"file={parcel},format=raw,if=virtio,readonly=on,cache=unsafe", "-net", "none", *more]
    return [str(word) for word in words]


def saved(suite, package=None):
    """The directory with the saved vm: `disk`, `memory` and `accel`; with a package, one in which that is installed."""
    booted = once_booted(suite)
    if package is None:
        return booted
    name = f"installed-{suite.name}-{rootfs.key(booted.name, package)}"
    try:
        return rootfs.once(name, partial(save_installed, suite, booted, package))
    except BedError as error:
        # Another QEMU wrote it, or another processor.
        rootfs.say(f"the saved vm did not go on, so it is booted anew: {error}")
        discard(booted)
        return rootfs.once(name, partial(save_installed, suite, once_booted(suite), package))


def once_booted(suite):
    version = rootfs.sh("qemu-system-x86_64", "--version")
    # Where KVM may be used, the saved vm has this processor's features.
    features = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("model name", "flags"))][:2]
    parts = [rootfs.image(suite).name, version, *(features if Path("/dev/kvm").exists() else [])]
    name = f"saved-{suite.name}-{rootfs.key(*parts, HERE / 'vmwait.py', Path(__file__))}"
    return rootfs.once(name, partial(save, suite))


def discard(directory):
    shutil.rmtree(directory, ignore_errors=True)


def save(suite, directory):
    """Boots and saves, with the first accelerator that works."""
    rootfs.say(f"booting the vm ({suite.name}) once, to begin each scenario from there")
    directory.mkdir()
    waiting = parcel_with({"usr/local/lib/bed/vmguest.py": HERE / "vmwait.py"}, directory)
    say_in_last_page(waiting)
    for accel, limit in ((KVM, KVM_LIMIT), (TCG, BOOT_LIMIT)):
        if accel == KVM and not kvm_works(suite, directory):
            continue
        rootfs.sh("cp", "--sparse=always", rootfs.image(suite), directory / "disk")
        if save_with(suite, directory, accel, limit, waiting):
            finish(directory, accel)
            return
    raise BedError(f"the vm did not boot within {BOOT_LIMIT} s; its console:\n" + tail(directory / "console.log"))


def save_installed(suite, booted, package, directory):
    """Goes on from the booted one, installs the package and saves it again."""
    rootfs.say(f"installing the package in the vm ({suite.name}), to begin each scenario from there")
    directory.mkdir()
    parcel = parcel_with({"usr/local/lib/bed/vmguest.py": HERE / "vmwait.py", "root/hubwarden.deb": package}, directory)
    say_in_last_page(parcel, time=time.time())
    rootfs.sh("cp", "--sparse=always", booted / "disk", directory / "disk")
    accel = (booted / "accel").read_text()
    if not save_with(suite, directory, accel, BOOT_LIMIT, parcel, "-incoming", f"exec:cat '{booted}/memory'"):
        raise BedError(f"the package was not installed in the vm within {BOOT_LIMIT} s; its console:\n"
                       f"{tail(directory / 'console.log')}\n{tail(directory / 'qemu.log')}")
    finish(directory, accel)


def parcel_with(files, directory):
    file = directory / "parcel"
    with tarfile.open(file, "w") as parcel:
        for inside, outside in files.items():
            parcel.add(outside, arcname=inside)
    return file


def finish(directory, accel):
    (directory / "accel").write_text(accel)
    for name in ("parcel", "result.log", "console.log", "qemu.log"):
        (directory / name).unlink(missing_ok=True)


def kvm_works(suite, directory):
    """Whether a kernel says anything under KVM: where it does not work it burns a core in silence."""
    if not Path("/dev/kvm").exists():
        return False
    kernel, _ = kernel_and_initrd(suite)
    console = directory / "console.log"
    with open(directory / "qemu.log", "ab") as log:
        qemu = subprocess.Popen(["qemu-system-x86_64", "-M", "q35", "-accel", KVM, "-cpu", "max", "-m", "512M", "-display", "none",
                                 "-serial", f"file:{console}", "-no-reboot", "-kernel", kernel, "-append", "console=ttyS0 panic=-1",
                                 "-net", "none"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=netns.die_with_parent)
    try:
        deadline = time.monotonic() + KVM_SPEAKS
        while not (console.exists() and console.stat().st_size) and qemu.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        return console.exists() and console.stat().st_size > 0
    finally:
        qemu.kill()
        qemu.wait()


def save_with(suite, directory, accel, limit, parcel, *more):
    """Whether it waits for a scenario within the limit; if so it is saved."""
    (directory / "result.log").unlink(missing_ok=True)
    with open(directory / "qemu.log", "ab") as log:
        words = command(suite, directory, accel, directory / "disk", parcel, "-qmp", "stdio", *more)
        qemu = subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                preexec_fn=netns.die_with_parent)
    try:
        deadline, result = time.monotonic() + limit, directory / "result.log"
        while '"waiting"' not in (result.read_text(errors="replace") if result.exists() else ""):
            if qemu.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        ask(qemu, "qmp_capabilities")
        ask(qemu, "migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        ask(qemu, "migrate", uri=f"exec:cat > '{directory}/memory'")
        while (state := ask(qemu, "query-migrate").get("status")) != "completed":
            if state in ("failed", "cancelled") or time.monotonic() > deadline + BOOT_LIMIT:
                raise BedError(f"the vm could not be saved ({state}): {tail(directory / 'qemu.log')}")
            time.sleep(0.1)
        ask(qemu, "quit")
        qemu.wait(30)
        return True
    finally:
        qemu.kill()
        qemu.wait()


def ask(qemu, execute, **arguments):
    """One command of QEMU's machine protocol; what it returned."""
    qemu.stdin.write(json.dumps({"execute": execute, **({"arguments": arguments} if arguments else {})}) + "\n")
    qemu.stdin.flush()
    for line in qemu.stdout:
        answer = json.loads(line)
        if "error" in answer:
            raise BedError(f"QEMU refused {execute}: {answer['error'].get('desc')}")
        if "return" in answer:
            return answer["return"]
    raise BedError(f"QEMU ended at {execute}")


def tail(file, lines=30):
    text = file.read_text(errors="replace") if file.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
