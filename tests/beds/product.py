"""What the scenarios know of hubwarden itself: its names, its configuration, its journal.

Kept in one place so that a renamed key or field is one change here.
"""

import json
import os
import re
import time
from pathlib import Path

import rootfs
import testhost

CONFIG = "/etc/hubwarden/config.toml"
TABLE = "inet hubwarden"
# TLJH's unit names and, for the default template, JupyterHub's.
TLJH_UNIT = "jupyter-{}.service"
DEFAULT_UNIT = "jupyter-{}-singleuser.service"

# The journal's MESSAGE_IDs that scenarios ask for (src/report/kind.rs has them all).
FOUND = "59dd047fb37b4d6591eb2cad76a9021c"
GONE = "45d20c4567ca4bd4963a8aba6ae5c31d"
NOT_MAPPED = "5575c4a71e2a411d91328cc5bd7759b1"
THROTTLED = "9295960c33d74fc8b371d65822c8af25"
FREED = "92e541f538004a56844f227927b4c49f"
REFUSED = "7edd500d6197401ba1f5e80be2e27fc9"


class Failed(AssertionError):
    """A scenario's expectation that did not hold."""


def expect(holds, message):
    if not holds:
        raise Failed(message)


def eventually(question, what, timeout=15.0, every=0.1):
    """Asks until the answer is true, and returns it; fails with `what` when time is up.

    What is slow to answer, as under emulation, is asked less often: it is to have the CPU that it waits for.
    """
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        answer = question()
        answered = time.monotonic()
        if answer:
            return answer
        if answered > deadline:
            raise Failed(f"not within {timeout:.0f} s: {what}")
        time.sleep(max(every, min(answered - asked, 1.0)))


def deb():
    """The newest built package that runs in the beds, or the one that PACKAGE= names."""
    if os.environ.get("PACKAGE"):
        return Path(os.environ["PACKAGE"])
    import package

    target = package.TARGET if package.newer_host() else rootfs.PROJECT / "target"
    found = sorted((target / "debian").glob("hubwarden_*.deb"), key=lambda file: file.stat().st_mtime)
    expect(found, f"no package in {target}/debian: run `make deb` first")
    return found[-1]


def config(mode="enforce", tick="1s", limit="2 cores", baseline="0.25 cores", credits="1 core-hour", min_stay="1s", more=""):
    """A configuration for a scenario. Defaults are the product's, but for a quick tick."""
    return f'''mode = "{mode}"
tick = "{tick}"

[cpu]
limit = "{limit}"
baseline = "{baseline}"
credits = "{credits}"
min_stay = "{min_stay}"
{more}
'''


def configure(machine, **settings):
    machine.put(CONFIG, config(**settings))


# As an admin installs it.
BY_APT = ("DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold "
          "-o Dpkg::Use-Pty=0 /root/hubwarden.deb")
# In a vm it is installed already, and not started yet (vmstate.py), unless the saved vm did not go on.
QUICK = "if command -v hubwarden; then systemctl start hubwarden; else dpkg --force-confold -i /root/hubwarden.deb; fi"


def install(machine, package=None, reload_with=None, quick=False):
    """Installs the package with apt, as an admin does; then, if given, a configuration and a restart.

    `quick` starts the one that the vm was saved with: apt takes half a minute under emulation.
    """
    machine.put("/root/hubwarden.deb", package or deb())
    machine.run(QUICK if quick else BY_APT, timeout=120)
    if reload_with is not None:
        configure(machine, **reload_with)
        machine.run("systemctl restart hubwarden", timeout=40)
    wait_active(machine)


def wait_active(machine, timeout=20):
    eventually(lambda: machine.run("systemctl is-active hubwarden", check=False).out.strip() == "active",
               "hubwarden.service is active", timeout)


def status(machine):
    """`hubwarden status --json`, parsed."""
    return json.loads(machine.run("hubwarden status --json").out)


def server_of(machine, user):
    """One user's server in the status, or None."""
    return next((server for server in status(machine)["servers"] if server["user"] == user), None)


def wait_guarded(machine, user, timeout=15):
    """Waits until the daemon lists the user's server with a class, and returns that line."""
    def ask():
        server = server_of(machine, user)
        return server if server and server.get("class") not in (None, "", "pending") else None
    return eventually(ask, f"status shows {user}'s server with its class", timeout)


def story(machine, user):
    """What `journalctl HUB_USER=user` holds, oldest first."""
    return machine.journal(f"HUB_USER={user}")


def entries(machine, user, kind):
    """The user's journal entries of one kind."""
    return [record for record in story(machine, user) if record.get("MESSAGE_ID") == kind]


def when(record):
    """A record's time in seconds, as its sender knew it."""
    return int(record.get("_SOURCE_REALTIME_TIMESTAMP") or record["__REALTIME_TIMESTAMP"]) / 1e6


def table(machine):
    """The product's table as nft prints it, or None."""
    done = machine.run(f"nft list table {TABLE}", check=False)
    return done.out if done.code == 0 else None


def lasting(text):
    """A table's listing without its owner and without what packets put into it, to compare two moments."""
    # From kernel 6.9 on it is owned while the daemon lives, and nobody's in between.
    text = re.sub(r" # progname [^\n]*", "", text)
    text = re.sub(r"^\tflags [^\n]*\n", "", text, flags=re.M)
    # Who was told of a refusal lately, and the like.
    text = re.sub(r"\tset \w+ \{\n(?:\t\t[^\n]*\n)*?\t\tflags dynamic[^\n]*\n(?:\t\t[^\n]*\n)*\t\}\n", "", text)
    # What ends by itself is made anew before it does.
    text = re.sub(r" timeout \w+ expires \w+", "", text)
    return re.sub(r"counter packets \d+ bytes \d+", "counter", text)


def rules(machine):
    """The table, to compare two moments."""
    return lasting(table(machine) or "")


def rules_as_text(machine):
    """The table without the sets of cgroups: the kernel holds numbers there, nft prints them as paths."""
    return re.sub(r"\t(map|set) \w+ \{\n\t\ttype [^\n]*cgroupsv2.*?\n\t\}\n", "", table(machine) or "", flags=re.S)


def stage(machine, user):
    server = server_of(machine, user)
    return server and server["stage"].lower()


def spin(machine, unit, seconds=600, workers=2):
    """Starts CPU burners in a user's unit; they end by themselves, or by stop_spinning()."""
    loop = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    script = f"for i in $(seq {workers}); do setsid python3 -c '{loop}' bed-spinner >/dev/null 2>&1 </dev/null & done"
    machine.run_in_unit(unit, script)


def stop_spinning(machine):
    machine.run("pkill -KILL -f '[b]ed-spinner'", check=False)


def quota(machine, unit):
    """A unit's CPU quota in cores as systemd has it, or None."""
    text = machine.unit_property(unit, "CPUQuotaPerSecUSec")
    if text in ("", "infinity"):
        return None
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
    return round(sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(us|ms|min|s)", text)), 4)


# -- what a guarded server may reach ---------------------------------------------------------------

def outside():
    """Targets on the test host: (those a guarded server reaches, those it must not)."""
    allowed, refused = [], []
    for address in (testhost.V4, testhost.V6):
        allowed += [f"tcp,{address},{port}" for port in testhost.ALLOWED_TCP]
        refused += [f"tcp,{address},{port}" for port in testhost.REFUSED_TCP if port != 53]
        refused += [f"udp,{address},{port}" for port in testhost.UDP if port != 53]
    # The machine's resolv.conf names this one only, whose network is private.
    allowed += [f"dns,{testhost.RESOLVER_V4},53", f"tcp,{testhost.RESOLVER_V4},53"]
    refused += [f"tcp,{address},{port}" for address in (testhost.RESOLVER_V4, testhost.RESOLVER_V6) for port in (80, 443)]
    for address in (testhost.V4, testhost.V6, testhost.OTHER_V4):
        refused += [f"dns,{address},53", f"tcp,{address},53"]
    refused += [f"tcp,{testhost.METADATA_V4},80", f"tcp,{testhost.METADATA_V6},80", f"tcp,{testhost.METADATA_V4},53"]
    return allowed, refused


def key_of(arrival):
    return f"{arrival['proto']},{arrival['dst']},{arrival['port']}"


def expect_reach(results, allowed, refused, who, at_once=1.0):
    """Allowed targets answered; refused ones gave an error, and gave it at once."""
    wrong = [f"{target} was refused ({results[target]['error']})" for target in allowed if not results[target]["ok"]]
    for target in refused:
        if results[target]["ok"]:
            wrong.append(f"{target} was reached")
        elif results[target]["error"] == "TIMEOUT" or results[target]["seconds"] > at_once:
            wrong.append(f"{target} hung ({results[target]['error']} after {results[target]['seconds']} s)")
    expect(not wrong, f"{who}: " + "; ".join(wrong))


def expect_none_arrived(machine, refused, who):
    """No packet for a refused target reached the wire."""
    arrived = {key_of(arrival) for arrival in machine.arrivals()}
    leaked = [target for target in refused if target.replace("dns,", "udp,") in arrived]
    expect(not leaked, f"{who}: packets arrived at {', '.join(leaked)}")
