"""Does as it is told on standard input, one line an order, one line an answer."""

import contextlib
import errno
import socket
import struct
import sys
import threading
import time

import dns

TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
kept = {}


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def echo_stream(connection):
    kept["accepted"] = connection
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(4096):
            connection.sendall(data)


def serve_stream(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo_stream, args=(connection,), daemon=True).start()


def serve_datagrams(listener):
    while True:
        data, peer = listener.recvfrom(4096)
        with contextlib.suppress(OSError):
            listener.sendto(data, peer)


def listen(transport, address, port):
    listener = socket.socket(family(address), TYPES[transport])
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, int(port)))
    if transport == "tcp":
        listener.listen(64)
    serve = serve_stream if transport == "tcp" else serve_datagrams
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    return "ok"


def exchange(client):
    client.sendall(b"hello")
    return "ok" if client.recv(5) == b"hello" else "closed"


def reach(transport, address, port):
    with socket.socket(family(address), TYPES[transport]) as client:
        # Blocking, as most programs connect: a non-blocking one hears of some errors sooner.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 2, 0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 2, 0))
        client.connect((address, int(port)))
        return exchange(client)


def keep(transport, address, port):
    client = socket.socket(family(address), TYPES[transport])
    client.settimeout(2)
    client.connect((address, int(port)))
    kept["client"] = client
    return exchange(client)


def again():
    return exchange(kept["client"])


def push():
    kept["accepted"].sendall(b"hello")
    return "ok"


def pull():
    return "ok" if kept["client"].recv(5) == b"hello" else "closed"


def hold(transport, address, port, count):
    """How many connections are open at the same time of so many that are tried."""
    held = kept.setdefault("held", [])
    for _ in range(int(count)):
        client = socket.socket(family(address), TYPES[transport])
        client.settimeout(2)
        try:
            client.connect((address, int(port)))
            held.append(client)
        except OSError:
            client.close()
    return str(len(held))


def let_go():
    for client in kept.pop("held", []):
        client.close()
    return "ok"


def stream(address, port, count):
    """Milliseconds that so many bytes take there and back."""
    begun, left = time.monotonic(), int(count)
    with socket.socket(family(address), socket.SOCK_STREAM) as client:
        client.settimeout(20)
        client.connect((address, int(port)))
        threading.Thread(target=client.sendall, args=(b"x" * left,), daemon=True).start()
        while left > 0:
            left -= len(client.recv(65536))
    return str(int((time.monotonic() - begun) * 1000))


def sink(address, port):
    kept["sunk"] = 0
    listener = socket.socket(family(address), socket.SOCK_DGRAM)
    listener.bind((address, int(port)))

    def count():
        while True:
            listener.recv(4096)
            kept["sunk"] += 1

    threading.Thread(target=count, daemon=True).start()
    return "ok"


def sunk():
    time.sleep(0.1)
    return str(kept["sunk"])


def ping(address):
    v6 = family(address) == socket.AF_INET6
    kind = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    with socket.socket(family(address), socket.SOCK_RAW, kind) as client:
        client.settimeout(1)
        header = bytes([128 if v6 else 8, 0, 0, 0, 0, 1, 0, 1])
        if not v6:
            header = bytes([8, 0, 0xF7, 0xFD, 0, 1, 0, 1])
        client.sendto(header, (address, 0))
        wanted = 129 if v6 else 0
        end = time.monotonic() + 1
        while time.monotonic() < end:
            data = client.recv(4096)
            if (data[0] if v6 else data[20]) == wanted:
                return "ok"
        return "ETIMEDOUT"


def flood(address, port, count):
    with socket.socket(family(address), socket.SOCK_DGRAM) as client:
        for _ in range(int(count)):
            with contextlib.suppress(OSError):
                client.sendto(b"x", (address, int(port)))
    return "ok"


ORDERS = {
    "again": again,
    "flood": flood,
    "hello": lambda: "hello",
    "hold": hold,
    "keep": keep,
    "let_go": let_go,
    "listen": listen,
    "ping": ping,
    "pull": pull,
    "push": push,
    "reach": reach,
    "sink": sink,
    "stream": stream,
    "sunk": sunk,
    **dns.ORDERS,
}

for line in sys.stdin:
    order, *words = line.split()
    try:
        answer = ORDERS[order](*words)
    except TimeoutError:
        answer = "ETIMEDOUT"
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error))
    print(answer, flush=True)
