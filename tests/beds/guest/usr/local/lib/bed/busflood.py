"""Fills the system bus from many connections of one user; what came back, as JSON, on its end.

    busflood.py SECONDS CONNECTIONS [KIND...]

Connections take the kinds in turn. It speaks D-Bus by itself: a library would wait for answers.
"""

import json
import os
import select
import socket
import struct
import sys
import time

BUS = "/run/dbus/system_bus_socket"
HUBWARDEN = ("/org/hubwarden", "org.hubwarden.Manager1", "org.hubwarden")
SYSTEMD = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "org.freedesktop.systemd1")
CALL, ERROR, SIGNAL = 1, 3, 4
NO_REPLY = 1


def padded(data, to):
    return data + b"\0" * (-len(data) % to)


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data + b"\0"


def message(kind, place, member, signature="", body=b"", flags=0):
    path, interface, destination = place
    fields = b""
    for code, type_, value in ((1, "o", path), (2, "s", interface), (3, "s", member), (6, "s", destination)):
        fields = padded(fields, 8) + bytes([code, 1]) + type_.encode() + b"\0" + string(value)
    if signature:
        fields = padded(fields, 8) + bytes([8, 1]) + b"g\0" + bytes([len(signature)]) + signature.encode() + b"\0"
    head = struct.pack("<cBBBIII", b"l", kind, flags, 1, len(body), 1, len(fields))
    return padded(head + fields, 8) + body


MESSAGES = {
    "status": message(CALL, HUBWARDEN, "Status"),
    "explain": message(CALL, HUBWARDEN, "Explain", "s", string("alice")),
    "processes": message(CALL, HUBWARDEN, "Processes"),
    "flows": message(CALL, HUBWARDEN, "Flows", "s", string("")),
    "unknown": message(CALL, HUBWARDEN, "Nonsense"),
    "introspect": message(CALL, ("/org/hubwarden", "org.freedesktop.DBus.Introspectable", "org.hubwarden"), "Introspect"),
    "unanswered": message(CALL, HUBWARDEN, "Status", flags=NO_REPLY),
    "orders": message(CALL, HUBWARDEN, "Off"),
    "huge": message(CALL, HUBWARDEN, "Explain", "s", string("x" * 2_000_000)),
    "signals": message(SIGNAL, HUBWARDEN, "Noise", "s", string("x" * 1000)),
    "systemd": message(CALL, SYSTEMD, "ListUnits"),
}
# Never reads what comes back.
DEAF = "deaf"
MESSAGES[DEAF] = MESSAGES["status"]


class Connection:
    def __init__(self, kind):
        self.kind, self.serial, self.left, self.came = kind, 1, b"", b""
        self.sent = self.bytes = 0
        self.limits = False
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(BUS)
        self.socket.sendall(b"\0AUTH EXTERNAL %s\r\nBEGIN\r\n" % str(os.getuid()).encode().hex().encode())
        self.socket.sendall(message(CALL, ("/org/freedesktop/DBus", "org.freedesktop.DBus", "org.freedesktop.DBus"), "Hello"))
        self.socket.setblocking(False)

    def send(self):
        if not self.left:
            batch = []
            for _ in range(1 if self.kind == "huge" else 64):
                self.serial += 1
                data = MESSAGES[self.kind]
                batch.append(data[:8] + struct.pack("<I", self.serial) + data[12:])
            self.left = b"".join(batch)
            self.sent += len(batch)
        self.left = self.left[self.socket.send(self.left):]

    def read(self):
        data = self.socket.recv(1 << 16)
        self.bytes += len(data)
        # The error's name may be cut by two reads; it comes often.
        self.limits = self.limits or b"LimitsExceeded" in data
        return bool(data)


def main():
    seconds, count, kinds = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:] or list(MESSAGES)
    connections, refused = [], 0
    for number in range(count):
        try:
            connections.append(Connection(kinds[number % len(kinds)]))
        except OSError:
            refused += 1
    print("flooding", flush=True)
    every, end, ended = list(connections), time.monotonic() + seconds, 0
    while connections and time.monotonic() < end:
        by = {one.socket: one for one in connections}
        readable, writable, _ = select.select([one.socket for one in connections if one.kind != DEAF], list(by), [], 1)
        for ready, act in ((writable, Connection.send), (readable, Connection.read)):
            for one in [by[socket_] for socket_ in ready if by[socket_] in connections]:
                try:
                    alive = act(one)
                except BlockingIOError:
                    alive = True
                except OSError:
                    alive = False
                if alive is False:
                    connections.remove(one)
                    ended += 1
    print(json.dumps({"sent": {kind: sum(one.sent for one in every if one.kind == kind) for kind in kinds},
                      "came": sum(one.bytes for one in every), "limits": any(one.limits for one in every),
                      "ended": ended, "refused": refused}), flush=True)


main()
