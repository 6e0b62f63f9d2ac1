"""The hub of the test beds: JupyterHub with SystemdSpawner, set up as TLJH sets it up.

A scenario chooses the unit template and the spawner's limits through /etc/bed/hub.json.
"""

import hashlib
import json
import os
import pwd
import subprocess

from systemdspawner import SystemdSpawner

c = get_config()  # noqa: F821  (JupyterHub's own)

bed = {"unit_template": "jupyter-{USERNAME}", "unix_prefix": "jupyter-", "spawner": {}, "admins": [], "groups": {}, "scopes": []}
if os.path.exists("/etc/bed/hub.json"):
    with open("/etc/bed/hub.json") as f:
        bed.update(json.load(f))


def generate_system_username(username):
    """TLJH's own rule: Unix names are short, unit names are not shortened."""
    if len(username) < 26:
        return username
    return "{}-{}".format(username[:26], hashlib.sha256(username.encode()).hexdigest()[:5])


def ensure_user(name):
    """Creates the Unix user; names that useradd refuses get a hashed one, so that the unit is odd."""
    try:
        pwd.getpwnam(name)
        return name
    except KeyError:
        pass
    if subprocess.run(["useradd", "--badname", "--create-home", "--shell", "/bin/bash", "--", name]).returncode == 0:
        return name
    hashed = "jupyter-h" + hashlib.sha256(name.encode()).hexdigest()[:10]
    try:
        pwd.getpwnam(hashed)
    except KeyError:
        subprocess.run(["useradd", "--create-home", "--shell", "/bin/bash", hashed], check=True)
    return hashed


class UserCreatingSpawner(SystemdSpawner):
    async def start(self):
        self.username_template = ensure_user(generate_system_username(bed["unix_prefix"] + self.user.name))
        return await super().start()


c.JupyterHub.bind_url = "http://127.0.0.1:8000"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = 15001
c.JupyterHub.db_url = "sqlite:////var/lib/jupyterhub/jupyterhub.sqlite"
c.JupyterHub.cookie_secret_file = "/var/lib/jupyterhub/cookie_secret"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.concurrent_spawn_limit = 0
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:8099"
c.ConfigurableHTTPProxy.command = ["/opt/tljh/proxy/node_modules/.bin/configurable-http-proxy"]
c.ConfigurableHTTPProxy.pid_file = "/run/jupyterhub-proxy.pid"

c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.allow_all = True
c.Authenticator.admin_users = set(bed["admins"])
# The harness's own hands; users log in with a password as anybody does.
c.JupyterHub.services = [{"name": "bed", "api_token": "bed-token-0123456789abcdef", "admin": True}]
c.JupyterHub.load_roles = [
    {"name": "user", "scopes": ["self", "tokens!user", "access:servers!user"]},
]
# hubwarden's own service, as docs/hub.md has it.
if bed["scopes"]:
    c.JupyterHub.services.append({"name": "hubwarden", "api_token": "watch-token-0123456789abcdef"})
    c.JupyterHub.load_roles.append({"name": "hubwarden", "services": ["hubwarden"], "scopes": bed["scopes"]})
c.JupyterHub.load_groups = {name: {"users": users} for name, users in bed["groups"].items()}

c.JupyterHub.spawner_class = UserCreatingSpawner
c.SystemdSpawner.unit_name_template = bed["unit_template"]
c.SystemdSpawner.default_shell = "/bin/bash"
c.SystemdSpawner.extra_paths = ["/opt/tljh/user/bin"]
c.Spawner.cmd = ["/opt/tljh/user/bin/jupyterhub-singleuser"]
c.Spawner.environment = {"JUPYTERHUB_SINGLEUSER_APP": "jupyter_server.serverapp.ServerApp"}
c.Spawner.default_url = "/api"
c.Spawner.start_timeout = 90
c.Spawner.http_timeout = 90
for key, value in bed["spawner"].items():
    setattr(c.SystemdSpawner, key, value)
