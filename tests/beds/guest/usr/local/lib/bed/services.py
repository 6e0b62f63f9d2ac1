"""Real services outside the hub's machine: git, rsync, web, a package index, names over TLS.

Runs in the test host's network namespace with the bed's own programs: services.py V4 V6 ADDRESS … All
services are at the first two addresses, web pages at the others too. Says "ready" and ends with its
stdin. Started by reach.py.
"""

import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

HERE = Path("/run/bed-services")
CERTIFICATE = HERE / "certificate.pem"
WHEEL = "bedpackage-1.0-py3-none-any.whl"


def sh(*command, **kwargs):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **kwargs)


def git_repository(directory):
    work = HERE / "work"
    identity = {**os.environ, "HOME": str(HERE), "GIT_AUTHOR_NAME": "bed", "GIT_AUTHOR_EMAIL": "bed@test",
                "GIT_COMMITTER_NAME": "bed", "GIT_COMMITTER_EMAIL": "bed@test"}
    sh("git", "init", "-q", str(work), env=identity)
    (work / "README").write_text("a repository\n")
    sh("git", "-C", str(work), "add", "README", env=identity)
    sh("git", "-C", str(work), "commit", "-q", "-m", "One", env=identity)
    sh("git", "clone", "-q", "--bare", str(work), str(directory), env=identity)
    sh("git", "-C", str(directory), "update-server-info", env=identity)


def package_index(directory):
    """PEP 503's simple pages, with a package of one file."""
    here = directory / "bedpackage"
    here.mkdir(parents=True)
    (directory / "index.html").write_text('<a href="bedpackage/">bedpackage</a>\n')
    (here / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>\n')
    info = "bedpackage-1.0.dist-info"
    with zipfile.ZipFile(here / WHEEL, "w") as wheel:
        wheel.writestr("bedpackage.py", "x = 1\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: bedpackage\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: bed\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=str(HERE / "web"))

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, port):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Quiet)

    def server_bind(self):
        # The standard one asks for the host's name, by DNS.
        socket.socket.bind(self.socket, self.server_address)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, *_):
        pass


def web(address, port, context=None):
    server = Server(address, port)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def greet(address, port):
    """Says something as ssh and mail do, and is done."""
    server = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)

    def serve():
        while True:
            client, _ = server.accept()
            with client:
                try:
                    client.sendall(b"SSH-2.0-bed\r\n" if port == 22 else b"220 bed\r\n")
                    client.settimeout(1)
                    client.recv(100)
                    # What is left unread would make a reset of the end, which a refusal is too.
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass
                except OSError:
                    pass

    threading.Thread(target=serve, daemon=True).start()


def echo(address, port):
    server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, port))

    def serve():
        while True:
            data, peer = server.recvfrom(2048)
            server.sendto(data, peer)

    threading.Thread(target=serve, daemon=True).start()


def main(addresses):
    HERE.mkdir(exist_ok=True)
    web_root = HERE / "web"
    web_root.mkdir()
    (web_root / "index.html").write_text("a page\n")
    (web_root / "large").write_bytes(os.urandom(1 << 16) * 64)
    git_repository(HERE / "git" / "repository.git")
    (web_root / "repository.git").symlink_to(HERE / "git" / "repository.git")
    package_index(web_root / "simple")
    sh("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bed",
       "-addext", "subjectAltName=" + ",".join([*(f"IP:{address}" for address in addresses), "DNS:good.test", "DNS:*.sub.test"]),
       "-keyout", str(HERE / "key.pem"), "-out", str(CERTIFICATE), stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, HERE / "key.pem")
    (HERE / "rsyncd.conf").write_text(f"use chroot = no\nuid = root\ngid = root\n[module]\npath = {web_root}\nread only = yes\n")
    children = [subprocess.Popen(["git", "daemon", "--export-all", "--reuseaddr", f"--base-path={HERE / 'git'}",
                                  *(f"--listen={address}" for address in addresses[:2]), str(HERE / "git")])]
    for address in addresses[2:]:
        web(address, 80)
        web(address, 443, context)
    for address in addresses[:2]:
        children.append(subprocess.Popen(["rsync", "--daemon", "--no-detach", f"--address={address}",
                                          f"--config={HERE / 'rsyncd.conf'}"]))
        web(address, 80)
        for port in (443, 853):
            web(address, port, context)
        for port in (22, 25):
            greet(address, port)
        for port in (443, 4444):
            echo(address, port)
    wait_until_they_listen(addresses[:2])
    print("ready", flush=True)
    sys.stdin.read()
    for child in children:
        child.send_signal(signal.SIGTERM)


def wait_until_they_listen(addresses):
    import time

    until = time.monotonic() + 10
    for address in addresses:
        for port in (873, 9418):
            while True:
                try:
                    socket.create_connection((address, port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)


main(sys.argv[1:])
