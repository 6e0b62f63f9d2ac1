"""The hub of the layouts: what all of them have, and then the lines of one (layouts.py), as an admin writes them.

A spawner reads those lines anew when it is made, so that a hub need not be started again for each layout.
"""

import os
import pwd

from jupyterhub.spawner import LocalProcessSpawner
from traitlets.config import Config
from traitlets.utils.importstring import import_item

LINES = os.environ.get("LAYOUT", "/etc/bed/layout.py")
SPAWNERS = {"systemd": "systemdspawner.SystemdSpawner", "docker": "dockerspawner.DockerSpawner",
            "swarm": "dockerspawner.SwarmSpawner", "local": "jupyterhub.spawner.LocalProcessSpawner",
            "sudo": "sudospawner.SudoSpawner", "profiles": "wrapspawner.ProfilesSpawner"}


class Elsewhere(LocalProcessSpawner):
    """Leaves a server in a cgroup that another program would have made: `cgroup` is its path."""

    cgroup = ""

    def make_preexec_fn(self, name):
        become = super().make_preexec_fn(name)
        path = "/sys/fs/cgroup" + self.cgroup.format(uid=pwd.getpwnam(name).pw_uid)
        os.makedirs(path, exist_ok=True)

        def enter():
            with open(path + "/cgroup.procs", "w") as file:
                file.write("0")
            become()

        return enter


def lay(config):
    with open(LINES) as file:
        exec(compile(file.read(), LINES, "exec"), {"c": config, "Elsewhere": Elsewhere})
    return config


class AsLaidOut(LocalProcessSpawner):
    """Whichever spawner the layout of this moment has."""

    def __new__(cls, *args, **kwargs):
        config = lay(base(Config()))
        spawner = config.JupyterHub.spawner_class
        kwargs["config"] = config
        if not isinstance(spawner, type):
            spawner = import_item(SPAWNERS.get(spawner, spawner))
        return spawner(*args, **kwargs)


def base(c):
    c.JupyterHub.bind_url = "http://127.0.0.1:8000"
    c.JupyterHub.hub_ip = "127.0.0.1"
    c.JupyterHub.hub_port = 8081
    c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
    c.JupyterHub.cookie_secret_file = "/var/lib/jupyterhub/cookie_secret"
    c.JupyterHub.cleanup_servers = False
    c.JupyterHub.concurrent_spawn_limit = 0
    c.JupyterHub.allow_named_servers = True
    c.JupyterHub.spawner_class = "systemd"
    c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8001"
    c.ConfigurableHTTPProxy.command = ["/opt/tljh/proxy/node_modules/.bin/configurable-http-proxy"]
    c.ConfigurableHTTPProxy.pid_file = "/var/lib/jupyterhub/proxy.pid"
    c.JupyterHub.authenticator_class = "dummy"
    c.DummyAuthenticator.allow_all = True
    c.JupyterHub.services = [{"name": "bed", "api_token": "bed-token-0123456789abcdef", "admin": True},
                             {"name": "hubwarden", "api_token": "watch-token-0123456789abcdef"}]
    c.JupyterHub.load_roles = [
        {"name": "user", "scopes": ["self", "tokens!user", "access:servers!user"]},
        {"name": "hubwarden", "services": ["hubwarden"], "scopes": [
            "list:users", "read:users:groups", "read:users:activity", "read:servers", "admin:server_state"]},
    ]
    c.Spawner.cmd = ["/opt/layouts/bin/jupyterhub-singleuser"]
    c.Spawner.start_timeout = 40
    c.Spawner.http_timeout = 40
    c.SystemdSpawner.default_shell = "/bin/bash"
    # An image of directories alone: the programs are the machine's own.
    c.DockerSpawner.image = "clients"
    c.DockerSpawner.pull_policy = "never"
    c.DockerSpawner.remove = True
    c.DockerSpawner.read_only_volumes = {path: path for path in ("/usr", "/opt", "/etc/alternatives")}
    c.DockerSpawner.notebook_dir = "/tmp"
    return c


c = lay(base(get_config()))  # noqa: F821  (JupyterHub's own)
c.JupyterHub.spawner_class = AsLaidOut
