"""Layouts with servers on the node itself: SystemdSpawner in its many forms, and spawners that make no unit."""

from layouts import Layout, Said, Service

PLAIN = Service()
# The Littlest JupyterHub: the proxy is Traefik's service, which the hub does not start, and its API is elsewhere.
TRAEFIK = """[Service]
Environment=CONFIGPROXY_AUTH_TOKEN=bed
ExecStart=/opt/tljh/proxy/node_modules/.bin/configurable-http-proxy --ip 0.0.0.0 --port 80 --api-ip 127.0.0.1 --api-port 8099 --log-level error \
--default-target http://127.0.0.1:15001 
"""
TLJH = Service(
    front=80, api="tcp,127.0.0.1,15001", proxy="tcp,127.0.0.1,8099", beside={"traefik.service": TRAEFIK},
    lines="c.JupyterHub.bind_url = 'http://:80'\nc.JupyterHub.hub_port = 15001\n"
          "c.ConfigurableHTTPProxy.should_start = False\nc.ConfigurableHTTPProxy.auth_token = 'bed'\n"
          "c.ConfigurableHTTPProxy.api_url = 'http://127.0.0.1:8099'\n")

OWN_SLICE = """cat >/etc/systemd/system/jupyter-users.slice <<'END'
[Slice]
MemoryMax=4G
TasksMax=500
END
systemctl daemon-reload
"""

LAYOUTS = [
    Layout("tljh", "The Littlest JupyterHub: units `jupyter-{USERNAME}`, Traefik a service of its own", service=TLJH,
           lines="c.SystemdSpawner.unit_name_template = c.SystemdSpawner.username_template = 'jupyter-{USERNAME}'\n",
           unit="jupyter-{user}.service", account="jupyter-{user}"),
    Layout("plain", "SystemdSpawner as it comes: `jupyter-{USERNAME}-singleuser`, the hub's users are Unix users"),
    Layout("own-slice", "`c.SystemdSpawner.slice = 'jupyter-users.slice'`, on which the admin set limits",
           lines="c.SystemdSpawner.slice = 'jupyter-users.slice'\n", before=OWN_SLICE),
]
