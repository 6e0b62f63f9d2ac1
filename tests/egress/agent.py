"""Does as it is told on standard input, one line an order, one line an answer."""

import contextlib
import errno
import ipaddress
import os
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
        listener.listen(1024)
    serve = serve_stream if transport == "tcp" else serve_datagrams
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    return "ok"


def exchange(client):
    client.sendall(b"hello")
    return "ok" if client.recv(5) == b"hello" else "closed"


def reach(transport, address, port):
    with socket.socket(family(address), TYPES[transport]) as client:
        # Blocking, as most programs connect: a non-blocking one hears of some errors sooner. A busy machine
        # may take seconds for what is allowed; EAGAIN or EINPROGRESS says that no answer came.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 8, 0))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 4, 0))
        client.connect((address, int(port)))
        return exchange(client)


def routed_by(segment, address):
    """A TCP socket with a segment routing header by way of another host (RFC 8754)."""
    segments = socket.inet_pton(socket.AF_INET6, address) + socket.inet_pton(socket.AF_INET6, segment)
    client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    client.settimeout(2)
    # IPV6_RTHDR of linux/in6.h.
    client.setsockopt(socket.IPPROTO_IPV6, 57, bytes([0, 4, 4, 1, 1, 0, 0, 0]) + segments)
    return client


def reach_via(segment, address, port):
    with routed_by(segment, address) as client:
        client.connect((address, int(port)))
    return "ok"


def answer_via(segment, address, port):
    """Connects to itself, where the answer goes by way of another host."""
    with routed_by(segment, address) as listener, socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        listener.bind((address, int(port)))
        listener.listen(1)
        client.settimeout(0.5)
        client.connect((address, int(port)))
    return "ok"


def keep(transport, address, port):
    client = socket.socket(family(address), TYPES[transport])
    client.settimeout(2)
    client.connect((address, int(port)))
    kept["client"] = client
    return exchange(client)


def become(cgroup, uid):
    """Goes on in another cgroup and under another uid, all threads alike, as who serves an ssh session does."""
    with open(f"{cgroup}/cgroup.procs", "w") as procs:
        procs.write("0")
    take_on(int(uid))
    return "ok"


def take_on(uid):
    """The C library does it for all threads."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


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


def churn(transport, address, port, count):
    """How many of so many flows began, each from a port of its own and let go of at once."""
    begun = 0
    for _ in range(int(count)):
        with socket.socket(family(address), TYPES[transport]) as client:
            client.settimeout(2)
            with contextlib.suppress(OSError):
                client.connect((address, int(port)))
                client.send(b"x")
                begun += 1
    return str(begun)


def send_from(own_address, own, address, port):
    """A datagram from a port at which another socket may be."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind((own_address, int(own)))
        client.sendto(b"x", (address, int(port)))
    return "ok"


def ask_from(own, address, port):
    """The same, and waits for an answer."""
    with socket.socket(family(address), socket.SOCK_DGRAM) as client:
        client.settimeout(1)
        client.bind(("127.0.0.1", int(own)))
        client.connect((address, int(port)))
        return exchange(client)


def reach_from(own, address, port):
    """Connects from a port at which this one listens too."""
    listener, client = (socket.socket(family(address), socket.SOCK_STREAM) for _ in range(2))
    with listener, client:
        for one in (listener, client):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("", int(own)))
        listener.listen(1)
        client.settimeout(2)
        client.connect((address, int(port)))
        return exchange(client)


def let_go():
    for client in kept.pop("held", []):
        client.close()
    # The other side closes too, and connection tracking sees that.
    time.sleep(0.3)
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


def serve_traffic(connection):
    """Takes so many bytes or gives so many, as the first line says."""
    with connection, contextlib.suppress(OSError):
        what, count = connection.makefile("rb", buffering=0).readline().split()
        left = int(count)
        if what == b"give":
            connection.sendall(b"x" * left)
            return
        while left > 0:
            left -= len(connection.recv(65536))
        connection.sendall(b"k")


def traffic(address, port):
    listener = socket.create_server((address, int(port)), family=socket.AF_INET6, dualstack_ipv6=True)

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_traffic, args=(connection,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return "ok"


def move(what, address, port, count):
    """Milliseconds that so many bytes take in one direction."""
    begun, left = time.monotonic(), int(count)
    with socket.create_connection((address, int(port)), 20) as client:
        client.sendall(f"{what} {count}\n".encode())
        if what == "take":
            client.sendall(b"x" * left)
            left = 1
        while left > 0:
            data = client.recv(65536)
            if not data:
                return "closed"
            left -= len(data)
    return str(int((time.monotonic() - begun) * 1000))


def retransmitted():
    """Segments that this network's TCP sent more than once, since it is there."""
    with open("/proc/thread-self/net/snmp") as snmp:
        names, values = (line.split() for line in snmp if line.startswith("Tcp:"))
    return values[names.index("RetransSegs")]


def sink(address, port):
    kept.setdefault("sunk", 0)
    listener = socket.socket(family(address), socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for _ in range(int(count)):
            with contextlib.suppress(OSError):
                client.sendto(b"x", (address, int(port)))
    return "ok"


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def spoof(device, to_mac, source, destination, port):
    """A datagram in a frame of its own making, past this network's own stack."""
    v6 = ":" in source
    pack = (lambda a: socket.inet_pton(socket.AF_INET6, a)) if v6 else socket.inet_aton
    src, dst = pack(source), pack(destination)
    body = b"spoof"
    udp = struct.pack("!HHHH", 40000, int(port), 8 + len(body), 0) + body
    if v6:
        pseudo = src + dst + struct.pack("!II", len(udp), 17)
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
        packet = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64) + src + dst + udp
    else:
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + src + dst
        packet = header[:10] + struct.pack("!H", checksum(header)) + header[12:] + udp
    kind = 0x86DD if v6 else 0x0800
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((device, kind))
        mac = bytes.fromhex(to_mac.replace(":", ""))
        wire.send(mac + wire.getsockname()[4] + struct.pack("!H", kind) + packet)
    return "ok"


def scan(first, count, port):
    """Begins connections to so many hosts at once, and keeps them however they stand."""
    begin = int(ipaddress.ip_address(first))
    for number in range(int(count)):
        target = str(type(ipaddress.ip_address(first))(begin + number))
        client = socket.socket(family(target), socket.SOCK_STREAM)
        client.setblocking(False)
        client.connect_ex((target, int(port)))
        kept.setdefault("scanned", []).append(client)
    return "ok"


def scan_on(first, count, port):
    """The same of more hosts than there are files: each attempt is let go of at once."""
    address = ipaddress.ip_address(first)
    for number in range(int(count)):
        target = str(address + number)
        with socket.socket(family(target), socket.SOCK_STREAM) as client:
            client.setblocking(False)
            client.connect_ex((target, int(port)))
    return "ok"


ORDERS = {
    "again": again,
    "answer_via": answer_via,
    "ask_from": ask_from,
    "become": become,
    "churn": churn,
    "flood": flood,
    "hello": lambda: "hello",
    "hold": hold,
    "keep": keep,
    "let_go": let_go,
    "listen": listen,
    "move": move,
    "ping": ping,
    "pull": pull,
    "push": push,
    "reach": reach,
    "reach_from": reach_from,
    "reach_via": reach_via,
    "retransmitted": retransmitted,
    "scan": scan,
    "scan_on": scan_on,
    "send_from": send_from,
    "sink": sink,
    "spoof": spoof,
    "stream": stream,
    "sunk": sunk,
    "traffic": traffic,
    **dns.ORDERS,
}

if sys.argv[1:] > ["0"]:
    take_on(int(sys.argv[1]))
for line in sys.stdin:
    order, *words = line.split()
    try:
        answer = ORDERS[order](*words)
    except TimeoutError:
        answer = "ETIMEDOUT"
    except OSError as error:
        answer = errno.errorcode.get(error.errno, str(error))
    print(answer, flush=True)
