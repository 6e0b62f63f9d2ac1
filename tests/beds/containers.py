"""Containers inside a bed: a Docker or Podman that a scenario starts, and an image made of the bed's own shell.

There is no registry to pull from, and none is needed: DockerSpawner's containers differ from these
only in what runs in them. Name and environment are as it sets them.
"""

IMAGE = "bed"
# What the image's programs are made of; each comes with the libraries that it needs.
PROGRAMS = ("/bin/sh", "/bin/sleep", "/bin/touch")


def start_docker(bed, *options):
    """Starts Docker, on the network that the bed has, and imports the image."""
    config = ["--bridge=none", "--iptables=false", *options]
    bed.put("/etc/systemd/system/docker.service.d/bed.conf",
            f"[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// {' '.join(config)}\n")
    bed.run("systemctl daemon-reload; systemctl start docker.service", timeout=150)
    import_image(bed, "docker")


def start_podman(bed):
    """Starts root's Podman with crun, which gives a container's payload a cgroup of its own, and imports the image."""
    bed.put("/etc/containers/containers.conf", '[engine]\ncgroup_manager = "systemd"\nruntime = "crun"\nevents_logger = "none"\n')
    bed.run("systemctl start podman.socket", timeout=60)
    import_image(bed, "podman")


def import_image(bed, engine):
    programs = " ".join(PROGRAMS)
    # ldd heads each program's list by its path and a colon, the loader stands there by its path, and
    # libraries behind an arrow. A file named twice would become a link to itself.
    bed.run(f"ldd {programs} | grep -o '/[^ ]*' | sed 's/:$//' | sort -u > /tmp/files; "
            f"tar -ch -T /tmp/files 2>/dev/null | {engine} import - {IMAGE}", timeout=150)


def run(bed, name, environment, script, engine="docker"):
    """Starts a container with DockerSpawner's way of naming things; its full id."""
    variables = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    out = bed.run([engine, "run", "--detach", "--network=none", f"--name={name}", *variables,
                   IMAGE, "/bin/sh", "-c", script], timeout=150).out
    return out.strip().splitlines()[-1]
