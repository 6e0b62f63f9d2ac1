"""Layouts with servers in containers, and hubs in containers: Docker, Podman, Swarm."""

import time

import reach
import testhost
from layouts import Containers, Layout, Said, Service
from product import eventually, expect, expect_reach

PROGRAMS = "--volume=/usr:/usr:ro --volume=/opt:/opt:ro --volume=/etc/alternatives:/etc/alternatives:ro"
# What a hub has of the node to work in a container.
HUB = (
    f"{PROGRAMS} --volume=/etc/bed:/etc/bed:ro --volume=/var/lib/jupyterhub:/var/lib/jupyterhub --workdir=/var/lib/jupyterhub "
    "--volume=/etc/passwd:/etc/passwd:ro --volume=/etc/group:/etc/group:ro --env=PATH=/opt/tljh/hub/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
HUB_COMMAND = "clients jupyterhub -f /opt/layouts/jupyterhub_config.py"
IN_CONTAINER = """
c.JupyterHub.bind_url = 'http://:8000'
c.JupyterHub.hub_ip = '0.0.0.0'
c.JupyterHub.hub_connect_ip = 'jupyterhub'
"""
DOCKER = "c.JupyterHub.spawner_class = 'docker'\n"


def compose(network, more="", hub="jupyterhub", first="true", last="true"):
    """As in JupyterHub's own example for Docker Compose, with a web server before it."""
    return Containers(
        lines=IN_CONTAINER.replace("'jupyterhub'", f"'{hub}'") + f"c.DockerSpawner.network_name = '{network}'\n" + more,
        api=f"tcp,{hub},8081",
        proxy=f"tcp,{hub},8001",
        front=80,
        first=f"{first} && docker network create {network}",
        last=f"docker network rm {network}; {last}",
        run={
            hub: f"--network={network} --volume=/run/docker.sock:/var/run/docker.sock {HUB} {HUB_COMMAND}",
            "nginx": f"--network={network} --publish=80:80 {PROGRAMS} clients /opt/layouts/bin/front 0.0.0.0,80 {hub},8000",
        },
    )


PARENT = compose(
    "parent_default",
    first='echo \'{"cgroup-parent": "hub-users.slice"}\' >/etc/docker/daemon.json && systemctl restart docker',
    last="rm -f /etc/docker/daemon.json; systemctl restart docker",
)
COMPOSE = compose("hub_default", "c.DockerSpawner.use_internal_ip = True\n")
# A hub whose container begins as those of servers do.
LIKE_A_SERVER = compose("lab_default", hub="jupyter-hub")
# The hub is on the node, and servers reach it by the bridge's address.
ON_BRIDGE = Service(
    lines="c.JupyterHub.hub_ip = '0.0.0.0'\nc.JupyterHub.hub_connect_ip = '172.17.0.1'\n",
    api="tcp,172.17.0.1,8081",
    proxy="tcp,172.17.0.1,8001",
)
ON_NODE = Service()
# The hub is in a container that has the node's network, processes and bus, and starts units on the node.
ON_THE_BUS = Containers(
    # What it started is in the node's process namespace, and may outlive it.
    last="pkill -f '[c]onfigurable-http-proxy'",
    run={"jupyterhub": f"--network=host --pid=host --volume=/run:/run --volume=/home:/home {HUB} {HUB_COMMAND}"}
)
PODMAN = Containers(
    engine="podman",
    api="tcp,10.88.0.2,8081",
    proxy="tcp,10.88.0.3,8001",
    lines=IN_CONTAINER.replace("'jupyterhub'", "'10.88.0.2'") + "c.ConfigurableHTTPProxy.should_start = False\n"
    "c.ConfigurableHTTPProxy.auth_token = 'bed'\nc.ConfigurableHTTPProxy.api_url = 'http://10.88.0.3:8001'\n"
    "c.DockerSpawner.network_name = 'podman'\nc.DockerSpawner.client_kwargs = {'base_url': 'unix:///run/podman/podman.sock'}\n"
    # Podman insists on a controller that this bed may not have.
    "c.DockerSpawner.image = 'localhost/clients'\nc.DockerSpawner.extra_host_config = {'cpu_period': 0, 'cpu_quota': 0}\n",
    run={
        "proxy": f"--ip=10.88.0.3 --publish=8000:8000 --env=CONFIGPROXY_AUTH_TOKEN=bed {PROGRAMS} localhost/clients "
        "/opt/tljh/proxy/node_modules/.bin/configurable-http-proxy --ip 0.0.0.0 --port 8000 --api-ip 0.0.0.0 --log-level error "
        "--default-target http://10.88.0.2:8081",
        "hub": f"--ip=10.88.0.2 --volume=/run/podman:/run/podman {HUB} localhost/{HUB_COMMAND}",
    },
)

MACVLAN = "docker network create -d macvlan -o parent=bed0 --subnet 192.0.2.0/24 --ip-range 192.0.2.128/25 --gateway 192.0.2.2 lan"


def planted(user, network, name=None, more=""):
    """As DockerSpawner starts it."""
    return (
        f"docker run --detach --name={name or f'jupyter-{user}'} --network={network} --env=JUPYTERHUB_USER={user} {PROGRAMS} {more} "
        f"clients python3 /usr/local/lib/bed/container.py listen 8888\n"
    )


# -- the engines themselves --------------------------------------------------------------------------


def start(machine):
    """Docker and root's Podman; crun would raise a limit that this bed may not raise, and there is no pids controller."""
    machine.put(
        "/etc/containers/storage.conf",
        '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/docker/podman"\nrunroot = "/run/podman-layouts"\n',
    )
    machine.put(
        "/etc/containers/containers.conf",
        '[containers]\npids_limit = 0\n[engine]\ncgroup_manager = "systemd"\nruntime = "runc"\nevents_logger = "none"\n',
    )
    # It is started anew more often than a node's would be.
    machine.put("/etc/systemd/system/docker.service.d/bed.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    machine.run(
        "mkdir -p /etc/docker; systemctl daemon-reload; systemctl start docker.service podman.socket", timeout=60
    )
    for engine in ("docker", "podman"):
        reach.import_image(machine, engine)


# -- what a layout asserts besides ------------------------------------------------------------------


def second_network(trial):
    """A container that an admin connects to another network is let go on within a second."""
    user, machine = trial.users[0], trial.machine
    machine.run(f"docker network create data-net; docker network connect data-net {trial.place(user)}")
    time.sleep(1)
    trial.is_held(user, f"{trial.layout.name}: {user} on two networks")


def published(trial):
    """A database's published port, by each of the node's addresses."""
    ports = [f"tcp,{address},5432" for address in (testhost.MACHINE_V4, "127.0.0.1", "172.17.0.1")]
    for user in trial.users:
        expect_reach(trial.probe(user, ports), [], ports, f"{trial.layout.name}: {user} tries the database")
    done = trial.machine.probe(ports)
    expect(
        all(one["ok"] for one in done.values()), f"{trial.layout.name}: root does not reach the database either: {done}"
    )


CONTAINER = "jupyter-{user}{twodashes}"
LAYOUTS = [
    Layout(
        "compose",
        "Docker Compose: hub, nginx and servers are containers of one network, and nothing is configured",
        service=COMPOSE,
        lines=DOCKER,
        account="",
        container=CONTAINER,
        again=True,
    ),
    Layout(
        "compose-guarded",
        "The same, and `container_networks` names the network",
        service=COMPOSE,
        config='container_networks = ["hub_default"]',
        lines=DOCKER,
        account="",
        container=CONTAINER,
        again=True,
    ),
    Layout(
        "named",
        "The same with named servers and `c.DockerSpawner.name_template = '{servername}-{username}'`",
        service=COMPOSE,
        config='container_networks = ["hub_default"]',
        lines=DOCKER + "c.DockerSpawner.name_template = '{servername}-{username}'\n",
        users=("anna{n}/nginx", "ben{n}/jupyterhub"),
        account="",
        container="{server}-{user}",
    ),
    Layout(
        "prefix",
        "`c.DockerSpawner.prefix = 'jupyterlab'`",
        service=COMPOSE,
        config='container_networks = ["hub_default"]',
        lines=DOCKER + "c.DockerSpawner.prefix = 'jupyterlab'\n",
        account="",
        container="jupyterlab-{user}",
    ),
    Layout(
        "data-network",
        "An admin connects a server's container to a second network",
        service=COMPOSE,
        lines=DOCKER,
        account="",
        config='container_networks = ["hub_default"]',
        container=CONTAINER,
        also=second_network,
        afterwards="docker network disconnect -f data-net jupyter-anna{n}; docker network rm data-net",
    ),
    Layout(
        "like-a-server",
        "The hub's container is called `jupyter-hub`",
        service=LIKE_A_SERVER,
        lines=DOCKER,
        account="",
        config='container_networks = ["lab_default"]',
        container=CONTAINER,
        again=True,
    ),
    Layout(
        "cgroup-parent",
        "dockerd's `cgroup-parent` is a slice",
        service=PARENT,
        lines=DOCKER,
        account="",
        container=CONTAINER,
    ),
    Layout(
        "docker0",
        "The hub on the node, DockerSpawner on Docker's own bridge, `hub_connect_ip = '172.17.0.1'`",
        service=ON_BRIDGE,
        lines=DOCKER,
        account="",
        container=CONTAINER,
    ),
    Layout(
        "host-network",
        "`c.DockerSpawner.network_name = 'host'`",
        service=ON_NODE,
        users=("anna{n}",),
        account="",
        container=CONTAINER,
        own_port=8888,
        lines="""
from dockerspawner import DockerSpawner

class OnHost(DockerSpawner):
    async def get_ip_and_port(self):
        return '127.0.0.1', self.port

c.JupyterHub.spawner_class = OnHost
c.DockerSpawner.network_name = 'host'
c.DockerSpawner.use_internal_ip = True
""",
    ),
    Layout(
        "published",
        "SystemdSpawner, and a database in a container with `-p 5432:5432`",
        service=ON_NODE,
        before=f"docker run --detach --name=database --publish=5432:5432 {PROGRAMS} clients python3 /usr/local/lib/bed/container.py listen 5432",
        afterwards="docker rm --force database",
        also=published,
    ),
    Layout(
        "macvlan",
        "DockerSpawner on a macvlan network",
        service=ON_NODE,
        account="",
        container="jupyter-{user}",
        users=("anna{n}",),
        before=MACVLAN,
        planted=planted("anna{n}", "lan"),
        afterwards="docker rm --force jupyter-anna{n}; docker network rm lan",
        packets=False,
        said=(Said("container-network", "", ("macvlan", "use a bridge network")),),
    ),
    Layout(
        "on-the-bus", "The hub in a container on the node's network, servers are units of the node", service=ON_THE_BUS
    ),
    Layout(
        "podman",
        "Podman of root: hub, proxy and servers are containers of the network `podman`",
        service=PODMAN,
        # Docker drops what is bridged and not its own, as long as its rules stand; who has Podman has no Docker.
        before="systemctl stop docker.socket docker.service; iptables -P FORWARD ACCEPT",
        lines=DOCKER,
        account="",
        container=CONTAINER,
        engine="podman",
        again=True,
    ),
]
