"""The hub as a browser sees it: logging in, starting and stopping servers, running code in a kernel."""

import base64
import http.client
import json
import os
import struct
import time
import urllib.parse
import uuid

import netns

ADMIN = {"Authorization": "token bed-token-0123456789abcdef"}


class HubError(AssertionError):
    pass


def quote(name):
    return urllib.parse.quote(name, safe="@~!$&'()*+,;=:")


class Hub:
    """The hub's front door, the proxy on 127.0.0.1:8000 of a machine."""

    def __init__(self, machine, port=8000):
        self.machine, self.port = machine, port

    def ask(self, method, path, body=None, headers=None, timeout=60):
        """One request; (status, headers, body as text)."""
        connection = netns.Http(self.machine.leader, "127.0.0.1", self.port, timeout)
        try:
            connection.request(method, path, body=body, headers={"Host": f"127.0.0.1:{self.port}", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def api(self, method, path, body=None, headers=ADMIN, expect=(200, 201, 202, 204)):
        """A hub API call, as the harness's own service unless `headers` say otherwise."""
        data = None if body is None else json.dumps(body)
        status, _, text = self.ask(method, "/hub/api" + path, data, {**headers, "Content-Type": "application/json"})
        if status not in expect:
            raise HubError(f"{method} /hub/api{path}: {status} {text[:500]}")
        return json.loads(text) if text.strip() else None

    def wait_up(self, timeout=30.0):
        deadline = time.monotonic() + timeout
        last = ""
        while time.monotonic() < deadline:
            try:
                status, _, last = self.ask("GET", "/hub/api/", timeout=5)
                if status == 200:
                    return
            except (OSError, http.client.HTTPException) as error:
                last = str(error)
            time.sleep(0.1)
        raise HubError(f"the hub did not answer within {timeout:.0f} s: {last[:300]}")

    def login(self, name):
        return Session(self, name)

    def user(self, name):
        return self.api("GET", f"/users/{quote(name)}")


class Session:
    """One user's browser, logged in."""

    def __init__(self, hub, name):
        self.hub, self.name, self.cookies = hub, name, {}
        self._visit("GET", "/hub/login")
        form = urllib.parse.urlencode({"username": name, "password": "bed", "_xsrf": self.cookies.get("_xsrf", "")})
        status, headers, text = self._visit("POST", "/hub/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        if status != 302 or "jupyterhub-session-id" not in self.cookies:
            raise HubError(f"login of {name!r}: {status} {text[:300]}")
        # The hub normalises names (lower case); its own answer is the truth.
        self.name = self.hub_call("GET", "/user")["name"]

    def _visit(self, method, path, body=None, headers=None):
        cookie = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        status, answer, text = self.hub.ask(method, path, body, {"Cookie": cookie, **(headers or {})})
        for line in answer.get_all("Set-Cookie") or []:
            key, _, value = line.split(";", 1)[0].partition("=")
            self.cookies[key.strip()] = value.strip()
        return status, answer, text

    def hub_call(self, method, path, body=None, expect=(200, 201, 202, 204)):
        """A hub API call with this user's cookies."""
        self._visit("GET", "/hub/home")  # the xsrf cookie belongs to the session; a page renews it
        status, _, text = self._visit(method, "/hub/api" + path, None if body is None else json.dumps(body),
                                      {"X-XSRFToken": self.cookies.get("_xsrf", ""), "Content-Type": "application/json",
                                       "Referer": f"http://127.0.0.1:{self.hub.port}/hub/home"})
        if status not in expect:
            raise HubError(f"{method} {path} as {self.name!r}: {status} {text[:500]}")
        return json.loads(text) if text.strip() else None

    def spawn(self, timeout=60.0):
        """Starts the user's server and waits until it is ready; seconds it took."""
        started = time.monotonic()
        self.hub_call("POST", f"/users/{quote(self.name)}/server")
        while time.monotonic() < started + timeout:
            server = self.hub.user(self.name)["servers"].get("")
            if server and server["ready"]:
                return time.monotonic() - started
            if not server or not server.get("pending"):
                raise HubError(f"the server of {self.name!r} did not start: {server}")
            time.sleep(0.1)
        raise HubError(f"the server of {self.name!r} was not ready within {timeout:.0f} s")

    def stop(self, timeout=30.0):
        self.hub_call("DELETE", f"/users/{quote(self.name)}/server")
        deadline = time.monotonic() + timeout
        while self.hub.user(self.name)["servers"]:
            if time.monotonic() > deadline:
                raise HubError(f"the server of {self.name!r} did not stop within {timeout:.0f} s")
            time.sleep(0.1)

    def token(self):
        return self.hub_call("POST", f"/users/{quote(self.name)}/tokens", {"note": "bed", "expires_in": 3600})["token"]

    def execute(self, code, timeout=40.0):
        """Runs code in a new kernel of the user's server, as a notebook does; what it printed."""
        headers = {"Authorization": f"token {self.token()}", "Content-Type": "application/json"}
        base = f"/user/{quote(self.name)}/api/kernels"
        status, _, text = self.hub.ask("POST", base, "{}", headers)
        if status != 201:
            raise HubError(f"no kernel for {self.name!r}: {status} {text[:500]}")
        kernel = json.loads(text)["id"]
        try:
            channel = WebSocket(self.hub, f"{base}/{kernel}/channels", headers, timeout)
            try:
                return _execute(channel, code, timeout)
            finally:
                channel.close()
        finally:
            self.hub.ask("DELETE", f"{base}/{kernel}", None, headers)


def _execute(channel, code, timeout):
    session, wanted = uuid.uuid4().hex, uuid.uuid4().hex
    channel.send(json.dumps({
        "channel": "shell", "parent_header": {}, "metadata": {}, "buffers": [],
        "header": {"msg_id": wanted, "msg_type": "execute_request", "session": session, "username": "", "version": "5.3",
                   "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
        "content": {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False,
                    "stop_on_error": True}}))
    printed, deadline = "", time.monotonic() + timeout
    while time.monotonic() < deadline:
        message = json.loads(channel.receive())
        if message.get("parent_header", {}).get("msg_id") != wanted:
            continue
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            printed += content["text"]
        elif kind == "error":
            printed += "\n".join(content["traceback"])
        elif kind == "status" and content["execution_state"] == "idle":
            return printed
    raise HubError(f"the kernel did not finish within {timeout:.0f} s; it printed {printed!r}")


class WebSocket:
    """The least of RFC 6455 that talks to a kernel: text frames, pings answered."""

    def __init__(self, hub, path, headers, timeout):
        import socket

        self.sock = netns.socket_in(hub.machine.leader, socket.AF_INET, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(("127.0.0.1", hub.port))
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{hub.port}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13",
                 *(f"{key}: {value}" for key, value in headers.items() if key != "Content-Type")]
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise HubError(f"no websocket at {path}: {head.decode(errors='replace')[:300]}")

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise HubError("the kernel's websocket closed")
        self.buffer += data

    def _take(self, count):
        while len(self.buffer) < count:
            self._more()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def send(self, text, opcode=1):
        data = text.encode() if isinstance(text, str) else text
        size = len(data)
        length = bytes([0x80 | size]) if size < 126 else (
            b"\xfe" + struct.pack("!H", size) if size < 65536 else b"\xff" + struct.pack("!Q", size))
        mask = os.urandom(4)
        body = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.sock.sendall(bytes([0x80 | opcode]) + length + mask + body)

    def receive(self):
        text = b""
        while True:
            first, second = self._take(2)
            size = second & 127
            if size == 126:
                size = struct.unpack("!H", self._take(2))[0]
            elif size == 127:
                size = struct.unpack("!Q", self._take(8))[0]
            data = self._take(size)
            opcode = first & 15
            if opcode == 9:
                self.send(data, 10)
            elif opcode == 8:
                raise HubError("the kernel closed its websocket")
            elif opcode in (0, 1):
                text += data
                if first & 0x80:
                    return text.decode()

    def close(self):
        self.sock.close()
