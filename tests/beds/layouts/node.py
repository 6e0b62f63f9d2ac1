"""Layouts with servers on the node itself: SystemdSpawner in its many forms, and spawners that make no unit."""

import time

import testhost
from layouts import CONFIG, UNIT, Layout, Said, Service
from product import eventually, expect, expect_reach

SPAWNERS = "Use SystemdSpawner or DockerSpawner"
PROXY = "/opt/tljh/proxy/node_modules/.bin/configurable-http-proxy"
API = 'api_url = "http://127.0.0.1:8081/hub/api"'

# The Littlest JupyterHub: the proxy is Traefik's service, which the hub does not start, and its API is elsewhere. The
# hub runs a service of its own that ends idle servers.
TLJH = Service(
    front=80,
    api="tcp,127.0.0.1,15001",
    proxy="tcp,127.0.0.1,8099",
    beside={"traefik.service": f"""[Service]
Environment=CONFIGPROXY_AUTH_TOKEN=bed
ExecStart={PROXY} --ip 0.0.0.0 --port 80 --api-ip 127.0.0.1 --api-port 8099 --log-level error --default-target http://127.0.0.1:15001
"""},
    lines="""
c.JupyterHub.bind_url = 'http://:80'
c.JupyterHub.hub_port = 15001
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.auth_token = 'bed'
c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:8099'
c.JupyterHub.services.append({'name': 'culler', 'command': ['/opt/layouts/bin/culler'], 'admin': True})
""",
)
NGINX = Service(
    front=80,
    beside={
        "nginx.service": "[Service]\nExecStart=/opt/layouts/bin/front 0.0.0.0,80 127.0.0.1,8000\n",
        "site.service": "[Service]\nExecStart=/opt/layouts/bin/front 0.0.0.0,9090 127.0.0.1,8000\n",
    },
)
# A hub that is not root, with the mediator that it may run as each of its users.
SUDO = Service(more="User=rhea", lines="c.SudoSpawner.sudospawner_path = '/opt/layouts/bin/sudospawner'\n")
SUDOERS = """id rhea 2>/dev/null || useradd --system --create-home rhea; ln -sf /opt/tljh/hub/bin/sudospawner /opt/layouts/bin/sudospawner
echo 'rhea ALL = (ALL) NOPASSWD: /opt/layouts/bin/sudospawner' >/etc/sudoers.d/rhea; chmod 440 /etc/sudoers.d/rhea
"""
# Its servers are in a namespace that leads out by this node.
NAMESPACE = Service(
    api="tcp,10.99.0.1,8081", lines="c.JupyterHub.hub_ip = '0.0.0.0'\nc.JupyterHub.hub_connect_ip = '10.99.0.1'\n"
)
LAB = """ip netns add lab; ip link add lab0 type veth peer name eth0 netns lab; ip address add 10.99.0.1/24 dev lab0; ip link set lab0 up
ip -n lab address add 10.99.0.2/24 dev eth0; ip -n lab link set eth0 up; ip -n lab link set lo up; ip -n lab route add default via 10.99.0.1
sysctl -qw net.ipv4.ip_forward=1; nft 'table ip lab { chain out { type nat hook postrouting priority 100; oifname bed0 masquerade; }; }'
"""
# A second hub, beside one that has the usual ports and unit.
SECOND = Service(
    unit="jupyterhub-test.service",
    front=9000,
    api="tcp,127.0.0.1,9081",
    proxy="tcp,127.0.0.1,9001",
    more="Environment=LAYOUT=/etc/bed/layout.py",
    beside={
        "jupyterhub.service": UNIT.format(config=CONFIG, more="Environment=LAYOUT=/etc/bed/first.py")
        .replace("jupyterhub\nSt", "jupyterhub-first\nSt")
        .replace("StateDirectory=jupyterhub", "StateDirectory=jupyterhub-first")
    },
    lines="""
c.JupyterHub.bind_url = 'http://127.0.0.1:9000'
c.JupyterHub.hub_port = 9081
c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:9001'
""",
)
FIRST = """cat >/etc/bed/first.py <<'END'
c.JupyterHub.db_url = 'sqlite:////var/lib/jupyterhub-first/jupyterhub.sqlite'
c.JupyterHub.cookie_secret_file = '/var/lib/jupyterhub-first/cookie_secret'
c.ConfigurableHTTPProxy.pid_file = '/var/lib/jupyterhub-first/proxy.pid'
END
"""


def slice_file(name, lines):
    return f"printf '[Slice]\\n{lines}' >/etc/systemd/system/{name}; systemctl daemon-reload\n"


# -- what a layout asserts besides ------------------------------------------------------------------


def public_front(trial):
    """nbgrader's server extension asks the hub by its public address on this node."""
    front = f"tcp,{testhost.MACHINE_V4},{trial.layout.service.front}"
    for user in trial.users:
        expect_reach(trial.probe(user, [front]), [front], [], f"{trial.layout.name}: {user} asks the public address")


def culler(trial):
    public_front(trial)
    now = time.time()
    eventually(lambda: float(trial.machine.run("cat /run/culler").out) > now, "the hub's own service asks the hub", 5)


def site_beside(trial):
    public_front(trial)
    other = f"tcp,{testhost.MACHINE_V4},9090"
    expect_reach(trial.probe(trial.users[0], [other]), [], [other], "another site of this node's")


def stays_in(slice_):
    """An admin's slice stays, with its limits."""

    def also(trial):
        # The first server told what the spawner asks for; those after it are left there.
        trial.again(trial.users[0])
        for user in trial.users:
            place = trial.machine.unit_cgroup(trial.place(user))
            expect(f"/{slice_}/" in place, f"{trial.layout.name}: {user} is in {place}, not in {slice_}")

    return also


def hub_stays(trial):
    unit = trial.layout.service.unit
    place = trial.machine.unit_cgroup(unit)
    expect(place == f"/system.slice/{unit}", f"{trial.layout.name}: the hub is in {place}")


LAYOUTS = [
    Layout(
        "tljh",
        "The Littlest JupyterHub: units `jupyter-{USERNAME}`, Traefik as a service, a culler run by the hub",
        service=TLJH,
        lines="c.SystemdSpawner.unit_name_template = c.SystemdSpawner.username_template = 'jupyter-{USERNAME}'\n",
        unit="jupyter-{user}.service",
        account="jupyter-{user}",
        also=culler,
    ),
    Layout("nginx", "The hub behind nginx on the same node", service=NGINX, also=site_beside),
    Layout("plain", "SystemdSpawner as it comes: `jupyter-{USERNAME}-singleuser`, the hub's users are Unix users"),
    Layout(
        "own-slice",
        "`c.SystemdSpawner.slice = 'jupyter-users.slice'`, on which the admin set limits",
        lines="c.SystemdSpawner.slice = 'jupyter-users.slice'\n",
        unit="jupyter-{user}-singleuser.service",
        before=slice_file("jupyter-users.slice", "MemoryMax=4G\\nTasksMax=500\\n"),
        also=stays_in("jupyter-users.slice"),
    ),
    Layout(
        "one-slice",
        "`[hub] slice` and `c.SystemdSpawner.slice` name the same slice, `jupyterhub_users.slice`",
        lines="c.SystemdSpawner.slice = 'jupyterhub_users.slice'\n",
        config='slice = "jupyterhub_users.slice"',
        also=stays_in("jupyterhub_users.slice"),
    ),
    Layout(
        "own-names",
        "Units `jsu-{USERNAME}` in a slice without a suffix, `jhub-HOST`",
        lines="c.SystemdSpawner.slice = 'jhub-node'\nc.SystemdSpawner.unit_name_template = 'jsu-{USERNAME}'\n"
        "c.SystemdSpawner.unit_extra_properties = {'RuntimeDirectory': 'jhub/jsu-{USERNAME}'}\n",
        unit="jsu-{user}.service",
        found=False,
        cpu=False,
        packets=False,
        said=(
            Said("unit-name", "jsu-anna{n}.service", ("fits no template in unit_names", "unit_names = [")),
            Said("unit-name", "jsu-ben{n}.service", ("jsu-{USERNAME}",)),
        ),
        typed='unit_names = ["jupyter-{USERNAME}-singleuser", "jupyter-{USERNAME}", "jsu-{USERNAME}"]',
    ),
    Layout(
        "api-names",
        "Units `jhub-{USERNAME}`, and the hub's API names them",
        config=API,
        lines="c.SystemdSpawner.unit_name_template = 'jhub-{USERNAME}'\n",
        unit="jhub-{user}.service",
    ),
    Layout(
        "local",
        "LocalProcessSpawner, the hub's unit is `jupyterhub-server.service`",
        service=Service(unit="jupyterhub-server.service"),
        lines="c.JupyterHub.spawner_class = 'local'\n",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        said=(
            Said("hub-cgroup", "jupyterhub-server.service", ("2 single-user servers", SPAWNERS)),
            Said(
                "other-hub",
                "jupyterhub-server.service",
                ('hub_units = ["jupyterhub.service", "jupyterhub-server.service"]',),
            ),
        ),
        typed='hub_units = ["jupyterhub.service", "jupyterhub-server.service"]',
        then={
            "found": False,
            "cpu": False,
            "packets": False,
            "said": (Said("hub-cgroup", "jupyterhub-server.service", (SPAWNERS,)),),
        },
    ),
    Layout(
        "sudo",
        "SudoSpawner, the hub runs as a user of its own",
        service=SUDO,
        before=SUDOERS,
        lines="c.JupyterHub.spawner_class = 'sudo'\n",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        said=(Said("hub-cgroup", "jupyterhub.service", ("2 single-user servers", SPAWNERS)),),
    ),
    Layout(
        "code-server",
        "LocalProcessSpawner with `c.Spawner.cmd = ['jhsingle-native-proxy', '--', 'code-server']`",
        lines="c.JupyterHub.spawner_class = 'local'\nc.Spawner.cmd = ['/opt/layouts/bin/jhsingle-native-proxy', '--', 'code-server']\n",
        before="ln -sf jupyterhub-singleuser /opt/layouts/bin/jhsingle-native-proxy",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        said=(Said("hub-cgroup", "jupyterhub.service", ("2 single-user servers", SPAWNERS)),),
    ),
    Layout(
        "labhub",
        "SystemdSpawner with `c.Spawner.cmd = ['jupyter-labhub']` and more properties of the unit",
        lines="c.Spawner.cmd = ['/opt/layouts/bin/jupyter-labhub']\nc.SystemdSpawner.isolate_tmp = True\n"
        "c.SystemdSpawner.isolate_devices = True\nc.SystemdSpawner.disable_user_sudo = True\nc.SystemdSpawner.mem_limit = '512M'\n"
        "c.SystemdSpawner.unit_extra_properties = {'User': '{USERNAME}', 'RuntimeDirectoryPreserve': 'no', 'LimitNOFILE': '16384'}\n",
        before="ln -sf jupyterhub-singleuser /opt/layouts/bin/jupyter-labhub",
    ),
    Layout(
        "jupyter-hub",
        "The hub's unit is `jupyter-hub.service`, its servers are `jupyter-{USERNAME}`",
        service=Service(unit="jupyter-hub.service"),
        lines="c.SystemdSpawner.unit_name_template = 'jupyter-{USERNAME}'\n",
        unit="jupyter-{user}.service",
        again=True,
        also=hub_stays,
        said=(
            Said("other-hub", "jupyter-hub.service", ('hub_units = ["jupyterhub.service", "jupyter-hub.service"]',)),
        ),
        typed='hub_units = ["jupyterhub.service", "jupyter-hub.service"]',
    ),
    Layout(
        "hub-s-slice",
        "`Slice=jupyterhub.slice` in the hub's unit, and `c.SystemdSpawner.slice = 'jupyterhub.slice'`",
        service=Service(more="Slice=jupyterhub.slice"),
        lines="c.SystemdSpawner.slice = 'jupyterhub.slice'\n",
        again=True,
        lack="where other services run too",
    ),
    Layout(
        "named-servers",
        "Named servers in units `jupyter-{USERNAME}{JHUBSERVERNAME}`, as jhub-apps has them",
        users=("anna{n}", "anna{n}/lab", "ben{n}/lab"),
        unit="jupyter-{user}{dashserver}.service",
        lines="""
from systemdspawner import SystemdSpawner

class Named(SystemdSpawner):
    def _expand_user_vars(self, text):
        return super()._expand_user_vars(text.replace('{JHUBSERVERNAME}', f'-{self.name}' if self.name else ''))

c.JupyterHub.spawner_class = Named
c.SystemdSpawner.unit_name_template = 'jupyter-{USERNAME}{JHUBSERVERNAME}'
""",
        config=API,
    ),
    Layout(
        "dynamic",
        "`c.SystemdSpawner.dynamic_users = True`",
        config=API,
        # Without the second line this spawner cannot start a server twice.
        lines="c.SystemdSpawner.dynamic_users = True\nc.SystemdSpawner.unit_extra_properties = {'RuntimeDirectoryPreserve': 'no'}\n",
        account="",
    ),
    Layout(
        "directory",
        "Users of a directory: `anna@ad.example.org`",
        users=("anna{n}@ad.example.org", "ben{n}@ad.example.org"),
    ),
    Layout(
        "capitals",
        "The hub's user is `otto`, the account `Otto`",
        users=("otto{n}",),
        account="O{user}",
        before="grep -q ^otto{n}: /etc/passwd || sed -n 's/^Ootto{n}:/otto{n}:/p' /etc/passwd >>/etc/passwd",
    ),
    Layout(
        "namespace",
        "`NetworkNamespacePath=` in `c.SystemdSpawner.unit_extra_properties`",
        service=NAMESPACE,
        before=LAB,
        lines="c.Spawner.ip = '10.99.0.2'\nc.SystemdSpawner.unit_extra_properties = {'NetworkNamespacePath': '/run/netns/lab'}\n",
        netns="lab",
        packets=False,
        said=tuple(
            Said(
                "unit-network",
                f"jupyter-{user}{{n}}-singleuser.service",
                ("NetworkNamespacePath=", "filter in that namespace"),
            )
            for user in ("anna", "ben")
        ),
        afterwards="ip netns del lab; nft delete table ip lab; sysctl -qw net.ipv4.ip_forward=0",
    ),
    Layout(
        "profiles",
        "wrapspawner's ProfilesSpawner: SystemdSpawner or LocalProcessSpawner, as the user chooses",
        config=API,
        options={"anna{n}": {"profile": "unit"}, "ben{n}": {"profile": "local"}},
        not_found=("ben{n}",),
        lines="c.JupyterHub.spawner_class = 'profiles'\nc.ProfilesSpawner.profiles = [\n"
        "    ('A unit', 'unit', 'systemdspawner.SystemdSpawner', {}), ('Here', 'local', 'jupyterhub.spawner.LocalProcessSpawner', {})]\n",
        said=(Said("hub-cgroup", "jupyterhub.service", ("ben{n}", "1 single-user server)", SPAWNERS)),),
    ),
    Layout(
        "two-hubs",
        "A second hub, `jupyterhub-test.service`, with units `test-{USERNAME}` and ports of its own",
        service=SECOND,
        before=FIRST,
        lines="c.SystemdSpawner.unit_name_template = 'test-{USERNAME}'\n",
        unit="test-{user}.service",
        found=False,
        cpu=False,
        packets=False,
        said=(
            Said(
                "other-hub",
                "jupyterhub-test.service",
                ("another hub is", 'hub_units = ["jupyterhub.service", "jupyterhub-test.service"]'),
            ),
            Said("unit-name", "test-anna{n}.service", ('"test-{USERNAME}"]',)),
            Said("unit-name", "test-ben{n}.service", ("fits no template",)),
        ),
        typed='hub_units = ["jupyterhub.service", "jupyterhub-test.service"]\napi_ports = [8081, 9081]\n'
        'unit_names = ["jupyter-{USERNAME}-singleuser", "jupyter-{USERNAME}", "test-{USERNAME}"]',
    ),
    Layout(
        "kubernetes",
        "A single-node Kubernetes beside the hub, which starts servers there",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        lines="c.JupyterHub.spawner_class = Elsewhere\nElsewhere.cgroup = '/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope'\n",
        users=("anna{n}",),
        elsewhere="/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope",
        said=(
            Said(
                "other-manager",
                "/kubepods.slice/kubepods-pod1.slice",
                ("Kubernetes made this cgroup", "Set limits and network policies there"),
            ),
        ),
    ),
    Layout(
        "slurm",
        "batchspawner on a node that Slurm gives jobs to as well",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        lines="c.JupyterHub.spawner_class = Elsewhere\nElsewhere.cgroup = '/slurmstepd.scope/job_7/step_batch'\n",
        users=("anna{n}",),
        elsewhere="/slurmstepd.scope/job_7/step_batch",
        said=(Said("other-manager", "slurmstepd.scope", ("Slurm made this cgroup", "Set limits in Slurm")),),
    ),
    Layout(
        "rootless",
        "Servers in rootless Podman, a container a user",
        unit="",
        found=False,
        cpu=False,
        packets=False,
        lines="c.JupyterHub.spawner_class = Elsewhere\nElsewhere.cgroup = '/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-"
        + "ab" * 32
        + ".scope'\n",
        users=("anna{n}",),
        before="systemd-run --quiet --wait --collect loginctl enable-linger anna{n}",
        afterwards="systemd-run --quiet --wait --collect loginctl disable-linger anna{n}",
        elsewhere="/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-" + "ab" * 32 + ".scope",
        said=(
            Said(
                "rootless-container", ".slice", ("belongs to an engine that a user runs", "Use root's Docker or Podman")
            ),
        ),
    ),
    Layout(
        "remote",
        "The hub starts servers on other machines (batchspawner, ssh), and its API is asked",
        config=API,
        unit="",
        remote=True,
        found=False,
        cpu=False,
        packets=False,
        lines=f"""
from jupyterhub.spawner import Spawner

class Remote(Spawner):
    async def start(self):
        return ('{testhost.V4}', 80)
    async def stop(self, now=False):
        pass
    async def poll(self):
        return None

c.JupyterHub.spawner_class = Remote
""",
        said=(
            Said(
                "not-found",
                "",
                ("anna{n}, ben{n}: not found on this node", "It runs on another machine"),
                in_journal=False,
            ),
        ),
    ),
]

# Those in which somebody is not covered, or not at first; two scenarios run side by side.
NOT_COVERED = [layout for layout in LAYOUTS if layout.said]
COVERED = [layout for layout in LAYOUTS if not layout.said]
