"""A hub in a container is asked through its published port, its own address and address translation, once the configuration names it."""

import containers
import testhost
from containers import IMAGE, NETWORK, PYTHON, addresses
from product import configure, eventually, expect, install

TOKEN = "watch-token-0123456789abcdef"
# Says on its output what each connection brought.
HUB = r'''
import socket
listener = socket.create_server(("0.0.0.0", 8081), backlog=16)
while True:
    connection, _ = listener.accept()
    connection.settimeout(5)
    try:
        got = connection.recv(65536)
        body = b"{\"items\": [], \"_pagination\": {\"next\": null}}"
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-JupyterHub-Version: 5.2.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    except OSError:
        got = b""
    connection.close()
    print("connection:", got, flush=True)
'''


def start(machine, name, *options):
    machine.run(["docker", "run", "--detach", f"--network={NETWORK}", f"--name={name}", *options, IMAGE, PYTHON, "-c", HUB], timeout=90)


def connections(machine, name):
    return [line for line in machine.run(["docker", "logs", name]).out.splitlines() if line.startswith("connection:")]


def use(machine, host, peers):
    more = f'[hub]\napi_url = "http://{host}:8081/hub/api"\napi_peers = [{peers}]\n'
    configure(machine, more=more)
    machine.run("systemctl restart hubwarden", timeout=40)


def troubles(machine, words):
    return [record["MESSAGE"] for record in machine.journal("SYSLOG_IDENTIFIER=hubwarden") if words in record["MESSAGE"]]


def is_asked(machine, host):
    before = len(connections(machine, "jupyterhub"))
    use(machine, host, '"container:jupyterhub"')
    # The daemon before may have hung up a moment ago.
    eventually(lambda: any(TOKEN in line for line in connections(machine, "jupyterhub")[before:]), f"the hub is asked at {host}", 30)
    print(f"asked at {host}")


def is_not_asked(machine, host, peers, name, words):
    before = len(connections(machine, name))
    use(machine, host, peers)
    told = eventually(lambda: troubles(machine, words), f"{name} at {host} is refused", 30)
    print(told[-1])
    eventually(lambda: connections(machine, name)[before:], f"{name} at {host} was connected to", 30)
    got = [line for line in connections(machine, name)[before:] if line != "connection: b''"]
    expect(not got, f"{name} received {got}")


def scenario(machine):
    machine.boot(hub=False)
    install(machine)
    machine.put("/etc/hubwarden/hub-token", TOKEN + "\n", mode=0o600)
    containers.start_docker_with_network(machine)
    start(machine, "jupyterhub", "--publish=8081:8081")
    here = addresses(machine, "jupyterhub")[0]

    is_not_asked(machine, "127.0.0.1", "", "jupyterhub", "of Docker's or Podman's, write api_peers")
    is_not_asked(machine, here, "", "jupyterhub", f"{here} is not an address of this node")
    is_not_asked(machine, testhost.MACHINE_V4, "", "jupyterhub", f"leads to {here} by address translation")
    for host in ("127.0.0.1", here, testhost.MACHINE_V4):
        is_asked(machine, host)

    # Its address in another's hands, who also has a name of the configuration.
    machine.run("docker rm -f jupyterhub", timeout=60)
    start(machine, "jupyterhub", f"--ip={here}", "--publish=127.0.0.1:8081:8081", "--env=JUPYTERHUB_USER=mallory")
    words = f"{here} is not an address of this node"
    count = len(troubles(machine, words))
    is_not_asked(machine, here, '"container:jupyterhub"', "jupyterhub", words)
    eventually(lambda: len(troubles(machine, words)) > count, "it is said again")
    is_not_asked(machine, "127.0.0.1", '"container:jupyterhub"', "jupyterhub", "of Docker's or Podman's, write api_peers")
