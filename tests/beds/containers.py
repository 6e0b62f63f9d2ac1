"""Containers inside a bed: a Docker or Podman that a scenario starts, and an image made of the bed's own shell.

There is no registry to pull from, and none is needed: DockerSpawner's containers differ from these
only in what runs in them. Name and environment are as it sets them.
"""

import json
from pathlib import Path

import testhost

IMAGE = "bed"
# A script that rests until its gate is opened, computes until there is a file called rest, and then rests again.
SPINS = "read word < /gate; while [ ! -e /rest ]; do :; done; sleep 600"
# What the image's programs are made of; each comes with the libraries that it needs.
PROGRAMS = ("/bin/sh", "/bin/sleep", "/bin/touch")
# Besides, where a scenario's containers use their network: Python, and what the beds have of it.
PYTHON = "/usr/bin/python3"
BED_FILES = "/usr/local/lib/bed"
CLIENT = "/usr/local/lib/bed/container.py"
# A network of Docker's own for servers, in both families; the test host knows the way there.
NETWORK, SUBNET_V4, SUBNET_V6 = "hubnet", "10.77.0.0/16", "fd00:77::/64"


def start_docker(bed, *options):
    """Starts Docker, on the network that the bed has, and imports the image."""
    config = ["--bridge=none", "--iptables=false", *options]
    bed.put("/etc/systemd/system/docker.service.d/bed.conf",
            f"[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// {' '.join(config)}\n")
    bed.run("systemctl daemon-reload; systemctl start docker.service", timeout=150)
    import_image(bed, "docker")


def start_docker_with_network(bed):
    """Starts Docker with rules of its own, a network for servers, and an image that has Python."""
    start_docker(bed, "--iptables=true")
    import_image(bed, "docker", (*PROGRAMS, PYTHON), (f"/usr/lib/python{bed.suite.python}", BED_FILES))
    bed.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
    make_network(bed)
    bed.teach_host([f"route add {SUBNET_V4} via {testhost.MACHINE_V4}", f"route add {SUBNET_V6} via {testhost.MACHINE_V6}"])


def make_network(bed):
    bed.run(f"docker network create --ipv6 --subnet {SUBNET_V4} --subnet {SUBNET_V6} {NETWORK}", timeout=60)


def addresses(bed, name):
    """A container's own, IPv4 and IPv6."""
    ends = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
    return bed.run(["docker", "inspect", "--format", ends, name]).out.split()


def probe(bed, name, targets):
    """As machine.probe(), from within a container."""
    return json.loads(bed.run(["docker", "exec", name, PYTHON, "/usr/local/lib/bed/probe.py", *targets], timeout=60).out)


def start_podman(bed):
    """Starts root's Podman with crun, which gives a container's payload a cgroup of its own, and imports the image."""
    bed.put("/etc/containers/containers.conf", '[engine]\ncgroup_manager = "systemd"\nruntime = "crun"\nevents_logger = "none"\n')
    bed.run("systemctl start podman.socket", timeout=60)
    import_image(bed, "podman")


def import_image(bed, engine, programs=PROGRAMS, files=()):
    programs, files = " ".join(programs), " ".join(files)
    # ldd heads each program's list by its path and a colon, the loader stands there by its path, and
    # libraries behind an arrow. A file named twice would become a link to itself.
    bed.run(f"ldd {programs} | grep -o '/[^ ]*' | sed 's/:$//' | sort -u > /tmp/files; "
            f"tar -ch -T /tmp/files {files} 2>/dev/null | {engine} import - {IMAGE}", timeout=150)


def run(bed, name, environment, script, engine="docker", network="none", gate=False):
    """Starts a container with DockerSpawner's way of naming things; its full id.

    With a `gate` the script may wait in `read word < /gate` until open_gate(): to look for a file again
    and again is a second's work each second under emulation.
    """
    options = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    if gate:
        bed.run(["mkfifo", "--mode=666", gate_of(name)])
        options.append(f"--volume={gate_of(name)}:/gate")
    out = bed.run([engine, "run", "--detach", f"--network={network}", f"--name={name}", *options,
                   IMAGE, "/bin/sh", "-c", script], timeout=150).out
    return out.strip().splitlines()[-1]


def gate_of(name):
    return f"/run/{name}.gate"


def open_gate(bed, name):
    """Lets the script of that container go on; returns once it does."""
    bed.run(["sh", "-c", f"echo open >{gate_of(name)}"])


def touch(cgroup, name):
    """Makes a file in a container of the vm, for its script to see; the engine's `exec` takes ten seconds under emulation."""
    processes = [int(pid) for file in cgroup.rglob("cgroup.procs") for pid in file.read_text().split()]
    # The script itself, which was there first.
    Path(f"/proc/{min(processes)}/root/{name}").touch()
