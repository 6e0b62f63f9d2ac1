"""The vm bed: the same root on Debian's own kernel, in QEMU; nothing shared with the host.

A scenario has two halves: `guest(bed)`, which runs inside as root and reports records, and
`scenario(vm)`, which plays it here and judges the records:

    def guest(bed):  bed.report("usage", seconds=1.5)
    def scenario(vm):  records = vm.play(__file__)

The disk is a snapshot of the cached image; the scenario, the package and the guest files go in as
a tar archive on a second disk, records come out on a serial port. A record's `say` is what a person is
shown of it.
"""

import json
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import leftovers
import netns
import rootfs
from rootfs import BedError

HERE = Path(__file__).resolve().parent
INSIDE = "usr/local/lib/bed"
# Shared with the scenarios' inner halves: they import these as they do outside.
LIBRARY = ("vmguest.py", "product.py", "containers.py", "faults.py", "rootfs.py", "testhost.py", "netns.py")


class Vm:
    def __init__(self, name):
        import os

        self.name = name
        self.directory = leftovers.RUN / f"{os.getpid()}-{name}"
        self.console = self.directory / "console.log"
        self.result = self.directory / "result.log"
        self.qemu = None
        self.records = []

    def __enter__(self):
        self.directory.mkdir(parents=True)
        return self

    def __exit__(self, *_):
        self._end()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self):
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()
            self.qemu = None

    def _parcel(self, scenario, package, files):
        """The second disk: what the guest unpacks over its root."""
        file = self.directory / "parcel.tar"
        with tarfile.open(file, "w") as parcel:
            parcel.add(rootfs.GUEST, arcname=".", filter=lambda entry: None if "__pycache__" in entry.name else entry)
            for name in LIBRARY:
                parcel.add(HERE / name, arcname=f"{INSIDE}/{name}")
            parcel.add(scenario, arcname=f"{INSIDE}/scenario.py")
            if package:
                parcel.add(package, arcname="root/hubwarden.deb")
            for inside, outside in files.items():
                parcel.add(outside, arcname=inside.lstrip("/"))
        with open(file, "ab") as handle:  # a disk is whole sectors
            handle.truncate((file.stat().st_size + 4095) // 4096 * 4096)
        return file

    def _start(self, accel, parcel):
        boot = rootfs.root() / "boot"
        kernel, initrd = sorted(boot.glob("vmlinuz-*"))[-1], sorted(boot.glob("initrd.img-*"))[-1]
        command = ["qemu-system-x86_64", "-M", "q35", "-accel", accel, "-cpu", "max", "-smp", "2", "-m", "2G",
                   "-display", "none", "-serial", f"file:{self.console}", "-serial", f"file:{self.result}", "-no-reboot",
                   "-kernel", kernel, "-initrd", initrd, "-append",
                   "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off apparmor=0 panic=-1",
                   "-drive", f"file={rootfs.image()},format=raw,if=virtio,cache=unsafe,snapshot=on",
                   "-drive", f"file={parcel},format=raw,if=virtio,readonly=on", "-net", "none"]
        self.qemu = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                                     stdout=open(self.directory / "qemu.log", "wb"), stderr=subprocess.STDOUT,
                                     preexec_fn=netns.die_with_parent)

    def play(self, scenario, package=None, limit=300, files=None):
        """Boots, runs the scenario's guest(bed), powers off; the records it reported, oldest first.

        `files` go in as well: path inside to file or directory here.
        """
        parcel = self._parcel(scenario, package, files or {})
        started = time.monotonic()
        accel = "kvm" if Path("/dev/kvm").exists() else "tcg,thread=multi,tb-size=1024"
        self._start(accel, parcel)
        shown = 0
        while True:
            ended = self.qemu.poll() is not None
            self._read()
            if accel == "kvm" and not self.records and (ended or time.monotonic() - started > 40):
                # /dev/kvm is there but boots nothing, as on a machine without nested virtualisation.
                self._end()
                accel = "tcg,thread=multi,tb-size=1024"
                self._start(accel, parcel)
                continue
            for record in self.records[shown:]:
                said = record.get("say") or json.dumps(record)[:300]
                print(f"  vm {time.monotonic() - started:5.0f} s  {said}", flush=True)
            shown = len(self.records)
            if ended:
                break
            if time.monotonic() - started > limit:
                raise BedError(f"the vm did not finish within {limit} s; its console:\n{self._tail(self.console)}")
            time.sleep(0.2)
        kinds = [record["kind"] for record in self.records]
        if "error" in kinds:
            error = next(record for record in self.records if record["kind"] == "error")
            raise AssertionError(f"inside the vm: {error['text']}")
        if kinds[-1:] != ["end"]:
            raise BedError(f"the vm stopped early; {self._tail(self.directory / 'qemu.log')}\n{self._tail(self.console)}")
        return self.records

    def _read(self):
        text = self.result.read_text(errors="replace") if self.result.exists() else ""
        self.records = []
        for line in text.split("\n")[:-1]:
            if line.strip().startswith("{"):
                self.records.append(json.loads(line))

    def of(self, kind):
        return [record for record in self.records if record["kind"] == kind]

    def last_words(self, _file):
        """The guest's journal, if its half failed and sent it."""
        return "\n".join(line for record in self.of("journal") for line in record["lines"])

    @staticmethod
    def _tail(file, lines=30):
        text = file.read_text(errors="replace") if file.exists() else ""
        return "\n".join(text.splitlines()[-lines:])
