"""The vm bed: the same root on Debian's own kernel, in QEMU; nothing shared with the host.

A scenario has two halves: `guest(bed)`, which runs inside as root and reports records, and
`scenario(vm)`, which plays it here and judges the records:

    def guest(bed):  bed.report("usage", seconds=1.5)
    def scenario(vm):  records = vm.play(__file__)

It begins from a vm that was booted once and saved with the package installed (vmstate.py), on a
snapshot of its disk. The scenario, the package and the guest files go in as a tar archive on a second
disk, records come out on a serial port. A record's `say` is what a person is shown of it.
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
import vmstate
from rootfs import BedError
from vmstate import tail

HERE = Path(__file__).resolve().parent
INSIDE = "usr/local/lib/bed"
# Shared with the scenarios' inner halves: they import these as they do outside.
LIBRARY = ("vmguest.py", "product.py", "containers.py", "faults.py", "rootfs.py", "testhost.py", "netns.py")


class Vm:
    def __init__(self, name, suite):
        import os

        self.name, self.suite = name, suite
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
        vmstate.say_in_last_page(file, time=time.time())
        return file

    def _start(self, accel, parcel, booted):
        """Goes on from the saved vm `booted`, or boots if that is None."""
        disk = booted / "disk" if booted else rootfs.image(self.suite)
        more = ["-incoming", f"exec:cat '{booted}/memory'"] if booted else []
        for file in (self.console, self.result):
            file.unlink(missing_ok=True)
        command = vmstate.command(self.suite, self.directory, accel, f"{disk},snapshot=on", parcel, *more)
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=open(self.directory / "qemu.log", "ab"),
                                     stderr=subprocess.STDOUT, preexec_fn=netns.die_with_parent)

    def play(self, scenario, package=None, limit=300, files=None, fresh=False):
        """Runs the scenario's guest(bed) in a vm of its own; the records it reported, oldest first.

        The package is installed in it already, and not started yet, unless the vm is to be `fresh`.
        `files` go in as well: path inside to file or directory here.
        """
        parcel = self._parcel(scenario, package, files or {})
        booted = vmstate.saved(self.suite, None if fresh else package)
        started = time.monotonic()
        accel = (booted / "accel").read_text()
        self._start(accel, parcel, booted)
        shown = 0
        while True:
            ended = self.qemu.poll() is not None
            self._read()
            if ended and booted and not self.records:
                # Another QEMU wrote it, or another processor: the next run saves a new one.
                print(f"  the saved vm did not go on, so it boots: {tail(self.directory / 'qemu.log', 3)}", flush=True)
                vmstate.discard(booted)
                booted = None
                self._start(accel, parcel, booted)
                continue
            for record in self.records[shown:]:
                said = record.get("say") or json.dumps(record)[:300]
                print(f"  vm {time.monotonic() - started:5.0f} s  {said}", flush=True)
            shown = len(self.records)
            if ended:
                break
            if time.monotonic() - started > limit:
                raise BedError(f"the vm did not finish within {limit} s; its console:\n{tail(self.console)}")
            time.sleep(0.2)
        kinds = [record["kind"] for record in self.records]
        if "error" in kinds:
            error = next(record for record in self.records if record["kind"] == "error")
            raise AssertionError(f"inside the vm: {error['text']}")
        if kinds[-1:] != ["end"]:
            raise BedError(f"the vm stopped early; {tail(self.directory / 'qemu.log')}\n{tail(self.console)}")
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
